"""A task made from its file: a variant picked, keys replaced, everything checked and compiled, and its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import TaskError, UsageError, suggest
from harness.modifiers import RENEWAL, Modifier
from harness.tasks.classes import with_class
from harness.tasks.file_models import functions_in, words
from harness.tasks.functions import TaskFunctions, refused
from harness.tasks.lite_files import VARIANT, LiteSet
from harness.tasks.media import Kind, MediaColumn
from harness.tasks.modify import checked_needs, labels_of
from harness.tasks.overrides import changed, modified, overridden, pick_variant
from harness.tasks.render import compile_doc, compile_shot
from harness.tasks.renewal import Renewals, read_renewals
from harness.tasks.schema import TaskConfig, validate_task
from harness.tasks.scoring_spec import scoring_spec
from harness.tasks.task import Subset, Task, TaskTemplates, Wording
from harness.tasks.templates import Template, TemplateFolders, Templates, templates_of
from harness.tasks.tolerated import tolerated
from harness.tasks.yaml_file import Document, FileLine, KeyPath, PythonFunction
from harness.types import JSON

# What may change without changing a prompt or a score.
_DESCRIPTIVE = frozenset(
    {
        "include",
        "task_alias",
        "doc_to_date",
        "title",
        "tag",
        "group",
        "aliases",
        "ability",
        "language",
        "modality",
        "license",
        "paper",
        "version",
        "metadata",
        "example",
        "variants",
        "should_decontaminate",
        "doc_to_decontamination_query",
    }
)
# What only a modifier acts on.
_FOR_MODIFIERS = frozenset({"options", "paraphrases", "renewal"})
_WITHOUT_EFFECT = frozenset({"doc_to_decontamination_query", "variants", "example"})


def make_task(
    document: Document,
    package: str,
    shared: TemplateFolders,
    variant: str | None = None,
    subsets: Sequence[str] | None = None,
    overrides: Mapping[str, JSON] | None = None,
    overridden_at: Mapping[str, FileLine] | None = None,
    change: Callable[[Document], Document] = lambda document: document,
    modifiers: Sequence[Modifier] = (),
    code: TaskFunctions | None = None,
) -> Task:
    """Check a task file and pick a variant. Raises `TaskError`, and `UsageError` for a variant that is not there.

    overrides: keys that replace the file's, as a variant's do; `a.b` reaches into a mapping. overridden_at: where
    each of them stands, for errors; `--set` where it does not say. change: what else is to be changed, after these.
    modifiers: what changes how rows are shown. code: runs the Python of tasks, as far as there is consent to it.
    """
    if variant is not None:
        document = pick_variant(document, variant)
    document = with_class(overridden(document, overrides or {}, overridden_at or {}), code)
    document = modified(tolerated(change(document)), modifiers)
    config = validate_task(document)
    name = config.task
    if not name:
        raise document.error((), "missing key 'task', the name of the task")
    _check_source(config, document)
    full_name = name + (f":{variant}" if variant else "")
    config = checked_needs(modifiers, config, document, full_name)
    code_files = _load_code(document, code)
    compiler = templates_of(document.files[0].parent, shared)
    templates = _compile(config, document, compiler, code)
    paraphrases = tuple(_paraphrases(config, document, compiler, code))
    renewals = _renewals(config, document, modifiers)
    everything = _subsets(config, document)
    chosen = everything if subsets is None else tuple(item for item in everything if item.name in subsets)
    template_files = _files([templates, *(wording.templates for wording in paraphrases)])
    scoring = scoring_spec(config, document)
    return Task(
        name=full_name + labels_of(modifiers),
        base_name=name,
        package=package,
        title=config.title or config.task_alias or name,
        config=config,
        subsets=chosen,
        all_subsets=everything,
        file=document.files[0],
        files=(*document.files, *template_files, *map(Path, code_files)),
        digest=_digest(config, template_files if modifiers else _files([templates]), modifiers, code_files, renewals),
        scoring=scoring,
        headline=scoring.metrics[0].metric,
        templates=templates,
        document=document,
        modifiers=tuple(modifiers),
        code=code,
        code_files=code_files,
        paraphrases=paraphrases,
        renewals=renewals,
    )


def lite_task(task: Task, lite: LiteSet) -> Task:
    """The task with the rows of a lite set alone. Raises `TaskError` where the set knows a subset that it has not."""
    for name in lite.rows:
        if name not in (known := [subset.name for subset in task.all_subsets]):
            raise TaskError(f"{lite.file}: task '{task.name}' has no subset '{name}'{suggest(name, known)}")
    own = task.name[: len(task.name) - len(labels_of(task.modifiers))] if task.modifiers else task.name
    return replace(
        task,
        name=f"{own}:{VARIANT}{labels_of(task.modifiers)}",
        subsets=tuple(subset for subset in task.subsets if subset.name in lite.rows),
        digest=hashlib.sha256(f"{task.digest} {lite.digest}".encode()).hexdigest()[:16],
        lite=lite,
    )


def with_files(task: Task, read: Mapping[str, str]) -> Task:
    """The task with the local files that its code has read, which decide its prompts as its modules do."""
    more = {path: content for path, content in read.items() if path not in task.code_files}
    if not more:
        return task
    named = sorted((Path(path).name, content) for path, content in more.items())
    digest = hashlib.sha256(json.dumps([task.digest, named]).encode()).hexdigest()[:16]
    return replace(task, code_files={**task.code_files, **more}, digest=digest)


def _load_code(document: Document, code: TaskFunctions | None) -> Mapping[str, str]:
    """Import the Python of a task, where there is consent to it. Returns its files and their hashes."""
    functions = [(path, function) for path, function in functions_in(document.data) if path[0] not in _WITHOUT_EFFECT]
    for path, function in functions:
        if code is None:
            raise refused(function, document, path)
        code.check(function, document, path)
    if not functions or code is None:
        return {}
    try:
        return code.load([function for _, function in functions]).files
    except UsageError as error:
        path, _ = next((item for item in functions if str(error).startswith(f"{item[1]}:")), functions[0])
        raise document.error(path, f"key '{path[-1]}': {error}") from error


def _check_source(config: TaskConfig, document: Document) -> None:
    if config.dataset_path is None and not config.sources and config.custom_dataset is None:
        raise document.error((), "missing key 'dataset_path' (or 'sources'): where do the rows come from?")
    if config.test_split is None and config.validation_split is None:
        raise document.error((), "missing key 'test_split' (or 'validation_split'): which rows are asked?")


def _subsets(config: TaskConfig, document: Document) -> tuple[Subset, ...]:
    """The subsets in the order of the file; one with an empty name where there are none. Raises `TaskError`."""
    if config.subsets is None:
        return (Subset(""),)
    given = config.subsets if isinstance(config.subsets, dict) else dict.fromkeys(config.subsets)
    if len(given) < len(config.subsets):
        twice = next(name for name in given if list(config.subsets).count(name) > 1)
        raise document.error(("subsets",), f"subsets: '{twice}' is given twice")
    if not given:
        raise document.error(("subsets",), "subsets: should name at least one subset")
    return tuple(_subset(name, fields, document) for name, fields in given.items())


def _subset(name: str, given: dict[str, JSON] | str | None, document: Document) -> Subset:
    fields = {"title": given} if isinstance(given, str) else dict(given or {})
    path = ("subsets", name)
    if not name or any(letter in name for letter in "/:*?[],") or name != name.strip():
        raise document.error(path, f"subsets: '{name}' cannot be a name: it may not hold / : * ? [ ] , or outer blanks")
    for key in fields:
        if hasattr(dict, key) or key == "name":
            raise document.error((*path, key), f"subsets: a field cannot be called '{key}'")
    title, group = fields.get("title", name), fields.get("group")
    if not isinstance(title, str):
        raise document.error((*path, "title"), "subsets: a title should be a text (a text needs quotes)")
    groups = [group] if isinstance(group, str) else group or []
    if not isinstance(groups, list) or not all(isinstance(item, str) for item in groups):
        raise document.error((*path, "group"), "subsets: 'group' should be a name or a list of names")
    return Subset(name, title, tuple(groups), fields)


def _compile(config: TaskConfig, document: Document, compiler: Templates, code: TaskFunctions | None) -> TaskTemplates:
    def one(key: str, source: str | None) -> Template | None:
        return None if source is None else compiler.compile(source, key, document.place((key,)))

    listed = isinstance(config.where, list)
    conditions = tuple(
        compiler.compile("{{ " + text + " }}", "where", document.place(("where", index) if listed else ("where",)))
        for index, text in enumerate(words(config.where))
    )
    return TaskTemplates(
        doc=compile_doc(config, document, compiler, code),
        shot=compile_shot(config, document, compiler, code),
        description=one("description", config.description),
        cluster=one("cluster_key", config.cluster_key),
        date=one("doc_to_date", config.doc_to_date),
        breakdown={
            name: compiler.compile(source, "breakdown", document.place(("breakdown", name)))
            for name, source in (config.breakdown or {}).items()
        },
        simulated_user=_simulated_user(config, document, compiler),
        where=conditions,
        media=tuple(_media_columns(config, document, compiler)),
        compiler=compiler,
    )


def _simulated_user(config: TaskConfig, document: Document, compiler: Templates) -> Template | None:
    if config.simulated_user is None:
        return None
    path = ("simulated_user", "prompt")
    return compiler.compile(config.simulated_user.prompt, ".".join(path), document.place(path))


def _media_columns(config: TaskConfig, document: Document, compiler: Templates) -> Iterator[MediaColumn]:
    """Where rows have their media, in the order in which a prompt shows those that it does not speak of."""
    kinds: tuple[Kind, ...] = ("image", "video", "audio")
    for kind in kinds:
        key = f"doc_to_{kind}"
        given = getattr(config, key)
        if isinstance(given, PythonFunction):  # which is asked row by row
            continue
        for entry in given if isinstance(given, list) else [] if given is None else [given]:
            parts = {"file": entry} if isinstance(entry, str) else entry.model_dump(exclude_none=True)
            rate = None if isinstance(entry, str) else entry.rate
            parts.pop("rate", None)
            made = {name: compiler.compile(text, key, document.place((key,))) for name, text in parts.items()}
            is_template = made["file"].compiled is not None
            more = {name: made[name] for name in ("start", "end", "subtitles") if name in made}
            yield MediaColumn(kind, parts["file"], made["file"] if is_template else None, rate=rate, **more)


def _paraphrases(
    config: TaskConfig, document: Document, compiler: Templates, code: TaskFunctions | None
) -> Iterator[Wording]:
    """The wordings beside the task's own, compiled. A column of wordings is read row by row, and is none of them."""
    listed = config.paraphrases if isinstance(config.paraphrases, list) else ()
    for index, given in enumerate(listed):
        keys = {"doc_to_text": given} if isinstance(given, str) else given.model_dump(exclude_unset=True)
        places: dict[KeyPath, FileLine] = {(key,): document.place(("paraphrases", index, key)) for key in keys}
        own = config.model_copy(update=keys)
        yield Wording(own, _compile(own, changed(document, keys, places), compiler, code))


def _renewals(config: TaskConfig, document: Document, modifiers: Sequence[Modifier]) -> Renewals | None:
    """How rows get other numbers, where a modifier draws them. Raises `HarnessError`."""
    label = next((modifier.label for modifier in modifiers if RENEWAL in modifier.needs), None)
    return read_renewals(config.renewal, document, label) if label and config.renewal is not None else None


def _files(several: Sequence[TaskTemplates]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(file for templates in several for one in templates.all for file in one.files))


def _digest(
    config: TaskConfig,
    template_files: Sequence[Path],
    modifiers: Sequence[Modifier],
    code_files: Mapping[str, str],
    renewals: Renewals | None,
) -> str:
    unused = _DESCRIPTIVE if modifiers else _DESCRIPTIVE | _FOR_MODIFIERS
    kept = config.model_dump(mode="json", exclude=set(unused), exclude_defaults=True)
    texts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in template_files]
    parts: list[JSON] = [kept, texts, labels_of(modifiers)] if modifiers else [kept, texts]
    if more := {modifier.label: dict(modifier.identity) for modifier in modifiers if modifier.identity}:
        parts.append(more)
    if renewals is not None and renewals.digest:
        parts.append(renewals.digest)
    if code_files:  # by name: the same library at another place is the same
        parts.append(sorted((Path(file).name, content) for file, content in code_files.items()))
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:16]
