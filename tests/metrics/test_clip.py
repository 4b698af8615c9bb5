"""CLIPScore and RefCLIPScore: the formulas, where pictures come from, and what becomes of those that cannot be read."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from tiny_encoders import tiny_bert, tiny_clip

from harness import Media, Message, MetricOptions, Observation, Prompt, Request, Response, Sample, UsageError
from harness.testing import run_harness

pytest.importorskip("PIL")
from harness_plugins.metrics.semantic import clip
from harness_plugins.metrics.semantic.clip import ClipScore, PictureEncoder, RefClipScore

COLOURS = {"red": (220, 30, 30), "green": (20, 200, 60), "dark": (10, 10, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


def picture(colour: str, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> bytes:
    from PIL import Image

    image = Image.new("RGB", size, COLOURS[colour])
    image.putpixel((3, 4), (255, 255, 255))
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def ready(folder: Path, kind: type[ClipScore] = ClipScore, **options: Any) -> ClipScore:
    metric = kind(model=str(folder), **{"image": "picture", **options})
    metric.prepare(MetricOptions(folder.parent))
    return metric


def seen(value: Any, *replies: str | None, target: Any = "a dog", **more: Any) -> Observation:
    sample = Sample("t", "", 0, {"picture": value}, more.get("requests", ()), target)
    return Observation(sample, tuple(Response(text=reply) for reply in replies), (), replies)


def cosine_by_hand(folder: Path, data: bytes, text: str, other: str | None = None) -> float:
    """The cosine between a picture and a text, or two texts, by the model's own forward pass."""
    import torch
    from PIL import Image
    from transformers import AutoTokenizer, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = tokenizer([text, other or text], return_tensors="pt", padding=True, truncation=True, max_length=16)
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(images=Image.open(io.BytesIO(data)), return_tensors="pt")
    with torch.no_grad():
        found = model(input_ids=texts["input_ids"], attention_mask=texts["attention_mask"], **pixels)
    first, second = found.text_embeds
    return float(first @ (second if other is not None else found.image_embeds[0]))


TEXTS = ["the cat sat on the mat", "a photo", "", "今天天气很好", "red green dog", "warm paris"]


def test_clip_score_is_its_formula(folder: Path) -> None:
    metric, data = ready(folder), picture("red")
    for text in TEXTS:
        cosine = cosine_by_hand(folder, data, f"A photo depicts {text}")
        assert metric.score(seen(data, text)) == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
        assert cosine > 0.1
    bare = ready(folder, prefix="", weight=1.0)
    cosines = [cosine_by_hand(folder, data, text) for text in TEXTS]
    assert [bare.score(seen(data, text)) for text in TEXTS] == pytest.approx([max(c, 0) for c in cosines], abs=1e-5)
    assert min(cosines) < 0 < max(cosines)  # both sides of the formula are seen


def test_what_does_not_fit_at_all_scores_0(tmp_path: Path) -> None:
    folder, data = tiny_clip(tmp_path / "tiny-clip", likes=False), picture("red")
    for text in TEXTS:
        assert cosine_by_hand(folder, data, f"A photo depicts {text}") < -0.1
        assert ready(folder).score(seen(data, text)) == 0.0
        assert ready(folder, RefClipScore).score(seen(data, text)) == 0.0


def test_ref_clip_score_is_its_formula(folder: Path) -> None:
    metric, data, prefix = ready(folder, RefClipScore), picture("green"), "A photo depicts "
    golds = ("the dog runs", "warm tower")
    for text in TEXTS:
        first = 2.5 * max(cosine_by_hand(folder, data, prefix + text), 0)
        near = max(0.0, *(cosine_by_hand(folder, data, prefix + text, prefix + gold) for gold in golds))
        expected = 2 * first * near / (first + near) if first + near else 0.0
        assert metric.score(seen(data, text, target=golds)) == pytest.approx(expected, abs=1e-5)
    assert metric.score(seen(data, "a cat", target=None)) is None
    assert metric.bounds == (0.0, pytest.approx(10 / 7))


def test_a_picture_is_a_path_a_data_uri_bytes_or_what_datasets_has(folder: Path, tmp_path: Path) -> None:
    data = picture("red")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "图 1.png").write_bytes(data)
    metric = ready(folder, image_folder=str(tmp_path))
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    values = [
        data,
        "pictures/图 1.png",
        uri,
        {"bytes": data, "path": None},
        {"bytes": None, "path": "pictures/图 1.png"},
    ]
    scores = [outcome.score for outcome in metric.score_batch([seen(value, "a red cat") for value in values])]
    assert scores[0] is not None and scores == [scores[0]] * len(values)
    grey, colour = (metric.score(seen(picture("red", mode=mode), "a red cat")) for mode in ("L", "RGBA"))
    assert colour == pytest.approx(scores[0], abs=1e-6) and grey != pytest.approx(scores[0], abs=1e-6)


def test_a_picture_can_be_what_the_prompt_shows(folder: Path) -> None:
    data = picture("green")
    media = Media("image", "ab" * 32, data)
    shown = (Request("generate", Prompt(messages=(Message("user", (media, "What is this?")),))),)
    expected = ready(folder).score(seen(data, "a cat"))
    assert ready(folder, image=None).score(seen(None, "a cat", requests=shown)) == expected
    assert ready(folder).score(seen({"sha256": "ab" * 32}, "a cat", requests=shown)) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "column 'picture' holds no picture but NoneType"),
        (7, "column 'picture' holds no picture but int"),
        ("", "column 'picture' holds no picture but str"),
        ("nowhere.png", "column 'picture' names 'nowhere.png', which is not below"),
        ("../../etc/passwd", "which is not below"),
        ("https://example.com/a.png", "is an address (https://example.com/a.png); nothing is downloaded"),
        (b"no picture", "the picture cannot be read: cannot identify image file"),
        ("data:image/png;base64,%%%", "column 'picture' is no base64"),
        ({"sha256": "cd" * 32}, "the log does not hold the picture of column 'picture'"),
    ],
)
def test_a_picture_that_cannot_be_had_fails_its_sample_alone(value: Any, message: str, folder: Path) -> None:
    bad, good = ready(folder).score_batch([seen(value, "a cat"), seen(picture("red"), "a cat")])
    assert bad.score is None and bad.error is not None and message in bad.error and "\n" not in bad.error
    assert good.score is not None and good.error is None


def test_a_prompt_with_two_pictures_is_not_guessed_about(folder: Path) -> None:
    media = tuple(Media("image", name * 32, picture(colour)) for name, colour in (("ab", "red"), ("cd", "green")))
    shown = (Request("generate", Prompt(messages=(Message("user", media),))),)
    (outcome,) = ready(folder, image=None).score_batch([seen(None, "a cat", requests=shown)])
    assert outcome.error is not None and "the prompt shows 2 pictures and not one" in outcome.error


def test_pictures_and_texts_are_embedded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"texts": 0, "pictures": 0}
    texts, pictures = PictureEncoder._texts, PictureEncoder._pictures

    def count_texts(self: PictureEncoder, ids: Any, mask: Any) -> Any:
        counts["texts"] += len(ids)
        return texts(self, ids, mask)

    def count_pictures(self: PictureEncoder, pixels: Any) -> Any:
        counts["pictures"] += len(pixels)
        return pictures(self, pixels)

    monkeypatch.setattr(PictureEncoder, "_texts", count_texts)
    monkeypatch.setattr(PictureEncoder, "_pictures", count_pictures)
    clip.load_picture_encoder.cache_clear()
    samples = [seen(picture(colour), "a cat") for colour in ("red", "green", "red")]
    for kind in (ClipScore, RefClipScore):
        for _ in range(2):
            ready(folder, kind).score_batch(samples)
    assert counts == {"texts": 2, "pictures": 2}


def test_long_texts_are_cut_and_counted_and_unread_ones_score_0(folder: Path) -> None:
    data = picture("red")
    outcomes = ready(folder).score_batch([seen(data, "the cat " * 20), seen(data, None)])
    assert [outcome.truncated for outcome in outcomes] == [1, 0] and outcomes[1].score == 0.0


def test_what_cannot_work_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is a model of type bert, which embeds no pictures"):
        ready(tiny_bert(tmp_path / "tiny-bert"))
    with pytest.raises(UsageError, match="weight is 0; it should be a positive number"):
        ready(folder, weight=0)
    with pytest.raises(UsageError, match="image_folder: there is no folder"):
        ready(folder, image_folder="nowhere")
    monkeypatch.setattr(clip, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package pillow: pip install 'harness-eval\[clip\]'"):
        ready(folder)


def task(folder: Path, model: Path, more: str) -> list[str]:
    """A task of three rows with pictures beside it, and the command that runs it."""
    rows = []
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(picture(colour))
        rows.append({"picture": f"{colour}.png", "caption": f"a {colour} photo"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [
        "task: captions", "dataset_path: rows.jsonl", "test_split: test", "output_type: generate_until",
        "doc_to_text: Describe it.", "doc_to_target: caption",
        f"metric_list: [{{metric: clip_score, model: {model}{more}}}]",
    ]  # fmt: skip
    (folder / "captions.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    answers = ["--model", "dummy", "--model_args", "mode=gold", "--output", str(folder / "runs")]
    return ["--tasks", str(folder / "captions.yaml"), *answers]


def run_of(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    (path,) = (folder / "runs").iterdir()
    return path, [json.loads(line) for line in (path / "captions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_a_run_takes_pictures_from_a_column(folder: Path, tmp_path: Path) -> None:
    done = run_harness(*task(tmp_path, folder, ", image: picture"))
    assert done.exit_code == 0, done.stderr
    path, lines = run_of(tmp_path)
    scores = [line["scores"]["clip_score"] for line in lines]
    assert run_harness("score", str(path)).exit_code == 0
    assert [line["scores"]["clip_score"] for line in run_of(tmp_path)[1]] == scores
    assert "clip_score by model tiny-clip" in done.stdout


def test_scores_of_pictures_that_the_log_does_not_hold_stay(folder: Path, tmp_path: Path) -> None:
    command = task(tmp_path, folder, "")
    file = tmp_path / "captions.yaml"
    file.write_text(file.read_text(encoding="utf-8") + "doc_to_image: picture\n", encoding="utf-8")
    assert run_harness(*command).exit_code == 0
    path, lines = run_of(tmp_path)
    assert {line["error"] for line in lines} == {None}
    assert run_harness("score", str(path)).exit_code == 0
    assert [line["scores"] for line in run_of(tmp_path)[1]] == [line["scores"] for line in lines]
    file.write_text(file.read_text(encoding="utf-8").replace("tiny-clip}", "tiny-clip, weight: 1.0}"), encoding="utf-8")
    assert run_harness("score", str(path)).exit_code == 1
    assert all("the log does not hold" in line["error"] for line in run_of(tmp_path)[1])
