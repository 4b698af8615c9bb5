"""One family of errors, each of which prints as one line: what, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum

from harness.secret import shown_urls


class ExitCode(IntEnum):
    """What a command ends with.

    OK: all is well. SAMPLES_FAILED: the run came to its end and has a report, and some samples failed (of `gate`: a run
    is worse). INTERRUPTED: stopped before the end, by Ctrl-C and its like, a full disk, or a model that went away; what
    is done is on disk, and the same command goes on. USAGE: a mistake in a command, a file or a configuration.
    """

    OK = 0
    SAMPLES_FAILED = 1
    INTERRUPTED = 2
    USAGE = 4


class HarnessError(Exception):
    """Base of all errors that a user is meant to read. `str()` of it is one line, without the password of any URL.

    One that is made of a `Phrase` can be said in the language of whoever reads it.
    """

    exit_code: ExitCode = ExitCode.USAGE

    def __str__(self) -> str:
        return shown_urls(super().__str__())


class UsageError(HarnessError):
    """A mistake in a command, a file or a configuration, found before any model was loaded."""


class MachineError(UsageError):
    """This machine lacks what a metric needs. Nothing is wrong with the task, and another machine may run it."""


class ChatTemplateError(UsageError):
    """A model without a chat template was to be asked by turns."""


class TaskError(UsageError):
    """A mistake in a task file. Its text starts with `file:line:`."""


class DataError(UsageError):
    """Rows that are not there, cannot be reached, or are not what the task says."""


class PluginError(UsageError):
    """A plugin that is unknown, broken, or in conflict with another."""


class ModelError(HarnessError):
    """A model that cannot be loaded or cannot answer. Where it did answer before, the run can go on: exit code 2."""


class Undecided(HarnessError):
    """What a sample scores could not be decided within a limit. The sample fails, is counted, and is never 0."""


class SaveError(HarnessError):
    """A result that could not be written to disk. The same command goes on, once there is room."""

    exit_code = ExitCode.INTERRUPTED


class Interrupted(HarnessError):
    """The work was stopped on request, which is no mistake; what is done is on disk."""

    exit_code = ExitCode.INTERRUPTED


def stopped(error: HarnessError, how_to_go_on: str) -> HarnessError:
    """The same error, of work that can go on: its text says how, and its exit code that it was stopped."""
    again = type(error)(f"{error}; {how_to_go_on}")
    again.exit_code = ExitCode.INTERRUPTED
    return again


def one_line(error: BaseException) -> str:
    """What an exception says, in one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def suggest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def only_failures(error: BaseException) -> None:
    """Raise what is no failure of a plugin but an order: Ctrl-C, and the end of a generator.

    All else that a plugin lets out is its failure: `exit()`, and a panic of code in Rust, which is no `Exception`.
    """
    if isinstance(error, KeyboardInterrupt | GeneratorExit):
        raise error
