"""Where the time of a run went, from what its commands kept in the manifest: `harness profile RUN`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.manifest import read_manifest, the_run
from harness.stopwatch import PHASES


@dataclass(frozen=True, slots=True)
class RunProfile:
    """The commands of a run together.

    path: of the run. commands: those whose time is known; unknown: how many others asked something. samples: that the
    known ones wrote. seconds: by the clock; processor: of processor; peak_memory:
    the most bytes of one of them, 0 where that is not known. phases: seconds by phase, in the order of a run.
    """

    path: str
    commands: int
    unknown: int
    samples: int
    seconds: float
    processor: float
    peak_memory: int
    phases: Mapping[str, float]

    @classmethod
    def of(cls, path: Path) -> Self:
        """Of a run folder, whose records are not read. Raises `UsageError` where no command of it kept its times."""
        folder = the_run(path)
        sessions = read_manifest(folder).get("sessions", [])
        known = [(session["profile"], session.get("samples", 0)) for session in sessions if "profile" in session]
        if not known:
            raise UsageError(
                f"{folder}: no command of this run kept where its time went: it is at work, asked nothing, or is "
                "of a version that kept no times"
            )
        # Names of a later version come last.
        names = dict.fromkeys([*PHASES, *(name for profile, _ in known for name in profile["phases"])])
        sums = {name: sum(profile["phases"].get(name, 0.0) for profile, _ in known) for name in names}
        return cls(
            path=str(folder),
            commands=len(known),
            # A merge copies what its shards computed, whose times are here.
            unknown=sum(
                "profile" not in each and "merged" not in each and bool(each.get("samples")) for each in sessions
            ),
            samples=sum(samples for _, samples in known),
            seconds=sum(profile["seconds"] for profile, _ in known),
            processor=sum(profile["processor"] for profile, _ in known),
            peak_memory=max(profile.get("peak_memory", 0) for profile, _ in known),
            phases={name: seconds for name, seconds in sums.items() if seconds > 0},
        )
