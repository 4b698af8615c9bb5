"""A task, ready to be built: its file read, a variant picked, everything checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from harness.data.frame_sampling import FrameRule
from harness.errors import HarnessError, PluginError, TaskError, UsageError, one_line, suggest
from harness.modifiers import RENEWAL, Modifier
from harness.plugin_values import mapping
from harness.quick import dataclass
from harness.tasks.classes import with_class
from harness.tasks.dates import read_date
from harness.tasks.functions import TaskFunctions, refused
from harness.tasks.lite_files import VARIANT, LiteSet
from harness.tasks.media import Kind, MediaColumn
from harness.tasks.modify import checked_needs, labels_of
from harness.tasks.render import DocTemplates, compile_doc, compile_shot
from harness.tasks.renewal import Renewals, read_renewals
from harness.tasks.schema import FramesEntry, MetricEntry, TaskConfig, functions_in, validate_task, words
from harness.tasks.templates import Template, TemplateFolders, Templates, templates_of
from harness.tasks.tolerated import tolerated
from harness.tasks.yaml_file import Document, FileLine, KeyPath, PythonFunction, part_of
from harness.types import JSON, FilterPipeline, FilterStep, MetricSpec, OutputType, ScoringSpec

# In a variant, these mappings are merged into the task's own; all else, lists too, replaces what was there.
MERGED = ("generation_kwargs", "fewshot_config", "metadata", "renewal")
# What may change without changing a prompt or a score.
_DESCRIPTIVE = frozenset(
    {
        *(
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
        ),
        *("version", "metadata", "example", "variants", "should_decontaminate", "doc_to_decontamination_query"),
    }
)
# What only a modifier acts on.
_FOR_MODIFIERS = frozenset({"options", "paraphrases", "renewal"})
_WITHOUT_EFFECT = frozenset({"doc_to_decontamination_query", "variants", "example"})
# A variant that changes one of these words the question itself: the task's paraphrases are not of its question.
_WORDING = frozenset({"doc_to_text", "description", "gen_prefix"})
# lm-eval's metrics for a task that names none (api/registry.py, DEFAULT_METRIC_REGISTRY).
_DEFAULT_METRICS: Mapping[OutputType, tuple[str, ...]] = {
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
}


AT = "_at_"
"""Stands for the @ of `pass@1` in the name of a score, where @ is what divides metric and pipeline."""


@dataclass(frozen=True, slots=True)
class Subset:
    """A part of a task with rows of its own. `name` is empty for a task that has no subsets."""

    name: str
    title: str = ""
    groups: tuple[str, ...] = ()
    fields: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def context(self) -> dict[str, JSON]:
        """What templates see as `subset`."""
        return {**self.fields, "name": self.name, "title": self.title, "groups": self.groups}


@dataclass(frozen=True, slots=True)
class TaskTemplates:
    """Everything of a task that is rendered, compiled."""

    doc: DocTemplates
    shot: DocTemplates
    description: Template | None
    cluster: Template | None
    date: Template | None
    breakdown: Mapping[str, Template]
    simulated_user: Template | None
    where: tuple[Template, ...]
    media: tuple[MediaColumn, ...]
    compiler: Templates = field(repr=False)

    @property
    def all(self) -> tuple[Template, ...]:
        parts = (
            *self.doc.templates,
            *self.shot.templates,
            self.description,
            self.cluster,
            self.date,
            self.simulated_user,
        )
        parts = (*parts, *self.breakdown.values(), *self.where, *(one for each in self.media for one in each.templates))
        return tuple(part for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class Wording:
    """One way in which a task asks: its own keys, or those of one of its paraphrases laid over them."""

    config: TaskConfig
    templates: TaskTemplates


@dataclass(frozen=True, slots=True)
class Task:
    """A task as one run sees it. Made by `TaskLibrary.load`.

    name: `NAME` or `NAME:VARIANT`, and `+MODIFIER` for each modifier.
    base_name: `NAME`, which few-shot draws come from, so that variants share them.
    subsets: those that were selected; all_subsets: all that there are.
    files: the task's file, its includes and its templates. digest: a hash of all that decides prompts and scores.
    headline: the metric that stands for the task.
    modifiers: what changes how rows are shown. paraphrases: the wordings beside the task's own. code: runs the task's
    Python, where it has any; code_files: the files that this is made of, with the hashes of their content. lite: the
    rows that are asked in the place of all, where only such are. renewals: how rows get other numbers, where a modifier
    draws them.
    """

    name: str
    base_name: str
    package: str
    title: str
    config: TaskConfig
    subsets: tuple[Subset, ...]
    all_subsets: tuple[Subset, ...]
    file: Path
    files: tuple[Path, ...]
    digest: str
    scoring: ScoringSpec
    headline: str
    templates: TaskTemplates = field(repr=False, compare=False)
    document: Document = field(repr=False, compare=False)
    modifiers: tuple[Modifier, ...] = field(default=(), repr=False, compare=False)
    code: TaskFunctions | None = field(default=None, repr=False, compare=False)
    code_files: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    paraphrases: tuple[Wording, ...] = field(default=(), repr=False, compare=False)
    renewals: Renewals | None = field(default=None, repr=False, compare=False)
    lite: LiteSet | None = field(default=None, repr=False, compare=False)

    @property
    def wordings(self) -> tuple[Wording, ...]:
        """All wordings, the task's own first."""
        return (Wording(self.config, self.templates), *self.paraphrases)

    @property
    def media_names(self) -> frozenset[str]:
        """Columns that hold media themselves: a source may leave them out where no model looks at them."""
        return frozenset(column.name for column in self.templates.media if column.template is None)

    def subset(self, name: str) -> Subset:
        """A subset by name, selected or not. Raises `UsageError`."""
        match = next((subset for subset in self.all_subsets if subset.name == name), None)
        if match is None:
            names = [subset.name for subset in self.all_subsets]
            raise UsageError(f"task '{self.name}' has no subset '{name}'{suggest(name, names)}")
        return match

    def date_of(self, doc: Mapping[str, JSON], subset: str) -> str | None:
        """When a row was published (`2025-06-30`, or less exactly); None where nobody says. Raises `DataError`."""
        template = self.templates.date
        if template is None:
            return None
        context = {**doc, "subset": self.subset(subset).context} if subset else doc
        return read_date(doc[template.source] if template.source in doc else template.value(context))

    def categories(self, doc: Mapping[str, JSON], subset: str) -> Iterator[tuple[str, str]]:
        """What the report counts a row under: (name of the breakdown, value), none where the row has no value.

        Raises `TaskError` and `DataError`.
        """
        context = {**doc, "subset": self.subset(subset).context} if subset else doc
        for name, template in self.templates.breakdown.items():
            found = context.get(template.source) if template.source in doc else template.value(context)
            values = found if isinstance(found, list | tuple) else (found,)
            yield from ((name, str(value)) for value in values if value is not None and value != "")

    @property
    def frame_rule(self) -> FrameRule:
        """Which frames of its videos are shown."""
        given = self.config.frames
        if isinstance(given, FramesEntry):
            return FrameRule(given.count, given.fps, given.scenes)
        return FrameRule() if given is None else FrameRule(given)

    @property
    def eval_split(self) -> str:
        """The split that is measured: `test_split`, or else `validation_split`, as in lm-eval."""
        split = self.config.test_split or self.config.validation_split
        if split is None:
            raise self.document.error((), f"task '{self.name}' has no 'test_split' and no 'validation_split'")
        return split


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
        document = _pick_variant(document, variant)
    document = with_class(_overridden(document, overrides or {}, overridden_at or {}), code)
    document = _modified(tolerated(change(document)), modifiers)
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
    everything = make_subsets(config, document)
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


def _overridden(document: Document, overrides: Mapping[str, JSON], at: Mapping[str, FileLine]) -> Document:
    name = document.data.get("task")
    for key, value in _nested(overrides).items():
        origin = at.get(key) or FileLine(Path(f"--set {name}.{key}"), 0)
        document = changed(document, {key: value}, {(): origin, (key,): origin})
    return document


def _modified(document: Document, modifiers: Sequence[Modifier]) -> Document:
    """The document with the keys that modifiers replace."""
    if modifiers:
        validate_task(document)  # a modifier may trust the keys that it is shown
    for modifier in modifiers:
        try:
            keys = mapping(modifier.keys(document.data), "keys")
        except HarnessError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"modifier '{modifier.name}': {type(error).__name__}: {one_line(error)}") from error
        for key, value in keys.items():
            origin = FileLine(Path(f"--modify {modifier.label}"), 0)
            document = changed(document, {key: value}, {(): origin, (key,): origin})
    return document


def changed(document: Document, changes: Mapping[str, JSON], places: Mapping[KeyPath, FileLine]) -> Document:
    """The document with `changes` laid over it. Mappings of `MERGED` are merged, and null there takes a key away."""
    data, where = dict(document.data), dict(document.places)
    for key, value in changes.items():
        own = data.get(key)
        if key in MERGED and isinstance(own, dict) and isinstance(value, dict):
            merged = {**own, **value}
            data[key] = {name: item for name, item in merged.items() if item is not None}
            stale: tuple[KeyPath, ...] = tuple((key, name) for name in value)
        else:
            data[key] = value
            stale = ((key,),)
        where = {path: place for path, place in where.items() if path[:1] not in stale and path[:2] not in stale}
    for path, place in places.items():
        if path or not where:
            where[path] = place
    return replace(document, data=data, places=where)


def _pick_variant(document: Document, variant: str) -> Document:
    variants = document.data.get("variants")
    known = variants if isinstance(variants, dict) else {}
    if variant not in known:
        name = document.data.get("task")
        listed = ", ".join(known) or "none"
        raise UsageError(f"task '{name}' has no variant '{variant}'{suggest(variant, known)} (it has: {listed})")
    changes = known[variant]
    if not isinstance(changes, dict):
        raise document.error(("variants", variant), f"variants.{variant}: should be a mapping of keys to override")
    if "variants" in changes or "task" in changes or "include" in changes:
        key = next(key for key in ("variants", "task", "include") if key in changes)
        raise document.error(("variants", variant, key), f"key '{key}' cannot stand in a variant")
    if _WORDING & changes.keys() and "paraphrases" in document.data:
        changes = {"paraphrases": None, **changes}
    return changed(document, changes, part_of(document, ("variants", variant)).places)


def _nested(overrides: Mapping[str, JSON]) -> dict[str, JSON]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`."""
    result: dict[str, JSON] = {}
    for path, value in overrides.items():
        *outer, last = path.split(".")
        target = result
        for name in outer:
            inner = target.get(name)
            target[name] = dict(inner) if isinstance(inner, dict) else {}
            target = target[name]
        target[last] = value
    return result


def make_subsets(config: TaskConfig, document: Document) -> tuple[Subset, ...]:
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


def scoring_spec(config: TaskConfig, document: Document) -> ScoringSpec:
    """What the scoring room needs to know."""

    def where(*path: str | int) -> str:
        return str(document.place(path))

    entries = config.metric_list
    if entries is None:
        metrics = tuple(MetricSpec(name) for name in _DEFAULT_METRICS[config.output_type])
    else:
        metrics = tuple(_metric_spec(entry, config, where("metric_list", index)) for index, entry in enumerate(entries))
    pipelines = tuple(
        FilterPipeline(
            item.name,
            tuple(
                FilterStep(
                    str(step.function), dict(step.model_extra or {}), where("filter_list", index, "filter", number)
                )
                for number, step in enumerate(item.filter)
            ),
            where("filter_list", index),
        )
        for index, item in enumerate(config.filter_list or ())
    )
    return ScoringSpec(config.output_type, metrics, pipelines or (FilterPipeline(),), config.average)


def is_code_metric(entry: MetricEntry, config: TaskConfig) -> bool:
    """Whether Python of the task makes the values of a metric, or one value of those."""
    made = (entry.metric, entry.aggregation)
    return config.process_results is not None or any(isinstance(one, PythonFunction) for one in made)


def _metric_spec(entry: MetricEntry, config: TaskConfig, place: str) -> MetricSpec:
    if isinstance(entry.metric, PythonFunction):
        return MetricSpec(entry.metric.name.rpartition(".")[2], None, entry.higher_is_better, {}, place)
    if is_code_metric(entry, config):
        return MetricSpec(entry.metric.replace("@", AT), None, entry.higher_is_better, {}, place)
    assert not isinstance(entry.aggregation, PythonFunction)
    name = f"evaluate/{entry.metric}" if entry.hf_evaluate else entry.metric
    # lm-eval has `evaluate` score sample by sample, and averages.
    aggregation = entry.aggregation or ("mean" if entry.hf_evaluate else None)
    return MetricSpec(name, aggregation, entry.higher_is_better, dict(entry.model_extra or {}), place)


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


def _check_source(config: TaskConfig, document: Document) -> None:
    if config.dataset_path is None and not config.sources and config.custom_dataset is None:
        raise document.error((), "missing key 'dataset_path' (or 'sources'): where do the rows come from?")
    if config.test_split is None and config.validation_split is None:
        raise document.error((), "missing key 'test_split' (or 'validation_split'): which rows are asked?")


def with_files(task: Task, read: Mapping[str, str]) -> Task:
    """The task with the local files that its code has read, which decide its prompts as its modules do."""
    more = {path: content for path, content in read.items() if path not in task.code_files}
    if not more:
        return task
    named = sorted((Path(path).name, content) for path, content in more.items())
    digest = hashlib.sha256(json.dumps([task.digest, named]).encode()).hexdigest()[:16]
    return replace(task, code_files={**task.code_files, **more}, digest=digest)


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
