"""From a base model to one that may ship, each step measured:

    python my_training_loop.py                # the demo model, on the CPU, in about two minutes
    python my_training_loop.py --judge openai,model=JUDGE,base_url=URL

LoRA fine-tuning, compared with the base; DPO on preferences, judged; the gate; export, merged and quantised to four
bits; and the gate again, the quantised model against the full one. Exit code 1: a gate stopped it.

Take your own model with --model, and put your own rows and tasks in the place of `write_rows` and the two task files.
It needs 'harness-eval[peft,training]'. The last step is done by bitsandbytes, and by GPTQ with gptqmodel and optimum,
whichever are installed. Where TRL is, its trainers do the training.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed

import harness
from harness_plugins.models.demo import WEIGHTS

HERE = Path(__file__).parent
SUMS, PAIRS, POLICY = (HERE / f"my_training_loop_{name}.yaml" for name in ("sums", "pairs", "policy"))
POLITE = (" You are welcome.", " Thank you for asking.", " Have a good day.", " It was a pleasure.")
RUDE = (" Now go away.", " Do not ask again.", " Count it yourself.", " What a silly sum.")
BETA = 0.1


def write_rows(rng: Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Writes the rows of both tasks beside them, and gives those of training: (sums with an answer, pairs)."""
    numbers = [(a, b) for a in range(2, 50) for b in range(2, 50)]
    rng.shuffle(numbers)
    sums: list[dict[str, Any]] = []
    for a, b in numbers:
        row = {"prompt": f"The sum of {a} + {b} is", "answer": str(a + b)}
        polite, rude = (f" {a + b}.{rng.choice(words)}" for words in (POLITE, RUDE))
        sums.append({**row, "completion": rng.choice((polite, rude)), "chosen": polite, "rejected": rude})
    for file, columns in ((SUMS, ("prompt", "answer")), (PAIRS, ("prompt", "chosen", "rejected"))):
        lines = [json.dumps({name: row[name] for name in columns}) for row in sums[:200]]
        file.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sums[200:], sums[200:]


class TrainingRows(torch.utils.data.Dataset[dict[str, Any]]):
    """Texts as token ids and labels; labels are -100 where nothing is learnt. fields: the completions of a row."""

    def __init__(self, rows: list[dict[str, Any]], tokenizer: Any, *fields: str) -> None:
        self.rows, self.tokenizer, self.fields = rows, tokenizer, fields

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        row, found = self.rows[place], []
        start = self.tokenizer(row["prompt"])["input_ids"]
        for field in self.fields:
            end = self.tokenizer(row[field] + "\n")["input_ids"]
            found.append((torch.tensor(start + end), torch.tensor([-100] * len(start) + end)))
        return {"texts": found}


def batch_of(items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """All first completions, then all second ones."""
    texts = [each["texts"][place] for place in range(len(items[0]["texts"])) for each in items]
    ids = pad_sequence([ids for ids, _ in texts], batch_first=True)
    labels = pad_sequence([labels for _, labels in texts], batch_first=True, padding_value=-100)
    mask = pad_sequence([torch.ones_like(ids) for ids, _ in texts], batch_first=True)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class DPOTrainer(Trainer):
    """Direct preference optimisation (Rafailov et al. 2023, equation 7), where TRL is not installed.

    The reference is the model without its adapter.
    """

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **given: Any) -> Any:
        policy = completion_logprobs(model, inputs)
        with torch.no_grad(), model.disable_adapter():
            reference = completion_logprobs(model, inputs)
        chosen, rejected = (policy - reference).chunk(2)
        return -logsigmoid(BETA * (chosen - rejected)).mean()


def completion_logprobs(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """log π(completion | prompt) of each text, shape [texts]."""
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
    labels = inputs["labels"][:, 1:]
    found = logits.log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return (found * (labels != -100)).sum(1)


def train(kind: type[Trainer], base: Path, rows: TrainingRows, out: Path, steps: int, rate: float) -> Path:
    """Trains an adapter on the base. Gives the folder of both merged; the adapter itself is in `adapter` beside it."""
    set_seed(1)
    family: Any = AutoModelForCausalLM
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(family.from_pretrained(base, dtype=torch.float32), config)
    settings: dict[str, Any] = {
        "output_dir": str(out), "max_steps": steps, "per_device_train_batch_size": 32, "learning_rate": rate,
        "lr_scheduler_type": "cosine", "logging_steps": max(1, steps // 4), "save_strategy": "no", "report_to": [],
        "use_cpu": True,
    }  # fmt: skip
    if importlib.util.find_spec("trl"):
        trainer = trl_trainer(kind is DPOTrainer, model, rows, settings)
    else:
        arguments = TrainingArguments(**settings, remove_unused_columns=False)
        trainer = kind(model, arguments, train_dataset=rows, data_collator=batch_of)
    trainer.train()
    model.save_pretrained(str(out / "adapter"))
    model.merge_and_unload().save_pretrained(out / "merged")
    rows.tokenizer.save_pretrained(out / "merged")
    return out / "merged"


def trl_trainer(prefers: bool, model: Any, rows: TrainingRows, settings: dict[str, Any]) -> Any:
    """TRL's trainer of these rows: its SFTTrainer, or its DPOTrainer, whose reference is the model without adapter."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    data = Dataset.from_list([{name: row[name] for name in ("prompt", *rows.fields)} for row in rows.rows])
    given = {"model": model, "train_dataset": data, "processing_class": rows.tokenizer}
    settings = {**settings, "bf16": False, "gradient_checkpointing": False}
    if prefers:
        return DPOTrainer(args=DPOConfig(**settings, beta=BETA), **given)
    return SFTTrainer(args=SFTConfig(**settings), **given)


def export_gptq(model: Path, texts: list[str], out: Path) -> Path:
    """Four bits by GPTQ (Frantar et al. 2023), which keeps the errors on these texts small. Gives the folder."""
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # it does not start with fewer
    from gptqmodel import GPTQModel, QuantizeConfig

    device = "cuda" if torch.cuda.is_available() else "cpu"
    quantised = GPTQModel.load(str(model), QuantizeConfig(bits=4, group_size=32), device=device)
    quantised.quantize(texts[:256], batch_size=8)
    quantised.save(str(out))
    return out


def measure(name: str, runs: Path, *, tasks: tuple[Path, ...] = (SUMS, PAIRS), **model: Any) -> Path:
    """Evaluates a model: `pretrained`, and where there is one the `peft` on it. Gives the folder of its run."""
    args = {key: str(value) if isinstance(value, Path) else value for key, value in model.items()}
    result = harness.evaluate("hf", args, tasks, output=runs, name=name, device="cpu")
    return result.path


def command(*words: object) -> int:
    """`harness WORDS`, shown and run."""
    print(f"\n$ harness {' '.join(map(str, words))}", flush=True)
    return subprocess.run([sys.executable, "-m", "harness", *map(str, words)]).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=WEIGHTS)
    parser.add_argument("--out", type=Path, default=HERE / "out")
    parser.add_argument("--judge", default="dummy", help="as of `harness judge`; dummy decides nothing")
    parser.add_argument("--steps", type=int, nargs=2, default=(100, 12), metavar=("SFT", "DPO"))
    asked = parser.parse_args()
    runs, tokenizer = asked.out / "runs", AutoTokenizer.from_pretrained(asked.model)
    sums, pairs = write_rows(Random(1))

    # 1. Fine-tune; is the adapter better than its base, beyond chance?
    tuned = train(
        Trainer, asked.model, TrainingRows(sums, tokenizer, "completion"), asked.out / "sft", asked.steps[0], 3e-3
    )
    base = measure("base", runs, pretrained=asked.model)
    sft = measure("sft", runs, pretrained=asked.model, peft=asked.out / "sft" / "adapter")
    command("compare", base, sft)

    # 2. Prefer; did the rewards of the pairs move, and does a judge like the answers more?
    both = TrainingRows(pairs, tokenizer, "chosen", "rejected")
    final = train(DPOTrainer, tuned, both, asked.out / "dpo", asked.steps[1], 3e-4)
    dpo = measure("dpo", runs, pretrained=tuned, peft=asked.out / "dpo" / "adapter")
    command("compare", sft, dpo)
    implicit = HERE / "my_training_loop_implicit.yaml"  # the same pairs, by DPO's reward, which needs the reference
    metrics = [
        {"metric": name, "beta": BETA, "reference": str(sft.resolve())} for name in ("reward_accuracy", "reward_margin")
    ]
    implicit.write_text(f"include: {PAIRS.name}\nmetric_list: {json.dumps(metrics)}\n", encoding="utf-8")
    command("report", measure("dpo-implicit", runs, tasks=(implicit,), pretrained=final))
    command("judge", sft, dpo, "--rubric", "preference_en", "--tasks", "my_training_loop_sums", "--judge", asked.judge)

    # 3. May it take the place of what is there? And what is exported, the place of what was trained?
    stopped = command("gate", "--baseline", sft, "--current", dpo, "--policy", POLICY)
    exported = measure("merged", runs, pretrained=final)
    stopped |= command("gate", "--baseline", dpo, "--current", exported, "--policy", POLICY)
    quantised: list[Path] = []
    if all(map(importlib.util.find_spec, ("gptqmodel", "optimum"))):
        gptq = export_gptq(final, [row["prompt"] + row["chosen"] for row in pairs], asked.out / "gptq")
        quantised.append(measure("gptq", runs, pretrained=gptq))
    if importlib.util.find_spec("bitsandbytes"):
        quantised.append(measure("4bit", runs, pretrained=final, load_in_4bit=True))
    if not quantised:
        print("\nneither gptqmodel (with optimum) nor bitsandbytes is installed: nothing is quantised")
    for run in quantised:
        stopped |= command("gate", "--baseline", exported, "--current", run, "--policy", POLICY, "--explain")
    return int(stopped != 0)


if __name__ == "__main__":
    sys.exit(main())
