"""A model in memory: it is measured as its saved checkpoint would be, and is afterwards as it was found."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness import UsageError
from harness.engine.live import as_found, fingerprint
from harness.testing import tiny_causal_lm


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def tasks(tmp_path: Path) -> list[str]:
    """A task that scores options, and one that generates."""
    rows = "".join(f'{{"q": "{n} plus {n} makes", "a": ["{2 * n}", "{n}"]}}\n' for n in range(6))
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    task = "dataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: q\n"
    scored = "output_type: multiple_choice\ndoc_to_choice: a\ndoc_to_target: 0\nmetric_list: [{metric: acc}]\n"
    generated = "output_type: generate_until\ndoc_to_target: '{{ a[0] }}'\ngeneration_kwargs: {max_gen_toks: 8}\n"
    (tmp_path / "scored.yaml").write_text("task: scored\n" + task + scored, encoding="utf-8")
    (tmp_path / "written.yaml").write_text("task: written\n" + task + generated, encoding="utf-8")
    return [str(tmp_path / "scored.yaml"), str(tmp_path / "written.yaml")]


def opened(checkpoint: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    family: Any = AutoModelForCausalLM
    return family.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)


def answered(result: Any) -> list[Any]:
    return [(r.task, r.id, a.text, a.logprobs) for r in result.samples() for a in r.responses]


def state(model: Any, tokenizer: Any) -> Any:
    """All that a measurement might change and must not."""
    parts = [str(vars(part)) for part in model.modules()]
    draws = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())
    backend = tokenizer.backend_tokenizer
    reading = (tokenizer.padding_side, backend.truncation, backend.padding)
    return parts, str(model.config), str(model.generation_config), draws, reading


def in_training(model: Any, tokenizer: Any) -> None:
    """Bring a model into the state that trainers have it in, one layer frozen and one not in training mode."""
    model.train()
    model.config.use_cache = False
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model.model.layers[0].eval().requires_grad_(False)
    model.generation_config.max_new_tokens = 3
    tokenizer.padding_side = "left"
    tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=2)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`")
def test_what_is_changed_on_a_model_is_put_back_also_after_an_error(checkpoint: Path) -> None:
    model, tokenizer = opened(checkpoint)
    in_training(model, tokenizer)
    before = state(model, tokenizer)
    with pytest.raises(RuntimeError), as_found(model, tokenizer):
        assert not any(part.training for part in model.modules())
        random.random(), np.random.rand(), torch.rand(2)
        model.lm_head.forward = len
        model.model.norm.register_forward_hook(print)
        model.config._attn_implementation = "eager"
        model.requires_grad_(False)
        tokenizer.padding_side = "right"
        tokenizer(["a"], padding="max_length", truncation=True, max_length=9)
        raise RuntimeError
    assert state(model, tokenizer) == before
    assert [p.requires_grad for p in model.model.layers[0].parameters()].count(True) == 0
    assert model.lm_head.weight.requires_grad


def test_a_compiled_model_is_not_compiled_anew_for_each_shape(
    checkpoint: Path, tasks: list[str], tmp_path: Path
) -> None:
    model, tokenizer = opened(checkpoint)
    shapes: list[int] = []

    def compiler(graph: Any, inputs: list[Any]) -> Any:
        shapes.append(len(inputs))
        return graph.forward

    model.compile(backend=compiler)
    compiled = model._compiled_call_impl
    harness.evaluate(model, tokenizer=tokenizer, tasks=tasks, output=tmp_path / "runs")
    assert not shapes and model._compiled_call_impl is compiled


def test_one_changed_value_is_another_model(checkpoint: Path) -> None:
    model, _ = opened(checkpoint)
    first = fingerprint(model)
    assert fingerprint(model) == first
    with torch.no_grad():
        model.model.norm.weight[3] += 1e-6
    assert fingerprint(model) != first


@pytest.mark.parametrize(
    ("model", "tokenizer", "message"),
    [
        (torch.nn.Linear(2, 2), None, "model: Linear is a module of torch, and no language model of transformers"),
        ("dummy", object(), "tokenizer: is for a model in memory"),
    ],
)
def test_what_cannot_be_measured_is_one_line(model: Any, tokenizer: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        harness.evaluate(model, tokenizer=tokenizer, tasks="demo_choice_zh", output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_without_its_tokenizer_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(checkpoint)
    with pytest.raises(UsageError, match="tokenizer: should be the tokenizer of the model, found NoneType"):
        harness.evaluate(model, tasks="demo_choice_zh", output=tmp_path)
    with pytest.raises(UsageError, match="the model in memory is on cpu, not on cuda"):
        harness.evaluate(model, tokenizer=tokenizer, tasks="demo_choice_zh", output=tmp_path, device="cuda")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`")
def test_it_is_measured_as_its_checkpoint_and_left_as_it_was(
    checkpoint: Path, tasks: list[str], tmp_path: Path
) -> None:
    model, tokenizer = opened(checkpoint)
    in_training(model, tokenizer)
    weights = {id(parameter) for parameter in model.parameters()}
    before = state(model, tokenizer)
    live = harness.evaluate(model, tokenizer=tokenizer, tasks=tasks, output=tmp_path / "runs")
    assert state(model, tokenizer) == before
    assert {id(parameter) for parameter in model.parameters()} == weights
    stored = harness.evaluate("hf", {"pretrained": str(checkpoint)}, tasks, output=tmp_path / "runs")
    for mine, theirs in zip(answered(live), answered(stored), strict=True):
        assert mine[:3] == theirs[:3]
        assert mine[3] == pytest.approx(theirs[3], abs=1e-6)
    again = harness.evaluate(model, tokenizer=tokenizer, tasks=tasks, output=tmp_path / "runs")
    assert again.path == live.path != stored.path
    model.zero_grad()
    model(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_an_adapted_model_is_measured_as_base_and_adapter(checkpoint: Path, tasks: list[str], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model, tokenizer = opened(checkpoint)
    adapted = get_peft_model(model, LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear"))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    adapted.train()
    adapted.save_pretrained(tmp_path / "adapter")
    before = state(adapted, tokenizer)
    live = harness.evaluate(adapted, tokenizer=tokenizer, tasks=tasks, output=tmp_path / "runs")
    assert state(adapted, tokenizer) == before
    where = {"pretrained": str(checkpoint), "peft": str(tmp_path / "adapter")}
    stored = harness.evaluate("hf", where, tasks, output=tmp_path / "runs")
    for mine, theirs in zip(answered(live), answered(stored), strict=True):
        assert mine[:3] == theirs[:3]
        assert mine[3] == pytest.approx(theirs[3], abs=1e-6)
    bare = harness.evaluate("hf", {"pretrained": str(checkpoint)}, tasks, output=tmp_path / "runs")
    assert answered(bare) != answered(stored)
