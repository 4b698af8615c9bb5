"""Keeps what `import transformers` finds out anew each time: which of its 3,000 files have which names.

It reads all of them, twice, for most of a second of processor, although they change only when another version is
installed. What it found is kept on disk, by the version's place and time; where anything is not as expected, it reads
them as ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import marshal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from harness import files
from harness.errors import SaveError

_MODULE = "transformers.utils.import_utils"
_READ = "create_import_structure_from_path"
_INSTALLED = ("site-packages", "dist-packages")
"""A folder that is worked in changes without a trace in its own time."""


def keep_import_structure() -> None:
    """From now on `import transformers` reads what was kept. Nothing where it is imported already."""
    if "transformers" not in sys.modules and not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds the one module whose function is replaced, once; everything else is found as ever."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec is not None else None
        if (
            loader is not None
            and spec is not None
            and spec.origin
            and not set(_INSTALLED).isdisjoint(Path(spec.origin).parts)
        ):
            original = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                original(module)
                if callable(getattr(module, _READ, None)):
                    setattr(module, _READ, _kept(getattr(module, _READ), Path(str(module.__file__))))

            loader.exec_module = exec_module
        return spec


def _kept(read: Callable[[Any], Any], utils: Path) -> Callable[[Any], Any]:
    """`read` of a folder or of a file in it; for the folder of all models, what was kept of it."""
    models = utils.parent.parent / "models"
    known: list[Any] = []

    def structure(module_path: Any) -> Any:
        path = Path(module_path)
        if path not in (models, models / "__init__.py"):
            return read(module_path)
        if not known:
            known.append(_from_disk(models, utils, lambda: read(module_path)))
        return known[0]

    return structure


def _from_disk(models: Path, utils: Path, read: Callable[[], Any]) -> Any:
    from harness.data.download import cache_folder

    try:
        stamp = [str(models), *(each.stat().st_mtime_ns for each in (models, utils)), sys.hexversion]
        name = hashlib.sha256(repr(stamp).encode()).hexdigest()[:16]
        kept = cache_folder("imports", f"transformers-{name}.bin")
    except OSError:
        return read()
    with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
        if isinstance(found := marshal.loads(kept.read_bytes()), dict):
            return found
    structure = read()
    with contextlib.suppress(OSError, SaveError, ValueError):  # what cannot be written costs time, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.replace(kept, [marshal.dumps(structure)])
    return structure
