"""Metrics over several replies to one question: how likely one of k passes, and how likely all of them do.

A reply passes by another metric of the task, or when the program that it holds passes its tests in a sandbox
(`harness.scoring.sandbox`).
"""

from __future__ import annotations

import ast
import importlib.util
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import prod
from threading import Lock
from typing import Any

import jinja2
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness import Metric, MetricOptions, Observation, RepeatMetric, Undecided, hookimpl
from harness.scoring import sandbox

_JINJA = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


_REPLY = "\ue000the reply\ue001"  # stands for the reply where a program is taken apart


class _Remembered:
    """Which programs have passed, for the metrics of one task that ask for the same ones (pass@1, pass@10)."""

    def __init__(self, most: int = 4096) -> None:
        self._known: OrderedDict[tuple[sandbox.Program, sandbox.Limits, str], bool] = OrderedDict()
        self._most = most
        self._lock = Lock()

    def run(self, programs: Sequence[sandbox.Program], limits: sandbox.Limits, mode: str) -> list[bool]:
        with self._lock:
            passed = {program: self._known.get((program, limits, mode)) for program in programs}
        unknown = [program for program, known in passed.items() if known is None]
        for program, outcome in zip(unknown, sandbox.run_programs(unknown, limits, mode), strict=True):
            if not outcome.decided:  # says nothing about the program: the sample fails, and is tried again
                raise Undecided(outcome.reason)
            passed[program] = outcome.passed
        with self._lock:
            self._known.update({(program, limits, mode): bool(passed[program]) for program in unknown})
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return [bool(passed[program]) for program in programs]


_REMEMBERED = _Remembered()


class _Passes(RepeatMetric):
    """Base of the metrics of this file: n replies of which c pass, and an estimate for a draw of k."""

    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(
        self,
        program: str | None = None,
        k: int | Sequence[int] = 1,
        timeout: float = 3.0,
        memory: int = 1024,
        of: str | Mapping[str, Any] | None = None,
        threshold: float = 1.0,
        packages: str = "",
        tests: str | None = None,
        reference: str | None = None,
    ) -> None:
        if program is not None and of is not None:
            raise ValueError("program and of: both say which replies pass; take one out")
        self._ks = _numbers(k)
        self.values = () if isinstance(k, int) else tuple(map(str, self._ks))
        self.setting = f"k = {k}" if isinstance(k, int) and not self.name.endswith(f"_{k}") else ""
        self.replies = max(self._ks)
        self.of = of
        self._threshold = threshold
        self._limits = sandbox.Limits(seconds=timeout, memory=memory << 20)
        self._program = None if program is None else _template(program)
        self._tests = None if tests is None else _template(tests)
        self._reference = None if reference is None else _template(reference)
        if reference is not None and (tests is None or _uses(reference, "reply")):
            raise ValueError(
                "reference: is a solution without the reply, and `tests` are the unit tests that it passes"
            )
        if program is not None and tests is None and _uses(program, "reply") != 1:
            raise ValueError("program: {{ reply }} must stand in it once; or say by `tests` what is tested")
        if tests is not None and (program is None or _uses(tests, "reply")):
            raise ValueError("tests: belong to a program, and are made without the reply")
        self._packages = packages
        self._mode: str | None = None

    @property
    def wants_inner(self) -> bool:
        return self._program is None

    def prepare(self, options: MetricOptions) -> None:
        super().prepare(options)
        if self._program is not None:
            self._mode = sandbox.usable(options.sandbox)  # refused here, and not after the model has answered

    def score(self, seen: Observation) -> float | tuple[float, ...] | None:
        n = len(seen.predictions)
        if not n:
            return None
        if n < self.replies:
            raise ValueError(f"there are {n} replies, fewer than k = {self.replies}; raise the task's repeats")
        passed = self._passed(seen)
        if passed is None:
            return None
        estimates = tuple(self.estimate(n, passed, k) for k in self._ks)
        return estimates if self.values else estimates[0]

    @abstractmethod
    def estimate(self, n: int, c: int, k: int) -> float:
        """The value for draws of k from n replies of which c pass."""

    def _passed(self, seen: Observation) -> int | None:
        """How many replies pass; None where that cannot be told, because the gold is hidden. Unread ones do not."""
        if self._program is not None:
            packages = seen.sample.doc.get(self._packages) if self._packages else None
            names = ast.literal_eval(packages) if isinstance(packages, str) else packages or ()
            missing = [str(name) for name in names if importlib.util.find_spec(str(name).partition(".")[0]) is None]
            if missing:
                raise ValueError(f"its programs need {', '.join(missing)}, which is not installed here")
            programs = [self._tested(self._program, seen.sample.doc, reply) for reply in seen.predictions if reply]
            return sum(_REMEMBERED.run(programs, self._limits, self._mode or sandbox.usable()))
        scores = self.score_each(seen)
        if None in scores:
            return None
        pairs = zip(scores, seen.predictions, strict=True)
        return sum(score is not None and score >= self._threshold and reply is not None for score, reply in pairs)

    def _tested(self, template: jinja2.Template, doc: Mapping[str, Any], reply: str) -> sandbox.Program:
        """A reply's program, with its tests apart: those of `tests`, or what stands below the line of the reply."""
        reply = reply.lstrip("\ufeff")
        whole = template.render(**doc, reply=reply)
        if self._tests is not None:
            reference = self._reference.render(**doc) if self._reference is not None else ""
            return sandbox.Program(whole, self._tests.render(**doc), reference=reference)
        above, _, below = template.render(**doc, reply=_REPLY).partition(_REPLY)
        if not (whole.startswith(above) and whole.endswith(below) and len(whole) >= len(above) + len(below)):
            raise ValueError("program: what stands around {{ reply }} must not depend on the reply")
        rest, _, tests = below.partition("\n")
        if rest.strip() and not rest.lstrip().startswith("#") and not tests.strip():
            raise ValueError("program: tests must stand on lines of their own, below that of {{ reply }}")
        return sandbox.Program(whole[: len(whole) - len(tests)], tests, above)


class PassAtK(_Passes):
    """The chance that at least one of `k` replies passes, without bias, from n replies of which c pass:
    1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, equation 1).

    k: a number, or several: `k: [1, 10]` is reported as `pass_at_1` and `pass_at_10`.
    program: Jinja, the whole program, from the row's fields and `reply`; its tests are the lines below that of the
        reply. It passes when they raise nothing within `timeout` seconds of processor time, three times that by the
        clock, and `memory` MB. The tests run in another process than the program: they get copies of its values.
    tests: Jinja, the tests, from the row's fields alone, where `program` holds none.
    reference: Jinja, a whole program that is right, where `tests` are classes of `unittest` that must run in the
        program's process because they change its modules (patch, mock). What a program claims there is not believed:
        the tests are run again in versions that a right program fails, and the reference says which.
    of: without a program, the metric that says which replies pass: those to which it gives at least `threshold`. A
        metric of the task by its name, with its options there, or an entry of its own; left out, the task's first.
    packages: a column with the packages that a row's programs need (BigCodeBench's `libs`). Where one is not installed,
        the row is no failure of the model: it is an error, which has no score.
    A reply that could not be read has failed. The task's `repeats` say how many replies there are; filters that make
    one answer of them (take_first, majority_vote) are left out.
    """

    name = "pass_at_k"
    stem = "pass_at"

    def estimate(self, n: int, c: int, k: int) -> float:
        return pass_at_k(n, c, k)


class PassAt10(PassAtK):
    """`pass_at_k` with k = 10."""

    name = "pass_at_10"

    def __init__(
        self,
        program: str | None = None,
        timeout: float = 3.0,
        memory: int = 1024,
        of: str | Mapping[str, Any] | None = None,
        threshold: float = 1.0,
    ) -> None:
        super().__init__(program, 10, timeout, memory, of, threshold)


class PassAt100(PassAtK):
    """`pass_at_k` with k = 100."""

    name = "pass_at_100"

    def __init__(
        self,
        program: str | None = None,
        timeout: float = 3.0,
        memory: int = 1024,
        of: str | Mapping[str, Any] | None = None,
        threshold: float = 1.0,
    ) -> None:
        super().__init__(program, 100, timeout, memory, of, threshold)


class PassHatK(_Passes):
    """pass^k, the chance that all of `k` replies pass: how far a model can be relied on, not what its best reply is.

    C(c, k) / C(n, k), without bias, from n replies of which c pass (Yao et al. 2024, tau-bench, arXiv 2406.12045).
    Options as of `pass_at_k`; `k: [1, 8]` is reported as `pass_hat_1` and `pass_hat_8`.
    """

    name = "pass_hat_k"
    stem = "pass_hat"

    def estimate(self, n: int, c: int, k: int) -> float:
        return pass_hat_k(n, c, k)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate from c passes among n replies; needs 1 <= k <= n. The paper's product, no large numbers."""
    if n - c < k:
        return 1.0
    return 1.0 - prod(1.0 - k / i for i in range(n - c + 1, n + 1))


def pass_hat_k(n: int, c: int, k: int) -> float:
    """The share of draws of k from n replies that are all among the c that pass; needs 1 <= k <= n."""
    return prod((c - i) / (n - i) for i in range(k)) if c >= k else 0.0


def _numbers(k: int | Sequence[int]) -> tuple[int, ...]:
    given = [k] if isinstance(k, int) else list(k)
    for number in given:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"k is {number}; it must be at least 1")
    if not given or len(set(given)) < len(given):
        raise ValueError(f"k is {given}; it must be a number or several that differ")
    return tuple(given)


def _template(program: str) -> jinja2.Template:
    try:
        return _JINJA.from_string(program)
    except jinja2.TemplateSyntaxError as error:
        raise ValueError(f"program, line {error.lineno}: {error.message}") from None


def _uses(template: str, name: str) -> int:
    return [node.name for node in _JINJA.parse(template).find_all(jinja2.nodes.Name)].count(name)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [PassAt10, PassAt100, PassAtK, PassHatK]
