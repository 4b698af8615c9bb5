"""What images gain, and what a score owes to a leak: the figures of Chen et al. 2024 (MMStar, arXiv 2403.20330,
section 4.1) from runs that are on disk.

    multimodal_gains("runs/SEES", "runs/BLIND", "runs/BASE")

The gain is the score with images less the score without; the leakage is the score without images less that of the
language model that the model was made from, on the same text, and never below 0.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.score_fields import MetricFields
from harness.registry import Registry
from harness.run.compare import RunSide, ScoreOfRun, compare_scores, headline
from harness.scoring.row_metrics import FIRST
from harness.scoring.statistics.paired import Comparison

NO_IMAGE, PROBED = "no_image", "image_probes"
SIGHTED = f"with its images (without --modify, or with --modify {PROBED})"
BLINDED = f"without its images (with --modify {NO_IMAGE}, or --modify {PROBED})"


@dataclass(frozen=True, slots=True)
class MultimodalGain:
    """gain: the run with images against that without, so that its `difference` is the gain. leaked: the run without
    images against the base, or None where no base was given."""

    task: str
    gain: Comparison
    leaked: Comparison | None = None

    @property
    def leakage(self) -> float | None:
        """The leakage, which is 0 where the base scores higher."""
        difference = None if self.leaked is None else self.leaked.difference
        return None if difference is None else max(0.0, difference)

    @property
    def leakage_interval(self) -> tuple[float, float] | None:
        """That of the difference, cut at 0."""
        interval = None if self.leaked is None else self.leaked.interval
        return None if interval is None else (max(0.0, interval[0]), max(0.0, interval[1]))


def multimodal_gains(
    seen: str | Path,
    blind: str | Path | None = None,
    base: str | Path | None = None,
    registry: Registry | None = None,
    *,
    message: Callable[[str], None] = lambda text: None,
) -> list[MultimodalGain]:
    """The gain, and with a base the leakage, of each task that the runs have, row by row.

    seen: a run of the tasks as they are, or one with `--modify image_probes`, which holds both scores. blind: one with
    `--modify no_image`. base: another with it, of the language model. message: is told what cannot be read and so is in
    no number. Raises `UsageError`.
    """
    sides = [RunSide(path, registry) for path in (seen, seen if blind is None else blind, base) if path is not None]
    found = [_scores(side, sees=number == 0) for number, side in enumerate(sides)]
    for side, scores, ways in zip(sides, found, (SIGHTED, BLINDED, BLINDED), strict=False):
        if not scores:
            raise UsageError(f"{side.path}: has no score of a task {ways}")
    shared = [name for name in found[0] if all(name in scores for scores in found)]
    if not shared:
        has = "; ".join(f"{side.path} has {', '.join(scores)}" for side, scores in zip(sides, found, strict=True))
        raise UsageError(f"the runs share no task: {has}")
    gains = []
    for name in shared:
        with_images, without, *of_base = (scores[name] for scores in found)
        gain = compare_scores(without, with_images, name)
        gains.append(MultimodalGain(name, gain, compare_scores(of_base[0], without, name) if of_base else None))
    for problem in [problem for side in sides for problem in side.run.take_messages()]:
        message(problem)
    return gains


def _scores(side: RunSide, *, sees: bool) -> dict[str, ScoreOfRun]:
    """Of each task, by its name without what is said of its images, the score with them or without."""
    scores: dict[str, ScoreOfRun] = {}
    for name, task in side.tasks.items():
        labels = side.modifiers(name)
        probed = [label for label in labels if label.partition("=")[0] == PROBED]
        metric: MetricFields | None = headline(task)
        if probed:
            own = headline(task)["metric"].removeprefix(f"{FIRST}_")
            wanted = f"{FIRST if sees else NO_IMAGE}_{own}"
            metric = next((metric for metric in task["metrics"] if metric["metric"] == wanted), None)
        elif sees == (NO_IMAGE in labels):
            metric = None
        if metric is not None:
            others = "".join(f"+{label}" for label in labels if label not in (NO_IMAGE, *probed))
            scores[side.base(name) + others] = ScoreOfRun(side, name, metric)
    return scores
