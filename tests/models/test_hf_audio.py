"""Models that hear, in process: a small random Qwen2-Audio, against transformers' own forward pass."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest
import soundfile
import torch
import transformers
from safetensors.torch import save_file
from vision_families import TEXT, _id, _tokenizer

from harness import GenerationParams, Media, Message, Prompt, Request, Response, UsageError
from harness.data.audio import open_sound
from harness.model import ModelOptions
from harness.registry import load_plugins

CLOSE = 1e-5
ANSWERS = (" yes", " a cat sat on the mat")
RATE = 16_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that hears one second."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hears") / "qwen2_audio"
    tokenizer = _tokenizer("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
    extractor = transformers.WhisperFeatureExtractor(feature_size=16, sampling_rate=RATE, chunk_length=1)
    processor = transformers.Qwen2AudioProcessor(extractor, tokenizer)
    audio = {
        "num_mel_bins": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 32,
        "d_model": 32,
    }
    config = transformers.Qwen2AudioConfig(
        audio_config={"model_type": "qwen2_audio_encoder", **audio, "max_source_positions": 50},
        text_config={"model_type": "qwen2", **TEXT, "vocab_size": len(tokenizer)},
        audio_token_index=_id(tokenizer, "<|AUDIO|>"),
    )
    model = transformers.Qwen2AudioForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = 0
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def sound(seed: int, seconds: float = 0.6, rate: int = RATE, **more: Any) -> Media:
    noise = numpy.random.default_rng(seed).normal(0, 0.2, int(seconds * rate)).astype("float32")
    stream = io.BytesIO()
    soundfile.write(stream, noise, rate, format="WAV", subtype="FLOAT")
    data = stream.getvalue()
    return Media("audio", hashlib.sha256(data).hexdigest(), data, **more)


def chat(*parts: str | Media) -> Prompt:
    return Prompt(messages=(Message("user", tuple(parts)),))


def answers(place: Path, requests: Sequence[Request], batch_size: int | str = "auto") -> tuple[list[Response], Any]:
    kind: Any = load_plugins().model("hf_audio")
    model = kind.create({"pretrained": str(place)}, ModelOptions(batch_size=batch_size, device="cpu"))
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
        self.processor = transformers.AutoProcessor.from_pretrained(place)
        kind: Any = transformers.Qwen2AudioForConditionalGeneration
        self.model = kind.from_pretrained(place, dtype=torch.float32).eval()

    def inputs(self, prompt: Prompt, text: str = "", strip: bool = False) -> Any:
        (message,) = prompt.messages
        parts = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "audio"} for part in message.content
        ]
        shown = self.processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
        )
        shown = shown.rstrip() if strip else shown + text
        sounds = [open_sound(each, RATE) for each in prompt.shown_media]
        more: Any = {"audio": sounds, "sampling_rate": RATE} if sounds else {}
        return self.processor(text=[shown], add_special_tokens=False, return_tensors="pt", **more)

    @torch.inference_mode()
    def logprob(self, prompt: Prompt, answer: str) -> float:
        before = self.inputs(prompt, strip=True)["input_ids"][0].tolist()
        whole = self.inputs(prompt, answer)
        ids = whole["input_ids"][0].tolist()
        start = next((at for at, pair in enumerate(zip(before, ids, strict=False)) if pair[0] != pair[1]), len(before))
        whole.pop("num_audio_tokens", None)
        found = torch.log_softmax(self.model(**whole).logits[0].float(), dim=-1)
        return sum(float(found[at - 1, ids[at]]) for at in range(start, len(ids)))

    @torch.inference_mode()
    def generated(self, prompt: Prompt, tokens: int) -> str:
        inputs = self.inputs(prompt)
        inputs.pop("num_audio_tokens", None)
        found = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        return str(self.processor.tokenizer.decode(found[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def questions() -> list[Request]:
    one, two = sound(1), sound(2, seconds=0.9)
    prompts = [
        chat(one, " What is it?"),
        chat("Compare ", one, " with ", two, "."),
        chat("Compare ", two, " with ", one, "."),
    ]
    asked = [Request("loglikelihood", prompt, ANSWERS) for prompt in prompts]
    return asked + [Request("generate", prompt, generation=GenerationParams(max_new_tokens=5)) for prompt in prompts]


def test_it_gives_what_transformers_gives_in_any_batch(place: Path) -> None:
    asked, plain = questions(), Plain(place)
    found, said = answers(place, asked)
    assert [response.error for response in found] == [None] * len(asked)
    for request, response in zip(asked, found, strict=True):
        if request.kind == "generate":
            assert response.text == plain.generated(request.prompt, 5)
        else:
            expected = [plain.logprob(request.prompt, answer) for answer in ANSWERS]
            assert response.logprobs == pytest.approx(expected, abs=CLOSE, rel=CLOSE)
    assert said["sounds_encoded"] == 2
    assert max(abs(a - b) for a, b in zip(found[1].logprobs, found[2].logprobs, strict=True)) > 100 * CLOSE
    alone, four = answers(place, asked, batch_size=1)[0], answers(place, asked, batch_size=4)[0]
    assert [response.text for response in alone] == [response.text for response in four]
    for one, other in zip(alone, four, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=CLOSE, rel=CLOSE)


def test_what_it_takes_to_hear_is_foreseen(place: Path) -> None:
    model: Any = load_plugins().model("hf_audio").create({"pretrained": str(place)}, ModelOptions(device="cpu"))
    model.prepare()
    forecast = model.forecast(questions())
    assert "in a model of this shape with random weights" in forecast.text
    assert min(forecast.seconds, forecast.processor, forecast.peak_memory) > 0


def test_a_sound_that_cannot_be_heard_is_the_error_of_its_request_alone(place: Path) -> None:
    bad = {
        "the sound cannot be decoded": Media("audio", "0" * 64, b"no sound at all"),
        "and the model hears 1.0 s": sound(3, seconds=2.5),
        "holds nothing": sound(4, start=5.0),
        "holds no sound": sound(5, seconds=0.0),
        "shown a image": Media("image", "1" * 64, b"x"),
    }
    asked = [Request("loglikelihood", chat(each, "?"), ANSWERS) for each in (sound(1), *bad.values())]
    found, _ = answers(place, asked)
    assert found[0].error is None
    for (said, _), response in zip(bad.items(), found[1:], strict=True):
        assert said in str(response.error) and "\n" not in str(response.error)


@pytest.mark.slow
def test_another_rate_and_a_part_of_a_sound_are_heard(place: Path) -> None:
    whole = sound(6, seconds=0.9)
    part = sound(6, seconds=0.9, start=0.2, end=0.7)
    slow = sound(6, seconds=0.9, rate=8000)
    assert (len(open_sound(whole, RATE)), len(open_sound(part, RATE)), len(open_sound(slow, RATE))) == (
        14400,
        8000,
        14400,
    )
    found, said = answers(place, [Request("loglikelihood", chat(each, "?"), ANSWERS) for each in (whole, part, slow)])
    assert len({response.logprobs for response in found}) == 3 and said["sounds_encoded"] == 3


def test_a_model_of_text_is_told_so(place: Path, tmp_path: Path) -> None:
    transformers.Qwen2Config(**TEXT, vocab_size=64).save_pretrained(tmp_path)
    _tokenizer().save_pretrained(tmp_path)
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UsageError, match="is no model that hears"):
        load_plugins().model("hf_audio").create({"pretrained": str(tmp_path)}, ModelOptions(device="cpu")).prepare()
