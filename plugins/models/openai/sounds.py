"""Sounds as a server takes them: WAV or MP3 in base64.

The rule (`SoundRule`) is part of the model's identity. A WAV or MP3 file that is heard whole and is not too large goes
as it is, byte for byte; anything else as WAV of 16 bits, one channel and `rate` samples a second.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from harness import DataError, Media
from harness.data import open_sound, wav_bytes

MOST_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class SoundRule:
    """rate: samples a second of what is converted; most_bytes: of a file, before it is written as base64."""

    rate: int = 16_000
    most_bytes: int = MOST_BYTES

    def part(self, sound: Media) -> dict[str, str]:
        """`data` and `format` of the API's `input_audio`. Raises DataError for what cannot be heard."""
        data = sound.read()
        kind = _kind(data)
        if not kind or sound.start is not None or sound.end is not None or len(data) > self.most_bytes:
            kind, data = "wav", wav_bytes(sound, self.rate)
        else:
            open_sound(sound, None)  # servers make something of one that was cut, or that holds nothing
        if len(data) > self.most_bytes:
            raise DataError(f"{sound.place}: has {len(data):,} bytes as WAV, and servers take {self.most_bytes:,}")
        return {"data": base64.b64encode(data).decode("ascii"), "format": kind}


def _kind(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    return "mp3" if data[:3] == b"ID3" or data[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2") else ""
