"""Whether a served model is the model that it claims to be: its answers beside those of a reference.

    verify_runs("runs/local", "runs/served").verdict      # same, differs, or unclear

Compared are, of prompts that are equal to the letter: texts, the probabilities of choices, calls of offered functions,
whether JSON can be read, and the scores. Of calls, what a vendor's own verifier counts (MoonshotAI/K2-Vendor-Verifier,
README.md): whether functions are called at the same prompts (F1), and in what share of the replies that call anything
all calls fit the JSON Schema that was offered. The F1 of a model that is sampled is far from 1 with itself, and decides
nothing; how often functions are called does.

Replies that are all alike do not show that the next one is: what was seen at none of n prompts may be at up to
1 - 0.025^(1/n) of them (C. J. Clopper and E. S. Pearson, Biometrika 26 (1934), 404). Every interval of a difference is
so wide at least: where nothing differs it is that of Clopper and Pearson, and with a margin of 0.05 no fewer than 72
prompts show that two models are the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from harness.errors import UsageError
from harness.quick import dataclass
from harness.reasoning import is_incomplete
from harness.record.run import RunFolder
from harness.run.compare import compare_runs
from harness.scoring.extraction.call_schemas import calls_fit
from harness.scoring.statistics.estimates import LEVEL, mean_estimate, mean_stderr, own_estimate, student_t_quantile
from harness.types import Record, Response, SampleKey
from harness.words import Translate, english

Verdict = Literal["same", "differs", "unclear"]
FEWEST = 30
"""Pairs below which nothing is said to be the same."""


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing that was compared. value: an agreement (1: all alike) or a difference (0: none).

    expected: what it is where the models are the same. verdict: of its interval: wholly within `margin` of what is
    expected, wholly beyond, or neither. reference, served: the two that a difference is of.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    n: int
    expected: float
    margin: float
    counts: bool = True
    reference: float | None = None
    served: float | None = None

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
    """What came of a comparison. pairs: samples that both answered; left_out: why others are in no number.

    fewest: pairs that, all alike, show that a share is within the margin.
    """

    agreements: tuple[Compared, ...]
    pairs: int
    left_out: dict[str, int]
    fewest: int = FEWEST

    @property
    def verdict(self) -> Verdict:
        verdicts = [each.verdict for each in self.agreements if each.counts]
        if "differs" in verdicts:
            return "differs"
        return "same" if verdicts and all(verdict == "same" for verdict in verdicts) else "unclear"


def verify_runs(
    reference: str | Path,
    served: str | Path,
    margin: float = 0.05,
    t: Translate = english,
    message: Callable[[str], None] = lambda text: None,
) -> Verification:
    """Compare `served` with `reference`. margin: how far a mean may be from that of the same model. t: the language of
    names. message: is told what of a folder cannot be read.

    Raises `UsageError` for a margin or a folder that is none, and where no prompt is the same.
    """
    if not 0 <= margin <= 1:
        raise UsageError(f"margin: should be a number from 0 to 1, not {margin}")
    first, second = RunFolder.read(Path(reference)), RunFolder.read(Path(served))
    there = {record.key: record for record in second.records()}
    left_out: dict[str, int] = {}
    pairs: list[tuple[Record, Record]] = []
    in_both = 0
    for record in first.records():
        in_both += record.key in there
        reason = _why_not(record, there)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            pairs.append((record, there[record.key]))
    for problem in [*first.take_messages(), *second.take_messages()]:
        message(problem)
    if extra := len(there) - in_both:
        left_out["not in the reference run"] = extra
    if not pairs:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the reference has no samples"
        raise UsageError(f"--served {served}: nothing can be compared with {reference}: {why}")
    agreements = [
        *_of_texts(pairs, margin, t),
        *_of_calls(pairs, margin, t),
        *_of_choices(pairs, margin, t),
        *_of_scores(reference, served, margin, t),
    ]
    fewest = FEWEST if margin in (0, 1) else max(FEWEST, math.ceil(math.log((1 - LEVEL) / 2) / math.log1p(-margin)))
    return Verification(tuple(agreements), len(pairs), left_out, fewest)


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
    return prompt.text, prompt.messages, prompt.prefill, prompt.tools, record.choices, len(record.responses)


def _of_texts(pairs: Sequence[tuple[Record, Record]], margin: float, t: Translate) -> Iterator[Compared]:
    replies = list(_replies(pairs))
    if not replies:
        return
    questions = [question for question, _, _ in replies]
    texts = [((one.text or "").strip(), (other.text or "").strip()) for _, one, other in replies]
    # Two servers of one model part at ties of rounding: that is told, and decides nothing.
    equal = [float(one == other) for one, other in texts]
    yield _mean(t("texts that are equal"), equal, questions, 1.0, margin, counts=False)
    alike = [_common(one, other) for one, other in texts]
    yield _mean(t("what texts have in common"), alike, questions, 1.0, margin, counts=False)
    lengths = [_length(other) - _length(one) for _, one, other in replies]
    yield _mean(t("length of texts, log ratio"), lengths, questions, 0.0, 4 * margin)
    judged = [(question, _valid_json(one), _valid_json(other)) for question, one, other in replies]
    if known := [(question, a, b) for question, a, b in judged if a is not None or b is not None]:
        differences = [float(b or 0) - float(a or 0) for _, a, b in known]
        yield _mean(t("replies that are JSON, difference"), differences, [each[0] for each in known], 0.0, margin)


def _replies(pairs: Sequence[tuple[Record, Record]]) -> Iterator[tuple[int, Response, Response]]:
    """(question, reply of the reference, reply of the server) of all replies that are texts."""
    for question, (first, second) in enumerate(pairs):
        for one, other in zip(first.responses, second.responses, strict=True):
            if one.text is not None and other.text is not None:
                yield question, one, other


def _of_calls(pairs: Sequence[tuple[Record, Record]], margin: float, t: Translate) -> Iterator[Compared]:
    """What replies call, where functions were offered. Incomplete replies call nothing that counts."""
    rows, questions = [], []
    for question, one, other in _replies(pairs):
        if tools := pairs[question][0].prompt.tools:
            fit = [
                None if is_incomplete(each) else calls_fit(each.text or "", json.loads(tools)) for each in (one, other)
            ]
            rows.append([float(value) for each in fit for value in (each is not None, bool(each))])
            questions.append(question)
    if not rows:
        return
    table, clusters = np.array(rows), np.array(questions)
    called = table[:, [0, 2]]
    n = len(rows)
    shares = called.mean(axis=0)
    rate = _mean(t("replies that call, difference"), called[:, 1] - called[:, 0], questions, 0.0, margin)
    yield replace(rate, reference=float(shares[0]), served=float(shares[1]))
    both, either = called.prod(axis=1), called.sum(axis=1)
    if either.any():
        same = own_estimate(np.stack([2 * both, either], axis=1), _ratio, clusters)
        interval = _with_unseen(same.value, same.stderr, len(np.unique(clusters[either > 0])), within=(0.0, 1.0))
        yield Compared(t("calls at the same prompts, F1"), same.value, interval, n, 1.0, margin, False)
    if called.any(axis=0).all():
        fits = own_estimate(table, _difference_of_ratios, clusters)
        sums = table.sum(axis=0)
        calling = min(len(np.unique(clusters[side > 0])) for side in called.T)
        yield Compared(
            t("calls that fit what is offered, difference"),
            fits.value,
            _with_unseen(fits.value, fits.stderr, calling),
            n,
            0.0,
            margin,
            True,
            float(sums[1] / sums[0]),
            float(sums[3] / sums[2]),
        )


def _ratio(sums: tuple[float, ...], n: int) -> float:
    return sums[0] / sums[1] if sums[1] else 1.0


def _difference_of_ratios(sums: tuple[float, ...], n: int) -> float:
    """Fitting among calling, served less reference. sums: calling and fitting of each."""
    return (sums[3] / sums[2] if sums[2] else 0.0) - (sums[1] / sums[0] if sums[0] else 0.0)


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


def _of_choices(pairs: Sequence[tuple[Record, Record]], margin: float, t: Translate) -> Iterator[Compared]:
    scored = [(a.logprobs, b.logprobs) for a, b in pairs if len(a.logprobs) > 1 and len(a.logprobs) == len(b.logprobs)]
    if not scored:
        return
    alike = [float(max(a) == a[_best(b)] and max(b) == b[_best(a)]) for a, b in scored]
    questions = list(range(len(scored)))
    yield _mean(t("choices that are the same"), alike, questions, 1.0, margin)
    yield _mean(t("distance of choice probabilities"), [_distance(a, b) for a, b in scored], questions, 0.0, margin)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Half of the sum of the differences of two distributions (total variation), from log-likelihoods of choices."""

    def shares(values: Sequence[float]) -> list[float]:
        weights = [math.exp(value - max(values)) for value in values]
        return [weight / sum(weights) for weight in weights]

    return sum(abs(a - b) for a, b in zip(shares(one), shares(other), strict=True)) / 2


def _of_scores(reference: str | Path, served: str | Path, margin: float, t: Translate) -> Iterator[Compared]:
    for each in compare_runs(reference, served):
        if each.difference is not None:
            bounded = each.first is not None and 0 <= each.first <= 1
            yield Compared(
                t("{score}: score, difference", score=each.name),
                each.difference,
                _with_unseen(each.difference, each.stderr, each.units or each.n) if bounded else each.interval,
                each.n,
                0.0,
                margin,
                bounded,
                each.first,
                each.second,
            )


def _mean(
    name: str,
    values: Sequence[float],
    questions: Sequence[int],
    expected: float,
    margin: float,
    *,
    counts: bool = True,
) -> Compared:
    """The mean of what was compared of each reply, with an interval over questions: Wilson's of shares."""
    table, clusters = np.array(values), np.array(questions)
    mean, stderr = float(table.mean()), mean_stderr(table, clusters)
    if expected and bool(np.isin(table, (0.0, 1.0)).all()):
        interval = mean_estimate(table, clusters).interval
    else:
        interval = _with_unseen(mean, stderr, len(set(questions)), (0.0, 1.0) if expected else (-math.inf, math.inf))
    return Compared(name, mean, interval, len(values), expected, margin, counts)


def _with_unseen(
    value: float, stderr: float | None, units: int, within: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float] | None:
    """The 95 % interval of a mean over `units` prompts: Student's t, and what no prompt has shown, added in squares."""
    if stderr is None or units < 2:
        return None
    unseen = 1 - ((1 - LEVEL) / 2) ** (1 / units)
    width = math.hypot(stderr * student_t_quantile(0.5 + LEVEL / 2, units - 1), unseen)
    return max(within[0], value - width), min(within[1], value + width)
