"""A safe place for programs that a model wrote. Plugins may use what is named here."""

from __future__ import annotations

from harness.scoring.sandbox.command import ENVIRONMENT, Limits, command_line, jailed
from harness.scoring.sandbox.execute import (
    MODES,
    Program,
    ProgramOutcome,
    ScriptOutcome,
    check_mode,
    run_program,
    run_programs,
    run_script,
    usable,
)

__all__ = [
    "ENVIRONMENT",
    "MODES",
    "Limits",
    "Program",
    "ProgramOutcome",
    "ScriptOutcome",
    "check_mode",
    "command_line",
    "jailed",
    "run_program",
    "run_programs",
    "run_script",
    "usable",
]
