"""Where an answer of `hf` ends: at special tokens that a task names, per row, however rows are batched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import GenerationParams, ModelOptions, Prompt, Request
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

EOS, TURN_END = 0, 2  # <|endoftext|>, <|im_end|>


@pytest.mark.parametrize("architecture", ["qwen2", "mamba"])
def test_a_special_token_ends_the_rows_that_name_it_and_no_other(architecture: str, tmp_path: Path) -> None:
    path = tiny_causal_lm(tmp_path / "model", architecture, tie_word_embeddings=False)
    like(path, TURN_END)
    model: Any = HuggingFace.create({"pretrained": str(path)}, ModelOptions(device="cpu", batch_size=64))
    model.prepare()
    model.load()
    prompts = ["The quick", "Question: How many apples", "1 + 1 = 2\n2 + 2 =", "题目："]
    ends = [("<|im_end|>", "never"), ()]
    requests = [
        Request("generate", Prompt(text), generation=GenerationParams(until=until, max_new_tokens=24))
        for text in prompts
        for until in ends
    ]

    found = dict(model.respond(requests))

    stopped = 0
    for index, text in enumerate(prompts):
        whole = plain_answer(path, text)
        cut = whole[: whole.index(TURN_END)] if TURN_END in whole else whole
        stopped += TURN_END in whole
        named, free = found[2 * index], found[2 * index + 1]
        assert named.text == model.tokenizer.decode(cut, skip_special_tokens=True)
        assert named.finish_reason == ("stop" if {TURN_END, EOS} & {*whole} else "length")
        assert free.text == model.tokenizer.decode(whole, skip_special_tokens=True)
    assert stopped


def like(path: Path, token: int) -> None:
    """Make a model write a token often."""
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "model.safetensors")
    weights["lm_head.weight"][token] *= 3
    save_file(weights, path / "model.safetensors", {"format": "pt"})


def plain_answer(path: Path, text: str) -> list[int]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(path)(text, return_tensors="pt")
    made = AutoModelForCausalLM.from_pretrained(path).generate(**ids, max_new_tokens=24, do_sample=False)
    return list(made[0, ids["input_ids"].shape[1] :].tolist())
