"""What a run folder says about itself, where it lies, and how two configurations differ."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import cast

from harness import files
from harness.errors import UsageError, suggest
from harness.record.file_types import FORMAT, problem_of, upgraded
from harness.record.keys import canonical_json
from harness.record.manifest_fields import Manifest, SessionFields
from harness.record.report_fields import Report
from harness.types import JSON

MANIFEST_FILE = "manifest.json"
_HASH_LENGTH = 8
_SHOWN_DIFFERENCES = 4
_SHOWN_CHARACTERS = 60
_NAME_BYTES = 100
# Names that Windows keeps for devices, and those that a run folder uses itself.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(1, 10))}
_TAKEN = {"prompts"}
_ABSENT = object()
# Arguments of a model that name it, as lm-eval reads them: an adapter stands for the model that it changes.
_NAMING_ARGUMENTS = ("peft", "delta", "pretrained", "model", "path", "engine")


def identity_hash(identity: Mapping[str, JSON]) -> str:
    """The hash that names the folder of a configuration."""
    return hashlib.sha256(canonical_json(identity, "the run's identity")).hexdigest()[:_HASH_LENGTH]


def plain(value: Mapping[str, JSON]) -> dict[str, JSON]:
    """The value as it will be read back from disk: tuples as lists, keys as text."""
    loaded: dict[str, JSON] = json.loads(canonical_json(value, "the run's identity"))
    return loaded


def now() -> str:
    """This moment in ISO 8601, with the offset from UTC."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def seconds_of(manifest: Manifest) -> float | None:
    """How long the last session took that wrote a record, or takes until now; None where the manifest does not say."""
    sessions = manifest.get("sessions") or []
    # One that is at work, and those of version 1, do not say yet how much they wrote.
    wrote = [session for session in sessions if session.get("samples") != 0] or sessions[-1:]
    if wrote and wrote[-1].get("merged"):  # its shards ran beside each other
        return max(filter(None, (_seconds(session) for session in sessions if "shard" in session)), default=None)
    return _seconds(wrote[-1]) if wrote else None


def _seconds(session: SessionFields) -> float | None:
    if "seconds" in session:
        return session["seconds"]
    try:  # of an earlier version, or at work
        ended = datetime.fromisoformat(session.get("finished") or now())
        seconds = (ended - datetime.fromisoformat(session["started"])).total_seconds()
        return seconds if seconds >= 0 else None  # the clock was set back
    except (KeyError, ValueError, TypeError):
        return None


def model_title(described: Manifest | Report) -> str:
    """What a reader calls the model: the folder or hub id in its arguments, else the plugin's name."""
    model = described.get("model") or {}
    arguments = model.get("args") or {}
    return next(
        (str(arguments[key]) for key in _NAMING_ARGUMENTS if arguments.get(key)), str(model.get("name", "model"))
    )


def folder_name(model_name: str, identity: Mapping[str, JSON]) -> str:
    return f"{time.strftime('%Y-%m-%d')}-{safe_name(Path(model_name).name or 'model')}-{identity_hash(identity)}"


@functools.lru_cache(maxsize=1024)
def record_file(task: str) -> str:
    """`cmmlu:lm_eval` -> `cmmlu@lm_eval.jsonl`. Names that had to be changed more carry a hash, to stay apart."""
    name = safe_name(task.replace(":", "@"))
    if name != task.replace(":", "@") or "@" in task:
        name = f"{name}-{hashlib.sha256(task.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
    return f"{name}.jsonl"


def safe_name(text: str) -> str:
    """The text as a file name that every operating system takes: letters of any script, digits, and `._@+=-`."""
    name = re.sub(r"[^\w.@+=-]+", "-", unicodedata.normalize("NFC", text)).strip(".-") or "unnamed"
    while len(name.encode()) > _NAME_BYTES:
        name = name[:-1]
    if name.split(".")[0].lower() in _RESERVED | _TAKEN:
        name = f"_{name}"
    return name


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run folder, as today's version has it. Raises UsageError where the folder is no run, naming
    run folders near it, and where the file cannot be used.
    """
    path = folder / MANIFEST_FILE
    again = "take it out of the folder, and the command of the run goes on with the answers that are there"
    try:
        manifest = json.loads(files.read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{folder}: no run folder (it has no {MANIFEST_FILE}){_nearby(folder)}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error}); {again}") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply; {again}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("identity"), dict):
        raise UsageError(f"{path}: not the manifest of a run (it has no 'identity'); name a run folder")
    _refuse_later(path, manifest)
    manifest = upgraded(manifest)
    if problem := problem_of(manifest, Manifest):
        raise UsageError(f"{path}: damaged ({problem}); {again}")
    return cast(Manifest, manifest)


def read_report(path: Path) -> Report | None:
    """The report of a run, as today's version has it; None where there is none. Raises UsageError for a damaged one."""
    try:
        value = json.loads(files.read_text(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        cause = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"{path}: cannot be read ({cause}); {_written_anew(path.parent)}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path}: not a report; {_written_anew(path.parent)}")
    _refuse_later(path, value)
    value = upgraded(value)
    if problem := problem_of(value, Report):
        raise UsageError(f"{path}: damaged ({problem}); {_written_anew(path.parent)}")
    return cast(Report, value)


def _written_anew(folder: Path) -> str:
    """By what a report that cannot be used is written anew."""
    with contextlib.suppress(UsageError):
        if read_manifest(folder)["kind"] == "judgement":
            return "the command that judged writes it anew, and asks nothing"
    return f"`harness score {folder}` writes it anew"


def _refuse_later(path: Path, value: Mapping[str, JSON]) -> None:
    version = value.get("format", 1)
    if isinstance(version, int) and version > FORMAT:
        raise UsageError(f"{path}: written by a later version of harness (format {version}); update harness")


def runs_below(output: Path) -> list[Path]:
    """The run folders directly in `output`, the newest name last."""
    if not output.is_dir():
        return []
    return sorted(child for child in output.iterdir() if (child / MANIFEST_FILE).is_file())


def newest_run(output: Path = Path("runs")) -> Path | None:
    """The run folder directly in `output` that was written to last; None where there is none."""
    return max(runs_below(output), key=lambda run: (run / MANIFEST_FILE).stat().st_mtime, default=None)


def the_run(path: Path) -> Path:
    """The run folder that `path` names: itself, or the only one in it."""
    inside = [] if (path / MANIFEST_FILE).is_file() else runs_below(path)
    return inside[0] if len(inside) == 1 else path


def require_same(folder: Path, identity: Mapping[str, JSON]) -> None:
    """Raises UsageError, naming keys and both values, when the folder belongs to another configuration."""
    if others := shown_differences(read_manifest(folder)["identity"], plain(identity)):
        raise UsageError(f"{folder}: a run of another configuration: {others}; choose another --output")


def shown_differences(old: JSON, new: JSON, there: str = "there", here: str = "here") -> str:
    """How two configurations differ, in words; empty where they do not. there, here: where each of them is."""
    others = list(differences(old, new))
    named = others[:_SHOWN_DIFFERENCES]
    shown = "; ".join(f"{key} is {_show(first)} {there} and {_show(second)} {here}" for key, first, second in named)
    return shown + (f"; and {len(others) - _SHOWN_DIFFERENCES} more" if len(others) > _SHOWN_DIFFERENCES else "")


def differences(old: JSON, new: JSON, key: str = "") -> Iterator[tuple[str, JSON, JSON]]:
    """(dotted key, old value, new value) wherever two configurations differ; a missing value is shown as `unset`."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            inner = f"{key}.{name}" if key else name
            yield from differences(old.get(name, _ABSENT), new.get(name, _ABSENT), inner)
    elif old != new or type(old) is not type(new):
        yield key, old, new


def _show(value: JSON) -> str:
    if value is _ABSENT:
        return "unset"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."


def _nearby(folder: Path) -> str:
    inside = runs_below(folder)
    if inside:
        return f"; it holds {len(inside)} of them, the newest is {newest_run(folder)}"
    if folder.is_dir():
        return "; name the folder that a run has printed"
    if link := files.dangling_link(folder):
        return f": {link}"
    names = [run.name for run in runs_below(folder.parent)]
    return suggest(folder.name, names) or (f"; {folder.parent} holds {', '.join(names[-3:])}" if names else "")
