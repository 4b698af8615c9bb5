"""A ladder of loads as a picture: throughput above, latencies below, over the load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.errors import MachineError, UsageError
from harness.files import replace
from harness.run.rungs import Latency, Rung, knee
from harness.view import charts
from harness.words import Translate

FORMS = (".svg", ".png")


def check_plot(path: Path) -> None:
    """Raises `UsageError` where no picture of that name can be made, before anything is measured."""
    if path.suffix.lower() not in FORMS:
        raise UsageError(f"--plot {path}: say by its ending which picture it is to be ({' or '.join(FORMS)})")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MachineError(f"--plot needs the package {error.name}: pip install 'harness-eval[view]'") from None


def draw_ladder(rungs: Sequence[Rung], path: Path, t: Translate) -> None:
    """Write the picture. Raises `SaveError`."""
    measured = [rung for rung in rungs if rung.answered]
    counted = bool(measured) and all(rung.tokens_per_second for rung in measured)
    up, first, per_token, across = charts.letters(
        t,
        "tokens a second" if counted else "requests a second",
        "seconds to the first token (median)",
        "milliseconds a token (median)",
        "requests at once" if all(rung.at_once for rung in measured) else "requests sent a second",
    )
    rates = [rung.tokens_per_second if counted else rung.requests_per_second for rung in measured]
    values = [rate.value if rate else math.nan for rate in rates]
    panels: list[charts.Panel] = [
        (up, [(up, values, [rate.interval if rate else None for rate in rates])]),
        (first, [_medians(measured, first, lambda rung: rung.first_token, 1.0)]),
        (per_token, [_medians(measured, per_token, lambda rung: rung.per_token, 1000.0)]),
    ]
    best = knee(rungs)
    draw = charts.ladder([rung.load for rung in measured], panels, across, best.load if best else None)
    make = charts.png if path.suffix.lower() == ".png" else charts.svg
    replace(path, [make(draw)])


def _medians(rungs: Sequence[Rung], name: str, of: Callable[[Rung], Latency | None], unit: float) -> charts.Line:
    values: list[float] = []
    intervals: list[Sequence[float] | None] = []
    for latency in map(of, rungs):
        low, high = (latency and latency.median_interval) or (None, None)
        values.append(unit * latency.median if latency else math.nan)
        intervals.append((unit * low, unit * high) if low is not None and high is not None else None)
    return name, values, intervals
