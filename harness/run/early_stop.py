"""Ends a run early where its first samples all fail for one cause in a metric or filter: so would all the others.

A model plugin does the same for what its server says of the first requests; only it knows which errors are of all.
"""

from __future__ import annotations

from harness.errors import PluginError

ALIKE = 20
"""So many samples must fail alike, with none among them that does not."""


class EarlyStop:
    """Watches the first samples of each task, until one of them fails in another way, or not at all."""

    def __init__(self, alike: int = ALIKE) -> None:
        self._alike = alike
        self._first: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def watch(self, task: str, cause: str, error: str | None) -> None:
        """Count a sample. cause: what samples that fail alike have in common; empty for one that did not fail so.

        Raises `PluginError` when so many of one task have failed alike.
        """
        first = self._first.setdefault(task, cause)
        if not first:
            return
        if cause != first:
            self._first[task] = ""
            return
        self._counts[task] = self._counts.get(task, 0) + 1
        if self._counts[task] >= self._alike:
            raise PluginError(
                f"{task}: the first {self._alike} samples all fail alike, and so would the others: {error} (answers "
                "are kept: mend the plugin, or take its metric out of the task)"
            )
