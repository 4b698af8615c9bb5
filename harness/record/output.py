"""The folder that holds run folders: `--output`, and where in it the run of a configuration is."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from harness import files
from harness.errors import UsageError
from harness.record import manifest
from harness.types import JSON


def check_output(output: Path) -> None:
    """Refuse a folder in which no run can be kept, as far as that is known without making it. Raises UsageError."""
    try:
        _require_folder(output)
        if link := files.dangling_link(output):
            raise UsageError(f"--output {output}: {link}; choose another folder")
        there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
        if not there.is_dir():
            cause = os.strerror(errno.ENOTDIR)
        elif there != output and not os.access(there, os.W_OK | os.X_OK):
            cause = os.strerror(errno.EACCES)
        else:
            return
    except OSError as error:  # a name that is too long, or a loop of links
        cause = error.strerror or str(error)
    raise unusable(output, cause)


def unusable(output: Path, cause: str) -> UsageError:
    return UsageError(f"--output {output}: cannot be written ({cause}); choose another folder")


def folders_of(output: Path, identity_hash: str) -> list[Path]:
    """The run folders of a configuration directly in `output`, the newest last."""
    return sorted(output.glob(f"*-{identity_hash}")) if output.is_dir() else []


def find_folder(output: Path, model_name: str, identity: Mapping[str, JSON]) -> Path:
    """Where in `output` the run of a configuration is, or is to be made. Raises UsageError."""
    _require_folder(output)
    if (output / manifest.MANIFEST_FILE).is_file():
        return output
    own_hash = manifest.identity_hash(identity)
    if output.name.endswith(f"-{own_hash}") and output.is_dir():  # its manifest was damaged, and taken away
        return output
    folders = folders_of(output, own_hash)
    return folders[-1] if folders else output / manifest.folder_name(model_name, identity)


def renamed_runs(output: Path, identity: Mapping[str, JSON]) -> list[Path]:
    """The run folders of a configuration directly in `output` whose names do not say so: somebody has renamed them."""
    wanted, found = manifest.plain(identity), []
    for folder in manifest.runs_below(output):
        # Of the others the name says which configuration they are of; to read them all takes long.
        if re.search(r"-[0-9a-f]{8}$", folder.name) is None:
            with contextlib.suppress(UsageError, KeyError):
                if manifest.read_manifest(folder)["identity"] == wanted:
                    found.append(folder)
    return found


def _require_folder(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: a file, not a folder; choose another folder")
