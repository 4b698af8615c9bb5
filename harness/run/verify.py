"""Whether a served model is the model that it claims to be: its answers beside those of a reference.

    verify_runs("runs/local", "runs/served").verdict      # same, differs, or unclear

Compared are, of prompts that are equal to the letter: texts, the probabilities of choices, whether calls and JSON can
be read, and the scores. Verifiers of vendors look at the same (Kimi K2's of tool calls).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from harness.record.run import RunFolder
from harness.run.compare import compare_runs
from harness.types import Record, Response, SampleKey

Verdict = Literal["same", "differs", "unclear"]
FEWEST = 30
"""Pairs below which nothing is said to be the same."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing that was compared. value: an agreement (1: all alike) or a difference (0: none).

    expected: what it is where the models are the same. verdict: of its interval: wholly within `margin` of what is
    expected, wholly beyond, or neither.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    n: int
    expected: float
    margin: float
    counts: bool = True

    @property
    def verdict(self) -> Verdict:
        if self.interval is None or self.n < 2:
            return "unclear"
        low, high = self.interval[0] - self.expected, self.interval[1] - self.expected
        if low > self.margin or high < -self.margin:
            return "differs"
        within = -self.margin <= low and high <= self.margin
        return "same" if within and self.n >= FEWEST else "unclear"


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of a comparison. pairs: samples that both answered; left_out: why others are in no number."""

    agreements: tuple[Compared, ...]
    pairs: int
    left_out: dict[str, int]

    @property
    def verdict(self) -> Verdict:
        verdicts = [each.verdict for each in self.agreements if each.counts]
        if "differs" in verdicts:
            return "differs"
        return "same" if verdicts and all(verdict == "same" for verdict in verdicts) else "unclear"


def verify_runs(reference: str | Path, served: str | Path, margin: float = 0.05) -> Verification:
    """Compare `served` with `reference`. margin: how far a mean may be from that of the same model.

    Raises `UsageError` for what is no run, and where no prompt is the same.
    """
    first, second = RunFolder.read(Path(reference)), RunFolder.read(Path(served))
    there = {record.key: record for record in second.records()}
    left_out: dict[str, int] = {}
    pairs: list[tuple[Record, Record]] = []
    for record in first.records():
        reason = _why_not(record, there)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            pairs.append((record, there[record.key]))
    if not pairs:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the reference has no samples"
        raise UsageError(f"--served {served}: nothing can be compared with {reference}: {why}")
    agreements = [*_of_texts(pairs, margin), *_of_choices(pairs, margin), *_of_scores(reference, served, margin)]
    return Verification(tuple(agreements), len(pairs), left_out)


def _why_not(record: Record, there: dict[SampleKey, Record]) -> str:
    other = there.get(record.key)
    if other is None:
        return "not in the served run"
    if record.error or other.error:
        return "failed"
    if _asked(record) != _asked(other):
        return "asked otherwise"
    return ""


def _asked(record: Record) -> tuple[object, ...]:
    """The prompt, however it is cut into a shared part and the rest."""
    prompt = record.prompt
    return prompt.text, prompt.messages, prompt.prefill, record.choices, len(record.responses)


def _of_texts(pairs: Sequence[tuple[Record, Record]], margin: float) -> Iterator[Compared]:
    texts = [
        (one.text.strip(), other.text.strip(), one, other)
        for first, second in pairs
        for one, other in zip(first.responses, second.responses, strict=True)
        if one.text is not None and other.text is not None
    ]
    if not texts:
        return
    # Two servers of one model part at ties of rounding: that is told, and decides nothing.
    yield _mean("texts that are equal", [float(one == other) for one, other, _, _ in texts], 1.0, margin, counts=False)
    yield _mean(
        "what texts have in common", [_common(one, other) for one, other, _, _ in texts], 1.0, margin, counts=False
    )
    lengths = [_length(other) - _length(one) for _, _, one, other in texts]
    yield _mean("length of texts, log ratio", lengths, 0.0, 4 * margin)
    for name, valid in (("calls that can be read", _valid_calls), ("replies that are JSON", _valid_json)):
        judged = [(valid(one), valid(other)) for _, _, one, other in texts]
        known = [(a, b) for a, b in judged if a is not None or b is not None]
        if known:
            yield _mean(f"{name}, difference", [float(b or 0) - float(a or 0) for a, b in known], 0.0, margin)


def _common(one: str, other: str) -> float:
    """The share of the longer text up to where the two part."""
    longest = max(len(one), len(other))
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other))) / longest if longest else 1.0


def _length(response: Response) -> float:
    return math.log1p(len(response.text or "") + len(response.reasoning or ""))


def _valid_json(response: Response) -> bool | None:
    """Whether a text that looks like JSON is JSON; None for one that does not."""
    text = (response.text or "").strip().removeprefix("```json").removesuffix("```").strip()
    if not text.startswith(("{", "[")):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _valid_calls(response: Response) -> bool | None:
    """Whether the arguments of all calls are objects; None where nothing is called."""
    calls = getattr(response, "calls", None) or getattr(response, "tool_calls", None)
    if not calls:
        return None
    return all(isinstance(getattr(call, "arguments", None), dict) for call in calls)


def _of_choices(pairs: Sequence[tuple[Record, Record]], margin: float) -> Iterator[Compared]:
    scored = [(a.logprobs, b.logprobs) for a, b in pairs if len(a.logprobs) > 1 and len(a.logprobs) == len(b.logprobs)]
    if not scored:
        return
    alike = [float(max(a) == a[_best(b)] and max(b) == b[_best(a)]) for a, b in scored]
    yield _mean("choices that are the same", alike, 1.0, margin)
    yield _mean("distance of choice probabilities", [_distance(a, b) for a, b in scored], 0.0, margin)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Half of the sum of the differences of two distributions (total variation), from log-likelihoods of choices."""

    def shares(values: Sequence[float]) -> list[float]:
        weights = [math.exp(value - max(values)) for value in values]
        return [weight / sum(weights) for weight in weights]

    return sum(abs(a - b) for a, b in zip(shares(one), shares(other), strict=True)) / 2


def _of_scores(reference: str | Path, served: str | Path, margin: float) -> Iterator[Compared]:
    for each in compare_runs(reference, served):
        if each.difference is not None:
            bounded = each.first is not None and 0 <= each.first <= 1
            yield Compared(
                f"{each.name}: score, difference", each.difference, each.interval, each.n, 0.0, margin, bounded
            )


def _mean(name: str, values: Sequence[float], expected: float, margin: float, *, counts: bool = True) -> Compared:
    import numpy as np

    from harness.scoring.statistics.estimates import mean_estimate

    estimate = mean_estimate(np.array(values))
    return Compared(name, estimate.value, estimate.interval, len(values), expected, margin, counts)
