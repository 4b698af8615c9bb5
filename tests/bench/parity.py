"""Compare this harness with lm-evaluation-harness (lm-eval), sample by sample, on one model and the same rows.

    python tests/bench/parity.py --data MIRROR [--peer-python PYTHON] [--limit 20]

MIRROR is a folder laid out as `--data` wants it, with ceval/ceval-exam, haonan-li/cmmlu, openai/gsm8k and
hfl/cmrc2018. lm-eval is installed into a virtual environment of its own, unless --peer-python names one that has it.
The model is a small random Qwen2 made on the spot. Exits 1 when anything differs.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy

import harness
from harness.testing import tiny_causal_lm

TOLERANCE = 1e-4
CEVAL = ("law", "computer_network", "high_school_chemistry", "art_studies")
CMMLU = ("agronomy", "college_law", "chinese_literature", "high_school_physics")
ROLLING = """\
task: rolling_text
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - metric: byte_perplexity
  - metric: bits_per_byte
"""
PEER = """\
import json, pathlib, sys, yaml
import lm_eval, lm_eval.tasks
work, model, limit = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
shipped = pathlib.Path(lm_eval.tasks.__file__).parent
for task in json.loads((work / "peer_tasks.json").read_text()):
    loader = lm_eval.tasks._yaml_loader.load_yaml
    config = dict(loader(shipped / task["file"], resolve_func=False))
    config.update(task["overrides"]); config.pop("dataset_name", None); config.pop("tag", None)
    (work / "peer" / (task["overrides"]["task"] + ".yaml")).write_text(yaml.safe_dump(config, allow_unicode=True))
manager = lm_eval.tasks.TaskManager(include_path=str(work / "peer"), include_defaults=False)
out = {}
for shots, names in json.loads((work / "peer_names.json").read_text()):
    done = lm_eval.simple_evaluate(model="hf", model_args={"pretrained": model, "dtype": "float32"}, tasks=names,
        num_fewshot=shots, batch_size=8, device="cpu", limit=limit, log_samples=True, task_manager=manager,
        gen_kwargs={"max_gen_toks": 48} if "peer_gsm8k" in names else None, bootstrap_iters=0)
    for name in names:
        out[name] = {"samples": done["samples"][name], "results": done["results"][name]}
(work / "peer.json").write_text(json.dumps(out, default=str))
"""


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = work / "model"
        tiny_causal_lm(model, architecture="qwen2", vocab_size=4096, hidden=64)
        write_peer_tasks(work, arguments.data)
        peer = run_peer(work, model, arguments)
        rows = [
            compare(name, peer[peer_name], records) for name, peer_name, records in run_ours(work, model, arguments)
        ]
    print_table(rows)
    return 1 if any(row["differences"] for row in rows) else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer-python", type=Path)
    parser.add_argument("--limit", type=int, default=20)
    return parser.parse_args()


def write_peer_tasks(work: Path, data: Path) -> None:
    """Point lm-eval's own task files at the rows of the mirror, as jsonl of strings: no loader guesses a type."""
    (work / "peer").mkdir()
    tasks, choice_names = [], []
    for subject in CEVAL:
        source = data / "ceval/ceval-exam" / subject
        files = {split: to_jsonl(source / f"{split}.csv", work) for split in ("dev", "val")}
        tasks.append(peer_task(f"ceval/ceval-valid_{subject}.yaml", f"peer_ceval_{subject}", files))
    for subject in CMMLU:
        source = data / "haonan-li/cmmlu" / subject
        files = {split: to_jsonl(source / f"{split}.csv", work) for split in ("dev", "test")}
        tasks.append(peer_task(f"cmmlu/cmmlu_{subject}.yaml", f"peer_cmmlu_{subject}", files))
    choice_names = [task["overrides"]["task"] for task in tasks]
    gsm8k = {split: str((data / f"openai/gsm8k/main/{split}.jsonl").resolve()) for split in ("train", "test")}
    tasks.append(peer_task("gsm8k/gsm8k.yaml", "peer_gsm8k", gsm8k))
    # Each harness draws random examples in its own way; the first five are the same for both.
    tasks[-1]["overrides"]["fewshot_config"] = {"sampler": "first_n"}
    rows = write_rows(
        work / "rolling.jsonl", ({"text": text} for text in contexts(data / "hfl/cmrc2018/trial.squad.json"))
    )
    (work / "peer" / "rolling_text.yaml").write_text(ROLLING.replace("ROWS", rows), encoding="utf-8")
    (work / "peer_tasks.json").write_text(json.dumps(tasks))
    (work / "peer_names.json").write_text(json.dumps([(5, [*choice_names, "peer_gsm8k"]), (0, ["rolling_text"])]))


def peer_task(file: str, name: str, files: dict[str, str]) -> dict[str, Any]:
    return {
        "file": file,
        "overrides": {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}},
    }


def to_jsonl(path: Path, work: Path) -> str:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        return write_rows(work / f"{path.parent.name}_{path.stem}.jsonl", csv.DictReader(handle))


def write_rows(path: Path, rows: Any) -> str:
    with path.open("w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return str(path)


def contexts(path: Path) -> Iterator[str]:
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        yield from (paragraph["context"] for paragraph in article["paragraphs"])


def run_peer(work: Path, model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    python = arguments.peer_python or make_peer(work / "peer_venv")
    (work / "run_peer.py").write_text(PEER, encoding="utf-8")
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(work / "hf"),
        "PATH": "/usr/bin:/bin",
    }
    command = [str(python), str(work / "run_peer.py"), str(work), str(model), str(arguments.limit)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"lm-eval failed:\n{done.stderr[-4000:]}")
    return json.loads((work / "peer.json").read_text())


def make_peer(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    for need in ("torch==2.13.0", "lm-eval[hf]"):
        subprocess.run([str(folder / "bin/pip"), "install", "-q", need], check=True)
    return folder / "bin/python"


def run_ours(work: Path, model: Path, arguments: argparse.Namespace) -> Iterator[tuple[str, str, list[harness.Record]]]:
    """Yield (our name, lm-eval's name, our records in the order of the rows)."""
    tasks = [f"ceval:lm_eval/{subject}" for subject in CEVAL] + [f"cmmlu:lm_eval/{subject}" for subject in CMMLU]
    result = harness.evaluate(
        model="hf",
        model_args={"pretrained": str(model), "dtype": "float32"},
        tasks=[*tasks, "gsm8k:lm_eval", "rolling_text"],
        num_fewshot=5,
        limit=arguments.limit,
        gen_kwargs={"max_gen_toks": 48},
        data=(str(arguments.data),),
        include_path=(str(work / "peer" / "rolling_text.yaml"),),
        overrides={"gsm8k": {"fewshot_config": {"sampler": "first_n"}}, "rolling_text": {"num_fewshot": 0}},
        output=str(work / "runs"),
    )
    for task, subjects in (("ceval", CEVAL), ("cmmlu", CMMLU)):
        records = list(result.samples(f"{task}:lm_eval"))
        for subject in subjects:
            chosen = sorted((record for record in records if record.subset == subject), key=lambda record: record.id)
            yield f"{task}:lm_eval/{subject}", f"peer_{task}_{subject}", chosen
    yield "gsm8k:lm_eval", "peer_gsm8k", list(result.samples("gsm8k:lm_eval"))
    yield "rolling_text", "rolling_text", list(result.samples("rolling_text"))


def compare(name: str, peer: dict[str, Any], records: list[harness.Record]) -> dict[str, Any]:
    """Compare prompts, log-likelihoods or texts, and scores of one task."""
    theirs = {(sample["doc_id"], sample["filter"]): sample for sample in peer["samples"]}
    filters = sorted({key[1] for key in theirs})
    row = {
        "task": name,
        "n": len(records),
        "prompts": 0,
        "texts": 0,
        "scores": 0,
        "largest": 0.0,
        "far": 0,
        "missing": 0,
    }
    row["missing"] = abs(len(theirs) // len(filters) - len(records))
    for record in records:
        sample = theirs[record.id, filters[0]]
        prompt = sample["arguments"][0][0]
        row["prompts"] += name != "rolling_text" and record.prompt.text != prompt
        if record.text is not None:
            row["texts"] += record.text != first(sample["resps"])
        else:
            pairs = zip(record.logprobs, log_likelihoods(sample["resps"]), strict=True)
            for ours, their in pairs:
                row["largest"] = max(row["largest"], abs(ours - their))
                row["far"] += abs(ours - their) > max(TOLERANCE, rounding(their))
        for their_filter in filters:
            row["scores"] += not same_scores(record, theirs[record.id, their_filter], their_filter)
    row["differences"] = row["prompts"] + row["texts"] + row["scores"] + row["missing"] + row["far"]
    return row


def rounding(value: float) -> float:
    """The gap between neighbouring float32 numbers at `value`: lm-eval adds up whole texts in float32."""
    return float(numpy.spacing(numpy.float32(abs(value))))


def first(value: Any) -> Any:
    while isinstance(value, list):
        value = value[0]
    return value


def log_likelihoods(responses: list[Any]) -> list[float]:
    return [float(first(response)) for response in responses]


def same_scores(record: harness.Record, sample: dict[str, Any], their_filter: str) -> bool:
    """Every score that both report is equal; rolling scores are pairs (log-likelihood, weight)."""
    for metric in sample["metrics"]:
        ours = record.scores.get(metric, record.scores.get(f"{metric}@{their_filter}"))
        their = sample[metric]
        if ours is None:
            return False
        ours_values = list(ours) if isinstance(ours, tuple) else [ours]
        their_values = list(their) if isinstance(their, list) else [their]
        if len(ours_values) != len(their_values):
            return False
        close = zip(ours_values, their_values, strict=True)
        if any(abs(abs(float(a)) - abs(float(b))) > 1e-4 * max(1.0, abs(float(b))) for a, b in close):
            return False
    return True


def print_table(rows: list[dict[str, Any]]) -> None:
    print(f"{'task':38} {'n':>4}  {'prompts':>7} {'texts':>6} {'scores':>6}   largest |log-likelihood difference|")
    for row in rows:
        counts = f"{row['prompts']:7} {row['texts']:6} {row['scores']:6}"
        print(f"{row['task']:38} {row['n']:4}  {counts}   {row['largest']:.2e}")
    total = sum(row["n"] for row in rows)
    print(
        f"{total} samples, {sum(bool(row['differences']) for row in rows)} tasks with differences (columns count them)"
    )


if __name__ == "__main__":
    sys.exit(main())
