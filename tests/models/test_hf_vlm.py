"""Models that see images, in process: small random ones of several families, against transformers' own forward pass."""

from __future__ import annotations

import hashlib
import io
import itertools
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from clips import write_clip
from PIL import Image, TiffImagePlugin
from vision_families import FAMILIES, picture, save_family

from harness import DataError, GenerationParams, Media, Message, Prompt, Request, Response, UsageError
from harness.data.frame_sampling import FrameRule
from harness.data.media_files import file_sha256
from harness.data.video import frame_images, with_frames
from harness.engine import ImageProcessor, load_processor, open_picture, picture_size
from harness.engine.stand_in import Original
from harness.model import Forecast, ModelOptions
from harness.registry import load_plugins
from harness.stopwatch import Seconds

CLOSE = 1e-4
ANSWERS = (" yes", " no", " a cat sat on the mat")


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def checkpoint(families: Path, name: str) -> Path:
    return families / name if (families / name).exists() else save_family(name, families)


def media(data: bytes | Image.Image) -> Media:
    if isinstance(data, Image.Image):
        stream = io.BytesIO()
        data.save(stream, "PNG")
        data = stream.getvalue()
    return Media("image", hashlib.sha256(data).hexdigest(), data, "image/png")


def chat(*parts: str | Media) -> Prompt:
    return Prompt(messages=(Message("user", tuple(parts)),))


def scored(*parts: str | Media, answers: tuple[str, ...] = ANSWERS) -> Request:
    return Request("loglikelihood", chat(*parts), answers)


def answers(
    place: Path, requests: Sequence[Request], batch_size: int | str = "auto", **arguments: Any
) -> tuple[list[Response], Any]:
    """The responses of a model, in order, and what it says of itself."""
    kind: Any = load_plugins().model("hf_vlm")
    model = kind.create({"pretrained": str(place), **arguments}, ModelOptions(batch_size=batch_size, device="cpu"))
    model.prepare()
    model.load()
    try:
        found = dict(model.respond(requests))
        return [found[index] for index in range(len(requests))], model.describe()
    finally:
        model.close()


def foreseen(place: Path, requests: list[Request]) -> Forecast:
    model: Any = load_plugins().model("hf_vlm").create({"pretrained": str(place)}, ModelOptions(device="cpu"))
    model.prepare()
    found: Forecast = model.forecast(requests)
    return found


class Plain:
    """What transformers alone makes of a prompt: its processor, its forward pass, one prompt at a time."""

    def __init__(self, place: Path) -> None:
        auto: Any = transformers.AutoModelForImageTextToText
        self.processor = load_processor(str(place), transformers.AutoConfig.from_pretrained(place))
        self.model = auto.from_pretrained(place, dtype=torch.float32).eval()

    def inputs(self, prompt: Prompt, text: str = "", strip: bool = False) -> Any:
        (message,) = prompt.messages
        parts = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in message.content
        ]
        turns = [{"role": "user", "content": parts}]
        shown = self.processor.tokenizer.apply_chat_template(
            turns, chat_template=self.processor.chat_template, add_generation_prompt=True, tokenize=False
        )
        images = [Image.open(io.BytesIO(each.read())) for each in prompt.shown_media]
        more: Any = {"images": [images]} if images else {}
        shown = shown.rstrip() if strip else shown + text
        return self.processor(text=[shown], add_special_tokens=False, return_tensors="pt", **more)

    @torch.inference_mode()
    def logprob(self, prompt: Prompt, answer: str) -> float:
        before = self.inputs(prompt, strip=True)["input_ids"][0].tolist()
        whole = self.inputs(prompt, answer)
        ids = whole["input_ids"][0].tolist()
        start = next((at for at, pair in enumerate(zip(before, ids, strict=False)) if pair[0] != pair[1]), len(before))
        found = torch.log_softmax(self.model(**whole).logits[0].float(), dim=-1)
        return sum(float(found[at - 1, ids[at]]) for at in range(start, len(ids)))

    @torch.inference_mode()
    def generated(self, prompt: Prompt, tokens: int) -> str:
        inputs = self.inputs(prompt)
        found = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        return str(self.processor.tokenizer.decode(found[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def questions() -> list[Request]:
    """Scored and generated, images of three sizes, several questions on one, two images in both orders, and none."""
    one, two, three = (media(picture(seed, *size)) for seed, size in ((1, (40, 40)), (2, (70, 36)), (3, (30, 64))))
    prompts = [chat(image, f" What is it? {n}") for n in range(2) for image in (one, two, three)]
    prompts += [chat("Compare ", one, " with ", two, "."), chat("Compare ", two, " with ", one, "."), chat("No image.")]
    asked = [Request("loglikelihood", prompt, ANSWERS) for prompt in prompts]
    return asked + [Request("generate", prompt, generation=GenerationParams(max_new_tokens=5)) for prompt in prompts]


def test_a_processor_that_hands_its_video_part_on_by_name_is_read(families: Path) -> None:
    place = checkpoint(families, "gemma4")
    processor = load_processor(str(place), transformers.AutoConfig.from_pretrained(place))
    shown = processor(text="<|image|>What is it?", images=[picture(1)], return_tensors="pt")
    marks = shown["input_ids"] == processor.image_token_id
    assert int(marks.sum()) == int(shown["mm_token_type_ids"].sum()) > 1


def test_pixels_that_torchvision_scaled_are_told_from_those_of_pil(
    families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = checkpoint(families, "qwen3_vl")
    processor = ImageProcessor(str(place), transformers.AutoConfig.from_pretrained(place), {})
    by_pil = "Pil" in type(processor.processor.image_processor).__name__
    assert processor.identity.get("backend") == (None if by_pil else "torchvision")
    kind = type("Qwen2VLImageProcessor", (type("TorchvisionBackend", (), {}),), {"to_dict": lambda self: {"size": 3}})
    monkeypatch.setattr(processor.processor, "image_processor", kind())
    assert processor.identity == {"size": 3, "backend": "torchvision"}


# One that turns by place, one whose images see both ways, one in pieces; the others are run where there is time.
_OFTEN = {"qwen3_vl"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _OFTEN else pytest.mark.slow) for name in FAMILIES]
)
def test_a_family_gives_what_transformers_gives(families: Path, name: str) -> None:
    if name == "smolvlm":
        pytest.importorskip("num2words")  # transformers' processor of it asks for that package
    place, asked = checkpoint(families, name), questions()
    assert "with random weights" in foreseen(place, asked).text
    plain, (found, said) = Plain(place), answers(place, asked)
    assert [response.error for response in found] == [None] * len(asked)
    for request, response in zip(asked, found, strict=True):
        if request.kind == "generate":
            assert response.text == plain.generated(request.prompt, 5)
        else:
            expected = [plain.logprob(request.prompt, answer) for answer in ANSWERS]
            assert response.logprobs == pytest.approx(expected, abs=CLOSE, rel=CLOSE)
    # LLaVA-OneVision cuts an image into pieces only where it is alone: two of them are shown both ways.
    assert said["images_encoded"] == (5 if name == "llava_onevision" else 3)
    in_order, swapped = found[6].logprobs, found[7].logprobs
    assert max(abs(a - b) for a, b in zip(in_order, swapped, strict=True)) > 100 * CLOSE
    alone, _ = answers(place, asked, batch_size=1)
    assert [response.text for response in alone] == [response.text for response in found]
    for one, other in zip(alone, found, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=CLOSE, rel=CLOSE)


def test_an_image_that_cannot_be_shown_is_the_error_of_its_request_alone(families: Path) -> None:
    place, good = checkpoint(families, "qwen3_vl"), picture(5)
    clip = io.BytesIO()
    good.save(clip, "GIF", save_all=True, append_images=[picture(6), picture(7)])
    bad = {
        "animated (3 frames)": clip.getvalue(),
        "truncated": media(good).data[:900],
        "damaged, or no image": b"no picture at all",
        "floating-point": _tiff(Image.new("F", (40, 40), 0.5)),
        "cannot be taken by the model's processor": media(Image.new("RGB", (2000, 2))).data,
    }
    asked = [scored(media(good), "What is it?"), *(scored(media(data), "What is it?") for data in bad.values())]
    found, _ = answers(place, asked)
    assert found[0].error is None
    for said, response in zip(bad, found[1:], strict=True):
        assert said in str(response.error) and "\n" not in str(response.error), response.error
    assert found[0].logprobs == pytest.approx(answers(place, asked[:1])[0][0].logprobs, abs=CLOSE)


def _tiff(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "TIFF")
    return stream.getvalue()


def test_images_of_all_kinds_are_shown_in_one_way() -> None:
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    sideways = Image.new("RGB", (8, 4), "blue")
    exif = sideways.getexif()
    exif[274] = 6
    stream = io.BytesIO()
    sideways.save(stream, "JPEG", exif=exif)
    assert picture_size(media(stream.getvalue())) == open_picture(media(stream.getvalue())).size == (4, 8)
    assert open_picture(media(half)).getpixel((0, 0)) == (255, 255, 255)
    assert open_picture(media(Image.new("I;16", (8, 8), 32896))).getpixel((0, 0)) == (128, 128, 128)
    pages = io.BytesIO()
    half.save(pages, "TIFF", save_all=True, append_images=[Image.new("RGB", (8, 4))])
    with pytest.raises(DataError, match="the image cannot be shown: it has 2 pages: give one of them"):
        open_picture(media(pages.getvalue()))
    pages = io.BytesIO()
    writer = TiffImagePlugin.AppendingTiffWriter(pages, new=True)
    for kind in (0, 1):  # tag 254: the second is a smaller copy of the page before it
        Image.new("RGB", (8, 4)).save(writer, "TIFF", tiffinfo={254: kind})
        writer.newFrame()
    assert open_picture(media(pages.getvalue())).size == (8, 4)
    assert open_picture(media(_tiff(Image.new("CMYK", (8, 8), (0, 255, 255, 0))))).getpixel((0, 0)) == (255, 0, 0)
    assert open_picture(media(Image.new("1", (8, 8), 1))).mode == "RGB"


def test_settings_of_the_processor_are_known_or_refused_and_decide_the_tokens(families: Path) -> None:
    place, request = checkpoint(families, "qwen3_vl"), scored(media(picture(1, 96, 96)), "What?")
    large, small = (answers(place, [request], max_pixels=pixels)[0][0] for pixels in (64 * 64, 32 * 32))
    assert (large.prompt_tokens or 0) - (small.prompt_tokens or 0) == 16 - 4
    with pytest.raises(UsageError, match="knows no setting 'max_pixel'; did you mean 'max_pixels'"):
        answers(place, [request], processor={"max_pixel": 5})
    model: Any = load_plugins().model("hf_vlm")
    one, other = (
        model.create({"pretrained": str(place), **args}, ModelOptions()) for args in ({}, {"max_pixels": 900})
    )
    one.prepare(), other.prepare()
    assert other.identity["images"]["max_pixels"] == 900
    assert one.identity != other.identity


def test_a_prompt_that_is_too_long_loses_no_part_of_an_image(families: Path) -> None:
    place = checkpoint(families, "qwen3_vl")
    long = scored(media(picture(1, 60, 60)), "What? " * 60)
    (cut,), _ = answers(place, [long], max_length=100)
    assert "an image cannot be cut" in str(cut.error)
    (literal,), _ = answers(place, [scored(media(picture(1)), "What is <|image_pad|>?")])
    assert "the question's own text" in str(literal.error)


def test_a_model_without_a_chat_template_is_shown_the_turn_as_it_stands(families: Path, tmp_path: Path) -> None:
    place = shutil.copytree(checkpoint(families, "qwen3_vl"), tmp_path / "base")
    (place / "chat_template.jinja").unlink()
    model: Any = load_plugins().model("hf_vlm").create({"pretrained": str(place)}, ModelOptions(device="cpu"))
    model.prepare()
    assert model.render(chat("Look: ", media(picture(1)), " It is")) == "Look: <|image_pad|> It is"


def test_questions_on_one_image_share_it_and_what_is_behind_it(families: Path) -> None:
    place, images = checkpoint(families, "qwen3_vl"), [media(picture(seed)) for seed in range(3)]
    asked = [scored(images[n % 3], f" Answer in one word. Question {n}?", answers=(" A", " B")) for n in range(30)]
    model: Any = load_plugins().model("hf_vlm").create({"pretrained": str(place)}, ModelOptions(device="cpu"))
    model.prepare()
    forecast = model.forecast(asked)
    assert forecast.planned_tokens < forecast.tokens / 2
    assert "in a model of this shape with random weights" in forecast.text
    assert min(forecast.seconds, forecast.processor or 0, forecast.peak_memory or 0) > 0
    model.load()
    assert all(response.error is None for _, response in model.respond(asked))
    assert model.describe()["images_encoded"] == 3
    model.close()


def test_twice_the_images_take_longer_in_a_forecast(families: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image goes through the tower once; what is asked of it is the same few tokens."""
    ticks = itertools.count()
    monkeypatch.setattr(Seconds, "now", lambda: Seconds(next(ticks), 1.0))  # each timed part takes as long
    place, images = checkpoint(families, "qwen3_vl"), [media(picture(seed)) for seed in range(16)]
    few, many = (foreseen(place, [scored(images[n % count]) for n in range(16)]) for count in (4, 16))
    assert few.requests == many.requests
    assert many.seconds > 1.5 * few.seconds


def test_a_large_model_that_sees_is_foreseen_from_some_of_its_layers(
    families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Original, "depths", (1, 2))
    assert "with 1 and 2 of its layers" in foreseen(checkpoint(families, "qwen3_vl"), questions()).text


def test_a_video_is_shown_as_its_frames(families: Path, tmp_path: Path) -> None:
    place, path = checkpoint(families, "qwen3_vl"), write_clip(tmp_path / "a.mp4", 12, size=(40, 40))
    clip = Media("video", file_sha256(str(path)), path=str(path))
    shown = with_frames(clip, FrameRule(count=3))
    frames = [media(open_picture(frame)) for frame in frame_images(shown)]
    bad = replace(frame_images(shown)[0], kind="video", frame=None, path="gone.mp4")
    asked = [scored(shown, "What is it?"), scored(*frames, "What is it?"), scored(*frames[::-1], "What is it?")]
    found, _ = answers(place, [*asked, scored(replace(bad, sha256="0"), "What is it?")])
    assert [response.error is None for response in found] == [True, True, True, False]
    assert found[0].logprobs == pytest.approx(found[1].logprobs, abs=CLOSE, rel=CLOSE)
    assert max(abs(a - b) for a, b in zip(found[0].logprobs, found[2].logprobs, strict=True)) > 10 * CLOSE
    assert "gone.mp4" in str(found[3].error)
