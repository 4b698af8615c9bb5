"""What is on this machine for a newcomer to use: models, mirrors of data sets, GPUs and finished runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.quick import dataclass
from harness.record.manifest import read_report, runs_below
from harness.record.report_fields import Report
from harness.record.run import REPORT_FILE
from harness.record.shown import short_title, value

_MOST_FOLDERS = 500
_WEIGHTS = ("*.safetensors", "*.bin", "*.safetensors.index.json")


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model whose weights are here. name: what `pretrained=` takes: an id of a hub's cache, or a folder."""

    name: str
    place: str
    sees: bool

    @property
    def plugin(self) -> str:
        return "hf_vlm" if self.sees else "hf"


@dataclass(frozen=True, slots=True)
class LocalRun:
    """A finished run. told: its headline values, in one line."""

    path: Path
    title: str
    told: str
    kind: str


def local_models() -> list[LocalModel]:
    """The models in the caches of the hubs, in this folder and in `models` of it, each once."""
    found: dict[str, LocalModel] = {}
    for name, folder, place in (*_cached_by_hugging_face(), *_cached_by_modelscope(), *_in_folders()):
        if (model := _model(name, folder, place)) is not None:
            found.setdefault(name, model)
    return list(found.values())


def _cached_by_hugging_face() -> Iterator[tuple[str, Path, str]]:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    for folder in _children(hub, "models--*"):
        snapshots = sorted(_children(folder / "snapshots", "*"), key=lambda path: path.stat().st_mtime)
        if snapshots:
            yield folder.name.removeprefix("models--").replace("--", "/"), snapshots[-1], "Hugging Face"


def _cached_by_modelscope() -> Iterator[tuple[str, Path, str]]:
    home = Path(os.environ.get("MODELSCOPE_CACHE") or Path.home() / ".cache" / "modelscope" / "hub")
    for root in (home / "models", home):
        for owner in _children(root, "*"):
            for folder in _children(owner, "*") if owner.name != "models" else ():
                yield str(folder), folder, "ModelScope"


def _in_folders() -> Iterator[tuple[str, Path, str]]:
    for root in (Path(), Path("models")):
        for folder in _children(root, "*"):
            yield str(folder), folder, "folder"


def _children(folder: Path, pattern: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in sorted(folder.glob(pattern))[:_MOST_FOLDERS] if path.is_dir()]
    return []


def _model(name: str, folder: Path, place: str) -> LocalModel | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict) or "model_type" not in config:
        return None
    has_weights = any(next(folder.glob(pattern), None) for pattern in _WEIGHTS)
    return LocalModel(name, place, "vision_config" in config) if has_weights else None


def local_mirrors(named: Sequence[Path]) -> list[Path]:
    """The mirrors that are named, those of HARNESS_DATA, and `mirror` in this folder."""
    told = [Path(part) for part in os.environ.get("HARNESS_DATA", "").split(os.pathsep) if part]
    return [folder for folder in dict.fromkeys([*named, *told, Path("mirror")]) if folder.is_dir()]


def local_gpus() -> list[str]:
    """Names and memory of the GPUs, as the driver's own tool tells them; none where there is no such tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    asked = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.splitlines() if line.strip()]


def local_runs(output: Path = Path("runs")) -> list[LocalRun]:
    """The finished runs in a folder, the newest first. One that cannot be read is not among them."""
    found = []
    for path in runs_below(output):
        with contextlib.suppress(UsageError):
            report = read_report(path / REPORT_FILE)
            if report is not None:
                found.append(
                    (report.get("started", ""), LocalRun(path, short_title(report), _told(report), report["kind"]))
                )
    return [run for _, run in sorted(found, key=lambda each: each[0], reverse=True)]


def _told(report: Report) -> str:
    scores = [f"{task['task']} {value(task['metrics'][0])}" for task in report["tasks"] if task["metrics"]]
    more = len(scores) - 2
    return ", ".join(scores[:2]) + (f" +{more}" if more > 0 else "")
