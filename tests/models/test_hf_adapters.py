"""Adapters take turns on one base, which is loaded once, and each scores as it would alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import ModelOptions, Prompt, Request, UsageError, evaluate, evaluate_each
from harness.testing import run_harness, tiny_causal_lm
from harness_plugins.models.hf import HuggingFace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")]
SHOTS = "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\n答案是：A\n\n" * 2
KINDS: dict[str, dict[str, Any]] = {
    "small": {"r": 2, "target_modules": ["q_proj", "v_proj"]},
    "large": {"r": 8, "target_modules": "all-linear", "lora_alpha": 32},
    "bias": {"r": 2, "target_modules": ["q_proj", "k_proj"], "bias": "all"},
    "modules": {"r": 4, "target_modules": ["o_proj"], "modules_to_save": ["lm_head", "norm"]},
    "tokens": {"r": 2, "target_modules": ["q_proj"], "trainable_token_indices": [5, 6, 7]},
    "dora": {"r": 2, "target_modules": ["up_proj", "embed_tokens"], "use_dora": True},
    "pissa": {"r": 2, "target_modules": ["down_proj"], "init_lora_weights": "pissa"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and an adapter of each kind beside it."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapters")
    tiny_causal_lm(folder / "base")
    for seed, (name, settings) in enumerate(KINDS.items()):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(folder / "base")
        adapted = peft.get_peft_model(model, peft.LoraConfig(**{"init_lora_weights": False, **settings}))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        adapted.save_pretrained(folder / name, save_embedding_layers=False)
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose weights transformers was asked to load."""
    import transformers

    found: list[str] = []
    load = transformers.AutoModelForCausalLM.from_pretrained

    def counted(path: Any, *args: Any, **options: Any) -> Any:
        found.append(str(path))
        return load(path, *args, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", counted)
    return found


def make(folder: Path, adapter: str | None, before: HuggingFace | None = None, device: str = "cpu") -> HuggingFace:
    args = {"pretrained": str(folder / "base"), **({"peft": str(folder / adapter)} if adapter else {})}
    model = HuggingFace.create(args, ModelOptions(device=device, offline=True))
    model.prepare()
    if before is not None:
        model.take_over(before)
        before.close()
    model.load()
    return model


def answers(model: HuggingFace) -> list[tuple[float, ...]]:
    questions = ["1 + 1 =", "The quick brown fox", "下列哪一项", "0"]
    requests = [Request("loglikelihood", Prompt(q, SHOTS), (" 42", " jumps", " 是正确的选项。")) for q in questions]
    found = dict(model.respond(requests))
    return [found[index].logprobs for index in range(len(requests))]


def test_every_kind_of_adapter_leaves_the_base_as_it_was(folder: Path, loads: list[str]) -> None:
    alone = {name: answers(make(folder, name)) for name in (None, *KINDS)}
    assert len({str(values) for values in alone.values()}) == len(alone)
    loads.clear()

    model: HuggingFace | None = None
    for name in (*KINDS, None, "bias", "modules", "small", None):
        model = make(folder, name, model)
        assert answers(model) == alone[name], name

    assert loads == [str(folder / "base")]


@pytest.mark.parametrize("name", ["small", "large", "dora", "modules"])
def test_merged_and_unmerged_agree(folder: Path, tmp_path: Path, name: str) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    shutil.copytree(folder / "base", tmp_path / "merged")
    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder / "base"), folder / name)
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    merged = HuggingFace.create(
        {"pretrained": str(tmp_path / "merged"), "dtype": "float32"}, ModelOptions(device="cpu")
    )
    merged.prepare()
    merged.load()
    for one, other in zip(answers(merged), answers(make(folder, name)), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_an_adapter_on_a_base_of_four_bits(tmp_path: Path) -> None:
    """QLoRA: the base is quantised while it loads, the adapter is not; scores are near those of the whole base."""
    pytest.importorskip("bitsandbytes")
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    base = tiny_causal_lm(tmp_path / "base", hidden=128)
    torch.manual_seed(0)
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj", "o_proj"], init_lora_weights=False)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), settings).save_pretrained(tmp_path / "small")

    def scores(**args: Any) -> list[float]:
        model = HuggingFace.create({"pretrained": str(base), "dtype": "float32", **args}, ModelOptions(device="cpu"))
        model.prepare()
        model.load()
        return [value for row in answers(model) for value in row]

    def distance(one: list[float], other: list[float]) -> float:
        return sum(abs(a - b) for a, b in zip(one, other, strict=True))

    adapter = {"peft": str(tmp_path / "small")}
    quantised, whole = scores(load_in_4bit=True, **adapter), scores(**adapter)
    assert 0 < distance(quantised, whole) < distance(scores(load_in_4bit=True), whole)


def test_weights_that_were_changed_for_good_are_loaded_again(
    folder: Path, loads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    import torch

    expected = answers(make(folder, "large"))
    model = make(folder, "small")
    with torch.no_grad():
        model.module.model.layers[0].mlp.down_proj.weight[0, 0] += 1e-6
    loads.clear()

    assert answers(make(folder, "large", model)) == expected
    assert len(loads) == 1
    assert "the last adapter changed weights" in caplog.text


def test_another_base_is_loaded(folder: Path, tmp_path: Path, loads: list[str]) -> None:
    other = tiny_causal_lm(tmp_path / "other", seed=1)
    model = make(folder, "small")
    successor = HuggingFace.create({"pretrained": str(other)}, ModelOptions(device="cpu"))
    successor.prepare()
    loads.clear()

    successor.take_over(model)
    model.close()
    successor.load()

    assert loads == [str(other)]


def test_workers_keep_the_base_too(folder: Path) -> None:
    import psutil

    first = make(folder, "small", device="cpu:0,1")
    assert first._pool is not None
    pids = [worker.process.pid for worker in first._pool._workers]
    try:
        second = make(folder, "modules", first, device="cpu:0,1")
        found = answers(second)
        assert all(psutil.pid_exists(pid) for pid in pids)
        assert second._pool is not None
        assert [worker.process.pid for worker in second._pool._workers] == pids
    finally:
        second.close()

    for one, other in zip(found, answers(make(folder, "modules")), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def command(folder: Path, output: Path, *more: str) -> Sequence[str]:
    args = f"pretrained={folder / 'base'},dtype=float32"
    start = ("--tasks", "demo_choice_zh", "--limit", "2", "--device", "cpu", "--output", str(output))
    return (*start, "--model", "hf", "--model_args", args, *more)


def test_one_command_measures_all_and_each_run_is_what_it_would_be_alone(
    folder: Path, tmp_path: Path, loads: list[str]
) -> None:
    adapters = [str(folder / name) for name in ("small", "large")]

    done = run_harness(*command(folder, tmp_path, "--peft", "none", *adapters))

    assert done.exit_code == 0, done.stderr
    assert len(loads) == 1
    assert len(list(tmp_path.iterdir())) == 3
    together = done.stdout.partition("task, metric, model")[2]
    assert [line.split()[0] for line in together.splitlines()[1:5]] == ["demo_choice_zh,", "no", "small", "large"]

    loads.clear()
    args = {"pretrained": str(folder / "base"), "dtype": "float32", "peft": adapters[1]}
    alone = evaluate("hf", args, ["demo_choice_zh"], limit=2, device="cpu", output=str(tmp_path))
    assert loads == []  # its answers were found
    assert "large" in alone.path.name
    assert len(list(tmp_path.iterdir())) == 3

    again = run_harness(*command(folder, tmp_path, "--peft", adapters[0], "--peft", adapters[1]))
    assert (again.exit_code, loads) == (0, [])


def test_what_is_wrong_with_any_adapter_is_said_before_anything_runs(
    folder: Path, tmp_path: Path, loads: list[str]
) -> None:
    good, missing, empty = str(folder / "small"), str(folder / "none-such"), tmp_path / "empty"
    empty.mkdir()
    foreign = shutil.copytree(folder / "small", tmp_path / "foreign")
    config = json.loads((foreign / "adapter_config.json").read_text())
    (foreign / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "some/other-base"}))
    output = tmp_path / "runs"
    for wrong, reason in (
        (missing, "there is no such folder"),
        (str(empty), "has no adapter_config.json"),
        (str(foreign), "was trained on 'some/other-base'"),
    ):
        done = run_harness(*command(folder, output, "--peft", good, wrong))
        assert done.exit_code == 4
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert f"--model_args: peft={wrong}" in line and reason in line
    assert not output.exists() and loads == []


def test_an_adapter_is_named_once(folder: Path, tmp_path: Path) -> None:
    wrong = run_harness(*command(folder, tmp_path, "--peft", "a", "--model_args", "peft=b"))
    assert "--peft: --model_args names an adapter too" in wrong.stderr


def test_the_strength_of_an_adapter_is_part_of_its_identity(folder: Path, tmp_path: Path) -> None:
    stronger = shutil.copytree(folder / "small", tmp_path / "small")
    config = json.loads((stronger / "adapter_config.json").read_text())
    (stronger / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 2 * config["lora_alpha"]}))

    def identity(peft: Path) -> Any:
        model = HuggingFace.create({"pretrained": str(folder / "base"), "peft": str(peft)}, ModelOptions(device="cpu"))
        model.prepare()
        return model.identity

    assert identity(stronger) != identity(folder / "small")


def test_several_models_from_python(tmp_path: Path) -> None:
    results = evaluate_each("dummy", [{"mode": "gold"}, {"mode": "random"}], ["demo_choice_zh"], output=str(tmp_path))

    assert results[0].report["tasks"][0]["metrics"][0]["value"] == 1.0
    assert results[0].path != results[1].path


def test_a_wrong_argument_of_one_model_stops_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes no argument 'mod'"):
        evaluate_each("dummy", [{"mode": "gold"}, {"mod": "gold"}], ["demo_choice_zh"], output=str(tmp_path))
    assert not list(tmp_path.iterdir())
