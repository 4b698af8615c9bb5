"""Sounds as a model hears them: one channel of floating-point samples at its rate, by soundfile and soxr.

    samples = open_sound(media, rate=16_000)    # numpy float32 [samples], -1 to 1

The rule (`RULE`) is part of a model's identity: channels are averaged; another rate is resampled with soxr's best
quality.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from harness.data.media_files import media_file
from harness.errors import DataError, UsageError, one_line
from harness.types import Media

if TYPE_CHECKING:
    import numpy

# libsndfile hears what is there of a WAV that was cut, and notes it so. What was written to a pipe says no length.
_LENGTHS = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH = 0x7FFFF000
RULE = "mean of the channels, soxr VHQ: 1"


def open_sound(sound: Media, rate: int | None) -> numpy.ndarray[Any, Any]:
    """The part of a sound that is heard, as float32 [samples] at `rate` in Hz, or at its own where that is None. Raises
    DataError, one line; UsageError where the package is missing."""
    soundfile, soxr = _packages()
    import numpy

    try:
        with media_file(sound) as path, soundfile.SoundFile(path) as file:
            first, count = _part(sound, file)
            file.seek(first)
            samples = file.read(count, dtype="float32", always_2d=True)
            own_rate = file.samplerate
    except (DataError, UsageError):
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        raise DataError(f"{sound.place}: the sound cannot be decoded: {one_line(error)}") from error
    if len(samples) < count:
        raise DataError(f"{sound.place}: is cut off: {len(samples)} of {count} samples are there")
    mono = samples.mean(axis=1)
    if not numpy.isfinite(mono).all():
        raise DataError(f"{sound.place}: the sound has samples that are no numbers")
    resampled: numpy.ndarray[Any, Any] = soxr.resample(mono, own_rate, rate or own_rate, quality="VHQ")
    return resampled


def sound_length(sound: Media, rate: int) -> int:
    """How many samples `open_sound` gives, read off the head of the file. Raises as that."""
    soundfile, _ = _packages()
    try:
        with media_file(sound) as path, soundfile.SoundFile(path) as file:
            _, count = _part(sound, file)
            return count if file.samplerate == rate else round(count * rate / file.samplerate)
    except (DataError, UsageError):
        raise
    except Exception as error:
        raise DataError(f"{sound.place}: the sound cannot be decoded: {one_line(error)}") from error


def wav_bytes(sound: Media, rate: int) -> bytes:
    """The part of a sound that is heard as a WAV file of 16 bits. Raises as `open_sound`."""
    soundfile, _ = _packages()
    stream = io.BytesIO()
    soundfile.write(stream, open_sound(sound, rate), rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def wav_of_samples(samples: Any, rate: Any) -> bytes:
    """Decoded samples, as `datasets` gives them, as a WAV file of floating-point numbers. Raises DataError."""
    soundfile, _ = _packages()
    import numpy

    try:
        values = numpy.asarray(samples, dtype="float32")
        stream = io.BytesIO()
        soundfile.write(stream, values.T if values.ndim == 2 else values, int(rate), format="WAV", subtype="FLOAT")
    except Exception as error:  # a list of lists of other lengths, a rate that is none
        raise DataError(f"holds no samples of a sound: {one_line(error)}") from error
    return stream.getvalue()


def _packages() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except ImportError as error:
        raise UsageError(f"sounds need the package {error.name}: pip install 'harness-eval[audio]'") from None
    return soundfile, soxr


def _part(sound: Media, file: Any) -> tuple[int, int]:
    """(first sample, how many) of the part that is heard. Raises DataError where it is outside the sound."""
    cut = _LENGTHS.search(file.extra_info)
    if cut and int(cut[2]) < int(cut[1]) < _UNKNOWN_LENGTH:
        raise DataError(f"{sound.place}: is cut off: {cut[2]} of {cut[1]} bytes are there")
    frames, rate = file.frames, file.samplerate
    if not frames:
        raise DataError(f"{sound.place}: holds no sound")
    first = round((sound.start or 0.0) * rate)
    last = frames if sound.end is None else min(frames, round(sound.end * rate))
    if first >= last:
        begin = f"{sound.start or 0:g} s to {'its end' if sound.end is None else f'{sound.end:g} s'}"
        raise DataError(f"{sound.place}: its part from {begin} holds nothing: it is {frames / rate:.3f} s long")
    return first, last - first
