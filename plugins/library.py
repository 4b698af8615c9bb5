"""The tasks and templates that come with the harness."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from harness import hookimpl


@hookimpl
def harness_tasks() -> Sequence[Path]:
    return [_folder("harness_tasks")]


@hookimpl
def harness_templates() -> Sequence[Path]:
    return [_folder("harness_templates")]


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"package {package} is not installed")
    return Path(spec.origin).parent
