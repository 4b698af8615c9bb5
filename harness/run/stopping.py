"""How work on a run folder stops before its end: what was survived is kept, and the error says how to go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from harness.errors import HarnessError, Interrupted, SaveError, stopped
from harness.model import Model
from harness.record.run import RunFolder
from harness.run.answers import incidents


@contextlib.contextmanager
def tidy_stop(folder: RunFolder, model: Model, name: str, command: str, answered: Callable[[], bool]) -> Iterator[None]:
    """Keep the model's incidents and the folder's status where the work inside ends before its end.

    name: of the model. answered: whether the model has answered anything: an error before that is a mistake to be
    mended, nothing goes on, and a folder that was made for it is taken away. Raises `Interrupted` for Ctrl-C, and each
    `HarnessError` with how to go on.
    """
    go_on = f"what is done is in {folder.path}" + (f"; go on with: {command}" if command else "")
    try:
        yield
    except (KeyboardInterrupt, HarnessError) as error:
        with contextlib.suppress(HarnessError):  # what ends the work is the error to tell of
            note_incidents(folder, model, name)
        if isinstance(error, KeyboardInterrupt):
            folder.finish("interrupted")
            raise Interrupted(f"interrupted, {go_on}") from None
        folder.finish("failed")
        if not (isinstance(error, SaveError) or answered()):
            folder.discard_if_new()
            raise
        raise stopped(error, go_on) from error


def note_incidents(folder: RunFolder, model: Model, name: str) -> None:
    """Keep what was survived on the way: it belongs to this session's answers, whatever the next one meets."""
    if survived := incidents(model, name):
        folder.note_session(incidents=survived)
