"""From rows to samples: each row of a subset, rendered, with the requests that it becomes."""

from __future__ import annotations

import functools
import itertools
import json
from array import array
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from harness.errors import DataError, HarnessError, TaskError, suggest
from harness.tasks.build_options import BuildOptions, SubsetNotes
from harness.tasks.dates import is_later
from harness.tasks.fewshot import Row
from harness.tasks.image_views import OtherImages, images_in, shown_hashes
from harness.tasks.lite_files import check_row
from harness.tasks.media import Marks, RowMedia, shows_any, unmarked, without_bytes
from harness.tasks.plain_rows import row_context, row_count
from harness.tasks.prompts import Style
from harness.tasks.render import Gold, Rendered, gold_of
from harness.tasks.requests import RequestMaker
from harness.tasks.row_errors import NamingRow, place_of, placed
from harness.tasks.rows import dataset_spec
from harness.tasks.schema import TaskConfig
from harness.tasks.shots import Shots
from harness.tasks.splits import OpenSplit, SplitReader
from harness.tasks.task import Subset, Task
from harness.tasks.templates import FunctionTemplate, column_or_value, holds_null
from harness.tasks.tools import offered
from harness.tasks.views import check_gold, differs, views_of
from harness.types import BadRows, Message, Record, Request, Sample, SampleKey, View


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
    """All that the rows of one subset share: their columns, their media, their few-shot examples."""

    def __init__(
        self, task: Task, subset: Subset, open_split: OpenSplit, options: BuildOptions, notes: SubsetNotes
    ) -> None:
        self.task, self.subset, self.options, self.notes = task, subset, options, notes
        spec = dataset_spec(task, subset, options)
        self.splits = SplitReader(task, subset, open_split, spec, options.code_options)
        # None of what it keeps refers to the builder: it goes with its last row, and the file of the rows with it.
        self.marks = Marks(functools.partial(_placed_problem, task, subset))
        parts = task.templates.doc.templates
        self.called = [part.function for part in parts if isinstance(part, FunctionTemplate)]
        only = task.lite.rows.get(subset.name) if task.lite else None
        rows, self.columns = self.splits.read(
            task.eval_split, None if only or options.after else options.limit, task.config.process_docs, only
        )
        self.other_images = OtherImages(rows, self.splits.images_of)
        self.split, self.numbers = rows, self.asked_numbers(rows)[: row_count(options.limit, len(rows))]
        notes.rows, notes.asked = len(rows), len(self.numbers)
        self.are_first = all(number == place for place, number in enumerate(self.numbers))
        if not self.are_first:
            notes.chosen = self.numbers
        if task.code is not None and self.called:
            task.code.foresee(self.called, (row for _, row in self.rows()))
        self.styles = [_style(wording.config, options) for wording in task.wordings]
        self.maker = RequestMaker(task, subset, options.gen_kwargs, options.seed, unconditional=options.unconditional)
        self.shots = Shots(task, subset, options, notes, self.splits, self.columns, self.marks, self.styles)
        for column in self.splits.media_columns if rows and options.shown else ():
            if column.template is None and column.name not in self.columns:
                what = f"doc_to_{column.kind}: no row has a column '{column.name}'{suggest(column.name, self.columns)}"
                raise self.task.document.error((f"doc_to_{column.kind}",), what)
        for template in (task.templates.cluster, task.templates.date, *task.templates.breakdown.values()):
            # A text without Jinja can only be the name of a column.
            if rows and template is not None and template.compiled is None and template.source not in self.columns:
                near = suggest(template.source, self.columns)
                raise TaskError(f"{template.place}: {template.key}: no row has a column '{template.source}'{near}")
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

    def sample(self, number: int, row: Row) -> Sample:
        rendered = self.rendered(row, self.splits.media_of(row))
        return self.asked(number, row, rendered, self.shots.draw(number, row, rendered))

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
        templates, media = replace(self.task.templates.doc, forgiving=True), self.splits.media_of(row)
        row = {**dict.fromkeys(self.columns), **row}
        rendered = self.marks.marked(templates.render(row_context(row, self.subset), self.columns), media)
        return self.asked(number, row, rendered, self.shots.draw(number, row, rendered))

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
        media = self.splits.media_of(row)
        images = media.get("image", ())
        plain = self.rendered(row, media)
        drawn = self.shots.draw(number, row, plain)
        samples = []
        salt = f"{self.shots.pool.salt}\0{number}"
        for view, changed in views_of(self.task, row, salt, shown_hashes(images), (self.subset.name, number)):
            placed, rows = images_in(view, images, self.other_images, salt)
            if placed != images:
                columns = [column for column in self.splits.media_columns if column.kind == "image"]
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
        before = self.shots.opening(drawn, row_context(row, self.subset), wording)
        requests = self.maker.requests(number, row, rendered, before, self.styles[wording])
        if self.splits.has_media:
            finish = self.marks.with_media if view is None or view.images else unmarked
            requests = tuple(replace(request, prompt=finish(request.prompt)) for request in requests)
        sample = _sample(self.task, self.subset, number, row, rendered, requests, self.columns, view)
        nulls = self.nulls(row, drawn, wording)
        return replace(sample, nulls=nulls) if nulls else sample

    def nulls(self, row: Row, drawn: tuple[int, ...], wording: int) -> tuple[str, ...]:
        """Columns of the row and of its examples in the place of which `None` is shown."""
        if not drawn and self.fields_are_whole and row.keys() >= self.read and not any(map(holds_null, row.values())):
            return ()
        own = self.task.wordings[wording].templates.doc.shown_nulls(row_context(row, self.subset), self.columns)
        return tuple(dict.fromkeys([*own, *self.shots.nulls(drawn, wording)]))


def _placed_problem(task: Task, subset: Subset, problem: str) -> str:
    """What is wrong with an image, with the line of the task file and the split."""
    return f"{placed(task, DataError(problem))} ({place_of(task, subset, task.eval_split)})"


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
        value = column_or_value(cluster, context, columns)
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
