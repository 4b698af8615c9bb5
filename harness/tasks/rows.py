"""Where the rows of a subset are: what its task file says, with the subset filled in, and what one file can be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.data.locations import local_path
from harness.errors import DataError, TaskError, suggest
from harness.spool import Spool
from harness.tasks.file_models import words
from harness.tasks.task import Subset, Task
from harness.tasks.templates import as_literal
from harness.types import JSON, DatasetSpec

Columns = str | list[str] | Mapping[str, Sequence[str]]


class Where(Protocol):
    """The part of a run's options that says where rows are looked for."""

    @property
    def hub(self) -> Literal["hf", "modelscope"]: ...
    @property
    def mirrors(self) -> Sequence[str]: ...
    @property
    def offline(self) -> bool: ...


def dataset_spec(task: Task, subset: Subset, options: Where) -> DatasetSpec:
    """Where the rows of a subset are. `dataset_name` defaults to the subset's name."""
    config, document = task.config, task.document
    name = config.dataset_name if config.dataset_name is not None or not subset.name else subset.name
    kwargs = dict(config.dataset_kwargs or {})
    kwargs.pop("trust_remote_code", None)  # lm-eval drops it too; code that comes with rows is never run
    revision = kwargs.pop("revision", None)

    def filled(value: JSON, key: str) -> JSON:
        """The value with its templates rendered, which see the subset and nothing else."""
        if isinstance(value, str):
            template = task.templates.compiler.compile(value, key, document.place(tuple(key.split("."))))
            return template.text({"subset": subset.context} if subset.name else {})
        if isinstance(value, dict):
            return {inner: filled(item, f"{key}.{inner}") for inner, item in value.items()}
        return [filled(item, key) for item in value] if isinstance(value, list) else value

    spec = DatasetSpec(
        path=filled(config.dataset_path, "dataset_path"),
        name=filled(name, "dataset_name"),
        revision=config.revision or revision,
        kwargs=filled(kwargs, "dataset_kwargs"),
        sources=filled(dict(config.sources or {}), "sources"),
        hub=options.hub,
        mirrors=tuple(options.mirrors),
        offline=options.offline,
        base=str(document.place(("dataset_path",)).file.parent),
    )
    return spec if one_file(spec) is None else _of_one_file(spec, task, subset)


def one_file(spec: DatasetSpec) -> Path | None:
    """The file, where `dataset_path` names a single local one and not a folder or a set on a hub."""
    place = local_path(spec)
    return place if place is not None and place.is_file() else None


def _of_one_file(spec: DatasetSpec, task: Task, subset: Subset) -> DatasetSpec:
    """A single file has no configs: a name would be read by nobody, and subsets would all have the same rows."""
    if task.config.dataset_name is not None:
        what = f"dataset_name: '{spec.path}' is one file, which has no config '{spec.name}'; take the key out"
        raise task.document.error(("dataset_name",), what)
    if subset.name and spec.path == task.config.dataset_path and not task.config.where:
        what = (
            f"subsets: each of them would have all the rows of '{spec.path}'; write {{{{ subset.name }}}} into "
            "dataset_path, or choose the rows of a subset with 'where'"
        )
        raise task.document.error(("subsets",), what)
    return replace(spec, name=None)


def second_split(task: Task, split: str, file: Path) -> TaskError:
    """A file is one split: as a second one it would show the rows that are asked."""
    config, asked = task.config, task.eval_split
    keys = ("fewshot_split", "training_split", "validation_split")
    key = next((key for key in keys if getattr(config, key) == split), "fewshot_config")
    files = f"{{{asked}: FILE, {split}: FILE}}"
    what = (
        f"{key}: '{file.name}' is one file, which is '{asked}' and cannot be '{split}' too; say fewshot_split: {asked} "
        f"(the row that is asked is never shown), or dataset_path: json and dataset_kwargs: {{data_files: {files}}}"
    )
    return task.document.error((key,), what)


def needed_splits(task: Task, options: Where) -> Iterator[tuple[DatasetSpec, str, bool]]:
    """(spec, split, required) of all the rows that a task asks or shows. Examples of a zero-shot task are optional."""
    config = task.config
    own = config.fewshot_config.split if config.fewshot_config else None
    shots = own or config.fewshot_split or (config.training_split if config.num_fewshot else None)
    for subset in task.subsets:
        spec = dataset_spec(task, subset, options)
        yield spec, task.eval_split, True
        if shots and shots != task.eval_split:
            yield spec, shots, bool(config.num_fewshot)


def exploded(rows: Sequence[Mapping[str, Any]], columns: Columns | None) -> Sequence[Mapping[str, Any]]:
    """A row for each item of the lists in `columns`, in their order; a row without lists there stays as it is.

    A text that spells a list is one. A mapping makes the lists, of columns of the row, and gives them new names. Raises
    `DataError` for lists of one row that are not equally long. An empty list gives no row.
    """
    if not columns:
        return rows
    many = Spool[Mapping[str, Any]](block=1)
    for number, row in enumerate(rows):
        lists = _lists(row, columns)
        if len({len(items) for items in lists.values()}) > 1:
            lengths = ", ".join(f"'{name}' has {len(items)}" for name, items in lists.items())
            raise DataError(f"explode: row {number}: the lists are not equally long: {lengths} items")
        items = zip(*lists.values(), strict=True)
        many.extend([{**row, **dict(zip(lists, each, strict=True))} for each in items] if lists else [row])
    return many


def _lists(row: Mapping[str, Any], columns: Columns) -> dict[str, list[Any]]:
    if isinstance(columns, Mapping):
        for name in (name for names in columns.values() for name in names if name not in row):
            raise DataError(f"explode: the row has no column '{name}'{suggest(name, list(row))}")
        return {new: [row[name] for name in names] for new, names in columns.items()}
    lists = {}
    for name in words(columns):
        value: Any = as_literal(row[name].strip()) if isinstance(row.get(name), str) else row.get(name)
        if isinstance(value, list | tuple) or hasattr(value, "tolist"):  # numpy
            lists[name] = list(value)
    return lists
