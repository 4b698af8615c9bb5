"""The few-shot examples that stand before the rows of a subset: their pool, the draw, and their turns."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence, Set
from typing import Any

from harness.errors import HarnessError
from harness.tasks.build_options import BuildOptions, SubsetNotes
from harness.tasks.fewshot import Row, SameQuestion, ShotPool, make_pool
from harness.tasks.media import Marks
from harness.tasks.plain_rows import plain_row, row_context
from harness.tasks.prompts import Opening, Style, opening, shot_turns, system_text
from harness.tasks.render import Rendered
from harness.tasks.row_errors import place_of, placed
from harness.tasks.rows import one_file, second_split
from harness.tasks.splits import SplitReader
from harness.tasks.task import Subset, Task
from harness.tasks.templates import Context, Template
from harness.tasks.yaml_file import PythonFunction

_MOST_SHOTS = 10_000
"""Few-shot examples that are kept as they were rendered."""


class Shots:
    """The few-shot examples of one subset: drawn for each row, rendered once, joined to what stands before a question.

    columns: of the rows that are asked. marks: stand in the place of media. styles: of each wording.
    """

    def __init__(
        self,
        task: Task,
        subset: Subset,
        options: BuildOptions,
        notes: SubsetNotes,
        splits: SplitReader,
        columns: Set[str],
        marks: Marks,
        styles: Sequence[Style],
    ) -> None:
        self._task, self._subset, self._options, self._notes = task, subset, options, notes
        self._splits, self._marks, self._styles = splits, marks, styles
        self._same_question = SameQuestion(task, columns)
        self.pool = self._make_pool()
        self._columns = columns | {column for row in self.pool.rows for column in row}
        self._rendered_shots: dict[tuple[int, int], Rendered] = {}
        self._shots: dict[tuple[int, int], tuple[Any, ...]] = {}
        self._nulls: dict[tuple[int, int], tuple[str, ...]] = {}
        self._openings: dict[tuple[int, str, tuple[int, ...]], Opening] = {}

    def draw(self, number: int, row: Row, rendered: Rendered) -> tuple[int, ...]:
        """The examples of a row, never the question itself. `rendered` is the row as it stands, in no other view."""
        if not self.pool.count:
            return ()
        if len(self._shots) > _MOST_SHOTS:
            for known in (self._rendered_shots, self._shots, self._nulls, self._openings):
                known.clear()

        def is_asked(index: int) -> bool:
            if self.pool.holds_asked and self._same_question.same_columns(row, self.pool.rows[index]):
                return True
            return self._same_question.same_text(rendered, self._rendered(index, 0))

        drawn, left_out = self.pool.draw(number, is_asked, lambda index: self.pool.rows[index] == row)
        if any(not self.pool.holds_asked or self.pool.rows[index] != row for index in left_out):
            self._notes.own_examples.append(number)
            self._notes.fewer_examples += len(drawn) < self.pool.count
        return drawn

    def opening(self, drawn: tuple[int, ...], context: Context, wording: int) -> Opening:
        """What stands before a row's question; one object for all rows with the same description and examples."""
        description = _resolved(self._task.wordings[wording].templates.description, context)
        key = (wording, description, drawn)
        known = self._openings.get(key)
        if known is None:
            system = system_text(self._options.system_instruction, description, self._task.config.fewshot_delimiter)
            known = opening(system, [self._shot(index, wording) for index in drawn], self._styles[wording])
            if not self.pool.is_fixed:  # the views of one row share theirs, and no other row does
                self._openings.clear()
            self._openings[key] = known
        return known

    def nulls(self, drawn: tuple[int, ...], wording: int) -> Iterator[str]:
        """Columns of examples that were shown in the place of which `None` is shown."""
        return (name for index in drawn for name in self._nulls[wording, index])

    def _shot(self, index: int, wording: int) -> tuple[Any, ...]:
        """The turns of a few-shot example."""
        key = (wording, index)
        if key not in self._shots:
            templates = self._task.wordings[wording].templates.shot
            rendered = self._rendered(index, wording)
            with self._naming_example(index):
                context = row_context(self.pool.rows[index], self._subset)
                self._nulls[key] = templates.shown_nulls(context, self._columns)
                self._shots[key] = shot_turns(rendered, self._styles[wording])
        return self._shots[key]

    def _rendered(self, index: int, wording: int) -> Rendered:
        key = (wording, index)
        if key not in self._rendered_shots:
            with self._naming_example(index):
                context = row_context(self.pool.rows[index], self._subset)
                templates = self._task.wordings[wording].templates.shot
                media = self._splits.media_of(self.pool.rows[index])
                self._rendered_shots[key] = self._marks.marked(templates.render(context, self._columns), media)
        return self._rendered_shots[key]

    @contextlib.contextmanager
    def _naming_example(self, index: int) -> Iterator[None]:
        """Say of an error which few-shot example it is about."""
        try:
            yield
        except HarnessError as error:
            text = placed(self._task, error, ("fewshot_config",))
            raise type(error)(f"{text} (few-shot example {index} of {self.pool.origin})") from error

    def _make_pool(self) -> ShotPool:
        """The examples' pool: a split, rows of the task file, or lm-eval's order training, validation, test."""
        task, config = self._task, self._task.config
        salt = f"{self._options.seed}\0{task.base_name}\0{self._subset.name}"
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
            return make_pool(written, task, origin, salt, indices, self._options.seed, holds_asked=True)
        # lm-eval (api/task.py, `fewshot_context`) takes the row that is asked out of a pool that no key names.
        unnamed = split is None and config.test_split is None
        split = split or config.training_split or config.validation_split or config.test_split or ""
        if split != task.eval_split and (file := one_file(self._splits.spec)):
            raise second_split(task, split, file)
        origin = place_of(task, self._subset, split)
        change = (own and own.process_docs) or config.process_docs
        rows, _ = self._splits.read(split, change=change)
        return make_pool(
            rows,
            task,
            origin,
            salt,
            indices,
            self._options.seed,
            holds_asked=unnamed or split == task.eval_split,
        )


def _resolved(template: Template | None, context: Context) -> str:
    """lm-eval's `resolve_field`: the column of that name, or else the rendered template."""
    if template is None:
        return ""
    if template.source in context:
        value = context[template.source]
        return "" if value is None else str(value)
    return template.text(context)
