"""Charts of runs as figures of matplotlib, for notebooks and papers: `plot_scores(["runs/A", "runs/B"])`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import MachineError, UsageError
from harness.record.report_fields import Report
from harness.record.run import RunFolder
from harness.record.shown import short_title
from harness.view import charts
from harness.view.tables import bars_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DARK = "#1b1f24"
Runs = str | Path | Sequence[str | Path]


def plot_scores(runs: Runs, *, dark: bool = False) -> Figure:
    """The first metric of each task as bars with 95 % intervals, one a run. Raises `UsageError`."""
    return _figure(charts.bars(bars_of(_reports(runs))), dark=dark)


def plot_abilities(runs: Runs, *, dark: bool = False) -> Figure:
    """The means over the tasks of each ability on a radar, a line a run. Raises `UsageError` below three abilities."""
    reports = _reports(runs)
    known = {
        name: {found["ability"]: found["raw"]["value"] for found in report.get("abilities", ()) if found["raw"]}
        for name, report in reports.items()
    }
    axes = list(dict.fromkeys(ability for values in known.values() for ability in values))
    if len(axes) < charts.LEAST_AXES:
        raise UsageError(f"a radar needs {charts.LEAST_AXES} abilities, and these runs have {len(axes)}; plot_scores")
    series = {name: [values.get(axis) for axis in axes] for name, values in known.items()}
    return _figure(charts.radar(axes, series), dark=dark)


def _figure(draw: charts.Draw, *, dark: bool) -> Figure:
    try:
        made = charts.figure(draw, dark=dark)
    except ModuleNotFoundError as error:
        raise MachineError(f"plots need the package {error.name}: pip install 'harness-eval[view]'") from None

    def as_picture() -> bytes:
        data = io.BytesIO()
        made.savefig(data, format="png", dpi=120, facecolor=_DARK if dark else "white")
        return data.getvalue()

    # A notebook shows figures by itself only where pyplot made them, which holds on to each.
    setattr(made, "_repr_png_", as_picture)  # noqa: B010
    return made


def _reports(runs: Runs) -> Mapping[str, Report]:
    """The reports of runs by what tells them apart: the model, and the folder where several have one name."""
    reports: dict[str, Report] = {}
    for path in [runs] if isinstance(runs, str | Path) else runs:
        folder = RunFolder.read(Path(path))
        if folder.report is None:
            raise UsageError(f"{path}: has no report yet: the run has not ended; its command goes on with it")
        title = short_title(folder.report)
        reports[title if title not in reports else f"{title} ({folder.path})"] = folder.report
    return reports
