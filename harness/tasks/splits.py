"""The splits of a subset, read: rows as JSON keeps them, those that `where` keeps, and their media beside them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import Any

from harness.data.open import make_rows
from harness.errors import DataError, suggest
from harness.spool import Spool
from harness.tasks.fewshot import Row
from harness.tasks.media import Images, Kind, MediaColumn, RowMedia, files_in, media_of, without_bytes
from harness.tasks.media_places import roots_of
from harness.tasks.plain_rows import plain_row, row_context, row_count
from harness.tasks.row_errors import NamingRow, place_of
from harness.tasks.rows import exploded
from harness.tasks.task import Subset, Task
from harness.tasks.yaml_file import PythonFunction
from harness.types import JSON, DatasetSpec, Media, Rows

OpenSplit = Callable[[DatasetSpec, str], Rows]


class SplitReader:
    """Reads the splits of one subset. The media of their rows are kept aside, so that rows are what JSON can hold.

    spec: where the rows are. code_options: what `custom_dataset` gets beside the task's metadata.
    """

    def __init__(
        self,
        task: Task,
        subset: Subset,
        open_split: OpenSplit,
        spec: DatasetSpec,
        code_options: Mapping[str, JSON],
    ) -> None:
        self._task, self._subset, self._open_split, self.spec = task, subset, open_split, spec
        self._code_options = code_options
        self.media_columns = task.templates.media
        given: dict[Kind, Any] = {"image": task.config.doc_to_image, "audio": task.config.doc_to_audio}
        self._choosers = {kind: shown for kind, shown in given.items() if isinstance(shown, PythonFunction)}
        self.has_media = bool(self.media_columns or self._choosers)
        self._roots = roots_of(spec) if self.has_media else []
        self._media: dict[int, RowMedia] = {}
        self._unread: dict[int, tuple[Sequence[Mapping[str, Any]], int]] = {}

    def read(
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
            opened = self._opened(split)
        except DataError as error:
            place = self._task.document.place(("dataset_path",))
            raise DataError(f"{error} (task '{self._task.name}', {place})") from error
        rows = opened.rows
        if change is not None and self._task.code is not None:
            with NamingRow(self._task, self._subset, split, f"all {len(rows)} rows"):
                rows = self._task.code.rows(change, rows, opened.features, split)
        with NamingRow(self._task, self._subset, split, "its lists"):
            rows = exploded(rows, self._task.config.explode)
        if opened.made and isinstance(limit, int) and not self._task.templates.where:
            rows = rows[: row_count(limit, len(rows))]
        # Images of rows that are only counted are not read.
        asked: Collection[int] = range(limit if isinstance(limit, int) else len(rows)) if only is None else only
        asked = range(len(rows)) if self._task.templates.where else asked
        # Media are remembered by row, which must then stay one object.
        has_media, conditions, columns = self.has_media, self._task.templates.where, set[str]()
        if isinstance(rows, Spool) and not has_media and not conditions:
            for row in rows:
                columns.update(row)
                try:
                    is_plain = row == plain_row(row)
                except DataError:  # which row it is, is said below
                    is_plain = False
                if not is_plain:
                    columns.clear()
                    break
            else:
                return rows, columns  # they are in a file already, as they are wanted
        kept: list[Row] | Spool[Row] = [] if has_media else Spool(block=1)
        for number, row in enumerate(rows):
            with NamingRow(self._task, self._subset, split, f"row {number}"):
                row = self._plain(row, number in asked)
                if has_media and number not in asked:
                    self._unread[id(row)] = (rows, number)
                if not conditions or all(each.is_true(row_context(row, self._subset)) for each in conditions):
                    kept.append(row)
                    columns.update(row)
        if not kept and rows:
            place, where = self._task.document.place(("where",)), place_of(self._task, self._subset, split)
            raise DataError(f"{place}: where: keeps none of the {len(rows)} rows ({where})")
        return kept, columns

    def media_of(self, row: Row) -> RowMedia:
        """The media of a row that was read and is asked, or is an example."""
        return self._media.get(id(row), {})

    def images_of(self, row: Row) -> Images:
        """The images of a row. Those of rows that are only counted are read when another row is shown them."""
        if id(row) not in self._media and id(row) in self._unread:
            rows, number = self._unread[id(row)]
            self._media[id(row)] = self._media_in(rows[number])
        return self.media_of(row).get("image", ())

    def _opened(self, split: str) -> Rows:
        """The rows as their source has them, or as the task's own Python makes them."""
        config, code = self._task.config, self._task.code
        if config.custom_dataset is None or code is None:
            return self._open_split(self.spec, split)
        options = {**(config.metadata or {}), **self._code_options, **(config.dataset_kwargs or {})}
        splits = code.splits(config.custom_dataset, options)
        if split not in splits:
            raise DataError(f"{config.custom_dataset}: makes no split '{split}'{suggest(split, splits)}")
        return make_rows(splits[split], str(config.custom_dataset))

    def _plain(self, row: Mapping[str, Any], is_asked: bool = True) -> Row:
        """The row as JSON keeps it; its media are kept aside."""
        if not self.has_media:
            return plain_row(row)
        columns = self.media_columns
        if self._choosers:  # whichever they choose: a log holds no picture
            columns = (*columns, *files_in(row))
        names = {column.name for column in columns if column.template is None}
        if not is_asked:
            return plain_row({name: None if name in names else value for name, value in row.items()})
        media = media_of(row, row_context(row, self._subset), columns, self._roots)
        kept = plain_row(without_bytes(row, columns, media, sized=self._task.config.image_sizes))
        self._media[id(kept)] = self._media_in(row) if self._choosers else media
        return kept

    def _media_in(self, row: Mapping[str, Any]) -> RowMedia:
        """The media of a row as its source has it."""
        media = media_of(row, row_context(row, self._subset), self.media_columns, self._roots)
        return {**media, **{kind: self._chosen(kind, function, row) for kind, function in self._choosers.items()}}

    def _chosen(self, kind: Kind, function: PythonFunction, row: Mapping[str, Any]) -> Images:
        """The media that Python of the task chooses of a row; where it fails, one with a problem."""
        assert self._task.code is not None
        try:
            shown = self._task.code.media(kind, function, row)
        except DataError as error:
            return (Media(kind, "", problem=str(error)),)
        column = MediaColumn(kind, f"doc_to_{kind}")
        return media_of({column.name: shown}, {}, (column,), self._roots).get(kind, ())
