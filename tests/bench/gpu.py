"""One card: this engine, lm-eval's `hf` with automatic batch, and vLLM, on CMMLU (67 subjects) and GSM8K.

Started by gpu.sh. Models are random Qwen2 of 1.5 and 7 billion parameters in bfloat16; all sides read the same files.
Without --data rows are made up: as many as the real ones have (11,582 and 1,319), of about their length. Seconds are
of whole commands, and of answering alone (from loaded weights to the last answer). The share of the card's rate is
2 x weights x computed tokens a second, attention left out, over the rate of products of square matrices that is
measured first. Steps that the time does not suffice for are named in the table, never left out of it, and the table is
written anew with each of its lines: whoever ends this early finds those that were measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engine
import sides

SUBJECTS, QUESTIONS, PROBLEMS = 67, 173, 1319
TINY_SUBJECTS, TINY_QUESTIONS, TINY_PROBLEMS, TINY_SHOTS, TINY_TOKENS = 4, 2, 4, 1, 16
TINY_LENGTH = 1024  # lm-eval tries its automatic batch of 64 at the full length: of 4,096, that takes most of a minute
SHAPES: Mapping[str, Mapping[str, int]] = {
    "1.5b": {"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
             "intermediate_size": 8960},
    "7b": {"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
           "intermediate_size": 18944},
    "tiny": {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
             "intermediate_size": 256},
}  # fmt: skip
STARTED = time.monotonic()
SIDES = ("harness hf", "harness vllm", "lm-eval hf")
SHARE_OF_TIME = {"harness hf": 0.5, "harness vllm": 0.4, "lm-eval hf": 0.6}
"""Of what is left, a step may take so much: the next ones need some too."""
HEAD = "| shape | work | side | samples | command | answering | tokens/s | share of rate | memory | self-check, steps |"


@dataclass
class Bench:
    """What is measured with, and until when."""

    args: argparse.Namespace
    folder: Path
    device: str
    dtype: str
    rate: float
    ends: float
    lines: list[str] = field(default_factory=list)
    answers: dict[tuple[str, str], dict[engine.Key, Any]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.ends - time.monotonic()

    def row(self, *cells: Any) -> None:
        self.lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(self.lines[-1], file=sys.stderr, flush=True)
        self.write()

    def write(self) -> str:
        """The table so far, which is also in the file."""
        table = "\n".join([*heading(self), *self.lines, "", *agreement(self)]) + "\n"
        self.args.out.write_text(table, encoding="utf-8")
        return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a mirror with the real rows")
    parser.add_argument("--peer-python", help="an interpreter with lm-eval[hf]")
    parser.add_argument("--vllm-python", help="an interpreter with vllm, of the same version of Python")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape and few rows, on a processor too")
    parser.add_argument("--out", type=Path, default=Path("gpu.md"))
    args = parser.parse_args()
    for python in filter(None, (args.peer_python, args.vllm_python)):
        if shutil.which(python) is None:
            parser.error(f"{python}: there is no such interpreter")
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not args.tiny:
        raise SystemExit("gpu.py: torch finds no card here; --tiny runs the script on a processor")
    ends = STARTED + 60 * args.minutes - 15
    dtype = "bfloat16" if device == "cuda" else "float32"
    with tempfile.TemporaryDirectory() as folder:
        rate = matrix_rate(device, dtype, 8192 if device == "cuda" else 512)
        bench = Bench(args, Path(folder), device, dtype, rate, ends)
        for shape in ["tiny"] if args.tiny else ["1.5b", "7b"]:
            measure_shape(bench, shape)
        print(bench.write(), end="")
    return 0


def heading(bench: Bench) -> list[str]:
    import torch
    import transformers

    name = torch.cuda.get_device_name() if bench.device == "cuda" else f"processor, {platform.machine()}"
    rows = "real rows" if bench.args.data else "made-up rows"
    about = (
        f"{name}; {bench.dtype}, {bench.rate / 1e12:.3g} TFLOP/s in products of matrices; torch {torch.__version__}, "
        f"transformers {transformers.__version__}; {rows}; random Qwen2"
    )
    return [about, "", HEAD, "|---|---|---|" + "---:|" * 6 + "---|"]


def measure_shape(bench: Bench, shape: str) -> None:
    """All sides on both works; this engine first, on every shape."""
    started = time.monotonic()
    model = make_model(bench, shape)
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors")) / (4 if bench.dtype == "float32" else 2)
    print(f"{shape}: made in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    for work in ("cmmlu", "gsm8k"):
        write_rows(bench, work)
    peers = {"harness hf": sys.executable, "harness vllm": bench.args.vllm_python, "lm-eval hf": bench.args.peer_python}
    steps = [(name, work) for name in SIDES for work in ("cmmlu", "gsm8k")]
    for number, (name, work) in enumerate(steps, 1):
        python = peers[name]
        if python is None:
            bench.row(shape, work, name, *["not measured"] * 6, "no interpreter given")
        elif shape == "7b" and name == "lm-eval hf":
            bench.row(shape, work, name, *["not measured"] * 6, "only at 1.5b: it would take all of the time")
        else:
            share = 1.0 if shape == "tiny" and number == len(steps) else SHARE_OF_TIME[name]
            measure(bench, shape, work, name, python, model, weights, share * bench.left)
    for file in model.glob("*.safetensors"):
        file.unlink()  # 15 GB of the disk


def measure(
    bench: Bench, shape: str, work: str, name: str, python: str, model: Path, weights: float, seconds: float
) -> None:
    """One command, which is stopped after so many seconds: its line of the table."""
    program, kind = name.replace("-", "_").split()
    settings = f"pretrained={model},dtype={bench.dtype}"
    if kind == "vllm" and bench.device == "cpu":
        settings += ",gpu_memory_utilization=0.1,enforce_eager=True"  # of main memory, which others use too
    out, stats = (bench.folder / f"{shape}-{work}-{program}-{kind}{end}" for end in ("", ".json"))
    asked = [
        "--model", kind, "--model_args", settings, "--tasks", f"bench_{work}",
        "--include_path", str(bench.folder / work / "tasks"), "--device", bench.device, "--log_samples",
        "--output_path", str(out), "--batch_size", "auto",
    ]  # fmt: skip
    if program == "harness":
        asked += ["--output", str(bench.folder / "runs")]
    if bench.args.tiny and work == "gsm8k":
        asked += ["--gen_kwargs", f"max_gen_toks={TINY_TOKENS}"]
    seconds = max(1.0, seconds)
    began = time.monotonic()
    with (bench.folder / "log").open("w+") as log:
        command, environment = sides.command(python, program, stats, asked)
        environment = {**environment, "HF_HOME": str(bench.folder)}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            status = process.wait(seconds)
        except BaseException as ended:
            os.killpg(process.pid, signal.SIGKILL)  # with the engines that it started
            process.wait()
            if not isinstance(ended, subprocess.TimeoutExpired):
                raise
            bench.row(shape, work, name, "-", f"> {seconds:.0f} s", *["-"] * 4, "stopped: the time is up")
            return
        took = time.monotonic() - began
        if status:
            log.seek(0)
            words = [line.strip() for line in log.read().splitlines() if line.strip()][-1:] or ["it said nothing"]
            bench.row(shape, work, name, "-", f"{took:.0f} s", *["-"] * 4, f"status {status}: {words[0][:160]}")
            return
    told = json.loads(stats.read_text())
    samples = dict(engine.logged(out.rglob("samples_*.jsonl")))
    bench.answers[shape, f"{work} {name}"] = samples
    tokens = computed_tokens(bench, asked, samples) if name == "harness hf" else None
    answering, speed, share = told.get("answering"), "-", "-"
    if tokens and answering:
        speed = f"{tokens / answering:,.0f}"
        share = f"{2 * weights * tokens / answering / bench.rate:.1%}"
    shown = f"{answering:.1f} s" if answering else "-"
    memory = f"{told['memory'] / 2**30:.2f} GiB"
    bench.row(shape, work, name, len(samples), f"{took:.1f} s", shown, speed, share, memory, told["notes"])


def computed_tokens(bench: Bench, asked: list[str], samples: Mapping[engine.Key, Any]) -> int:
    """Tokens that went through the weights: those of prompts as planned, and those of answers."""
    command = [sys.executable, "-m", "harness", *asked, "--dry_run"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=max(5.0, bench.left))
    except subprocess.TimeoutExpired:
        return 0
    words = " ".join(told.stdout.split())
    planned = int(words.partition(" to compute")[0].rpartition(" ")[2].replace(",", "") or 0)
    generated = 0
    if "bench_gsm8k" in asked:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(asked[3].removeprefix("pretrained=").partition(",")[0])
        texts = [str(engine.first(sample)) for sample in samples.values()]
        generated = sum(map(len, tokenizer(texts).input_ids))
    return planned + generated


def agreement(bench: Bench) -> list[str]:
    """How far the sides agree on the same files."""
    lines = []
    for shape, name in list(bench.answers):
        work, _, by = name.partition(" ")
        ours = bench.answers.get((shape, f"{work} harness hf"))
        theirs = bench.answers[shape, name]
        if by == "harness hf" or ours is None:
            continue
        both = sorted(ours.keys() & theirs.keys())
        if work == "gsm8k":
            same = sum(engine.first(ours[key]) == engine.first(theirs[key]) for key in both)
            lines.append(f"{shape}, {work}: {same} of {len(both)} texts of harness hf are those of {by}")
        else:
            pairs = [zip(*(engine.log_likelihoods(each[key]) for each in (ours, theirs)), strict=True) for key in both]
            apart = max((abs(a - b) for pair in pairs for a, b in pair), default=float("nan"))
            lines.append(f"{shape}, {work}: log-likelihoods of harness hf and {by} differ by at most {apart:.2e}")
    return lines


def matrix_rate(device: str, dtype: str, size: int) -> float:
    """FLOP/s of products of square matrices: the best of five, of three products each."""
    import torch

    one, other = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    best = 0.0
    for _ in range(6):  # the first one warms up
        began = time.perf_counter()
        for _ in range(3):
            product = one @ other
        float(product[0, 0])  # waits for the card
        best = max(best, 3 * 2 * size**3 / (time.perf_counter() - began))
    return best


def make_model(bench: Bench, shape: str) -> Path:
    """A random model of this shape in the dtype of the bench, made on the device."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    from harness.testing import tiny_causal_lm

    path = bench.folder / shape
    draw = random.Random(1)
    texts = [made_up(draw, 400) for _ in range(20 if shape == "tiny" else 400)]
    tiny_causal_lm(path, vocab_size=400 if shape == "tiny" else 32_000, texts=texts)  # for its tokenizer
    tokenizer = AutoTokenizer.from_pretrained(path)
    length = TINY_LENGTH if shape == "tiny" and not bench.args.data else 4096
    config = Qwen2Config(vocab_size=-(-len(tokenizer) // 64) * 64, max_position_embeddings=length, **SHAPES[shape])
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, bench.dtype))
    try:
        with torch.device(bench.device):
            model = AutoModelForCausalLM.from_config(config)
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:  # answers that hang on the whole context, so that equal ones mean something
                parameter.normal_(std=0.08 if "embed" in name else 1.2 / config.hidden_size**0.5)
    model.save_pretrained(path)
    return path


def write_rows(bench: Bench, work: str) -> None:
    """The task files of a work, over real rows or made-up ones."""
    folder = bench.folder / work
    if (folder / "tasks").exists():
        return
    (folder / "tasks").mkdir(parents=True)
    tiny = bench.args.tiny
    subjects = TINY_SUBJECTS if tiny else SUBJECTS
    if bench.args.data:
        whole = {"cmmlu": None, "gsm8k": PROBLEMS}
        rows = {"cmmlu": TINY_QUESTIONS * subjects, "gsm8k": TINY_PROBLEMS}[work] if tiny else whole[work]
        engine.write_tasks(work, argparse.Namespace(data=bench.args.data, subjects=subjects, rows=rows), folder)
        return
    draw, count = random.Random(2), TINY_SHOTS if tiny else 5
    if work == "gsm8k":
        numbers = (count, TINY_PROBLEMS if tiny else PROBLEMS)
        shots, rows = ([problem(draw, 2 if tiny else 1) for _ in range(n)] for n in numbers)
        engine.write_task(folder, work, "bench_gsm8k_all", shots, rows, count, engine.GENERATE)
        return
    for subject in range(subjects):
        shots, rows = ([question(draw) for _ in range(n)] for n in (count, TINY_QUESTIONS if tiny else QUESTIONS))
        title = f"以下是关于第{subject}门课的单项选择题，请直接给出正确答案的选项。\n\n"
        name = f"bench_cmmlu_{subject}"
        engine.write_task(folder, work, name, shots, rows, count, engine.CHOOSE, engine.LETTERS, title)


def question(draw: random.Random) -> dict[str, Any]:
    options = {letter: made_up(draw, draw.randint(2, 12)) for letter in "ABCD"}
    return {"question": made_up(draw, draw.randint(15, 60)), **options, "options": list("ABCD"), "gold": 0}


def problem(draw: random.Random, shorter: int) -> dict[str, Any]:
    lengths = {"question": draw.randint(60, 120), "answer": draw.randint(60, 150)}
    return {name: made_up(draw, length // shorter) for name, length in lengths.items()}


def made_up(draw: random.Random, length: int) -> str:
    """Characters of the 2,500 most usual part of the Chinese block, as rare in one text as in real ones."""
    return "".join(chr(0x4E00 + int(draw.paretovariate(0.6)) % 2500) for _ in range(length))


if __name__ == "__main__":
    raise SystemExit(main())
