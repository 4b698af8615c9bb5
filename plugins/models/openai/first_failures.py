"""Ends a run early when its first requests all fail for one and the same cause, which all the others share too."""

from __future__ import annotations

from harness import ModelError

from .errors import RequestError

ALIKE = 3
"""So many, where the cause is understood: a field that the server does not take, a model that it does not have."""
ALIKE_UNEXPLAINED = 10
"""The same where it is not, and may lie in the prompts."""


class FirstFailures:
    """Watches the first requests, until one of them is answered."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._over = False
        self._cause, self._count = "", 0

    def answered(self) -> None:
        self._over = True

    def failed(self, error: RequestError, questions: int) -> None:
        """Count an error that no retry can mend, of so many requests. Raises ModelError when it is the one of all."""
        if self._over:
            return
        self._count = self._count + 1 if error.cause == self._cause else 1
        self._cause = error.cause
        if not error.cause:  # it may lie in this one prompt
            self._count = 0
            return
        enough = min(ALIKE, max(2, questions)) if error.remedy else ALIKE_UNEXPLAINED
        if self._count >= enough:
            remedy = f" ({error.remedy})" if error.remedy else ""
            raise ModelError(f"{self.title}: the first {enough} requests all fail alike: {error}{remedy}")
