"""Models that see images, in process: small random ones of several families, against transformers' own forward pass."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from vision_families import FAMILIES, picture, save_family

from harness import GenerationParams, Media, Message, Prompt, Request, Response
from harness.engine import load_processor
from harness.model import ModelOptions
from harness.registry import load_plugins

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
        shown = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
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


# One that turns by place, one whose images see both ways, one in pieces; the others are run where there is time.
_OFTEN = {"qwen3_vl", "gemma3", "idefics3"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in _OFTEN else pytest.mark.slow) for name in FAMILIES]
)
def test_a_family_gives_what_transformers_gives(families: Path, name: str) -> None:
    place, asked = checkpoint(families, name), questions()
    plain, (found, said) = Plain(place), answers(place, asked)
    assert [response.error for response in found] == [None] * len(asked)
    for request, response in zip(asked, found, strict=True):
        if request.kind == "generate":
            assert response.text == plain.generated(request.prompt, 5)
        else:
            expected = [plain.logprob(request.prompt, answer) for answer in ANSWERS]
            assert response.logprobs == pytest.approx(expected, abs=CLOSE, rel=CLOSE)
    assert said["images_encoded"] == 3
    in_order, swapped = found[6].logprobs, found[7].logprobs
    assert max(abs(a - b) for a, b in zip(in_order, swapped, strict=True)) > 100 * CLOSE
    alone, _ = answers(place, asked, batch_size=1)
    assert [response.text for response in alone] == [response.text for response in found]
    for one, other in zip(alone, found, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=CLOSE, rel=CLOSE)
