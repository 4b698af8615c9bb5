"""The callback: training is as without it, and its scores are those of the saved checkpoint."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness import UsageError
from harness.testing import tiny_causal_lm

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

STEPS = 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("model") / "tiny", attention_dropout=0.1)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tasks")
    rows = "".join(f'{{"q": "{n} plus {n} makes", "a": ["{2 * n}", "{n}"]}}\n' for n in range(12))
    (folder / "rows.jsonl").write_text(rows, encoding="utf-8")
    task = "dataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: q\n"
    scored = "output_type: multiple_choice\ndoc_to_choice: a\ndoc_to_target: 0\nmetric_list: [{metric: acc}]\n"
    written = "output_type: generate_until\ndoc_to_target: '{{ a[0] }}'\ngeneration_kwargs: {max_gen_toks: 8}\n"
    (folder / "scored.yaml").write_text("task: scored\n" + task + scored, encoding="utf-8")
    (folder / "written.yaml").write_text("task: written\n" + task + written, encoding="utf-8")
    return [str(folder / "scored.yaml"), str(folder / "written.yaml")]


def trainer(checkpoint: Path, output: Path, callbacks: list[Any], model: Any = None, **options: Any) -> Any:
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(3)
    family: Any = AutoModelForCausalLM
    model, tokenizer = model or family.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    rows = [tokenizer(f"{a} plus {b} makes {a + b}") for a in range(4) for b in range(4)]
    data = Dataset.from_list([{**row, "labels": row["input_ids"]} for row in rows])
    given: dict[str, Any] = {
        **dict.fromkeys(("eval_strategy", "save_strategy"), "steps"),
        "eval_steps": 2,
        "save_steps": 2,
        "logging_steps": 1,
        "max_steps": STEPS,
        "per_device_train_batch_size": 2,
        "report_to": [],
        "use_cpu": True,
        "learning_rate": 1e-2,
        "seed": 3,
        "disable_tqdm": True,
    }
    arguments = TrainingArguments(str(output), **{**given, **options})
    collator = DataCollatorForSeq2Seq(tokenizer, model)
    return Trainer(
        model,
        arguments,
        train_dataset=data,
        eval_dataset=data.select(range(4)),
        processing_class=tokenizer,
        data_collator=collator,
        callbacks=callbacks,
    )


def logged(trained: Any, name: str) -> list[tuple[int, float]]:
    return [(entry["step"], entry[name]) for entry in trained.state.log_history if name in entry]


def same_weights(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def answered(run: Any) -> list[Any]:
    return [(r.task, r.id, a.text, a.logprobs) for r in run for a in r.responses]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tasks": "demo_chioce_zh"}, "demo_chioce_zh"),
        ({"tasks": "demo_choice_zh", "when": "sometimes"}, "when: should be 'evaluate', 'save' or a number of steps"),
        ({"tasks": "demo_choice_zh", "when": 0}, "when: should be"),
        ({"tasks": "demo_choice_zh", "limits": 3}, "takes no parameter 'limits'"),
        ({"tasks": "demo_choice_zh", "model": "hf"}, "takes no 'model'"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_is_refused_before_training(given: dict[str, Any], message: str) -> None:
    from harness.training import HarnessCallback

    with pytest.raises(UsageError, match=message):
        HarnessCallback(**given)


@pytest.mark.slow
@pytest.mark.parametrize("mixed", [{}, {"bf16": True, "gradient_checkpointing": True}], ids=["float32", "mixed"])
def test_training_ends_in_the_same_weights_and_scores_are_those_of_the_checkpoints(
    mixed: dict[str, Any], checkpoint: Path, tasks: list[str], tmp_path: Path
) -> None:
    from transformers import EarlyStoppingCallback

    from harness.training import HarnessCallback

    without = trainer(checkpoint, tmp_path / "without", [], **mixed)
    without.train()
    best = {"metric_for_best_model": "scored_acc", "greater_is_better": True, "load_best_model_at_end": True, **mixed}
    with_it = trainer(checkpoint, tmp_path / "with", [EarlyStoppingCallback(9), HarnessCallback(tasks)], **best)
    with_it.train()
    with_it_last = type(with_it.model).from_pretrained(tmp_path / "with" / f"checkpoint-{STEPS}")
    assert same_weights(without.model, with_it_last)
    found = logged(with_it, "eval_scored_acc")
    assert [step for step, _ in found] == [2, 4] == [step for step, _ in logged(with_it, "eval_scored_acc_stderr")]
    assert with_it.state.best_metric == max(value for _, value in found)
    for step, value in found:
        stored = {"pretrained": str(tmp_path / "with" / f"checkpoint-{step}")}
        result = harness.evaluate("hf", stored, tasks, output=tmp_path / "runs")
        assert result.report["tasks"][0]["metrics"][0]["value"] == pytest.approx(value, abs=1e-6)
        (run,) = (tmp_path / "with" / "harness").glob(f"*-step-{step}-*")
        for mine, theirs in zip(answered(harness.load_run(run).records()), answered(result.samples()), strict=True):
            assert mine[:3] == theirs[:3]
            assert mine[3] == pytest.approx(theirs[3], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("when", "steps"), [("save", [2, 4]), (3, [3])])
def test_it_measures_when_it_is_asked_to(
    when: Any, steps: list[int], checkpoint: Path, tasks: list[str], tmp_path: Path
) -> None:
    from harness.training import HarnessCallback

    trained = trainer(
        checkpoint,
        tmp_path / "out",
        [HarnessCallback(tasks[0], when=when, output=tmp_path / "runs")],
        eval_strategy="no",
    )
    trained.train()
    assert [step for step, _ in logged(trained, "eval_scored_acc")] == steps
    assert len(list((tmp_path / "runs").iterdir())) == len(steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "options", "remedy"),
    [
        ("evaluate", {"eval_strategy": "no"}, "set eval_strategy, or give when='save' or when=STEPS"),
        ("save", {"save_strategy": "no"}, "set save_strategy, or give when=STEPS"),
        (9, {}, "the training has 4"),
        (2, {"eval_strategy": "no", "save_strategy": "no"}, ""),
    ],
)
def test_a_training_in_which_nothing_would_be_measured_says_so(
    when: Any, options: dict[str, Any], remedy: str, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from harness.training import HarnessCallback

    callback = HarnessCallback("demo_choice_zh", when=when, limit=1)
    with caplog.at_level(logging.WARNING, logger="harness.training"):
        trainer(checkpoint, tmp_path, [callback], **options).train()
    told = [record.getMessage() for record in caplog.records if record.name == "harness.training"]
    assert len(told) == bool(remedy) and all("NOTHING WILL BE MEASURED" in text and remedy in text for text in told)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def respond(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    from harness.engine.live import LiveModel

    monkeypatch.setattr(LiveModel, "respond", respond)
    yield


@pytest.mark.slow
@pytest.mark.usefixtures("no_memory")
def test_a_failure_is_told_once_and_training_goes_on(
    checkpoint: Path, tasks: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import EarlyStoppingCallback

    from harness.training import HarnessCallback

    without = trainer(checkpoint, tmp_path / "without", [])
    without.train()
    callbacks = [EarlyStoppingCallback(9), HarnessCallback(tasks)]
    best = {"metric_for_best_model": "scored_acc", "greater_is_better": True, "load_best_model_at_end": True}
    trained = trainer(checkpoint, tmp_path / "with", callbacks, **best)
    with caplog.at_level(logging.ERROR, logger="harness.training"):
        trained.train()
    assert trained.state.global_step == STEPS
    assert same_weights(without.model, trained.model)
    assert not logged(trained, "eval_scored_acc")
    (told,) = [record.getMessage() for record in caplog.records if record.name == "harness.training"]
    assert told.startswith("THE MEASUREMENT AT STEP 2 FAILED") and "out of memory" in told


@pytest.mark.slow
@pytest.mark.usefixtures("no_memory")
def test_a_failure_stops_training_where_that_is_asked(checkpoint: Path, tasks: list[str], tmp_path: Path) -> None:
    from harness.training import HarnessCallback, MeasurementFailed

    trained = trainer(checkpoint, tmp_path / "with", [HarnessCallback(tasks, stop_on_failure=True)])
    with pytest.raises(MeasurementFailed, match=r"at step 2 failed: .*out of memory"):
        trained.train()
    assert trained.state.global_step == 2


ZERO_3 = {
    "train_micro_batch_size_per_gpu": "auto",
    "zero_optimization": {
        "stage": 3,
        "stage3_gather_16bit_weights_on_model_save": True,
        "stage3_param_persistence_threshold": 100,  # so that small weights are cut too
    },
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}

TWO_RANKS = """
import contextlib, json, os, sys
from pathlib import Path
import torch
from test_training import logged, trainer
import harness.engine.limits
from harness.engine import live
from harness.training import HarnessCallback

checkpoint, output, use, sharding, *tasks = sys.argv[1:]
computed = []
run = live.LiveModel.run_sequences
def counted(self, scores, generations):
    computed.extend([*scores, *generations])
    return run(self, scores, generations)
live.LiveModel.run_sequences = counted
live.LiveModel.limits = harness.engine.limits.EngineLimits(work_item=8)
callbacks = [HarnessCallback(tasks)] if use == "1" else []
options = {"deepspeed": json.loads(sharding)} if json.loads(sharding) else {"ddp_backend": "gloo"}
trained = trainer(Path(checkpoint), Path(output), callbacks, per_device_train_batch_size=1, **options)
trained.train()
rank = os.environ["RANK"]
whole = contextlib.nullcontext()
if "deepspeed" in options:
    import deepspeed
    whole = deepspeed.zero.GatheredParameters(list(trained.model.parameters()))
with whole:
    torch.save(trained.model.state_dict(), Path(output) / f"weights-{rank}.pt")
found = {"computed": len(computed), "acc": logged(trained, "eval_scored_acc")}
(Path(output) / f"found-{rank}.json").write_text(json.dumps(found))
"""


def on_two_ranks(script: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    compiled = {"DS_ACCELERATOR": "cpu", "TORCH_EXTENSIONS_DIR": str(Path.home() / ".cache" / "torch_extensions")}
    environment = {**os.environ, **compiled, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [{}, ZERO_3], ids=["DDP", "ZeRO-3"])
def test_two_processes_share_the_work_and_train_as_without(
    sharding: dict[str, Any], checkpoint: Path, tasks: list[str], tmp_path: Path
) -> None:
    if sharding:
        pytest.importorskip("deepspeed")
    script = tmp_path / "train.py"
    script.write_text(TWO_RANKS, encoding="utf-8")
    on_two_ranks(script, str(checkpoint), str(tmp_path / "with"), "1", json.dumps(sharding), *tasks)
    on_two_ranks(script, str(checkpoint), str(tmp_path / "without"), "0", json.dumps(sharding), *tasks)
    for rank in "01":
        mine, theirs = (torch.load(tmp_path / name / f"weights-{rank}.pt") for name in ("with", "without"))
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    found = [json.loads((tmp_path / "with" / f"found-{rank}.json").read_text()) for rank in "01"]
    assert found[0]["acc"] == found[1]["acc"] and [step for step, _ in found[0]["acc"]] == [2, 4]
    assert all(each["computed"] > 0 for each in found)
    stored = {"pretrained": str(tmp_path / "with" / f"checkpoint-{STEPS}")}
    result = harness.evaluate("hf", stored, tasks, output=tmp_path / "runs")
    (run,) = (tmp_path / "with" / "harness").glob(f"*-step-{STEPS}-*")
    for mine, theirs in zip(answered(harness.load_run(run).records()), answered(result.samples()), strict=True):
        assert mine[:3] == theirs[:3]
        # To the last bits of float32: passes of other shapes add up in another order.
        assert mine[3] == pytest.approx(theirs[3], rel=4e-7, abs=1e-6)


SHARDED = """
import json, os, sys
from pathlib import Path
import torch
from torch import distributed
from transformers import AutoModelForCausalLM, AutoTokenizer
import harness.engine.limits
from harness.api import named_model, spec_of
from harness.engine.live import LiveModel, as_found, whole_weights, why_sharded
from harness.engine.ranks import Ranks
from harness.registry import load_plugins
from harness.run.prepare import create_model
from harness.run.runner import run

kind, checkpoint, output, *tasks = sys.argv[2:]
distributed.init_process_group("gloo")
LiveModel.limits = harness.engine.limits.EngineLimits(work_item=8)
model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
if kind == "FSDP2":
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
else:
    from torch.distributed.fsdp import FullyShardedDataParallel
    options = {"use_orig_params": True, "device_id": torch.device("cpu")}
    for number, layer in enumerate(model.model.layers):
        model.model.layers[number] = FullyShardedDataParallel(layer, **options)
    model = FullyShardedDataParallel(model, **options)
assert why_sharded(model) == kind
ids = torch.tensor([[1, 2, 3, 4]])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
ranks = Ranks()
for step in range(3):
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(float(loss))
    if step == 0 and output != "-":
        with as_found(model, tokenizer), whole_weights(model):
            registry = load_plugins()
            name = named_model(LiveModel.of(model, tokenizer, ranks), None, registry)
            spec = spec_of({"model": name, "model_args": None, "tasks": tasks, "output": output})
            if ranks.leads:
                try:
                    run(spec, registry)
                finally:
                    ranks.tell(("done",))
            else:
                ranks.serve(create_model(spec, registry))
if ranks.leads:
    Path(sys.argv[1]).write_text(json.dumps(losses))
distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FSDP", "FSDP2"])
def test_weights_that_are_cut_over_processes_are_measured_whole_and_cut_again(
    kind: str, checkpoint: Path, tasks: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SHARDED, encoding="utf-8")
    for name in ("-", "runs"):
        output = name if name == "-" else str(tmp_path / name)
        on_two_ranks(script, str(tmp_path / f"losses{name}"), kind, str(checkpoint), output, *tasks)
    assert (tmp_path / "losses-").read_text() == (tmp_path / "lossesruns").read_text()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    family: Any = AutoModelForCausalLM
    model, tokenizer = family.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    ids = torch.tensor([[1, 2, 3, 4]])
    model(input_ids=ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    alone = harness.evaluate(model, tokenizer=tokenizer, tasks=tasks, output=tmp_path / "alone")
    (run,) = (tmp_path / "runs").iterdir()
    for mine, theirs in zip(answered(harness.load_run(run).records()), answered(alone.samples()), strict=True):
        assert mine[:3] == theirs[:3]
        assert mine[3] == pytest.approx(theirs[3], abs=1e-4)


def preference_trainer(kind: str, adapted: bool, checkpoint: Path, output: Path, callbacks: list[Any]) -> Any:
    """A trainer of TRL over a few sums, right and wrong ones."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    set_seed(3)
    family: Any = AutoModelForCausalLM
    model, tokenizer = family.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    sums = [(f"{a} plus {b} makes", f" {a + b}", f" {a + b + 1}") for a in range(4) for b in range(4)]
    pairs = [{"prompt": p, "chosen": c, "rejected": r} for p, c, r in sums]
    rows: dict[str, list[dict[str, Any]]] = {
        "SFT": [{"text": p + c} for p, c, _ in sums],
        "DPO": pairs,
        "CPO": pairs,
        "KTO": [{"prompt": p, "completion": c, "label": n % 2 == 0} for n, (p, c, _) in enumerate(sums)],
        "GRPO": [{"prompt": p} for p, _, _ in sums],
    }
    extra: dict[str, dict[str, Any]] = {
        "CPO": {"loss_type": "simpo", "cpo_alpha": 0.0},
        "GRPO": {"num_generations": 4, "max_completion_length": 8},
    }
    data = Dataset.from_list(rows[kind])
    package = trl if hasattr(trl, f"{kind}Trainer") else __import__(f"trl.experimental.{kind.lower()}", fromlist=["*"])
    arguments = getattr(package, f"{kind}Config")(
        output_dir=str(output),
        max_steps=2,
        eval_strategy="steps",
        eval_steps=1,
        logging_steps=1,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=4,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        bf16=False,
        seed=3,
        disable_tqdm=True,
        learning_rate=1e-2,
        **extra.get(kind, {}),
    )
    given: dict[str, Any] = {"peft_config": LoraConfig(r=4, target_modules="all-linear")} if adapted else {}
    if kind == "GRPO":
        given["reward_funcs"] = lambda completions, **_: [float(len(each)) for each in completions]
    return getattr(package, f"{kind}Trainer")(
        model=model,
        args=arguments,
        train_dataset=data,
        eval_dataset=data.select(range(4)),
        processing_class=tokenizer,
        callbacks=callbacks,
        **given,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("kind", ["SFT", "DPO", "KTO", "CPO", "GRPO"])
def test_trainers_of_preferences_train_as_without_it(
    kind: str, adapted: bool, checkpoint: Path, tasks: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    from harness.training import HarnessCallback

    without = preference_trainer(kind, adapted, checkpoint, tmp_path / "without", [])
    without.train()
    trained = preference_trainer(kind, adapted, checkpoint, tmp_path / "with", [HarnessCallback(tasks, limit=4)])
    trained.train()
    assert same_weights(without.model, trained.model)
    assert [step for step, _ in logged(trained, "eval_scored_acc")] == [1, 2]

    def of_training(entry: dict[str, Any]) -> dict[str, Any]:
        timed = ("runtime", "per_second", "time", "flos")
        return {name: value for name, value in entry.items() if not any(part in name for part in timed)}

    others = [entry for entry in trained.state.log_history if "eval_scored_acc" not in entry]
    assert [of_training(entry) for entry in others] == [of_training(each) for each in without.state.log_history]
