"""Writes a first task file from real rows, with an example that it keeps, and says what is left to do.

write_task("law_exam", "rows.csv", Path("tasks"), registry)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.data.data_file import DataFile, opened
from harness.data.formats import is_data_file
from harness.data.open import open_dataset
from harness.data.text_rows import likely_delimiter
from harness.encodings import likely_encoding, wide_encoding
from harness.errors import DataError, HarnessError, UsageError
from harness.files import replace
from harness.quick import dataclass
from harness.registry import Registry
from harness.tasks.build import build_samples
from harness.tasks.build_options import BuildOptions
from harness.tasks.library import TaskLibrary
from harness.tasks.propose import Proposal, propose, quoted, task_keys
from harness.types import JSON, DatasetSpec, Rows, Sample

SPLITS = ("test", "validation", "val", "dev", "train")
_ASKED_KEY = {"validation": "validation_split", "val": "validation_split", "dev": "validation_split"}


@dataclass(frozen=True, slots=True)
class NewTask:
    """The file that was written, what the columns seem to be, and what a person should look at."""

    file: Path
    proposal: Proposal
    doubts: tuple[str, ...]

    @property
    def description(self) -> str:
        """One line: what the columns were taken for."""
        options = ", ".join(self.proposal.options) or "none"
        form = f"{self.proposal.answer} ({self.proposal.form})"
        return f"question: {self.proposal.question}; options: {options}; answer: {form}"


@dataclass(frozen=True, slots=True)
class _Source:
    """Rows, and the keys of a task file that find them again."""

    rows: Sequence[Mapping[str, JSON]]
    split: str
    keys: Mapping[str, JSON]


def write_task(
    name: str, source: str, to: Path, registry: Registry, mirrors: Sequence[str] = (), *, offline: bool = False
) -> NewTask:
    """Look at the rows of a file, or of a data set on the hub (`ID` or `ID:CONFIG`), and write `NAME.yaml` below `to`.

    Raises `UsageError` where nothing can be proposed, and `DataError` where the rows cannot be read.
    """
    file = to / f"{name}.yaml"
    if file.exists():
        raise UsageError(f"'{file}' is there already: choose another name, or another folder with --to")
    rows = _open(source, to, registry, tuple(mirrors), offline=offline)
    try:
        proposal = propose(rows.rows)
    except ValueError as error:
        raise UsageError(f"--from {source}: {error}") from None
    keys = {"task": name, **rows.keys, **task_keys(proposal)}
    text = _file_text(keys, proposal)
    if half := _half_character(text):
        raise UsageError(f"--from {source}: the name of a column holds half of a character ({half}): rename it")
    to.mkdir(parents=True, exist_ok=True)
    replace(file, [text.encode()])
    try:
        library = TaskLibrary([], registry.template_folders())
        task = library.load(library.select([str(file)])[0])
        first = BuildOptions(limit=1)
        sample = next(build_samples(task, task.subsets[0], lambda *_: Rows(rows.rows, "", ""), first))
        example = _example_text(proposal, sample)
        if half := _half_character(example):
            proposal.doubts.append(f"the first row is no example: it holds half of a character ({half}), mend it")
        else:
            replace(file, [(text + example).encode()])
    except HarnessError as error:
        proposal.doubts.append(f"the first row cannot be shown yet: {error}")
    if encoding := rows.keys.get("dataset_kwargs", {}).get("encoding"):
        proposal.doubts.append(f"the rows were read as {encoding}, which is a guess")
    left = ["title, ability, license and paper are still to be said"]
    if not proposal.options or proposal.form == "free text":
        left.append("how an answer is read from a longer reply: filter_list")
    return NewTask(file, proposal, (*proposal.doubts, *left))


def _open(source: str, to: Path, registry: Registry, mirrors: tuple[str, ...], *, offline: bool) -> _Source:
    path = Path(source).expanduser()
    local = path.exists() or is_data_file(source)
    where = os.path.relpath(path, to) if local else source
    where, _, config = (where, "", "") if local else where.partition(":")
    settings = _how_read(path) if path.is_file() else {}
    spec = DatasetSpec(where, config or None, kwargs=settings, mirrors=mirrors, offline=offline, base=str(to))
    errors: list[str] = []
    for split in SPLITS:
        try:
            rows = open_dataset(spec, split, registry.hook).rows
        except DataError as error:
            errors.append(str(error))
            continue
        if not rows:
            raise UsageError(f"--from {source}: holds no rows")
        named: dict[str, JSON] = {"dataset_name": config} if config else {}
        if settings:
            named["dataset_kwargs"] = settings
        return _Source(rows, split, {"dataset_path": where, **named, _ASKED_KEY.get(split, "test_split"): split})
    raise UsageError(f"--from {source}: {errors[0]}")


def _how_read(path: Path) -> dict[str, JSON]:
    """`dataset_kwargs` for a file that is no UTF-8, or a table that is not separated as its name says."""
    file = DataFile(path)
    if not path.name.lower().endswith((".csv", ".tsv", ".json", ".jsonl", ".txt")):
        return {}
    with opened(file) as stream:
        data = stream.read()
    try:
        encoding = wide_encoding(data) or ("utf-8" if data.decode() or not data else None)
    except UnicodeDecodeError:
        encoding = likely_encoding(data)
    settings: dict[str, JSON] = {} if encoding in ("utf-8", None) else {"encoding": encoding}
    first = data.decode(encoding or "utf-8", "replace").removeprefix("\ufeff").partition("\n")[0]
    own = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    if own and own not in first and not first.startswith("sep=") and (other := likely_delimiter(first)):
        settings["delimiter"] = other
    return settings


def _file_text(keys: Mapping[str, JSON], proposal: Proposal) -> str:
    """The task file without its example."""
    language = "zh" if proposal.chinese else "en"
    data = ("dataset_path", "dataset_name", "dataset_kwargs", "test_split", "validation_split")
    lines = [
        f"task: {keys['task']}",
        "title: what it measures, in a few words",
        "ability: knowledge  # one of those that `harness tasks` lists",
        f"language: {language}",
        "modality: text",
        "license: unknown  # of the rows",
        "paper: unknown  # where the protocol comes from",
        "",
        *(f"{key}: {quoted(keys[key])}" for key in data if key in keys),
        "",
        f"# Proposed from the rows: '{proposal.question}' is the question, '{proposal.answer}' the answer "
        f"({proposal.form}).",
        *(f"# Look at: {doubt}." for doubt in proposal.doubts),
        *(f"{key}: {quoted(value)}" for key, value in keys.items() if key not in ("task", *data)),
    ]
    return "\n".join(lines) + "\n"


def _example_text(proposal: Proposal, sample: Sample) -> str:
    """The first row, its prompt, and what a right and a wrong answer score."""
    options = (name for column in proposal.options for name in (column, column.partition(".")[0]))
    columns = {proposal.question, proposal.passage, proposal.behind, proposal.answer, *options}
    shown = {column: value for column, value in sample.doc.items() if column in columns}
    lines = ["", "# The task tests itself: this row gives this prompt, and these answers get these scores.", "example:"]
    lines += [f"  row: {quoted(shown)}", f"  prompt: {quoted(sample.requests[0].prompt.text)}", "  scores:"]
    if sample.choices and isinstance(sample.target, int):
        right = [-1 if place == sample.target else -2 for place in range(len(sample.choices))]
        wrong = [right[place - 1] for place in range(len(right))]  # the next option is the likeliest
        lines += [f"    - {{logprobs: {quoted(right)}, acc: 1}}", f"    - {{logprobs: {quoted(wrong)}, acc: 0}}"]
    else:
        gold = str(sample.target[0] if isinstance(sample.target, tuple) else sample.target)
        lines += [f"    - {{reply: {quoted(gold)}, exact_match: 1}}", '    - {reply: "?", exact_match: 0}']
    return "\n".join(lines) + "\n"


def _half_character(text: str) -> str:
    """The first lone surrogate of a text, which no file in UTF-8 can hold; empty where there is none."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"U+{ord(text[error.start]):04X}"
    return ""
