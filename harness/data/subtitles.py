"""Subtitles of a video (SRT or WebVTT), and what is said at the frames of it that are shown."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from harness.data.media_files import opened_file

_TIMES = re.compile(r"(?:(\d+):)?(\d+):(\d+)[,.](\d+)\s*-->\s*(?:(\d+):)?(\d+):(\d+)[,.](\d+)")
_TAGS = re.compile(r"<[^>]*>|\{\\\\[^}]*\}")
NONE_SAID = "No subtitles available"
"""What a prompt says in the place of subtitles that a video does not have."""

Line = tuple[float, float, str]
"""(start, end, text), in seconds."""


def read_subtitles(text: str) -> list[Line]:
    """The lines of a file, in their order; what is none is passed over."""
    lines: list[Line] = []
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        found = _TIMES.search(block)
        if found is None:
            continue
        said = " ".join(_TAGS.sub("", block[found.end() :]).split())
        if said:
            lines.append((_seconds(found.groups()[:4]), _seconds(found.groups()[4:]), said))
    return lines


def said_at(lines: Sequence[Line], times: Sequence[float]) -> str:
    """What is said at these moments, one line each, in the order of the file and each once."""
    heard = [text for start, end, text in lines if any(start <= moment < end for moment in times)]
    return "\n".join(dict.fromkeys(heard)) or NONE_SAID


@functools.lru_cache(maxsize=64)
def subtitles_of(path: str, member: str) -> tuple[Line, ...]:
    """The lines of a file, or of a member of a zip. Raises DataError."""
    with opened_file(path, member) as stream:
        return tuple(read_subtitles(stream.read().decode("utf-8-sig", "replace")))


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = parts
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0)
    return whole + float(f"0.{fraction or 0}")
