"""Images through the vllm model, against the hf_vlm model on the same small random models."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import stand_in_vllm
from safetensors.torch import load_file, save_file
from test_hf_vlm import ANSWERS, answers, chat, media, questions
from vision_families import TEXT, picture, save_family

from harness import ModelError, ModelOptions, Request, Sample, UsageError
from harness.testing import tiny_causal_lm
from harness_plugins.models.vllm import VLLMModel


@pytest.fixture(scope="module", autouse=True)
def vllm_or_stand_in() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("vllm") is None:
            patch.setitem(sys.modules, "vllm", stand_in_vllm)
        else:  # its attention for the CPU wants heads of 32 values or more
            patch.setitem(TEXT, "head_dim", 32)
            patch.setitem(TEXT, "hidden_size", 128)
        yield


def name_as_files_of_the_hub(file: Path) -> None:
    """vLLM knows a CLIP tower by the names of weights that hubs have; transformers 5 reads these, and writes others."""
    renamed = {
        re.sub(r"(vision_tower\.)(?!vision_model)", r"\1vision_model.", name): value
        for name, value in load_file(file).items()
    }
    save_file(renamed, file, metadata={"format": "pt"})


def by_vllm(place: Path, requests: list[Request], **arguments: Any) -> Any:
    args = {"pretrained": str(place), "dtype": "float32", "enforce_eager": True, **arguments}
    model = VLLMModel.create(args, ModelOptions(device="cpu", offline=True))
    model.prepare()
    model.inspect_samples([Sample("task", "", number, {}, (each,), 0) for number, each in enumerate(requests)])
    model.load()
    try:
        found = dict(model.respond(requests))
        return model, [found[index] for index in range(len(requests))]
    finally:
        model.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3_vl", "llava"])
def test_images_are_seen_as_hf_vlm_sees_them(tmp_path: Path, name: str) -> None:
    asked = questions()
    asked = [asked[at] for at in (0, 6, 7, 8, 9, 15)]  # one image, two in both orders, none; scored and generated
    place = save_family(name, tmp_path)
    expected, _ = answers(place, asked)
    name_as_files_of_the_hub(place / "model.safetensors")
    model, found = by_vllm(place, asked)
    for one, other in zip(expected, found, strict=True):
        assert (other.error, other.text, other.token_counts) == (None, one.text, one.token_counts)
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)
        assert other.prompt_tokens == one.prompt_tokens
    assert model.engine_args["limit_mm_per_prompt"] == {"image": 2}
    assert "limit_mm_per_prompt" not in model.identity["engine_args"]


def test_a_bad_image_fails_its_request_and_settings_reach_the_engine(tmp_path: Path) -> None:
    place = save_family("qwen3_vl", tmp_path)
    asked = [Request("loglikelihood", chat(media(data), "What?"), ANSWERS) for data in (picture(1), b"no picture")]
    model, (good, bad) = by_vllm(place, asked, max_pixels=32 * 32)
    (expected, _), _ = answers(place, asked, max_pixels=32 * 32)
    assert good.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    assert "damaged, or no image" in str(bad.error)
    assert model.identity["images"]["max_pixels"] == 32 * 32
    assert model.engine_args["mm_processor_kwargs"]["size"]["longest_edge"] == 32 * 32


def test_a_model_of_text_that_is_shown_an_image_is_refused(tmp_path: Path) -> None:
    place = tiny_causal_lm(tmp_path / "text")
    with pytest.raises(UsageError, match="is no model that sees images"):
        by_vllm(place, [Request("loglikelihood", chat(media(picture(1)), "What?"), ANSWERS)])


@pytest.mark.slow
def test_an_engine_that_does_not_start_for_want_of_torchvision_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: Any) -> None:
        raise ValueError("Model architectures ['LlavaForConditionalGeneration'] failed to be inspected")

    monkeypatch.setattr("harness_plugins.models.vllm.find_spec", lambda name: None if name == "torchvision" else name)
    monkeypatch.setattr("vllm.LLM", refused)
    with pytest.raises(ModelError, match=r"failed to be inspected .*need the package torchvision"):
        by_vllm(save_family("llava", tmp_path), [Request("loglikelihood", chat(media(picture(1)), "What?"), ANSWERS)])
