"""What a whole run will take, from what a dry run has done already and what the model foresees.

foreseen = foresee(forecast, spent, samples, spec)
foreseen.seconds, foreseen.how
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.model import Forecast
from harness.record.cost import Prices
from harness.record.file_types import Manifest
from harness.record.manifest import MANIFEST_FILE, read_manifest
from harness.run.spec import RunSpec

_SAMPLE = 200e-6
"""Seconds to score and to write one sample by a rule, and to sum it up."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """seconds: from command to report; None where nothing tells. how: what they are made of, and how that is known.
    cost: of the tokens by `--prices`, from the prompts alone to answers that take all tokens they may; None without
    prices, or where answers have no limit."""

    seconds: float | None
    how: str
    cost: tuple[float, float] | None = None


def foresee(forecast: Forecast, spent: float, samples: int, spec: RunSpec) -> Foreseen:
    """spent: seconds that this dry run took until its model said what it foresees."""
    around = spent + _SAMPLE * samples
    if not forecast.is_of_server:
        parts = (
            f"{spent:,.1f} s before the model, as just now",
            f"{forecast.opening:,.1f} s to load it",
            f"{forecast.seconds:,.1f} s of the model",
            f"{_SAMPLE * samples:,.1f} s for records",
        )
        return Foreseen(around + forecast.opening + forecast.seconds, ", ".join(parts))
    cost = None
    if spec.prices:
        prices = Prices.of(spec.prices)
        least = forecast.tokens * prices.prompt / 1e6
        cost = (least, least + forecast.new_tokens * prices.completion / 1e6)
    pace = _earlier_pace(spec)
    if pace is None:
        return Foreseen(None, f"no earlier run of this model in {spec.output} tells how long it takes", cost)
    per_sample, where = pace
    return Foreseen(around + per_sample * samples, f"at {1 / per_sample:,.2f} samples a second, as in {where}", cost)


def _earlier_pace(spec: RunSpec) -> tuple[float, str] | None:
    """Seconds that one sample had to wait for the same model in the latest run that says so, and which run it is."""
    for path, manifest in _runs(Path(spec.output)):
        model = manifest.get("model", {})
        same = model.get("name") == spec.model and _which(model.get("args", {})) == _which(dict(spec.model_args))
        sessions = [each for each in manifest.get("sessions", []) if "profile" in each and each.get("samples")]
        if same and sessions:
            waiting = sessions[-1]["profile"]["phases"].get("waiting", 0.0)
            if waiting:
                return waiting / sessions[-1]["samples"], str(path)
    return None


def _which(args: object) -> list[str]:
    """What decides the pace of a server: the model, where it is, and how many are asked at once."""
    values = args if isinstance(args, dict) else {}
    return [str(values.get(name)) for name in ("model", "base_url", "num_concurrent", "max_gen_toks")]


def _runs(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """The runs of a folder, the latest first; one that cannot be read tells nothing."""
    found = sorted(folder.glob(f"*/{MANIFEST_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        try:
            yield path.parent, read_manifest(path.parent)
        except UsageError:
            continue
