"""Videos and sounds in prompts: where rows hold them, where a prompt shows them, what logs say, who may see them."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy
import pytest
import soundfile
from clips import write_clip
from PIL import Image

from harness import Media, UsageError, evaluate, hookimpl
from harness.data.audio import open_sound
from harness.data.shown_images import open_picture
from harness.data.video import frame_images
from harness.errors import HarnessError
from harness.registry import load_plugins
from harness.run.runner import run
from harness.run.spec import RunSpec
from harness.testing import run_harness
from harness_plugins.models.dummy import DummyModel
from harness_plugins.models.openai.wire import chat_messages

TASK = """\
task: watch
dataset_path: rows.jsonl
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{a}}"
generation_kwargs: {max_gen_toks: 4}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sound(path: str, seconds: float = 1.0, rate: int = 8000, pitch: float = 440.0) -> Path:
    wave = 0.3 * numpy.sin(2 * numpy.pi * pitch * numpy.arange(int(seconds * rate)) / rate)
    soundfile.write(path, wave.astype("float32"), rate)
    return Path(path)


def ask(rows: list[dict[str, Any]], more: str = "doc_to_video: clip\n", **options: Any) -> list[Any]:
    """The records of a run over `rows`, by a model that gives the gold."""
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("watch.yaml").write_text(TASK + more, encoding="utf-8")
    result = evaluate("dummy", {"mode": "gold"}, ["watch.yaml"], **options)
    return sorted(result.samples(), key=lambda record: record.id)


def media(record: Any) -> list[Media]:
    return list(record.prompt.shown_media)


def test_media_stand_where_the_prompt_speaks_of_them() -> None:
    write_clip(Path("a.mp4"), 12)
    write_clip(Path("b.mp4"), 9)
    sound("c.wav")
    row = {"q": "First <video 2>, then <audio 1>, then <video 1>. <image 1> is a word.", "a": "x", "c": "c.wav"}
    (record,) = ask([{**row, "clips": ["a.mp4", "b.mp4"]}], "doc_to_video: clips\ndoc_to_audio: c\nframes: 4\n")
    content = record.prompt.messages[-1].content
    kinds = [part.kind if isinstance(part, Media) else part for part in content]
    assert kinds == ["First ", "video", ", then ", "audio", ", then ", "video", ". <image 1> is a word."]
    second, _, first = media(record)
    assert (Path(second.path).name, Path(first.path).name) == ("b.mp4", "a.mp4")
    assert first.frames is not None and first.frames.indices == (0, 3, 7, 11)


def test_a_log_holds_hash_path_part_and_frames_and_gives_them_back() -> None:
    write_clip(Path("a.mp4"), 20)
    clips = "doc_to_video: {file: '{{name}}.mp4', start: begin, end: '{{begin + 1}}'}\nframes: {count: 3}\n"
    (record,) = ask([{"q": "q", "a": "x", "name": "a", "begin": 0.5}], clips)
    (log,) = Path("runs").glob("*/watch.jsonl")
    part = json.loads(log.read_text(encoding="utf-8"))["prompt"]["messages"][0]["content"][0]
    assert part["path"].endswith("a.mp4") and len(part["sha256"]) == 64
    assert (part["start"], part["end"]) == (0.5, 1.5)
    assert part["frames"]["indices"] == [5, 10, 15] and part["frames"]["times"] == [0.5, 1.0, 1.5]
    assert {"total": 20, "fps": 10.0, "size": [64, 48]}.items() <= part["frames"].items()
    assert part["frames"]["decoder"].startswith("pyav") and part["frames"]["rule"] == "uniform, at most 3"
    assert media(record)[0].frames is not None


def test_other_frames_are_another_question_and_the_same_are_not_asked_twice() -> None:
    write_clip(Path("a.mp4"), 20)
    rows = [{"q": "q", "a": "x", "clip": "a.mp4"}]
    first, again = ask(rows), ask(rows)
    fewer = ask(rows, "doc_to_video: clip\nframes: 3\n")
    assert first[0].request_keys == again[0].request_keys != fewer[0].request_keys


def test_rows_hold_videos_in_several_ways() -> None:
    data = write_clip(Path("made.mp4"), 7).read_bytes()
    for place in ("clips/a.mp4", "mirror/url/example.org/a b/2.mp4"):
        Path(place).parent.mkdir(parents=True)
        Path(place).write_bytes(data)
    with zipfile.ZipFile("clips.zip", "w") as archive:
        archive.writestr("deep/zipped.mp4", data)
    written = base64.b64encode(data).decode()
    held = ["clips/a.mp4", "zipped.mp4", "https://example.org/a%20b/2.mp4", f"data:video/mp4;base64,{written}"]
    held += [{"bytes": None, "path": "clips/a.mp4"}, {"bytes": written, "path": None}]  # type: ignore[list-item]
    records = ask([{"q": "q", "a": "x", "clip": each} for each in held], data=("mirror",))
    shown = [clip for record in records for clip in media(record)]
    assert [clip.frames and clip.frames.total for clip in shown] == [7] * len(held)
    assert {clip.sha256 for clip in shown} == {hashlib.sha256(data).hexdigest()}


def test_clips_of_one_name_in_two_zips_are_told_apart_by_their_folders() -> None:
    for number, folder in enumerate(("clevrer", "perception"), 5):
        write_clip(Path("made.mp4"), number)
        with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
            archive.write("made.mp4", f"data/{folder}/a.mp4")
    Path("made.mp4").unlink()
    names = ("perception/a.mp4", "data/clevrer/a.mp4", "a.mp4")
    records = ask([{"q": "q", "a": "x", "clip": name} for name in names])
    assert [clip.frames.total for record in records[:2] for clip in media(record) if clip.frames] == [6, 5]
    assert "which may be clevrer.zip/data/clevrer/a.mp4 and perception.zip" in str(records[2].error)


def test_subtitles_are_those_of_the_frames_that_are_shown() -> None:
    write_clip(Path("a.mp4"), 100)
    Path("said").mkdir()
    text = (
        "1\r\n00:00:00,000 --> 00:00:01,000\r\n<i>First</i>\r\n\r\n2\r\n00:00:02,000 --> 00:00:03,000\r\nunseen\r\n\r\n"
    )
    text += "3\r\n00:00:04,000 --> 00:00:20,000\r\nlast\r\nwords\r\n"
    Path("said/a.srt").write_text(text, encoding="utf-8-sig")
    clips = "doc_to_video: {file: '{{id}}.mp4', subtitles: 'said/{{id}}.srt'}\nframes: 3\n"
    write_clip(Path("b.mp4"), 5)
    rows = [{"q": "He says:\n<subtitles>\nWhat?", "a": "x", "id": name} for name in ("a", "b")]
    first, second = ask(rows, clips)
    assert first.prompt.messages[-1].content[-1] == "He says:\nFirst\nlast words\nWhat?"
    assert second.prompt.messages[-1].content[-1] == "He says:\nNo subtitles available\nWhat?"


def test_a_bad_clip_is_the_error_of_its_sample_alone() -> None:
    write_clip(Path("a.mp4"), 7)
    Path("bad.mp4").write_bytes(Path("a.mp4").read_bytes()[:500])
    sound("only.wav")
    bad = ["bad.mp4", "gone.mp4", "only.wav", 5, "../secret.mp4"]
    rows = [{"q": "q", "a": "x", "clip": clip} for clip in ("a.mp4", *bad)]
    records = ask(rows)
    assert [record.error is None for record in records] == [True] + [False] * len(bad)
    assert all(record.scores["exact_match"] is None for record in records[1:])
    assert "holds no video, only sound" in str(records[3].error)


def test_a_moment_that_is_none_fails_its_sample() -> None:
    write_clip(Path("a.mp4"), 7)
    rows = [{"q": "q", "a": "x", "clip": "a.mp4", "from": value} for value in (0, "0.2", None, "soon", -1, "nan", 99)]
    records = ask(rows, "doc_to_video: {file: clip, start: from}\n")
    assert [record.error is None for record in records] == [True] * 3 + [False] * 4
    assert all("start should be a number of seconds, found" in str(record.error) for record in records[3:6])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("doc_to_video: clop\n", "no row has a column 'clop'; did you mean 'clip'"),
        ("doc_to_video: {fil: clip}\n", "unknown key 'fil'"),
        ("doc_to_video: clip\nframes: 0\n", "frames"),
        ("doc_to_video: clip\nframes: {fbs: 1}\n", "unknown key 'fbs' in 'frames'; did you mean 'fps'"),
    ],
)
def test_a_mistake_in_the_task_is_one_line(keys: str, said: str) -> None:
    write_clip(Path("a.mp4"), 3)
    with pytest.raises(HarnessError) as error:
        ask([{"q": "q", "a": "x", "clip": "a.mp4"}], keys)
    assert said in str(error.value) and "watch.yaml:" in str(error.value) and "\n" not in str(error.value)


def test_examples_and_turns_show_their_own_clips() -> None:
    for number in range(3):
        write_clip(Path(f"{number}.mp4"), 4 + number)
    more = "doc_to_video: clip\nnum_fewshot: 1\nfewshot_split: test\nfewshot_config: {sampler: first_n}\n"
    rows = [{"q": f"<video 1> {n}?", "a": "x", "clip": f"{n}.mp4"} for n in range(3)]
    last = ask(rows, more, apply_chat_template=True)[2]
    assert [clip.frames.total for clip in media(last) if clip.frames] == [4, 6]
    assert [message.role for message in last.prompt.messages] == ["user", "assistant", "user"]


class Blind(DummyModel):
    """A model of text alone."""

    name = "blind"
    modalities: ClassVar = frozenset({"text"})

    def load(self) -> None:
        raise AssertionError("it must be refused before")


def test_a_model_of_text_is_refused() -> None:
    write_clip(Path("a.mp4"), 3)
    ask([{"q": "q", "a": "x", "clip": "a.mp4"}])
    registry = load_plugins()
    registry.register(SimpleNamespace(harness_models=hookimpl(lambda: [Blind])), package="tests", name="blind")
    with pytest.raises(UsageError, match="cannot see what task 'watch' shows: video"):
        run(RunSpec(tasks=("watch.yaml",), model="blind"), registry)


def test_without_its_video_the_text_alone_is_asked() -> None:
    write_clip(Path("a.mp4"), 3)
    (record,) = ask([{"q": "Is <video 1> grey?", "a": "x", "clip": "a.mp4"}], modify=("no_image",))
    assert record.prompt.text == "Is  grey?"


def test_a_server_gets_frames_as_images_and_sounds_as_wav() -> None:
    write_clip(Path("a.mp4"), 30, size=(1600, 40))
    sound("c.wav")
    soundfile.write("d.flac", numpy.zeros((4410, 2)), 44_100)
    rows = [{"q": "See <video 1>, hear <audio 1> and <audio 2>", "a": "x", "clip": "a.mp4", "s": ["c.wav", "d.flac"]}]
    (record,) = ask(rows, "doc_to_video: clip\ndoc_to_audio: s\nframes: 3\n")
    parts = chat_messages(record.prompt)[-1]["content"]
    assert [part["type"] for part in parts] == [
        "text",
        *["image_url"] * 3,
        "text",
        "input_audio",
        "text",
        "input_audio",
    ]
    assert all(part["image_url"]["url"].startswith("data:image/jpeg;base64,") for part in parts[1:4])
    whole, made = (part["input_audio"] for part in parts if part["type"] == "input_audio")
    assert base64.b64decode(whole["data"]) == Path("c.wav").read_bytes() and whole["format"] == "wav"
    samples, rate = soundfile.read(__import__("io").BytesIO(base64.b64decode(made["data"])))
    assert (rate, samples.shape) == (16_000, (1600,))


def test_decoded_samples_are_a_sound_and_what_is_none_fails_its_sample() -> None:
    good = {"array": [0.0, 0.5, -0.5, 0.25], "sampling_rate": 16_000, "path": None}
    bad = [{"array": [0.0], "sampling_rate": None}, {"array": "x", "sampling_rate": 8000}, {"path": None}, 7]
    records = ask([{"q": "q", "a": "x", "sound": each} for each in (good, *bad)], "doc_to_audio: sound\n")
    assert [record.error is None for record in records] == [True, False, False, False, False]
    assert open_sound(media(records[0])[0], 16_000).tolist() == good["array"]


def test_show_tells_the_frames() -> None:
    write_clip(Path("a.mp4"), 30)
    ask([{"q": "q", "a": "x", "clip": "a.mp4"}], "doc_to_video: clip\nframes: 4\n")
    done = run_harness("show", "watch.yaml", "--model", "dummy")
    assert "4 of 30 frames (0, 9, 19, 29), 10 a second, 64 x 48, uniform, at most 4, by pyav" in done.stderr


def test_a_folder_of_pictures_is_a_clip_whose_rate_the_task_says(tmp_path: Path) -> None:
    Path("clips/one").mkdir(parents=True)
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10):
        Image.new("RGB", (8, 6), (number, 0, 0)).save(f"clips/one/{number}.png")
    Path("clips/one/notes.txt").write_text("no picture", encoding="utf-8")
    Path("clips/none").mkdir()
    shutil.copytree("clips/one", "clips/two")
    Path("clips/two/1.png").unlink()
    row = {"q": "?", "a": "b", "clip": "one", "from": 1, "to": 2}
    more = 'doc_to_video: {file: "clips/{{clip}}", start: "{{from}}", end: "{{to}}", rate: 3}\nframes: 2\n'
    clips = ("one", "none", "gone", "two")
    first, second, third, fourth = ask([{**row, "clip": clip} for clip in clips], more)
    (video,) = media(first)
    assert video.frames is not None
    assert (video.frames.total, video.frames.fps, video.frames.times) == (10, 3.0, (1.0, 2.0))
    assert [open_picture(frame).getpixel((0, 0)) for frame in frame_images(video)] == [(4, 0, 0), (7, 0, 0)]
    assert "is a folder without pictures" in second.error
    assert "is not below" in third.error
    (other,) = media(fourth)
    assert open_picture(frame_images(other)[0]).getpixel((0, 0)) == (5, 0, 0)
    Image.new("RGB", (8, 6), (99, 0, 0)).save("clips/one/11.png")
    with pytest.raises(HarnessError, match="has changed since the rows were read"):
        open_picture(frame_images(video)[0])
