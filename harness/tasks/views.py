"""The ways in which a modified task shows a row, and the proof that the right answer is still the right one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.errors import DataError, HarnessError, PluginError
from harness.modifiers import Asked, Modifier
from harness.plugin_values import flag, integer, items, shown, text
from harness.tasks.answer_options import Options, Row, asking, find_options, letters_in, moved, question_of, value
from harness.tasks.expressions import number_in
from harness.tasks.render import Gold, Rendered
from harness.tasks.task import Task
from harness.types import View

STAND_INS = ("", "blank", "other")


def views_of(
    task: Task, row: Row, salt: str, images: Sequence[str] = (), place: tuple[str, int] = ("", 0)
) -> Iterator[tuple[View, Row]]:
    """Each view of a row, and the row as it is shown in it, but for its images. Raises `DataError` for a row without
    the task's options.

    salt: what is the row's own, and the same in every run. images: hashes of those that can be shown. place: the row's
    subset and number.
    """
    entry = task.config.options
    options = find_options(row, entry) if entry is not None else None
    views = _composed(task, row, options, salt, tuple(images))
    if options is not None and options.fixed and any(view.is_moved for view in views):
        # Options that refer to each other by place stay where they are.
        own = tuple(range(len(options.values)))
        views = [replace(view, order=own, fixed=options.fixed) for view in views]
    views, renewed = _renewed(task, row, views, salt, place)
    for index, each in enumerate(views):
        view, shown = replace(each, index=index, count=len(views)), renewed.get(each.renewal, row)
        if entry is not None and options is not None and (view.is_moved or view.options):
            found = options if shown is row else find_options(shown, entry)
            shown = moved(shown, entry, found, view.order, view.options)
        if entry is not None and view.question is not None:
            shown = asking(shown, entry, view.question)
        yield view, shown


def check_gold(task: Task, view: View, plain: Gold, gold: Gold) -> None:
    """Raises `DataError` where the right answer did not move with its option."""
    if view.renewal:
        if isinstance(gold, str) and gold == plain and number_in(gold) is not None:
            raise DataError(
                f"renewal: the right answer is still {gold} where the numbers are others; 'renewal.columns' should "
                "have the column that doc_to_target reads"
            )
        return
    entry = task.config.options
    if view.options and entry is not None and entry.form == "text" and isinstance(gold, str) and gold in view.options:
        return  # the text of an option, in its new words
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
    texts, fixed = (options.texts, options.fixed) if options is not None else ((), "")
    rewordings, question = _rewordings(task, row), question_of(row, task.config.options)
    views = [View(order=tuple(range(len(texts))))]
    for modifier in task.modifiers:
        asked = Asked(texts, len(task.wordings), rewordings, f"{salt}\0{modifier.name}", images, question, fixed)
        steps = _given(modifier, asked)
        views = [_joined(modifier, view, step) for view in views for step in steps]
    return views


def _renewed(
    task: Task, row: Row, views: list[View], salt: str, place: tuple[str, int]
) -> tuple[list[View], dict[int, Row]]:
    """The views that are left, and the row as each of its drawings of other numbers has it.

    Where one drawing fails, the row keeps its numbers in all of its views, and these say why.
    """
    rows: dict[int, Row] = {}
    for number in sorted({view.renewal for view in views} - {0}):
        if task.renewals is None:
            raise PluginError(f"a modifier of '{task.name}' draws other numbers, which its 'needs' do not say")
        rows[number], problem = task.renewals.renewed(row, place, f"{salt}\0renewal {number}")
        if problem:
            views = [replace(view, renewal=0, kept=problem) for view in views]
            break
    return list(dict.fromkeys(views)), rows


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
    options = tuple(text(option, f"{what}.options") for option in items(step.options, f"{what}.options"))
    if options and len(options) != len(asked.options):
        raise ValueError(f"{what}.options has {len(options)} texts for {len(asked.options)} options")
    return replace(
        step,
        image_order=places,
        image_rows=(),
        order=tuple(integer(option, f"{what}.order") for option in items(step.order, f"{what}.order")),
        wording=wording,
        question=None if step.question is None else text(step.question, f"{what}.question"),
        images=flag(step.images, f"{what}.images"),
        renewal=integer(step.renewal, f"{what}.renewal"),
        options=options,
        kept=text(step.kept, f"{what}.kept"),
    )


def _joined(modifier: Modifier, view: View, step: View) -> View:
    if step.order and sorted(step.order) != sorted(view.order):
        raise PluginError(
            f"modifier '{modifier.name}' orders {len(view.order)} options as {list(step.order)}: each must come once"
        )
    if (view.question is not None and step.question is not None) or (view.wording and step.wording):
        raise PluginError(f"modifier '{modifier.name}' changes what another one has changed: the words of the question")
    if (view.renewal and (step.renewal or step.question)) or (view.question and step.renewal):
        raise PluginError(f"modifier '{modifier.name}' changes what another one has changed: the numbers")
    if (view.options or view.renewal) and (step.options or (view.options and step.renewal)):
        raise PluginError(f"modifier '{modifier.name}' changes what another one has changed: the texts of the options")
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
        renewal=view.renewal or step.renewal,
        options=view.options or step.options,
        kept=view.kept or step.kept,
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
