"""What a whole run will take, from what a dry run has done already and what the model foresees.

foreseen = foresee(forecast, spent, samples, spec)
foreseen.total, foreseen.model
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.errors import UsageError
from harness.model import Forecast
from harness.quick import dataclass
from harness.record.cost import Prices
from harness.record.manifest import MANIFEST_FILE, read_manifest
from harness.record.manifest_fields import Manifest
from harness.run.spec import RunSpec
from harness.stopwatch import Seconds

_SAMPLE = 300e-6
"""Seconds to score and to write one sample by a rule, and to sum it up."""
_REPORT = 0.25
"""Seconds to write a report, however short."""


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a run takes from command to report, in parts.

    before: until its model says what it foresees, as this dry run did. opening: to load it. model: to answer; None
    where nothing tells. records: to score, write and sum up. pace: of a server, seconds a sample, and the run that
    tells them.
    cost: of the tokens by `--prices`, of the prompts alone and with answers that take all tokens they may; the second
    is None where answers have no limit, both are without prices. knows_processor: whether all parts hold seconds of
    processor, too.
    """

    before: Seconds
    opening: Seconds
    model: Seconds | None
    records: Seconds
    pace: tuple[float, str] | None = None
    cost: tuple[float, float | None] | None = None
    knows_processor: bool = False

    @property
    def total(self) -> Seconds | None:
        return None if self.model is None else self.before + self.opening + self.model + self.records


def foresee(forecast: Forecast, spent: Seconds, samples: int, spec: RunSpec) -> Foreseen:
    """spent: what this dry run took until its model said what it foresees."""
    after = Seconds(_SAMPLE * samples + _REPORT, _SAMPLE * samples + _REPORT)
    if not forecast.is_of_server:
        model = Seconds(forecast.seconds, forecast.processor or 0.0)
        return Foreseen(spent, forecast.opening, model, after, knows_processor=forecast.processor is not None)
    cost = _cost(forecast, spec) if spec.prices else None
    pace = _earlier_pace(spec)
    waiting = None if pace is None else Seconds(pace[0] * samples)
    return Foreseen(spent, Seconds(), waiting, after, pace, cost)


def _cost(forecast: Forecast, spec: RunSpec) -> tuple[float, float | None]:
    """Of the prompts, and with the longest answers, by the prices of the way that the run asks."""
    prices = Prices.of(spec.prices)
    part = prices.batch if spec.batch_api else 1.0
    least = part * forecast.tokens * prices.prompt / 1e6
    bounded = forecast.new_tokens or not forecast.requests
    return least, least + part * forecast.new_tokens * prices.completion / 1e6 if bounded else None


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
