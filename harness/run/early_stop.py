"""Ends a run early where its first samples or requests all fail for one cause: so would all the others.

A model plugin may know earlier which of its server's errors are of all requests (`openai` does, after three).
"""

from __future__ import annotations

from harness.errors import ModelError, PluginError

ALIKE = 20
"""So many samples must fail alike, with none among them that does not."""
ALIKE_REPLIES = 50
"""So many requests must fail with one and the same text: an error may be of its own request (a prompt too long)."""


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


class FirstReplies:
    """Watches the first replies of a model, until one of them is an answer, or fails in another way."""

    def __init__(self, name: str, asked: int) -> None:
        self._name, self._asked = name, asked
        self._count, self._first, self._over = 0, "", False

    def watch(self, error: str | None) -> None:
        """Count a reply. Raises `ModelError` when so many have failed alike, and there are others to ask."""
        self._first = self._first or error or ""
        self._over = self._over or not error or error != self._first
        self._count += 1
        if not self._over and ALIKE_REPLIES <= self._count < self._asked:
            said = self._first.removeprefix(f"model '{self._name}': ")
            raise ModelError(
                f"model '{self._name}': the first {ALIKE_REPLIES} requests all fail alike, and so would the others: "
                f"{said}"
            )
