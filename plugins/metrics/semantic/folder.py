"""The folder of a model that scores answers: found, looked at and told from others without loading it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import MachineError, MetricOptions, UsageError
from harness.engine import resolve_devices, weights_fingerprint

DTYPES = ("float32", "bfloat16", "float16")
_WEIGHTS = (".safetensors", ".bin")
# What else decides an embedding: configuration, tokenizer, pooling, the processor of images.
_SETTINGS = (".json", ".txt", ".model")


@dataclass(frozen=True)
class ModelFolder:
    """A local folder as transformers (and sentence-transformers) write it."""

    path: Path

    @classmethod
    def find(cls, named: str, options: MetricOptions) -> ModelFolder:
        """The folder that an option names, relative to the task file or to where the command runs.

        Raises `MachineError` where there is none, `UsageError` where it holds no model.
        """
        given = Path(named).expanduser()
        places = list(dict.fromkeys((options.base / given, Path.cwd() / given)))
        path = next((place for place in places if place.is_dir()), None)
        if path is None:
            looked = " and ".join(str(place) for place in places)
            raise MachineError(
                f"model: there is no folder '{named}' (looked in {looked}); nothing is downloaded: get the model first"
            )
        folder = cls(path.resolve())
        if not folder.files(_WEIGHTS):
            raise UsageError(f"model: {path} holds no weights (*.safetensors or *.bin)")
        return folder

    @property
    def name(self) -> str:
        return self.path.name

    def files(self, endings: tuple[str, ...]) -> list[Path]:
        """Files with these endings, here and one folder below (where sentence-transformers has its modules)."""
        there = [*self.path.glob("*"), *self.path.glob("*/*")]
        return sorted(file for file in there if file.suffix in endings and file.is_file())

    def read(self, name: str) -> Any:
        """The content of a JSON file; None where there is none."""
        file = self.path / name
        if not file.is_file():
            return None
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"model: {file} is not JSON: {error}") from error

    def below(self, name: str) -> ModelFolder:
        return ModelFolder(self.path / name) if name else self

    @functools.cached_property
    def config(self) -> Mapping[str, Any]:
        """`config.json`. Raises `UsageError` where there is none."""
        config = self.read("config.json")
        if not isinstance(config, dict):
            raise UsageError(f"model: {self.path} has no config.json, so it is no folder of a transformers model")
        return config

    def require_config(self) -> None:
        """Raise `UsageError` where the folder is not one of transformers."""
        _ = self.config

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of settings and weights: the same wherever the folder lies."""
        digest = hashlib.sha256(weights_fingerprint(self.files(_WEIGHTS)).encode())
        for file in self.files(_SETTINGS):
            name = file.relative_to(self.path).as_posix()
            digest.update(f"\n{name} {hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
        return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Running:
    """How a model runs, which decides no score beyond float noise, its dtype aside. Raises `UsageError` when made."""

    device: str | None = None
    dtype: str = "float32"
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype is '{self.dtype}'; it should be one of {', '.join(DTYPES)}")
        if isinstance(self.batch_size, bool) or not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise UsageError(f"batch_size is {self.batch_size!r}; it should be a whole number of at least 1")

    def resolved(self, options: MetricOptions) -> str:
        """The torch device: the metric's own, or the first of those that `--device` names."""
        try:
            return resolve_devices(self.device or options.device)[0]
        except UsageError as error:
            raise UsageError(str(error).replace("--device:", "device:")) from error
