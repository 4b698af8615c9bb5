"""Charts as figures of matplotlib: for pages (SVG, light and dark), for papers (SVG, PNG), and for notebooks.

svg(radar(["math", "law"], {"qwen3": [0.4, 0.7]}))
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness.terminal import visible_line
from harness.words import Translate, locale_language, translator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

LEAST_AXES = 3
_LOCK = threading.RLock()
Draw = Callable[["Figure", str], None]
"""Draws into a figure; the text is the colour of lines and letters."""
Line = tuple[str, Sequence[float], Sequence[Sequence[float] | None]]
"""Name, values and their intervals, one a place on the axis."""
Panel = tuple[str, Sequence[Line]]
"""The title of an axis, and the lines above it."""
_COLOURS = ("#3b6fb5", "#c2571a", "#2e8b57", "#8a4fbf", "#b23a48", "#6b7280", "#0e8a8a", "#a37200")
_DASHES = ("solid", (0, (5, 3)), (0, (1, 2)), (0, (5, 2, 1, 2)))
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_FONTS = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "PingFang SC", "Microsoft YaHei", "WenQuanYi Micro Hei"]
# How matplotlib's warning of each letter begins that no font has.
_MISSING = "Glyph "


def letters(t: Translate, *words: str) -> Sequence[str]:
    """The words in a language, where there is a font for it on this machine."""
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    return [t(word) if known & set(_FONTS[1:]) else word for word in words]


def figure(draw: Draw, *, dark: bool = False) -> Figure:
    """The chart as a figure, on a transparent ground."""
    from matplotlib.figure import Figure

    with _settings():
        made = Figure(figsize=(6.4, 4.4), layout="constrained", facecolor="none")
        draw(made, "#e6e9ed" if dark else "#1b1f24")
        return made


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """The settings of charts. matplotlib's are those of the whole process, and pages ask for several charts at once."""
    import matplotlib
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    settings: dict[Any, Any] = {
        "font.family": [name for name in _FONTS if name in known],
        "svg.hashsalt": "harness",
        "svg.fonttype": "path",
        "text.parse_math": False,  # a `$` in a name is a `$`
    }
    with _LOCK, matplotlib.rc_context(settings):
        yield


def svg(draw: Draw, *, dark: bool = False, ground: str = "none") -> bytes:
    """The chart as SVG, the same bytes each time."""
    return _saved(draw, "svg", dark=dark, metadata={"Date": None}, facecolor=ground)


def png(draw: Draw, dpi: int = 200) -> bytes:
    """The chart as a picture on white."""
    return _saved(draw, "png", dark=False, dpi=dpi, facecolor="white")


def _saved(draw: Draw, form: str, *, dark: bool, **options: Any) -> bytes:
    data = io.BytesIO()
    with _settings(), warnings.catch_warnings(record=True) as said:  # ticks get their letters when they are drawn
        warnings.filterwarnings("always", message=_MISSING)
        figure(draw, dark=dark).savefig(data, format=form, **options)
    if any(str(warning.message).startswith(_MISSING) for warning in said):
        t = translator(locale_language(None))
        log.warning(t("a chart has boxes for letters that no installed font has; Noto Sans CJK SC has Chinese ones"))
    return data.getvalue()


def radar(axes: Sequence[str], series: dict[str, list[float | None]]) -> Draw:
    """Values in [0, 1] of several models on the same axes; what is not known leaves a gap."""

    def draw(made: Figure, ink: str) -> None:
        if not axes or not series:
            return
        plot = made.add_subplot(projection="polar")
        angles = [2 * math.pi * place / len(axes) for place in range(len(axes))]
        for number, (name, values) in enumerate(series.items()):
            # Models that lie over one another are still told apart: by the dashes, and by the marks.
            style: dict[str, Any] = {
                "color": _COLOURS[number % len(_COLOURS)],
                "linestyle": _DASHES[number % len(_DASHES)],
                "marker": _MARKS[number % len(_MARKS)],
            }
            shown = [math.nan if value is None else max(0.0, value) for value in values]
            plot.plot([*angles, angles[0]], [*shown, shown[0]], markersize=5, label=visible_line(name), **style)
            if not any(math.isnan(value) for value in shown):
                plot.fill(angles, shown, color=style["color"], alpha=0.08)
        plot.set_xticks(angles, [visible_line(axis) for axis in axes])
        plot.tick_params(axis="x", pad=10)
        plot.set_ylim(0, 1)
        plot.set_yticks([0.25, 0.5, 0.75, 1.0], ["25", "50", "75", "100"])
        _plain(plot, ink)
        made.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=ink)

    return draw


def bars(series: dict[str, list[tuple[str, float, Sequence[float] | None]]]) -> Draw:
    """Run -> (task, value, interval): tasks from top to bottom, a bar of each run in each."""

    def draw(made: Figure, ink: str) -> None:
        names = list(dict.fromkeys(name for points in series.values() for name, _, _ in points))
        made.set_size_inches(6.4, max(1.6, 0.6 + 0.28 * len(names) * max(1, len(series))))
        plot = made.add_subplot()
        height = 0.8 / max(1, len(series))
        for number, (run, points) in enumerate(series.items()):
            places = [names.index(name) + (number - (len(series) - 1) / 2) * height for name, _, _ in points]
            values = [value for _, value, _ in points]
            style: dict[str, Any] = {"color": _COLOURS[number % len(_COLOURS)], "label": visible_line(run)}
            marks: dict[str, Any] = {"ecolor": ink, "elinewidth": 1, "capsize": 2}
            plot.barh(places, values, height, xerr=_errors(points), error_kw=marks, **style)
        plot.set_yticks(range(len(names)), [visible_line(name)[:60] for name in names])
        plot.invert_yaxis()
        if all(0 <= value <= 1 for points in series.values() for _, value, _ in points):
            plot.set_xlim(0, 1)
        _plain(plot, ink)
        if len(series) > 1:
            made.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=ink)

    return draw


def _errors(points: Sequence[tuple[str, float, Sequence[float] | None]]) -> list[list[float]]:
    """How far the intervals reach below and above the values."""
    ends = [(value, interval or (value, value)) for _, value, interval in points]
    return [[value - low for value, (low, _) in ends], [high - value for value, (_, high) in ends]]


def line(points: Sequence[tuple[str, float, Sequence[float] | None]], name: str) -> Draw:
    """(label, value, interval) in their order."""

    def draw(made: Figure, ink: str) -> None:
        plot = made.add_subplot()
        values = [value for _, value, _ in points]
        plot.errorbar(
            range(len(points)), values, _errors(points), color=_COLOURS[0], marker="o", markersize=4, capsize=3
        )
        step = max(1, math.ceil(len(points) / 12))
        shown = range(0, len(points), step)
        plot.set_xticks(list(shown), [visible_line(points[place][0])[:28] for place in shown], rotation=30, ha="right")
        plot.set_ylabel(visible_line(name))
        _plain(plot, ink)

    return draw


def scatter(points: Sequence[tuple[str, float, float]], across: str, up: str) -> Draw:
    """(label, x, y); x on a logarithmic scale where it spans more than a factor of ten."""

    def draw(made: Figure, ink: str) -> None:
        plot = made.add_subplot()
        for number, (name, x, y) in enumerate(points):
            plot.scatter([x], [y], color=_COLOURS[number % len(_COLOURS)])
            plot.annotate(visible_line(name)[:28], (x, y), textcoords="offset points", xytext=(5, 5), color=ink)
        xs = [x for _, x, _ in points]
        if xs and min(xs) > 0 and max(xs) > 10 * min(xs):
            plot.set_xscale("log")
        plot.set_xlabel(across)
        plot.set_ylabel(up)
        _plain(plot, ink)

    return draw


def ladder(
    loads: Sequence[float],
    panels: Sequence[Panel],
    across: str,
    mark: float | None = None,
) -> Draw:
    """What changes with a load, which doubles from step to step: (axis title, lines) a panel, one above the other.

    mark: the load at which a line is drawn through all panels.
    """

    def draw(made: Figure, ink: str) -> None:
        made.set_size_inches(6.4, 1.2 + 2.2 * len(panels))
        plots = made.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for plot, (up, lines) in zip(plots, panels, strict=True):
            for number, (name, values, intervals) in enumerate(lines):
                points = [("", value, between) for value, between in zip(values, intervals, strict=True)]
                style: dict[str, Any] = {"color": _COLOURS[number], "marker": _MARKS[number], "label": name}
                plot.errorbar(loads, values, _errors(points), markersize=4, capsize=3, **style)
            plot.set_ylabel(up)
            plot.set_ylim(bottom=0)
            plot.set_xscale("log", base=2)
            plot.set_xticks(list(loads), [f"{load:g}" for load in loads])
            plot.minorticks_off()
            if mark is not None:
                plot.axvline(mark, color=ink, alpha=0.5, linestyle="dashed")
            _plain(plot, ink)
            if len(lines) > 1:
                plot.legend(frameon=False, labelcolor=ink)
        plots[-1].set_xlabel(across)

    return draw


def _plain(plot: Any, ink: str) -> None:
    plot.set_facecolor("none")
    plot.tick_params(colors=ink)
    for spine in plot.spines.values():
        spine.set_color(ink)
        spine.set_alpha(0.4)
    plot.grid(color=ink, alpha=0.15)
    for label in (plot.xaxis.label, plot.yaxis.label):
        label.set_color(ink)
