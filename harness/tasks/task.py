"""A task, ready to be built: its subsets, its compiled templates, its wordings, and what it says of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path

from harness.data.frame_sampling import FrameRule
from harness.errors import UsageError, suggest
from harness.modifiers import Modifier
from harness.quick import dataclass
from harness.tasks.dates import read_date
from harness.tasks.functions import TaskFunctions
from harness.tasks.lite_files import LiteSet
from harness.tasks.media import MediaColumn
from harness.tasks.render import DocTemplates
from harness.tasks.renewal import Renewals
from harness.tasks.schema import TaskConfig
from harness.tasks.schema_entries import FramesEntry
from harness.tasks.templates import Template, Templates, column_or_value
from harness.tasks.yaml_file import Document
from harness.types import JSON, ScoringSpec


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
        return read_date(column_or_value(template, context, doc))

    def categories(self, doc: Mapping[str, JSON], subset: str) -> Iterator[tuple[str, str]]:
        """What the report counts a row under: (name of the breakdown, value), none where the row has no value.

        Raises `TaskError` and `DataError`.
        """
        context = {**doc, "subset": self.subset(subset).context} if subset else doc
        for name, template in self.templates.breakdown.items():
            found = column_or_value(template, context, doc)
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
