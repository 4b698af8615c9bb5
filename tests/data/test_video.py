"""Videos: their frames are counted, found and decoded alike in every format, and what is broken is one line."""

from __future__ import annotations

import random
import resource
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from clips import grey_of, shade, write_clip

from harness.data.audio import open_sound
from harness.data.frame_sampling import FrameRule
from harness.data.media_files import _sha256, file_sha256
from harness.data.video import frame_images, open_frame, with_frames
from harness.errors import DataError
from harness.types import Media

EVERY = FrameRule(count=None)
B_FRAMES = {"bf": "3", "g": "12", "x264-params": "open-gop=1"}
# Containers differ in what they say of their frames; codecs in which of them can be decoded alone.
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "h264.mp4": ("libx264", {"options": B_FRAMES}),
    "h264.ts": ("libx264", {"options": {"bf": "2", "g": "10"}}),
    "mpeg4.avi": ("mpeg4", {"options": {"bf": "2", "qscale": "2"}}),
    "vp8.webm": ("libvpx", {"options": {"auto-alt-ref": "1", "lag-in-frames": "10", "deadline": "realtime"}}),
    "mjpeg.mov": ("mjpeg", {"pixels": "yuvj420p"}),
    "raw.h264": ("libx264", {"options": {"g": "10"}}),
    "moving.gif": ("gif", {"pixels": "rgb8"}),
}


def video(path: Path, **more: Any) -> Media:
    return Media("video", file_sha256(str(path)), path=str(path), **more)


@pytest.mark.parametrize("name", FORMATS)
def test_every_frame_is_the_one_of_its_number_in_any_order(tmp_path: Path, name: str) -> None:
    codec, how = FORMATS[name]
    shown = with_frames(video(write_clip(tmp_path / name, 40, codec=codec, **how)), EVERY)
    assert shown.frames is not None, shown.problem
    assert (shown.frames.total, shown.frames.size) == (40, (64, 48))
    frames = list(enumerate(frame_images(shown)))
    random.Random(0).shuffle(frames)
    assert all(abs(grey_of(open_frame(frame)) - shade(number)) < 12 for number, frame in frames)


def test_the_log_has_indices_times_rate_and_decoder(tmp_path: Path) -> None:
    shown = with_frames(video(write_clip(tmp_path / "a.mp4", 20), start=0.5, end=1.5), FrameRule(count=3))
    assert shown.frames is not None
    assert (shown.frames.indices, shown.frames.times) == ((5, 10, 15), (0.5, 1.0, 1.5))
    assert (shown.frames.fps, shown.frames.rule) == (10.0, "uniform, at most 3")
    assert shown.frames.decoder.startswith("pyav ")


def test_a_clip_of_one_frame_and_a_clip_whose_frames_are_not_equally_long(tmp_path: Path) -> None:
    one = with_frames(video(write_clip(tmp_path / "one.mp4", 1)), FrameRule(count=8))
    assert one.frames is not None and one.frames.indices == (0,)
    assert abs(grey_of(open_frame(frame_images(one)[0])) - shade(0)) < 12
    ticks = [0, 40, 41, 42, 43, 44, 50]
    uneven = with_frames(video(write_clip(tmp_path / "uneven.mkv", 7, ticks=ticks)), FrameRule(None, fps=0.5))
    assert uneven.frames is not None and uneven.frames.indices == (0, 6)  # at 2.5 s the first one is still seen


def test_scenes_are_found_where_the_picture_changes(tmp_path: Path) -> None:
    shades = [40] * 20 + [200] * 5 + [90] * 35
    shown = with_frames(video(write_clip(tmp_path / "a.mp4", 60, shades=shades)), FrameRule(count=4, scenes=True))
    assert shown.frames is not None
    seen = {shades[index] for index in shown.frames.indices}
    assert seen == {40, 200, 90} and shown.frames.indices[0] == 0 and shown.frames.indices[-1] == 59


def damaged(path: Path, keep: float, garbage: bool = False) -> Path:
    data = path.read_bytes()
    cut = int(len(data) * keep)
    path.write_bytes(data[:cut] + (random.Random(0).randbytes(len(data) - cut) if garbage else b""))
    return path


def bad_files(folder: Path) -> dict[str, Path]:
    empty, text = folder / "empty.mp4", folder / "text.mp4"
    empty.write_bytes(b"")
    text.write_text("not a video")
    sound = folder / "sound.wav"
    import numpy
    import soundfile

    soundfile.write(sound, numpy.zeros(800, dtype="float32"), 8000)
    return {
        "empty": empty,
        "text": text,
        "only sound": sound,
        "without its index": damaged(write_clip(folder / "cut.mp4", 30), 0.5),
    }


def test_what_is_no_video_is_one_line(tmp_path: Path) -> None:
    for what, path in bad_files(tmp_path).items():
        problem = with_frames(video(path), EVERY).problem
        assert str(path) in problem and "\n" not in problem, what


@pytest.mark.parametrize("garbage", [False, True])
def test_a_clip_that_is_cut_off_or_damaged_is_shorter_or_an_error_and_never_stops(
    tmp_path: Path, garbage: bool
) -> None:
    path = write_clip(tmp_path / "a.mkv", 60, codec="libx264", options={"g": "10"}, size=(160, 120))
    shown = with_frames(video(damaged(path, 0.6, garbage)), EVERY)
    assert shown.problem or (shown.frames is not None and shown.frames.total <= 60)
    for frame in frame_images(shown):
        try:
            assert open_frame(frame).size == (160, 120)
        except DataError as error:
            assert "\n" not in str(error)


def test_parts_outside_the_clip_are_errors_of_their_sample(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    assert "begins at 9 s" in with_frames(video(path, start=9.0), EVERY).problem
    assert "has no length" in with_frames(video(path, start=1.0, end=0.5), EVERY).problem


def test_a_member_of_a_zip_is_unpacked_while_it_is_open(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 10)
    archive = tmp_path / "clips.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(path, "deep/a.mp4")
    member = Media("video", file_sha256(str(archive), "deep/a.mp4"), path=str(archive), member="deep/a.mp4")
    shown = with_frames(member, EVERY)
    assert [abs(grey_of(open_frame(frame)) - shade(n)) < 12 for n, frame in enumerate(frame_images(shown))] == [
        True
    ] * 10


def test_the_hash_of_a_large_file_is_computed_once_while_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.data.media_files._REMEMBERED", 10)
    monkeypatch.setattr("harness.data.media_files.cache_folder", lambda *parts: tmp_path.joinpath("cache", *parts))
    path = tmp_path / "large"
    path.write_bytes(b"a" * 1000)
    first = file_sha256(str(path))
    _sha256.cache_clear()
    monkeypatch.setattr("harness.data.media_files._computed_sha256", lambda path, member: "computed again")
    assert file_sha256(str(path)) == first
    path.write_bytes(b"b" * 1001)
    assert file_sha256(str(path)) == "computed again"


def test_a_video_that_has_changed_is_not_shown(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 11)
    shown = with_frames(video(path), EVERY)
    write_clip(path, 12)
    with pytest.raises(DataError, match="has changed since"):
        open_frame(frame_images(shown)[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="runs on Linux, as which it reads the peak of memory")
def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        path = write_clip(tmp_path / f"{frames}.mp4", frames, codec="libx264", options={"preset": "ultrafast"}, fps=10)
        shown = with_frames(video(path), FrameRule(count=32))
        assert all(abs(grey_of(open_frame(one)) - shade(one.frame or 0)) < 12 for one in frame_images(shown))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    minute = peak(600)
    assert peak(36_000) - minute < 100_000  # kilobytes


def test_a_sound_in_a_file_that_holds_none_is_one_line(tmp_path: Path) -> None:
    for path in (bad_files(tmp_path)["text"], tmp_path / "text.mp4"):
        with pytest.raises(DataError, match="cannot be decoded"):
            open_sound(Media("audio", file_sha256(str(path)), path=str(path)), 16_000)


def test_a_sound_that_was_cut_is_one_line_and_one_of_unknown_length_is_heard(tmp_path: Path) -> None:
    import soundfile

    path = tmp_path / "sound.wav"
    soundfile.write(path, [0.5] * 800, 8000)
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    with pytest.raises(DataError, match="is cut off: 456 of 1600 bytes are there"):
        open_sound(Media("audio", file_sha256(str(path)), path=str(path)), 16_000)
    # As programs write that send a WAV through a pipe.
    path.write_bytes(whole[:40] + b"\xff" * 4 + whole[44:])
    assert len(open_sound(Media("audio", file_sha256(str(path)), path=str(path)), None)) == 800
