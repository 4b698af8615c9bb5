"""The ways in which a modified task shows a row, and the proof that the right answer is still the right one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.errors import DataError, HarnessError, PluginError
from harness.modifiers import Asked, Modifier
from harness.plugin_values import flag, integer, items, shown, text
from harness.tasks.answer_options import Options, Row, asking, find_options, letters_in, moved, value
from harness.tasks.render import Gold, Rendered
from harness.tasks.task import Task
from harness.types import View

STAND_INS = ("", "blank", "other")


def views_of(task: Task, row: Row, salt: str, images: Sequence[str] = ()) -> Iterator[tuple[View, Row]]:
    """Each view of a row, and the row as it is shown in it, but for its images. Raises `DataError` for a row without
    the task's options.

    salt: what is the row's own, and the same in every run. images: hashes of those that can be shown.
    """
    entry = task.config.options
    options = find_options(row, entry) if entry is not None else None
    views = _composed(task, row, options, salt, tuple(images))
    if options is not None and options.fixed and any(view.is_moved for view in views):
        # Options that refer to each other by place stay where they are.
        own = tuple(range(len(options.values)))
        views = [replace(view, order=own, fixed=options.fixed) for view in views]
    views = list(dict.fromkeys(views))
    for index, each in enumerate(views):
        view, shown = replace(each, index=index, count=len(views)), row
        if entry is not None and options is not None and view.is_moved:
            shown = moved(shown, entry, options, view.order)
        if entry is not None and view.question is not None:
            shown = asking(shown, entry, view.question)
        yield view, shown


def check_gold(task: Task, view: View, plain: Gold, gold: Gold) -> None:
    """Raises `DataError` where the right answer did not move with its option."""
    if not view.order or _in_the_row(task, view, gold) == _in_the_row(task, View(order=()), plain):
        return
    raise DataError(
        f"options: the right answer does not follow its option: {plain!r} became {gold!r} where the options stand as "
        f"{list(view.order)}; 'options' should name the column of the answer that doc_to_target reads"
    )


def differs(plain: Rendered, shown: Rendered) -> bool:
    """Whether a model is shown something else than in the plain row."""
    parts = ("text", "turns", "contexts", "gen_prefix")
    return any(getattr(plain, part) != getattr(shown, part) for part in parts)


def _composed(task: Task, row: Row, options: Options | None, salt: str, images: tuple[str, ...]) -> list[View]:
    """What all modifiers together make of a row: each acts on what those before it show."""
    texts = options.texts if options is not None else ()
    rewordings = _rewordings(task, row)
    views = [View(order=tuple(range(len(texts))))]
    for modifier in task.modifiers:
        asked = Asked(texts, len(task.wordings), rewordings, f"{salt}\0{modifier.name}", images)
        steps = _given(modifier, asked)
        views = [_joined(modifier, view, step) for view in views for step in steps]
    return views


def _given(modifier: Modifier, asked: Asked) -> list[View]:
    """What `views` gave, with plain values. Raises `PluginError`, naming modifier and field."""
    try:
        steps = [_plain(step, place, asked) for place, step in enumerate(items(modifier.views(asked), "views"))]
    except HarnessError:
        raise
    except (Exception, SystemExit) as error:
        cause = " ".join(str(error).split())
        raise PluginError(f"modifier '{modifier.name}': {type(error).__name__}: {cause}") from error
    if not steps:
        raise PluginError(f"modifier '{modifier.name}' shows a row in no way at all")
    return steps


def _plain(step: object, place: int, asked: Asked) -> View:
    what = f"views[{place}]"
    if not isinstance(step, View):
        raise TypeError(f"{what} is a View, not {shown(step)}")
    wording = integer(step.wording, f"{what}.wording")
    if not 0 <= wording < asked.wordings:
        raise ValueError(f"{what}.wording is {wording}, of {asked.wordings} that the task has, numbered from 0")
    places = tuple(integer(image, f"{what}.image_order") for image in items(step.image_order, f"{what}.image_order"))
    if places and sorted(places) != list(range(len(asked.images))):
        raise ValueError(f"{what}.image_order orders {len(asked.images)} images as {list(places)}: each comes once")
    if step.stand_in not in STAND_INS:
        raise ValueError(f"{what}.stand_in is {step.stand_in!r}; it should be one of {', '.join(map(repr, STAND_INS))}")
    return replace(
        step,
        image_order=places,
        image_rows=(),
        order=tuple(integer(option, f"{what}.order") for option in items(step.order, f"{what}.order")),
        wording=wording,
        question=None if step.question is None else text(step.question, f"{what}.question"),
        images=flag(step.images, f"{what}.images"),
    )


def _joined(modifier: Modifier, view: View, step: View) -> View:
    if step.order and sorted(step.order) != sorted(view.order):
        raise PluginError(
            f"modifier '{modifier.name}' orders {len(view.order)} options as {list(step.order)}: each must come once"
        )
    if (view.question is not None and step.question is not None) or (view.wording and step.wording):
        raise PluginError(f"modifier '{modifier.name}' changes what another one has changed: the words of the question")
    if not view.shows_own_images and not step.shows_own_images:
        raise PluginError(f"modifier '{modifier.name}' changes what another one has changed: the images")
    return replace(
        view,
        order=tuple(view.order[place] for place in step.order) or view.order,
        wording=view.wording or step.wording,
        question=view.question if step.question is None else step.question,
        images=view.images and step.images,
        image_order=view.image_order or step.image_order,
        stand_in=view.stand_in or step.stand_in,
    )


def _rewordings(task: Task, row: Row) -> tuple[str, ...]:
    """Other texts of this row's question, where a column holds them."""
    column = task.config.paraphrases
    if not isinstance(column, str):
        return ()
    given = value(row, column)
    listed = [given] if isinstance(given, str) else given or []
    if not isinstance(listed, list | tuple) or not all(isinstance(text, str) for text in listed):
        raise DataError(f"paraphrases: column '{column}' should be a list of texts, found {type(given).__name__}")
    return tuple(text for text in listed if text.strip())


def _in_the_row(task: Task, view: View, gold: Gold) -> object:
    """The gold as the row's own options: indices and letters through the order, texts as they are."""
    entry = task.config.options
    order = view.order
    if gold is None or entry is None:
        return gold
    parts = gold if isinstance(gold, tuple) else (gold,)
    in_row: list[object] = []
    for part in parts:
        as_text = isinstance(part, str) and entry.form == "text"
        places = [part] if isinstance(part, int) else None if as_text else letters_in(part, entry.labels)
        if places is None:
            in_row.append(part)
        else:
            in_row.append(tuple(sorted(order[place] if place < len(order) else place for place in places)))
    return sorted(map(repr, in_row))
