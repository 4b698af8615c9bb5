"""From rows to samples: each row of a subset, rendered, with the requests that it becomes."""

from __future__ import annotations

import contextlib
import itertools
import json
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import field, replace
from typing import Any

from harness.data.open import make_rows
from harness.errors import DataError, HarnessError, TaskError, suggest
from harness.quick import dataclass
from harness.spool import Spool
from harness.tasks.dates import is_later
from harness.tasks.fewshot import Row, SameQuestion, ShotPool, make_pool
from harness.tasks.image_views import OtherImages, images_in, shown_hashes
from harness.tasks.lite_files import check_row
from harness.tasks.media import (
    Images,
    Kind,
    Marks,
    MediaColumn,
    RowMedia,
    files_in,
    media_of,
    shows_any,
    unmarked,
    without_bytes,
)
from harness.tasks.media_places import roots_of
from harness.tasks.plain_rows import plain_row, row_context, row_count
from harness.tasks.prompts import Opening, Style, opening, shot_turns, system_text
from harness.tasks.render import Gold, Rendered, gold_of
from harness.tasks.requests import RequestMaker
from harness.tasks.row_errors import NamingRow, place_of, placed
from harness.tasks.rows import dataset_spec, exploded, one_file, second_split
from harness.tasks.schema import TaskConfig
from harness.tasks.task import Subset, Task
from harness.tasks.templates import Context, FunctionTemplate, Template, holds_null
from harness.tasks.tools import offered
from harness.tasks.views import check_gold, differs, views_of
from harness.tasks.yaml_file import PythonFunction
from harness.types import (
    JSON,
    BadRows,
    DatasetSpec,
    Media,
    Message,
    Record,
    Request,
    Rows,
    Sample,
    SampleKey,
    View,
)

_MOST_SHOTS = 10_000
"""Few-shot examples that are kept as they were rendered."""
OpenSplit = Callable[[DatasetSpec, str], Rows]


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How a run renders rows. limit: rows a subset, or a fraction of them below 1. shown: whether a model looks at the
    prompts; where none does, rows may come without their columns of images. bad_rows: what becomes of rows that cannot
    be asked or scored: their sample fails, they are left out, or they are scored as lm-eval scores them. code_options:
    what `custom_dataset` gets beside the task's metadata: the model's arguments, as in lm-eval. after: only rows that
    are dated later than this are asked. is_done: whether a sample is passed over, as it needs no look."""

    seed: int = 1234
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    system_instruction: str | None = None
    gen_kwargs: Mapping[str, JSON] = field(default_factory=dict)
    limit: int | float | None = None
    hub: Any = "hf"
    mirrors: tuple[str, ...] = ()
    offline: bool = False
    unconditional: bool = False
    shown: bool = True
    after: str | None = None
    bad_rows: BadRows = "refuse"
    code_options: Mapping[str, JSON] = field(default_factory=dict)
    is_done: Callable[[SampleKey], bool] | None = None


@dataclass(slots=True)
class SubsetNotes:
    """What is worth knowing of a subset beside its samples.

    rows: how many it has, whatever the limit; asked: how many of them, from the first. chosen: the numbers of those
    that are asked, where they are not the first; drawn_from: of those that they were drawn from. own_examples: numbers
    of those that were drawn as their own few-shot example, which was left out. fewer_examples: how many of them see
    fewer examples for it. undated: how many rows say no date, and latest: the latest date of the others, where dates
    decide what is asked. bad: number of a row that cannot be used as it is, and is not refused -> why.
    """

    rows: int = 0
    asked: int = 0
    own_examples: list[int] = field(default_factory=list)
    fewer_examples: int = 0
    bad: dict[int, str] = field(default_factory=dict)
    chosen: Collection[int] | None = None
    drawn_from: Collection[int] | None = None
    undated: int = 0
    latest: str | None = None


def build_samples(
    task: Task, subset: Subset, open_split: OpenSplit, options: BuildOptions, notes: SubsetNotes | None = None
) -> Iterator[Sample]:
    """Render the rows of a subset, in their order. A sample's id is its index among the rows that `where` keeps.

    A modified task may have several samples of one id, one a view. Raises `DataError` and `TaskError` that name task,
    split, row and value, and how many rows are so. notes: is filled in.
    """
    notes = notes or SubsetNotes()
    bad: list[tuple[int, HarnessError]] = []
    for number, built in built_rows(task, subset, open_split, options, notes):
        if isinstance(built, HarnessError):
            bad.append((number, built))
        elif not bad:
            yield from built
    if len(bad) == 1:
        raise bad[0][1]
    if bad:
        first = ", ".join(str(number) for number, _ in bad[:3])
        raise type(bad[0][1])(f"{bad[0][1]}; {len(bad)} rows cannot be used, the first are {first}") from bad[0][1]
    if notes.bad and len(notes.bad) == notes.asked and options.bad_rows != "lm_eval":
        raise DataError(f"{next(iter(notes.bad.values()))}; none of the {notes.asked} rows can be used")


def built_rows(
    task: Task, subset: Subset, open_split: OpenSplit, options: BuildOptions, notes: SubsetNotes | None = None
) -> Iterator[tuple[int, list[Sample] | HarnessError]]:
    """Each row of a subset: its number, and its samples or what is wrong with it. Raises as `build_samples` does for
    what is wrong with all of them."""
    builder = _Builder(task, subset, open_split, options, notes or SubsetNotes())
    is_done = options.is_done
    rows = builder.rows() if task.code is None else task.code.known(builder.rows())
    for number, row in rows:
        if is_done is not None and is_done(SampleKey(task.name, subset.name, number)):
            continue
        try:
            with builder.naming_row(f"row {number}"):
                samples = [builder.sample(number, row)] if not task.modifiers else builder.views(number, row)
        except (DataError, TaskError) as error:
            yield number, builder.salvaged(number, row, error)
        else:
            yield number, samples
    builder.refuse_idle()
    if task.code is not None:
        task.code.forget()


def sample_from_record(task: Task, record: Record, bad_rows: BadRows = "refuse") -> Sample:
    """What is right, rendered anew from a record: for scoring without rows and without a model. Has no requests.

    bad_rows: as of the run that the record is of. Raises `DataError` and `TaskError`, as `build_samples`.
    """
    subset = task.subset(record.subset)
    with NamingRow(task, subset, task.eval_split, f"row {record.id}"):
        index = record.view.wording if record.view else 0
        if index >= len(task.wordings):
            count = len(task.paraphrases)
            raise DataError(f"paraphrases: wording {index} was asked, but the task has {count} paraphrases now")
        wording = task.wordings[index]
        templates, context = wording.templates.doc, row_context(record.doc, subset)
        try:
            rendered = templates.graded(context, record.doc.keys())
            gold_of(rendered, task.config.output_type)
        except (DataError, TaskError):
            if bad_rows != "lm_eval":
                raise
            rendered = replace(templates, forgiving=True).graded(context, record.doc.keys())
        return _sample(task, subset, record.id, record.doc, rendered, (), record.doc.keys(), record.view)


class _Builder:
    """All that the rows of one subset share: the columns, the examples, and openings that are joined once."""

    def __init__(
        self, task: Task, subset: Subset, open_split: OpenSplit, options: BuildOptions, notes: SubsetNotes
    ) -> None:
        self.task, self.subset, self.options, self.notes = task, subset, options, notes
        self.open_split = open_split
        self.spec = dataset_spec(task, subset, options)
        self.media_columns = task.templates.media
        given: dict[Kind, Any] = {"image": task.config.doc_to_image, "audio": task.config.doc_to_audio}
        self.choosers = {kind: shown for kind, shown in given.items() if isinstance(shown, PythonFunction)}
        self.roots = roots_of(self.spec) if self.media_columns or self.choosers else []
        self.media: dict[int, RowMedia] = {}
        self.unread: dict[int, tuple[Sequence[Mapping[str, Any]], int]] = {}
        self.marks = Marks(self.placed_problem)
        parts = task.templates.doc.templates
        self.called = [part.function for part in parts if isinstance(part, FunctionTemplate)]
        only = task.lite.rows.get(subset.name) if task.lite else None
        rows, self.columns = self.open(
            task.eval_split, None if only or options.after else options.limit, task.config.process_docs, only
        )
        self.other_images = OtherImages(rows, self.images_of)
        self.split, self.numbers = rows, self.asked_numbers(rows)[: row_count(options.limit, len(rows))]
        notes.rows, notes.asked = len(rows), len(self.numbers)
        self.are_first = all(number == place for place, number in enumerate(self.numbers))
        if not self.are_first:
            notes.chosen = self.numbers
        if task.code is not None and self.called:
            task.code.foresee(self.called, (row for _, row in self.rows()))
        self.same_question = SameQuestion(task, self.columns)
        self.styles = [_style(wording.config, options) for wording in task.wordings]
        self.maker = RequestMaker(task, subset, options.gen_kwargs, options.seed, unconditional=options.unconditional)
        self.pool = self.make_pool()
        for column in self.media_columns if rows and options.shown else ():
            if column.template is None and column.name not in self.columns:
                what = f"doc_to_{column.kind}: no row has a column '{column.name}'{suggest(column.name, self.columns)}"
                raise self.task.document.error((f"doc_to_{column.kind}",), what)
        self.shot_columns = self.columns | {column for row in self.pool.rows for column in row}
        self.rendered_shots: dict[tuple[int, int], Rendered] = {}
        self.shots: dict[tuple[int, int], tuple[Any, ...]] = {}
        self.shot_nulls: dict[tuple[int, int], tuple[str, ...]] = {}
        self.openings: dict[tuple[int, str, tuple[int, ...]], Opening] = {}
        self.read = {name for each in task.wordings for part in each.templates.doc.templates for name in part.names}
        self.read -= {"subset"} if subset.name else set()
        self.fields_are_whole = not holds_null(subset.context)
        self.changes: dict[bool, int] = {True: 0, False: 0}
        self.offered, self.policy = self.offer()

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The rows that are asked, each with its number."""
        if self.are_first:
            return enumerate(itertools.islice(self.split, len(self.numbers)))
        return ((number, self.split[number]) for number in self.numbers)

    def offer(self) -> tuple[str, tuple[Message, ...]]:
        """What the task's environment offers, as of a `Prompt`, and its policy as a turn; nothing without one."""
        entry = self.task.config.environment
        if entry is None or self.task.code is None:
            return "", ()
        place = self.task.document.place(("environment", "tools"))
        tools, policy = self.task.code.offer(entry.functions)
        policy = entry.policy if isinstance(entry.policy, str) else policy
        return offered(tools, f"{place}: environment"), (Message("system", policy),) if policy else ()

    def asked_numbers(self, rows: Sequence[Row]) -> Sequence[int]:
        """The numbers of the rows that are asked where nothing limits how many."""
        numbers = self.lite_numbers(rows)
        if self.options.after is None:
            return numbers
        later = array("q")
        for number in numbers:
            with self.naming_row(f"row {number}"):
                date = self.task.date_of(rows[number], self.subset.name)
            if date is None:
                self.notes.undated += 1
                continue
            self.notes.latest = max(date, self.notes.latest or date)
            if is_later(date, self.options.after):
                later.append(number)
        return later

    def lite_numbers(self, rows: Sequence[Row]) -> Sequence[int]:
        """The numbers of all rows, or of those of a lite set."""
        lite = self.task.lite
        if lite is None:
            return range(len(rows))
        numbers = sorted(lite.rows[self.subset.name])
        if numbers[-1] >= len(rows):
            raise DataError(
                f"{lite.file}: names row {numbers[-1]} of {place_of(self.task, self.subset, self.task.eval_split)}"
                f", which has {len(rows)} rows: the data have changed"
            )
        for number in numbers:
            check_row(lite, self.subset.name, number, rows[number], self.task.media_names)
        return numbers

    def naming_row(self, what: str) -> NamingRow:
        return NamingRow(self.task, self.subset, self.task.eval_split, what)

    def open(
        self,
        split: str,
        limit: int | float | None = None,
        change: PythonFunction | None = None,
        only: Collection[int] | None = None,
    ) -> tuple[Sequence[Row], Set[str]]:
        """The rows of a split, and all their columns.

        change: Python that makes the rows anew, all of them at once. only: the numbers of those that are asked.
        """
        try:
            opened = self.opened(split)
        except DataError as error:
            place = self.task.document.place(("dataset_path",))
            raise DataError(f"{error} (task '{self.task.name}', {place})") from error
        rows = opened.rows
        if change is not None and self.task.code is not None:
            with NamingRow(self.task, self.subset, split, f"all {len(rows)} rows"):
                rows = self.task.code.rows(change, rows, opened.features, split)
        with NamingRow(self.task, self.subset, split, "its lists"):
            rows = exploded(rows, self.task.config.explode)
        if opened.made and isinstance(limit, int) and not self.task.templates.where:
            rows = rows[: row_count(limit, len(rows))]
        # Images of rows that are only counted are not read.
        asked: Collection[int] = range(limit if isinstance(limit, int) else len(rows)) if only is None else only
        asked = range(len(rows)) if self.task.templates.where else asked
        # Media are remembered by row, which must then stay one object.
        has_media = bool(self.media_columns or self.choosers)
        conditions, columns = self.task.templates.where, set[str]()
        if isinstance(rows, Spool) and not has_media and not conditions:
            for row in rows:
                columns.update(row)
                if row != plain_row(row):
                    columns.clear()
                    break
            else:
                return rows, columns  # they are in a file already, as they are wanted
        kept: list[Row] | Spool[Row] = [] if has_media else Spool(block=1)
        for number, row in enumerate(rows):
            with NamingRow(self.task, self.subset, split, f"row {number}"):
                row = self.plain(row, number in asked)
                if has_media and number not in asked:
                    self.unread[id(row)] = (rows, number)
                if not conditions or all(each.is_true(row_context(row, self.subset)) for each in conditions):
                    kept.append(row)
                    columns.update(row)
        if not kept and rows:
            place, where = self.task.document.place(("where",)), place_of(self.task, self.subset, split)
            raise DataError(f"{place}: where: keeps none of the {len(rows)} rows ({where})")
        return kept, columns

    def opened(self, split: str) -> Rows:
        """The rows as their source has them, or as the task's own Python makes them."""
        config, code = self.task.config, self.task.code
        if config.custom_dataset is None or code is None:
            return self.open_split(self.spec, split)
        options = {**(config.metadata or {}), **self.options.code_options, **(config.dataset_kwargs or {})}
        splits = code.splits(config.custom_dataset, options)
        if split not in splits:
            raise DataError(f"{config.custom_dataset}: makes no split '{split}'{suggest(split, splits)}")
        return make_rows(splits[split], str(config.custom_dataset))

    def plain(self, row: Mapping[str, Any], is_asked: bool = True) -> Row:
        """The row as JSON keeps it; its media are kept aside."""
        if not self.media_columns and not self.choosers:
            return plain_row(row)
        columns = self.media_columns
        if self.choosers:  # whichever they choose: a log holds no picture
            columns = (*columns, *files_in(row))
        names = {column.name for column in columns if column.template is None}
        if not is_asked:
            return plain_row({name: None if name in names else value for name, value in row.items()})
        media = media_of(row, row_context(row, self.subset), columns, self.roots)
        kept = plain_row(without_bytes(row, columns, media, sized=self.task.config.image_sizes))
        self.media[id(kept)] = self.media_in(row) if self.choosers else media
        return kept

    def media_in(self, row: Mapping[str, Any]) -> RowMedia:
        """The media of a row as its source has it."""
        media = media_of(row, row_context(row, self.subset), self.media_columns, self.roots)
        return {**media, **{kind: self.chosen(kind, function, row) for kind, function in self.choosers.items()}}

    def images_of(self, row: Row) -> Images:
        """The images of a row. Those of rows that are only counted are read when another row is shown them."""
        if id(row) not in self.media and id(row) in self.unread:
            rows, number = self.unread[id(row)]
            self.media[id(row)] = self.media_in(rows[number])
        return self.media.get(id(row), {}).get("image", ())

    def chosen(self, kind: Kind, function: PythonFunction, row: Mapping[str, Any]) -> Images:
        """The media that Python of the task chooses of a row; where it fails, one with a problem."""
        assert self.task.code is not None
        try:
            shown = self.task.code.media(kind, function, row)
        except DataError as error:
            return (Media(kind, "", problem=str(error)),)
        column = MediaColumn(kind, f"doc_to_{kind}")
        return media_of({column.name: shown}, {}, (column,), self.roots).get(kind, ())

    def make_pool(self) -> ShotPool:
        """The examples' pool: a split, rows of the task file, or lm-eval's order training, validation, test."""
        task, config = self.task, self.task.config
        salt = f"{self.options.seed}\0{task.base_name}\0{self.subset.name}"
        if not config.num_fewshot:
            return ShotPool((), 0, first_n=True, origin="", salt=salt)
        own = config.fewshot_config
        split = (own and own.split) or config.fewshot_split
        indices = own.fewshot_indices if own else None
        if split is None and own is not None and own.samples is not None:
            given: Sequence[Row] = []
            if not isinstance(own.samples, PythonFunction):
                given = own.samples
            elif task.code is not None:
                given = task.code.samples(own.samples)
            written = [plain_row(row) for row in given]
            origin = f"fewshot_config.samples of task '{task.name}'"
            return make_pool(written, task, origin, salt, indices, self.options.seed, holds_asked=True)
        # lm-eval (api/task.py, `fewshot_context`) takes the row that is asked out of a pool that no key names.
        unnamed = split is None and config.test_split is None
        split = split or config.training_split or config.validation_split or config.test_split or ""
        if split != task.eval_split and (file := one_file(self.spec)):
            raise second_split(task, split, file)
        origin = place_of(task, self.subset, split)
        change = (own and own.process_docs) or config.process_docs
        rows, _ = self.open(split, change=change)
        return make_pool(
            rows,
            task,
            origin,
            salt,
            indices,
            self.options.seed,
            holds_asked=unnamed or split == task.eval_split,
        )

    def opening(self, drawn: tuple[int, ...], context: Context, wording: int) -> Opening:
        """What stands before a row's question; one object for all rows with the same description and examples."""
        description = _resolved(self.task.wordings[wording].templates.description, context)
        key = (wording, description, drawn)
        known = self.openings.get(key)
        if known is None:
            system = system_text(self.options.system_instruction, description, self.task.config.fewshot_delimiter)
            known = opening(system, [self.shot(index, wording) for index in drawn], self.styles[wording])
            if not self.pool.is_fixed:  # the views of one row share theirs, and no other row does
                self.openings.clear()
            self.openings[key] = known
        return known

    def shot(self, index: int, wording: int) -> tuple[Any, ...]:
        """The turns of a few-shot example."""
        key = (wording, index)
        if key not in self.shots:
            templates = self.task.wordings[wording].templates.shot
            rendered = self.rendered_shot(index, wording)
            with self.example_errors(index):
                context = row_context(self.pool.rows[index], self.subset)
                self.shot_nulls[key] = templates.shown_nulls(context, self.shot_columns)
                self.shots[key] = shot_turns(rendered, self.styles[wording])
        return self.shots[key]

    def rendered_shot(self, index: int, wording: int) -> Rendered:
        key = (wording, index)
        if key not in self.rendered_shots:
            with self.example_errors(index):
                context = row_context(self.pool.rows[index], self.subset)
                templates = self.task.wordings[wording].templates.shot
                media = self.media.get(id(self.pool.rows[index]), {})
                self.rendered_shots[key] = self.marks.marked(templates.render(context, self.shot_columns), media)
        return self.rendered_shots[key]

    @contextlib.contextmanager
    def example_errors(self, index: int) -> Iterator[None]:
        """Say of an error which few-shot example it is about."""
        try:
            yield
        except HarnessError as error:
            text = placed(self.task, error, ("fewshot_config",))
            raise type(error)(f"{text} (few-shot example {index} of {self.pool.origin})") from error

    def draw(self, number: int, row: Row, rendered: Rendered) -> tuple[int, ...]:
        """The examples of a row, never the question itself. `rendered` is the row as it stands, in no other view."""
        if not self.pool.count:
            return ()
        if len(self.shots) > _MOST_SHOTS:
            for known in (self.rendered_shots, self.shots, self.shot_nulls, self.openings):
                known.clear()

        def is_asked(index: int) -> bool:
            if self.pool.holds_asked and self.same_question.same_columns(row, self.pool.rows[index]):
                return True
            return self.same_question.same_text(rendered, self.rendered_shot(index, 0))

        drawn, left_out = self.pool.draw(number, is_asked, lambda index: self.pool.rows[index] == row)
        if any(not self.pool.holds_asked or self.pool.rows[index] != row for index in left_out):
            self.notes.own_examples.append(number)
            self.notes.fewer_examples += len(drawn) < self.pool.count
        return drawn

    def sample(self, number: int, row: Row) -> Sample:
        rendered = self.rendered(row, self.media.get(id(row), {}))
        return self.asked(number, row, rendered, self.draw(number, row, rendered))

    def salvaged(self, number: int, row: Row, error: HarnessError) -> list[Sample] | HarnessError:
        """What becomes of a row that is at fault: its samples, as `bad_rows` says, or the error."""
        how = self.options.bad_rows
        if how == "refuse":
            return error
        self.notes.bad[number] = str(error)
        if how == "skip":
            return []
        if how == "fail":
            view = View() if self.task.modifiers else None
            fields = self.subset.context if self.subset.name else {}
            return [
                Sample(self.task.name, self.subset.name, number, row, (), None, (), None, fields, view, (), str(error))
            ]
        try:
            with self.naming_row(f"row {number}"):
                return [self.forgiven(number, row)]
        except (DataError, TaskError):
            return type(error)(f"{error}; lm-eval stops at such a row, too, and has no score for it: leave it out")

    def forgiven(self, number: int, row: Row) -> Sample:
        """A row as lm-eval takes it, although it is at fault; a column that it lacks is null, as `datasets` has it."""
        templates, media = replace(self.task.templates.doc, forgiving=True), self.media.get(id(row), {})
        row = {**dict.fromkeys(self.columns), **row}
        rendered = self.marks.marked(templates.render(row_context(row, self.subset), self.columns), media)
        return self.asked(number, row, rendered, self.draw(number, row, rendered))

    def rendered(self, row: Row, media: RowMedia, wording: int = 0) -> Rendered:
        """A row as a model is asked, with marks in the place of its media."""
        templates, context = self.task.wordings[wording].templates.doc, row_context(row, self.subset)
        rendered = self.marks.marked(templates.render(context, self.columns), media)
        if self.offered:
            turns = rendered.turns or ((Message("user", rendered.text),) if rendered.text else ())
            return replace(rendered, turns=(*self.policy, *turns), tools=self.offered)
        return (
            rendered if templates.tools is None else replace(rendered, tools=templates.offered(context, self.columns))
        )

    def views(self, number: int, row: Row) -> list[Sample]:
        """The samples of a row of a modified task. All views of it are shown the examples of the plain row."""
        media = self.media.get(id(row), {})
        images = media.get("image", ())
        plain = self.rendered(row, media)
        drawn = self.draw(number, row, plain)
        samples = []
        salt = f"{self.pool.salt}\0{number}"
        for view, changed in views_of(self.task, row, salt, shown_hashes(images), (self.subset.name, number)):
            placed, rows = images_in(view, images, self.other_images, salt)
            if placed != images:
                columns = [column for column in self.media_columns if column.kind == "image"]
                view, changed = replace(view, image_rows=rows), without_bytes(changed, columns, {"image": placed})
            rendered = self.rendered(changed, {**media, "image": placed} if images else media, view.wording)
            sample = self.asked(number, changed, rendered, drawn, view)
            check_gold(self.task, view, gold_of(plain, self.task.config.output_type), sample.target)
            if not view.is_plain:
                is_seen = differs(plain, rendered) or (any(images) and not view.shows_own_images)
                is_seen = is_seen or (shows_any(media) and not view.images)
                is_seen = is_seen or bool(view.options and plain.choices != rendered.choices)
                self.changes[is_seen] += 1
            samples.append(sample)
        return samples

    def refuse_idle(self) -> None:
        """Refuse modifiers that changed rows, but not what a model sees of any of them."""
        if self.changes[False] and not self.changes[True]:
            names = [f"{self.task.base_name}:{name}" for name in self.task.config.variants or ()]
            variants = f" (its variants: {', '.join(names)})" if names else ""
            label = " and ".join(modifier.label for modifier in self.task.modifiers)
            raise self.task.document.error(
                ("doc_to_text",),
                f"the prompt of task '{self.task.name}' does not show what --modify {label} changes, so every score "
                f"would stay as it is{variants}",
            )

    def asked(
        self,
        number: int,
        row: Row,
        rendered: Rendered,
        drawn: tuple[int, ...],
        view: View | None = None,
    ) -> Sample:
        wording = view.wording if view else 0
        before = self.opening(drawn, row_context(row, self.subset), wording)
        requests = self.maker.requests(number, row, rendered, before, self.styles[wording])
        if self.media_columns or self.choosers:
            finish = self.marks.with_media if view is None or view.images else unmarked
            requests = tuple(replace(request, prompt=finish(request.prompt)) for request in requests)
        sample = _sample(self.task, self.subset, number, row, rendered, requests, self.columns, view)
        nulls = self.nulls(row, drawn, wording)
        return replace(sample, nulls=nulls) if nulls else sample

    def placed_problem(self, problem: str) -> str:
        """What is wrong with an image, with the line of the task file and the split."""
        text = placed(self.task, DataError(problem))
        return f"{text} ({place_of(self.task, self.subset, self.task.eval_split)})"

    def nulls(self, row: Row, drawn: tuple[int, ...], wording: int) -> tuple[str, ...]:
        """Columns of the row and of its examples in the place of which `None` is shown."""
        if not drawn and self.fields_are_whole and row.keys() >= self.read and not any(map(holds_null, row.values())):
            return ()
        own = self.task.wordings[wording].templates.doc.shown_nulls(row_context(row, self.subset), self.columns)
        shown = (name for index in drawn for name in self.shot_nulls[wording, index])
        return tuple(dict.fromkeys([*own, *shown]))


def _sample(
    task: Task,
    subset: Subset,
    number: int,
    row: Row,
    rendered: Rendered,
    requests: tuple[Request, ...],
    columns: Set[str],
    view: View | None = None,
) -> Sample:
    cluster = task.templates.cluster
    value = None
    if cluster is not None:
        context = row_context(row, subset)
        value = context.get(cluster.source) if cluster.source in columns else cluster.value(context)
    return Sample(
        task=task.name,
        subset=subset.name,
        id=number,
        doc=row,
        requests=requests,
        target=_gold(task, rendered),
        choices=rendered.choices,
        cluster=None if value is None else str(value),
        subset_fields=subset.context if subset.name else {},
        view=view,
    )


def _gold(task: Task, rendered: Rendered) -> Gold:
    """What is right. Where Python of the task scores, it has the row itself, and this is for the reader alone."""
    try:
        return gold_of(rendered, task.config.output_type)
    except DataError:
        if task.config.process_results is None or task.config.output_type.startswith("loglikelihood"):
            raise
        return json.dumps(rendered.target, ensure_ascii=False, default=str)


def _resolved(template: Template | None, context: Context) -> str:
    """lm-eval's `resolve_field`: the column of that name, or else the rendered template."""
    if template is None:
        return ""
    if template.source in context:
        value = context[template.source]
        return "" if value is None else str(value)
    return template.text(context)


def _style(config: TaskConfig, options: BuildOptions) -> Style:
    own = config.fewshot_config
    shot_target = own.target_delimiter if own else None
    shot_delimiter = own.fewshot_delimiter if own else None
    return Style(
        chat=options.apply_chat_template,
        multiturn=options.fewshot_as_multiturn,
        target_delimiter=config.target_delimiter,
        shot_target_delimiter=config.target_delimiter if shot_target is None else shot_target,
        shot_delimiter=config.fewshot_delimiter if shot_delimiter is None else shot_delimiter,
    )
