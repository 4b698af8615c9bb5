"""Measure the engine against lm-evaluation-harness (lm-eval): the same task files, whole commands, one machine.

    python tests/bench/engine.py --data MIRROR --peer-python PYTHON [--work cmmlu,logiqa0,logiqa3,gsm8k] [--rows N]
    python tests/bench/engine.py --data MIRROR --peer-python PYTHON --size 120m --work cmmlu --subjects 1
    python tests/bench/engine.py --data MIRROR --vllm-python PYTHON [--rows 128] [--tokens 96] [--dtype bfloat16]

MIRROR is a folder laid out as `--data` wants it. PYTHON is the interpreter of an environment that has lm-eval[hf], or
vLLM. The model is a random Qwen2 of about 20 million parameters in float32; --size 120m has 12 layers of 1,024, and
--size 1.5b is for a GPU (--device cuda --dtype bfloat16 --peer-batch auto --subjects 67). Both sides take as many
threads as they do by themselves, unless --threads says how many.

Beside lm-eval, both read the same YAML files and rows, and are timed from the start of the command to its end: imports,
loading, tokenising, computing, scoring, logs. Beside vLLM, which this harness runs over the same file, answers of GSM8K
are timed from loaded weights to the last one. Processor seconds stand beside the time on the clock: on a machine that
is busy with other things only they compare. Prints a table for each, and exits 1 when answers differ from lm-eval's:
texts, or log-likelihoods by more than 1e-4. There a float64 pass of the same weights decides: float32 itself steps by
6e-5 at 600 nats, and the harness may not be off by more than 1e-4 unless lm-eval is further off. How many texts are
vLLM's is only said: its kernels round otherwise, and a token that wins by less than that may be another one.
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sides

TOLERANCE = 1e-4
WORK = ("cmmlu", "logiqa0", "logiqa3", "gsm8k")
SIZES: Mapping[str, Mapping[str, Any]] = {
    "20m": {"vocab_size": 16_000, "hidden": 384, "layers": 8, "num_attention_heads": 6},
    "120m": {"vocab_size": 16_000, "hidden": 1024, "layers": 12, "num_attention_heads": 16},
    "1.5b": {
        "vocab_size": 32_000, "hidden": 1536, "layers": 28, "num_attention_heads": 12, "head_dim": 128,
        "intermediate_size": 8960, "initializer_range": 0.02,
    },
}  # fmt: skip
TASK = """\
task: {name}
tag: bench_{work}
dataset_path: json
dataset_kwargs: {{data_files: {{shots: {shots}, test: {rows}}}}}
test_split: test
fewshot_split: shots
num_fewshot: {count}
fewshot_config: {{sampler: first_n}}
description: {description}
"""
CHOOSE = """\
output_type: multiple_choice
doc_to_text: {text}
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{gold}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
GENERATE = """\
output_type: generate_until
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["Question:", "</s>", "<|im_end|>"], do_sample: false, max_gen_toks: 128}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
PEER_HEAD = (
    "| work | samples | lm-eval | harness | faster | lm-eval processor | harness processor | less | lm-eval peak "
    "| harness peak | planned / unique | differences |\n|---|" + "---:|" * 11
)
VLLM_HEAD = (
    "| answers | new tokens | vLLM | harness | faster | vLLM processor | harness processor | less | equal texts |\n|"
    + "---:|" * 9
)
LETTERS = "{{question}}\nA. {{A}}\nB. {{B}}\nC. {{C}}\nD. {{D}}\n答案："
PASSAGE = "文章：{{passage}}\n问题：{{question}}\n选项：\n{{listed}}\n答案："
Key = tuple[str, int]


@dataclass(frozen=True)
class Side:
    """One command: seconds on the clock, processor seconds, peak memory in MB, and the logged samples."""

    seconds: float
    busy: float
    peak: float
    samples: dict[Key, dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer-python", help="an interpreter with lm-eval[hf]")
    parser.add_argument("--vllm-python", help="an interpreter with vllm, of the same version of Python")
    parser.add_argument("--work", default=",".join(WORK), help="beside lm-eval")
    parser.add_argument("--rows", type=int, help="questions of each work; default: as in the table of the README")
    parser.add_argument("--subjects", type=int, default=10, help="subjects of CMMLU")
    parser.add_argument("--tokens", type=int, default=96, help="new tokens of an answer, beside vLLM")
    parser.add_argument("--threads", type=int, help="threads of each side; default: as many as it takes by itself")
    parser.add_argument("--size", choices=SIZES, default="20m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--peer-batch", default="16")
    args = parser.parse_args()
    if args.peer_python is None and args.vllm_python is None:
        parser.error("nothing to compare with: --peer-python, --vllm-python, or both")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model", args)
        if args.peer_python is not None:
            results = [measure(work, args, model, Path(folder) / work) for work in args.work.split(",")]
            wrong = sum(count for _, count in results)
            print("\n".join([PEER_HEAD, *(line for line, _ in results)]))
        if args.vllm_python is not None:
            print(f"{VLLM_HEAD}\n{beside_vllm(args, model, Path(folder) / 'vllm')}")
    return int(wrong > 0)


def measure(work: str, args: argparse.Namespace, model: Path, folder: Path) -> tuple[str, int]:
    (folder / "tasks").mkdir(parents=True)
    write_tasks(work, args, folder)
    asked = [
        "--model", "hf", "--model_args", f"pretrained={model},dtype={args.dtype}", "--tasks", f"bench_{work}",
        "--include_path", str(folder / "tasks"), "--device", args.device, "--log_samples",
    ]  # fmt: skip
    environment = surroundings(args, folder)
    their_command = [args.peer_python, "-m", "lm_eval", *asked, "--batch_size", args.peer_batch]
    theirs = timed([*their_command, "--output_path", str(folder / "theirs")], folder / "theirs", environment)
    our_command = [sys.executable, "-m", "harness", *asked, "--output", str(folder / "runs")]
    ours = timed([*our_command, "--output_path", str(folder / "ours")], folder / "ours", environment)
    ratio = planned([*our_command, "--dry_run"], environment)
    difference, wrong = compare(theirs.samples, ours.samples, model)
    line = (
        f"| {work} | {len(ours.samples)} | {theirs.seconds:.1f} s | {ours.seconds:.1f} s | "
        f"{theirs.seconds / ours.seconds:.1f} x | {theirs.busy:.1f} s | {ours.busy:.1f} s | "
        f"{theirs.busy / ours.busy:.1f} x | {theirs.peak:.0f} MB | {ours.peak:.0f} MB | {ratio:.3f} | {difference} |"
    )
    print(line, file=sys.stderr)
    return line, wrong


def surroundings(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """The environment of each side's command."""
    cores = {"OMP_NUM_THREADS": str(args.threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"} if args.threads else {}
    return {**os.environ, **cores, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}


def beside_vllm(args: argparse.Namespace, model: Path, folder: Path) -> str:
    """A line of the table: the same questions answered by this engine and by vLLM, loading left out."""
    (folder / "tasks").mkdir(parents=True)
    write_tasks("gsm8k", argparse.Namespace(data=args.data, rows=args.rows or 128), folder)
    told, texts = {}, {}
    for kind in ("vllm", "hf"):
        settings = f"pretrained={model},dtype={args.dtype}"
        if kind == "vllm":
            settings += ",enforce_eager=True"  # without compilation, which takes longer than these answers
        if kind == "vllm" and args.device == "cpu":
            settings += ",gpu_memory_utilization=0.1"  # of main memory, which others use too
        notes, out = folder / f"{kind}.json", folder / kind
        command, environment = sides.command(
            args.vllm_python if kind == "vllm" else sys.executable, "harness", notes, [
                "--model", kind, "--model_args", settings, "--tasks", "bench_gsm8k", "--include_path",
                str(folder / "tasks"), "--device", args.device, "--gen_kwargs", f"max_gen_toks={args.tokens}",
                "--log_samples", "--output", str(folder / "runs"), "--output_path", str(out),
            ],
        )  # fmt: skip
        samples = timed(command, out, {**environment, **surroundings(args, folder)}).samples
        texts[kind] = {key: first(sample) for key, sample in samples.items()}
        told[kind] = json.loads(notes.read_text(encoding="utf-8"))
    theirs, ours = told["vllm"], told["hf"]
    equal = sum(texts["vllm"].get(key) == text for key, text in texts["hf"].items())
    return (
        f"| {len(texts['hf'])} | {args.tokens} | {theirs['answering']:.1f} s | {ours['answering']:.1f} s | "
        f"{theirs['answering'] / ours['answering']:.1f} x | {theirs['busy']:.1f} s | {ours['busy']:.1f} s | "
        f"{theirs['busy'] / ours['busy']:.1f} x | {equal} |"
    )


def timed(command: list[str], out: Path, environment: Mapping[str, str]) -> Side:
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        if status:
            log.seek(0)
            raise SystemExit(f"{' '.join(command[:3])} failed:\n{log.read()[-3000:]}")
    samples = dict(logged(out.rglob("samples_*.jsonl")))
    return Side(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, samples)


def logged(files: Iterable[Path]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """The samples of logs in lm-eval's layout, by (task, row)."""
    for file in files:
        task = re.fullmatch(r"samples_(.+?)_\d{4}-.*", file.stem)
        assert task is not None, file
        for line in file.read_text(encoding="utf-8").splitlines():
            sample = json.loads(line)
            yield (task[1], sample["doc_id"]), sample


def planned(command: list[str], environment: Mapping[str, str]) -> float:
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found = re.search(r"([\d,]+) of them distinct, ([\d,]+) to compute", " ".join(said.split()))
    assert found is not None, said
    distinct, computed = (int(number.replace(",", "")) for number in found.groups())
    return computed / distinct


def compare(theirs: dict[Key, Any], ours: dict[Key, Any], model: Path) -> tuple[str, int]:
    """(in words, how many answers differ)"""
    if theirs.keys() != ours.keys():
        return f"{len(theirs.keys() ^ ours.keys())} samples only on one side", 1
    if not isinstance(arguments(next(iter(ours.values())))[0]["arg_1"], str):
        wrong = sum(first(theirs[key]) != first(ours[key]) for key in ours)
        return f"{wrong} of {len(ours)} texts", wrong
    apart = []
    for key, sample in ours.items():
        pairs = zip(log_likelihoods(theirs[key]), log_likelihoods(sample), arguments(sample), strict=True)
        apart += [(abs(one - other), one, other, argument) for one, other, argument in pairs]
    far = [pair for pair in apart if pair[0] > TOLERANCE]
    words = f"largest {max(pair[0] for pair in apart):.1e}"
    if not far:
        return words, 0
    exact = [log_likelihood(model, argument["arg_0"], argument["arg_1"]) for *_, argument in far]
    theirs_off = [abs(one - value) for (_, one, _, _), value in zip(far, exact, strict=True)]
    ours_off = [abs(other - value) for (_, _, other, _), value in zip(far, exact, strict=True)]
    words += f" ({len(far)} of {len(apart)} above {TOLERANCE:.0e}; off float64: "
    words += f"lm-eval {max(theirs_off):.1e}, harness {max(ours_off):.1e})"
    return words, sum(mine > max(TOLERANCE, their) for mine, their in zip(ours_off, theirs_off, strict=True))


def arguments(sample: dict[str, Any]) -> list[dict[str, Any]]:
    """lm-eval's layout: {"gen_args_0": {"arg_0": context, "arg_1": continuation or settings}, ...}."""
    return list(sample["arguments"].values())


def first(sample: dict[str, Any]) -> Any:
    value = sample["resps"]
    while isinstance(value, list):
        value = value[0]
    return value


def log_likelihoods(sample: dict[str, Any]) -> list[float]:
    return [float(response[0][0]) for response in sample["resps"]]


def log_likelihood(path: Path, context: str, continuation: str) -> float:
    """The same weights in float64, one text at a time, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
    start = len(tokenizer(context, add_special_tokens=False).input_ids)
    tokens = tokenizer(context + continuation, add_special_tokens=False).input_ids
    with torch.inference_mode():
        logprobs = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return sum(float(logprobs[at - 1, tokens[at]]) for at in range(start, len(tokens)))


def make_model(path: Path, args: argparse.Namespace) -> Path:
    from harness.testing import tiny_causal_lm

    # Other exams than those that are asked: a tokenizer trained on the prompts would spell them in a few long tokens.
    texts = [
        "\n".join(filter(None, row.values()))
        for path in sorted((args.data / "ceval" / "ceval-exam").rglob("test.csv"))
        for row in read_csv(path)
    ]
    # Answers that hang on the whole context, so that equal ones mean something.
    settings = {"max_length": 4096, "head_dim": 64, "gain": 1.2, **SIZES[args.size]}
    return tiny_causal_lm(path, texts=texts, **settings)


def write_tasks(work: str, args: argparse.Namespace, folder: Path) -> None:
    """Task files in the dialect that both sides read, over rows of the mirror."""
    if work == "cmmlu":
        for subject in sorted((args.data / "haonan-li" / "cmmlu").iterdir())[: args.subjects]:
            shots, rows = (letters(subject / f"{split}.csv") for split in ("dev", "test"))
            rows = rows[: args.rows and max(1, args.rows // args.subjects)]
            title = subject.name.replace("_", " ")
            description = f"以下是关于{title}的单项选择题，请直接给出正确答案的选项。\n\n"
            write_task(folder, work, f"bench_cmmlu_{subject.name}", shots, rows, 5, CHOOSE, LETTERS, description)
    elif work in ("logiqa0", "logiqa3"):
        docs, count = logiqa(args.data), int(work[6:])
        rows = docs[count : count + (args.rows or (256 if count == 0 else 128))]
        write_task(folder, work, f"bench_{work}_all", docs[: max(1, count)], rows, count, CHOOSE, PASSAGE)
    elif work == "gsm8k":
        source = next((args.data / "openai" / "gsm8k").rglob("train.jsonl")).parent
        shots, rows = (jsonl(source / f"{split}.jsonl") for split in ("train", "test"))
        write_task(folder, work, "bench_gsm8k_all", shots[:5], rows[: args.rows or 256], 5, GENERATE)
    else:
        raise SystemExit(f"unknown work {work}: one of {', '.join(WORK)}")


def write_task(
    folder: Path,
    work: str,
    name: str,
    shots: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    count: int,
    output: str,
    text: str = "",
    description: str = "",
) -> None:
    files = {}
    for kind, docs in (("shots", shots), ("rows", rows)):
        files[kind] = folder / f"{name}.{kind}.jsonl"
        files[kind].write_text("".join(json.dumps(doc, ensure_ascii=False) + "\n" for doc in docs), encoding="utf-8")
    head = TASK.format(name=name, work=work, count=count, description=json.dumps(description), **files)
    tail = output if output is GENERATE else output.format(text=json.dumps(text, ensure_ascii=False))
    (folder / "tasks" / f"{name}.yaml").write_text(head + tail, encoding="utf-8")


def letters(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "question": row["Question"].strip(),
            **{letter: row[letter] for letter in "ABCD"},
            "options": list("ABCD"),
            "gold": "ABCD".index(row["Answer"]),
        }
        for row in read_csv(path)
    ]


def logiqa(data: Path) -> list[dict[str, Any]]:
    """Rows whose options are texts without their letters."""
    docs = jsonl(data / "github/ruixiangcui/AGIEval/data/v1/logiqa-zh.jsonl")
    for doc in docs:
        doc["options"] = [text for option in doc["options"] if (text := re.sub(r"^\([A-D]\)", "", option))]
        doc["listed"] = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCD", doc["options"], strict=False))
        doc["gold"] = "ABCD".index(doc["label"])
    return [
        {key: doc[key] for key in ("passage", "question", "listed", "options", "gold")}
        for doc in docs
        if doc["gold"] < len(doc["options"])
    ]


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    raise SystemExit(main())
