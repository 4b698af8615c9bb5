"""The tokenizer of the model that a run measures, for tasks that make rows to its measure (lm-eval's RULER).

Their Python loads it by its name. In the sandbox it finds the tokenizer's files there, and not the weights beside them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.types import JSON

_ARGUMENTS = ("tokenizer", "pretrained", "model")
"""Of `--model_args`, those under which lm-eval's tasks look for a tokenizer."""
_KINDS = (".json", ".txt", ".model", ".jinja", ".py")
_LARGEST = 100 << 20
"""Bytes of one file: no vocabulary has more."""


def hub_cache() -> Path:
    """Where files of the hub are kept on this machine, as its own library has it."""
    home = os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser()
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def tokenizer_copies(model_args: Mapping[str, JSON], to: Path) -> dict[str, str]:
    """Copy the files of the tokenizers that a run names, for all to read. Folder -> its copy below `to`."""
    named = [value for name in _ARGUMENTS if isinstance(value := model_args.get(name), str) and value]
    copies = {}
    for number, name in enumerate(dict.fromkeys(named)):
        folder, cached = Path(name).expanduser(), hub_cache() / f"models--{name.replace('/', '--')}"
        if folder.is_dir():
            copies[str(folder.resolve())] = str(to / f"tokenizer{number}")
            _copy(folder, to / f"tokenizer{number}")
        elif cached.is_dir():
            copies[str(hub_cache().resolve())] = str(to / "hub")
            _copy(cached / "refs", to / "hub" / cached.name / "refs", all_kinds=True)
            for snapshot in (cached / "snapshots").iterdir():
                _copy(snapshot, to / "hub" / cached.name / "snapshots" / snapshot.name)
    for path in [to, *to.rglob("*")] if copies else ():
        path.chmod(0o755 if path.is_dir() else 0o644)
    return copies


def _copy(source: Path, to: Path, *, all_kinds: bool = False) -> None:
    to.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir() if source.is_dir() else ():
        if file.is_file() and (all_kinds or file.suffix in _KINDS) and file.stat().st_size <= _LARGEST:
            shutil.copyfile(file, to / file.name)
