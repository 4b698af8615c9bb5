"""What went wrong on the way and was survived: a report names it, because nobody was there to see it."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class WorkerFailure:
    """A worker that ended before its time, and what became of its work.

    cause: how it ended, in words; status: its exit status, negative for a signal. returned: requests that went back to
    the queue. failed: those of them that were not tried again.
    """

    worker: str
    device: str
    pid: int
    cause: str
    status: int
    returned: int = 0
    failed: int = 0
    _done: dict[str, set[int]] = field(default_factory=dict)

    def done_by(self, worker: str, requests: Sequence[int]) -> None:
        """Another worker answered some of what went back."""
        self._done.setdefault(worker, set()).update(requests)

    @property
    def cause_text(self) -> str:
        """`worker 0 (cuda:0, pid 4711) was killed by SIGKILL`."""
        return f"{self.worker} ({self.device}, pid {self.pid}) {self.cause}"

    @property
    def text(self) -> str:
        """One line for a person."""
        if not self.returned:
            return self.cause_text
        done = [f"{worker} did {len(requests)}" for worker, requests in self._done.items()]
        done += [f"{self.failed} failed, for two workers had died of them"] if self.failed else []
        went = "1 request" if self.returned == 1 else f"{self.returned} requests"
        return f"{self.cause_text}; {went} went back to the queue: {', '.join(done) or 'none was done'}"

    def to_dict(self) -> Mapping[str, Any]:
        """What a manifest holds."""
        return {
            "kind": "worker lost",
            "text": self.text,
            "worker": self.worker,
            "device": self.device,
            "pid": self.pid,
            "signal": signal_name(self.status),
            "status": self.status,
            "returned": self.returned,
            "failed": self.failed,
            "done_by": {worker: len(requests) for worker, requests in self._done.items()},
        }


def ending(status: int) -> str:
    """How a process ended, in words."""
    name = signal_name(status)
    if name is None:
        return f"ended with status {status}"
    # Out of main memory, Linux gives no other sign.
    hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


def signal_name(status: int) -> str | None:
    """`SIGKILL` for -9; None where no signal ended the process."""
    if status >= 0:
        return None
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
