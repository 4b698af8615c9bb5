"""Runs for the tests of the viewer: small, of recorded answers, and one whose every text is hostile."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from harness import evaluate

TASK = """
task: {name}
title: {title}
dataset_path: .
dataset_kwargs: {{data_files: {{test: rows.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: gold
generation_kwargs: {{max_gen_toks: 8}}
filter_list: [{{name: read, filter: [{{function: regex, regex_pattern: "([A-D])"}}, {{function: take_first}}]}}]
metric_list: [{{metric: exact_match}}]
"""
PICTURES = """
task: pictures
dataset_path: .
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "<image> {{question}}"
doc_to_image: picture
doc_to_target: gold
generation_kwargs: {max_gen_toks: 8}
metric_list: [{metric: exact_match}]
"""
CLIPS = """
task: clips
dataset_path: .
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_video: film
doc_to_audio: sound
frames: 4
doc_to_target: gold
generation_kwargs: {max_gen_toks: 8}
metric_list: [{metric: exact_match}]
"""
SCRIPT = "<script>alert(1)</script>"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e{{7*7}} [a](javascript:alert(3))"
QUESTIONS = ["什么是计算机网络？", "量子力学的创始人是谁？", "Which computer is fastest?", "九个苹果"]


def write_task(folder: Path, name: str = "quiz", title: str = "Quiz", questions: Sequence[str] = QUESTIONS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question": question, "gold": "ABCD"[place % 4]} for place, question in enumerate(questions)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = folder / "quiz.yaml"
    path.write_text(TASK.format(name=name, title=json.dumps(title)), encoding="utf-8")
    return path


def write_run(task: Path, replies: Sequence[str], output: Path, name: str) -> Path:
    answers = task.with_name(f"{name}.jsonl")
    answers.write_text("".join(json.dumps({"text": text}) + "\n" for text in replies), encoding="utf-8")
    return evaluate("replay", {"path": str(answers)}, [task], output=output, name=name).path


def photo(colour: str = "red", size: tuple[int, int] = (40, 20)) -> bytes:
    """A photograph taken sideways, whose EXIF speaks markup."""
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, SCRIPT
    Image.new("RGB", size, colour).save(stream, "JPEG", exif=exif, comment=SCRIPT.encode())
    return stream.getvalue()


def write_picture_run(folder: Path, output: Path) -> Path:
    """A run of three rows: a photograph, one whose file is an SVG, one whose picture no file holds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "photo.jpg").write_bytes(photo())
    (folder / "evil.png").write_text(f'<svg xmlns="http://www.w3.org/2000/svg">{SCRIPT}</svg>', encoding="utf-8")
    names = ("photo.jpg", "evil.png", "no.png")
    rows = [{"question": f"what is {name}", "picture": name, "gold": "red"} for name in names]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "pictures.yaml").write_text(PICTURES, encoding="utf-8")
    return write_run(folder / "pictures.yaml", ["red"] * 3, output, "seen")


def write_clip_run(folder: Path, output: Path) -> Path:
    """A run of two rows with a video and a sound: `film.mp4` and `gone.mp4`, `sound.wav` in the folder."""
    rows = [
        {"question": "what?", "film": name, "sound": "sound.wav", "gold": "red"} for name in ("film.mp4", "gone.mp4")
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "clips.yaml").write_text(CLIPS, encoding="utf-8")
    return evaluate("dummy", {"mode": "gold"}, [folder / "clips.yaml"], output=output, name="clips").path
