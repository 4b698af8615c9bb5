"""Measure the engine against lm-evaluation-harness (lm-eval): the same requests, one machine, one run.

    python tests/bench/engine.py --data MIRROR --peer-python PYTHON [--work cmmlu,logiqa0,logiqa3,gsm8k] [--rows N]

MIRROR is a folder laid out as `--data` wants it. PYTHON is the interpreter of an environment that has lm-eval[hf]. The
model is a random Qwen2 of about 20 million parameters in float32. Each side is timed as a whole command: start,
imports, loading, tokenising, computing. CPU seconds are given beside the time on the clock: on a machine that is busy
with other things only they compare. Prints a table, and exits 1 when answers differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TOLERANCE = 1e-4
SUBJECTS = 10
WORK = ("cmmlu", "logiqa0", "logiqa3", "gsm8k")
PEER_BATCH = 16
NEW_TOKENS = 128
Requests = list[dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--work", default=",".join(WORK))
    parser.add_argument("--rows", type=int, help="questions of each work; default: as in the table of the README")
    parser.add_argument("--threads", type=int, help="threads of each side; default: one a core")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    if "--worker" in sys.argv:
        side, *paths = sys.argv[sys.argv.index("--worker") + 1 :]
        (ours if side == "ours" else peer)(*map(Path, paths))
        return 0
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model", args.data)
        results = [measure(work, args, model, Path(folder)) for work in args.work.split(",")]
    print(
        "| work | requests | lm-eval | harness | ratio | lm-eval peak | harness peak | planned/unique | differences |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for line, _ in results:
        print(line)
    return int(any(wrong for _, wrong in results))


def measure(work: str, args: argparse.Namespace, model: Path, folder: Path) -> tuple[str, int]:
    requests = list(build(work, args.data, args.rows))
    asked = folder / f"{work}.json"
    asked.write_text(json.dumps(requests, ensure_ascii=False))
    found = {}
    for side, python in (("peer", args.peer_python), ("ours", sys.executable)):
        out = folder / f"{work}.{side}.json"
        command = [python, __file__, "--worker", side, str(asked), str(model), str(out)]
        began = time.perf_counter()
        threads = {"OMP_NUM_THREADS": str(args.threads)} if args.threads else {}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr, env={**os.environ, **threads})
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{side} failed at {work}")
        wall, busy = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
        found[side] = (wall, usage.ru_maxrss / 1024, json.loads(out.read_text()), busy)
    theirs, mine = found["peer"], found["ours"]
    difference, wrong = compare(theirs[2]["answers"], mine[2]["answers"])
    requests_again, unloaded = prepared(asked, model)
    forecast = unloaded.forecast(requests_again)
    ratio = forecast.planned_tokens / forecast.unique_tokens
    line = (
        f"| {work} | {len(requests)} | {theirs[0]:.1f} s | {mine[0]:.1f} s | {theirs[0] / mine[0]:.1f} x | "
        f"{theirs[3]:.1f} s | {mine[3]:.1f} s | {theirs[3] / mine[3]:.1f} x | "
        f"{theirs[1]:.0f} MB | {mine[1]:.0f} MB | {ratio:.3f} | {difference} |"
    )
    print(line, file=sys.stderr)
    return line, wrong


def compare(theirs: list[Any], mine: list[Any]) -> tuple[str, int]:
    """(in words, how many answers differ)"""
    if isinstance(theirs[0], str):
        wrong = sum(one != other for one, other in zip(theirs, mine, strict=True))
        return f"{wrong} of {len(theirs)} texts", wrong
    apart = [abs(a - b) for one, other in zip(theirs, mine, strict=True) for a, b in zip(one, other, strict=True)]
    return f"largest {max(apart):.1e}", sum(value > TOLERANCE for value in apart)


def ours(asked: Path, model: Path, out: Path) -> None:
    """Answer with this harness."""
    requests, loaded = prepared(asked, model)
    loaded.load()
    responses = dict(loaded.respond(requests))
    answers = [responses[i].text if r.kind == "generate" else responses[i].logprobs for i, r in enumerate(requests)]
    out.write_text(json.dumps({"answers": answers}))


def prepared(asked: Path, model: Path) -> tuple[list[Any], Any]:
    """The requests, and this harness's model before its weights are read."""
    from harness import GenerationParams, ModelOptions, Prompt, Request
    from harness.registry import load_plugins

    requests = []
    for entry in json.loads(asked.read_text()):
        if "continuations" in entry:
            requests.append(Request("loglikelihood", Prompt(entry["context"]), tuple(entry["continuations"])))
        else:
            params = GenerationParams(until=tuple(entry["until"]), max_new_tokens=NEW_TOKENS)
            requests.append(Request("generate", Prompt(entry["context"]), generation=params))
    args = {"pretrained": str(model), "dtype": "float32"}
    loaded = load_plugins().model("hf").create(args, ModelOptions(device="cpu"))
    loaded.prepare()
    return requests, loaded


def peer(asked: Path, model: Path, out: Path) -> None:
    """Answer with lm-eval's `hf` model."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    entries = json.loads(asked.read_text())
    lm = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=PEER_BATCH)
    if "continuations" not in entries[0]:
        settings = {"max_gen_toks": NEW_TOKENS, "do_sample": False}
        asks = [("generate_until", (e["context"], {**settings, "until": e["until"]})) for e in entries]
        answers: list[Any] = lm.generate_until(instances(Instance, asks))
    else:
        asks = [("loglikelihood", (e["context"], c)) for e in entries for c in e["continuations"]]
        values = iter(lm.loglikelihood(instances(Instance, asks)))
        answers = [[next(values)[0] for _ in entry["continuations"]] for entry in entries]
    out.write_text(json.dumps({"answers": answers}))


def instances(kind: Any, asks: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
    return [kind(request_type=name, doc={}, arguments=args, idx=i) for i, (name, args) in enumerate(asks)]


def make_model(path: Path, data: Path) -> Path:
    from harness.testing import tiny_causal_lm

    # Other exams than those that are asked: a tokenizer trained on the prompts would spell them in a few long tokens.
    texts = [
        "\n".join(filter(None, row.values()))
        for path in sorted((data / "ceval" / "ceval-exam").rglob("test.csv"))
        for row in read_csv(path)
    ]
    return tiny_causal_lm(
        path,
        vocab_size=16_000,
        hidden=384,
        layers=8,
        max_length=4096,
        texts=texts,
        num_attention_heads=6,
        head_dim=64,
        # Answers that hang on the whole context, so that equal ones mean something.
        gain=1.2,
    )


def build(work: str, data: Path, rows: int | None) -> Iterator[dict[str, Any]]:
    """The requests of one work, from real rows."""
    if work == "cmmlu":
        yield from cmmlu(data, rows)
    elif work.startswith("logiqa"):
        yield from logiqa(data, int(work[6:]), rows)
    elif work == "gsm8k":
        yield from gsm8k(data, rows)
    else:
        raise SystemExit(f"unknown work {work}: one of {', '.join(WORK)}")


def cmmlu(data: Path, rows: int | None) -> Iterator[dict[str, Any]]:
    for folder in sorted((data / "haonan-li" / "cmmlu").iterdir())[:SUBJECTS]:
        title = folder.name.replace("_", " ")
        shots = "".join(f"{ask_letter(row)} {row['Answer']}\n\n" for row in read_csv(folder / "dev.csv"))
        description = f"以下是关于{title}的单项选择题，请直接给出正确答案的选项。\n\n"
        for row in read_csv(folder / "test.csv")[: rows and max(1, rows // SUBJECTS)]:
            letters = [f" {letter}" for letter in "ABCD"]
            yield {"context": description + shots + ask_letter(row), "continuations": letters}


def ask_letter(row: dict[str, str]) -> str:
    options = "\n".join(f"{letter}. {row[letter]}" for letter in "ABCD")
    return f"{row['Question'].strip()}\n{options}\n答案："


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def logiqa(data: Path, shots: int, rows: int | None) -> Iterator[dict[str, Any]]:
    path = data / "github/ruixiangcui/AGIEval/data/v1/logiqa-zh.jsonl"
    docs = [json.loads(line) for line in path.read_text().splitlines()]
    docs = [{**doc, "options": [re.sub(r"^\([A-D]\)", "", option) for option in doc["options"]]} for doc in docs]

    def ask(doc: dict[str, Any]) -> str:
        listed = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", doc["options"], strict=False))
        return f"文章：{doc['passage']}\n问题：{doc['question']}\n选项：\n{listed}\n答案："

    examples = "".join(f"{ask(doc)} {doc['options']['ABCD'.index(doc['label'])]}\n\n" for doc in docs[:shots])
    for doc in docs[shots : shots + (rows or 256)]:
        yield {"context": examples + ask(doc), "continuations": [f" {option}" for option in doc["options"] if option]}


def gsm8k(data: Path, rows: int | None) -> Iterator[dict[str, Any]]:
    folder = next((data / "openai" / "gsm8k").rglob("train.jsonl")).parent
    train = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    test = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    shots = "".join(f"Question: {row['question']}\nAnswer: {row['answer']}\n\n" for row in train[:5])
    for row in test[: rows or 256]:
        yield {"context": f"{shots}Question: {row['question']}\nAnswer:", "until": ["Question:", "</s>", "<|im_end|>"]}


if __name__ == "__main__":
    raise SystemExit(main())
