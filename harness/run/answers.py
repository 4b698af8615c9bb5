"""Asks a model, and turns whatever a plugin raises into one line that names it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from harness.errors import HarnessError, ModelError
from harness.model import Model
from harness.types import Request, Response


def answers(model: Model, name: str, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
    """The model's answers as they come, one a request; one that it leaves out is an error. Raises `HarnessError`."""
    left = dict.fromkeys(range(len(requests)))
    given = iter(model.respond(requests))
    while True:
        with plugin_errors(name, "stopped"):
            answer = next(given, None)
            if answer is not None and not 0 <= answer[0] < len(requests):
                raise IndexError(f"it answered request {answer[0]}, and was asked {len(requests)}")
        if answer is None:
            break
        if answer[0] in left:
            del left[answer[0]]
            yield answer
    yield from ((index, Response(error=f"model '{name}' gave no answer")) for index in left)


@contextlib.contextmanager
def plugin_errors(name: str, what: str) -> Iterator[None]:
    """Turn any exception of a plugin into one line that names it."""
    try:
        yield
    except (HarnessError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:  # a plugin that calls `exit()` does not end the run in silence
        cause = " ".join(str(error).split())
        raise ModelError(f"model '{name}' {what}: {type(error).__name__}: {cause}") from error
