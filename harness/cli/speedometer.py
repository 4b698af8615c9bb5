"""How fast a run goes just now, in a few phrases: tokens and requests a second, how much of the limit that is, what it
costs.

    speed = Speedometer(meter, clock)
    packed(speed.phrases(t), 60)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from harness.run.work import Meter, WorkDone
from harness.words import Translate

SPAN = 20.0
"""Seconds over which speeds are taken: answers come in batches."""
_STEP = 0.2
"""Seconds between two looks that are kept."""


class Speedometer:
    """Looks at the meter whenever it is asked, and says what was done since some seconds ago."""

    def __init__(self, meter: Meter, clock: Callable[[], float]) -> None:
        self._meter, self._clock = meter, clock
        self._looks: deque[tuple[float, WorkDone]] = deque([(clock(), meter())])

    def phrases(self, t: Translate) -> list[str]:
        """Empty until something is known."""
        now, work = self._clock(), self._meter()
        while len(self._looks) > 1 and now - self._looks[1][0] >= SPAN:
            self._looks.popleft()
        since, before = self._looks[0]
        if now - self._looks[-1][0] >= _STEP:
            self._looks.append((now, work))
        seconds = now - since
        return list(_phrases(before, work, seconds, t)) if seconds > 0 else []


def _phrases(before: WorkDone, work: WorkDone, seconds: float, t: Translate) -> Iterator[str]:
    if work.prompt_tokens:
        yield t("prompts {n} tokens/s", n=amount((work.prompt_tokens - before.prompt_tokens) / seconds))
    if work.new_tokens:
        yield t("answers {n} tokens/s", n=amount((work.new_tokens - before.new_tokens) / seconds))
    if work.requests:
        yield t("{n} requests/s", n=amount((work.requests - before.requests) / seconds))
    yield from _limits(before, work, seconds, t)
    if work.failed:
        yield t("{n} failed", n=f"{work.failed:,}")
    if work.cut:
        yield t("{n} cut off", n=f"{work.cut:,}")
    if work.cost is not None:
        yield t("{cost} spent", cost=f"{work.cost:,.4g}")


def _limits(before: WorkDone, work: WorkDone, seconds: float, t: Translate) -> Iterator[str]:
    """How much of what is possible is used."""
    then, now = before.activity, work.activity
    if now is None:
        return
    if now.operations and now.matrix_rate:
        done = now.operations - ((then.operations if then is not None else None) or 0.0)
        yield t("{share} of the matrix rate", share=f"{done / seconds / now.matrix_rate:.0%}")
    if now.places is not None:
        yield t("{used} of {places} connections", used=now.under_way or 0, places=now.places)
    sent = now.sent - (then.sent if then is not None else 0)
    if now.granted is not None:
        share = sent / seconds / now.granted
        yield t("{share} of the limit of {n} requests/s", share=f"{share:.0%}", n=amount(now.granted))
    if sent and now.refused:
        refused = now.refused - (then.refused if then is not None else 0)
        yield t("{share} refused (429)", share=f"{refused / sent:.0%}")


def amount(number: float) -> str:
    """`12,345`, `830`, `3.1`, `0.02`."""
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 or not number else f"{number:.1g}"


def packed(phrases: Sequence[str], width: int) -> list[str]:
    """The phrases on as few lines as hold them, none broken unless it is longer than a line by itself."""
    from rich.cells import cell_len

    lines: list[str] = []
    for phrase in phrases:
        if lines and cell_len(lines[-1]) + 2 + cell_len(phrase) <= width:
            lines[-1] += f"  {phrase}"
        else:
            lines.append(phrase)
    return lines
