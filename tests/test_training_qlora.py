"""QLoRA: an adapter that is trained on a base of four bits, measured as it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import answered, logged, trainer

import harness
from harness.testing import tiny_causal_lm

pytestmark = pytest.mark.filterwarnings("ignore")

STEPS = 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("model") / "tiny", hidden=128)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("task")
    rows = "".join(f'{{"q": "{n} plus {n} makes", "a": ["{2 * n}", "{n}"]}}\n' for n in range(12))
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    file = folder / "scored.yaml"
    file.write_text(
        "task: scored\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: multiple_choice\n"
        "doc_to_text: q\ndoc_to_choice: a\ndoc_to_target: 0\nmetric_list: [{metric: acc}]\n",
        encoding="utf-8",
    )
    return str(file)


def adapted(checkpoint: Path) -> Any:
    """The model in four bits, with a fresh adapter on it."""
    pytest.importorskip("bitsandbytes")
    import peft
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    family: Any = AutoModelForCausalLM
    bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    base = family.from_pretrained(checkpoint, quantization_config=bits, dtype=torch.float32)
    base = peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    for layer in base.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            # bitsandbytes (0.50) rearranges weights when a trainer evaluates, and gets them wrong when it then saves.
            layer.support_avx512bf16_for_cpu = False
    torch.manual_seed(5)
    return peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))


@pytest.mark.slow
def test_an_adapter_on_four_bits_learns_as_without_and_its_scores_are_those_of_what_is_saved(
    checkpoint: Path, task: str, tmp_path: Path
) -> None:
    from harness.training import HarnessCallback

    without = trainer(checkpoint, tmp_path / "without", [], model=adapted(checkpoint))
    without.train()
    trained = trainer(checkpoint, tmp_path / "with", [HarnessCallback(task)], model=adapted(checkpoint))
    trained.train()
    for one, other in zip(without.model.parameters(), trained.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert [step for step, _ in logged(trained, "eval_scored_acc")] == [2, 4]

    from bitsandbytes.functional import has_avx512bf16

    stored = {
        "pretrained": str(checkpoint),
        "peft": str(tmp_path / "with" / f"checkpoint-{STEPS}"),
        "load_in_4bit": True,
        "dtype": "float32",
    }
    result = harness.evaluate("hf", stored, task, output=tmp_path / "runs", device="cpu")
    (run,) = (tmp_path / "with" / "harness").glob(f"*-step-{STEPS}-*")
    # A loaded model answers by other, coarser products where the processor has them.
    apart = 0.1 if has_avx512bf16() else 1e-6
    for mine, theirs in zip(answered(harness.load_run(run).records()), answered(result.samples()), strict=True):
        assert mine[:3] == theirs[:3]
        assert mine[3] == pytest.approx(theirs[3], abs=apart)


@pytest.mark.slow
def test_weights_of_four_bits_keep_the_order_in_which_they_learn(checkpoint: Path, task: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = adapted(checkpoint)
    layers = [part for part in model.modules() if hasattr(part, "support_avx512bf16_for_cpu")]
    assert layers
    for layer in layers:  # as on a processor with these instructions
        layer.support_avx512bf16_for_cpu = True
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    harness.evaluate(model, tokenizer=tokenizer, tasks=task, output=tmp_path)
    assert not any(getattr(layer.weight.quant_state, "packing_format_for_cpu", False) for layer in layers)
    assert all(layer.support_avx512bf16_for_cpu for layer in layers)
