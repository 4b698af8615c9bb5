"""Metrics that run the programs that a model wrote, in a sandbox (`harness.scoring.sandbox`)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod
from threading import Lock

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness import Metric, MetricOptions, Observation, hookimpl
from harness.scoring import sandbox

_JINJA = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)


class _Remembered:
    """Which programs have passed, for the metrics of one task that ask for the same ones (pass@1, pass@10)."""

    def __init__(self, most: int = 4096) -> None:
        self._known: OrderedDict[tuple[str, sandbox.Limits, str], bool] = OrderedDict()
        self._most = most
        self._lock = Lock()

    def run(self, programs: Sequence[str], limits: sandbox.Limits, mode: str) -> list[bool]:
        with self._lock:
            found = {program: self._known.get((program, limits, mode)) for program in programs}
        unknown = [program for program, passed in found.items() if passed is None]
        for program, outcome in zip(unknown, sandbox.run_programs(unknown, limits, mode), strict=True):
            found[program] = outcome.passed
        with self._lock:
            self._known.update({(program, limits, mode): bool(found[program]) for program in unknown})
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return [bool(found[program]) for program in programs]


_REMEMBERED = _Remembered()


class PassAtK(Metric):
    """The chance that at least one of `k` programs passes the tests, without bias, from n replies of which c pass:
    1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, equation 1).

    program: Jinja, the whole program with its tests, from the row's fields and `reply`. It passes when it comes to its
        end within `timeout` seconds of processor time, three times that by the clock, and `memory` MB.
    A reply in which no program could be found has failed. The task's `repeats` say how many replies there are.
    """

    name = "pass_at_k"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, program: str, k: int = 1, timeout: float = 3.0, memory: int = 1024) -> None:
        if k < 1:
            raise ValueError(f"k is {k}; it must be at least 1")
        self._k = k
        self._limits = sandbox.Limits(seconds=timeout, memory=memory << 20)
        try:
            self._program = _JINJA.from_string(program)
        except jinja2.TemplateSyntaxError as error:
            raise ValueError(f"program, line {error.lineno}: {error.message}") from None
        self._mode = ""

    def prepare(self, options: MetricOptions) -> None:
        self._mode = sandbox.usable()  # refused here, and not after the model has answered

    def score(self, seen: Observation) -> float | None:
        n = len(seen.predictions)
        if not n:
            return None
        if n < self._k:
            raise ValueError(f"there are {n} replies, fewer than k = {self._k}; raise the task's repeats")
        programs = [self._program.render(**seen.sample.doc, reply=reply) for reply in seen.predictions if reply]
        passed = _REMEMBERED.run(programs, self._limits, self._mode or sandbox.usable())
        return pass_at_k(n, sum(passed), self._k)


class PassAt10(PassAtK):
    """`pass_at_k` with k = 10."""

    name = "pass_at_10"

    def __init__(self, program: str, timeout: float = 3.0, memory: int = 1024) -> None:
        super().__init__(program, 10, timeout, memory)


class PassAt100(PassAtK):
    """`pass_at_k` with k = 100."""

    name = "pass_at_100"

    def __init__(self, program: str, timeout: float = 3.0, memory: int = 1024) -> None:
        super().__init__(program, 100, timeout, memory)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The unbiased estimate from c passes among n replies; needs 1 <= k <= n. The paper's product, no large numbers."""
    if n - c < k:
        return 1.0
    return 1.0 - prod(1.0 - k / i for i in range(n - c + 1, n + 1))


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [PassAt10, PassAt100, PassAtK]
