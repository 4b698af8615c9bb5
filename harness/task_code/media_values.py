"""Pictures and sounds of a row as the Python of task files sees them, and what it shows of them.

Loaded by its path into the process that runs task code (process.py): no module of this project is imported in here.
"""

from __future__ import annotations

import io
from typing import Any

Opened = dict[int, tuple[Any, Any]]
"""id of what the code was given -> (that, the file that it is of)."""


def opened(value: Any, kind: str, known: Opened) -> Any:
    """A value of a row with its files opened: pictures of PIL; where `kind` is audio, sounds as `datasets` gives them,
    {"array": samples, "sampling_rate": Hz, "path": name}. What is no such file stays as it is."""
    if isinstance(value, list):
        return [opened(item, kind, known) for item in value]
    if not (isinstance(value, dict) and isinstance(value.get("bytes"), bytes) and set(value) <= {"bytes", "path"}):
        return value
    if kind == "audio" and (sound := _sound(value)) is not None:
        known[id(sound["array"])] = sound["array"], value
        return sound
    import PIL.Image

    try:
        picture = PIL.Image.open(io.BytesIO(value["bytes"]))
    except PIL.UnidentifiedImageError:
        return value
    known[id(picture)] = picture, value
    return picture


def _sound(value: dict[str, Any]) -> dict[str, Any] | None:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(value["bytes"]), dtype="float32")
    except soundfile.LibsndfileError:
        return None
    return {"array": samples.T, "sampling_rate": rate, "path": value.get("path")}


def as_file(shown: Any, known: Opened) -> Any:
    """A picture or a sound as the file that it was, where the code has not changed it; a new picture as PNG."""
    file = known.get(id(shown)) or (known.get(id(shown.get("array"))) if isinstance(shown, dict) else None)
    if file is not None:
        return file[1]
    if hasattr(shown, "save") and hasattr(shown, "mode"):
        stream = io.BytesIO()
        shown.save(stream, "TIFF" if shown.mode in ("CMYK", "F", "YCbCr", "LAB") else "PNG")
        return stream.getvalue()
    return shown
