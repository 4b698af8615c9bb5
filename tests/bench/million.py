"""Measure what a run of very many samples takes: processor time and memory, each a sample.

    python tests/bench/million.py [--samples 100000] [--rows jsonl|parquet] [--kind choices|replies]

Runs the dummy model on made-up rows, once on a tenth of the samples and once on all, then the same command again,
`score`, `compare` with a second run, and `report`. The bytes a sample are what the larger one took more, so that the
size of the program itself is no part of them; processor time is that of the larger one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
CHOICES = """\
task: many
dataset_path: ROWS
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""
REPLIES = """\
task: many
dataset_path: ROWS
test_split: test
output_type: generate_until
doc_to_text: "{{question}}\\nAnswer:"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
metric_list: [{metric: exact_match}]
"""
Cost = tuple[float, int]
"""Seconds of processor, and bytes of memory at the most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--rows", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--kind", choices=("choices", "replies"), default="choices")
    arguments = parser.parse_args()
    sizes = (arguments.samples // 10, arguments.samples)
    small, large = (measured(size, arguments.rows, arguments.kind) for size in sizes)
    print(f"{arguments.samples:,} samples, {arguments.kind}, rows in {arguments.rows}")
    print(f"{'command':8} {'us a sample':>12} {'bytes a sample':>15} {'peak MB':>8}")
    for command, (seconds, most) in large.items():
        slope = (most - small[command][1]) / (sizes[1] - sizes[0])
        print(f"{command:8} {seconds / sizes[1] * 1e6:12.1f} {slope:15,.0f} {most / 1e6:8.0f}")


def measured(samples: int, form: str, kind: str) -> dict[str, Cost]:
    """What each command costs with so many samples."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        rows = write_rows(work / f"test.{form}", samples)
        task = work / "many.yaml"
        task.write_text((CHOICES if kind == "choices" else REPLIES).replace("ROWS", str(rows)), encoding="utf-8")

        def asking(seed: int) -> list[str]:
            model = ["--model", "dummy", "--model_args", f"seed={seed}"]
            return ["--tasks", str(task), *model, "--output", str(work / str(seed))]

        costs = {"run": cost(asking(1)), "resume": cost(asking(1))}
        cost(asking(2))
        first, second = (str(next((work / name).iterdir())) for name in ("1", "2"))
        costs["score"] = cost(["score", first])
        costs["compare"] = cost(["compare", first, second])
        costs["report"] = cost(["report", first])
        return costs


def write_rows(path: Path, samples: int) -> Path:
    draw = random.Random(1)
    rows = (
        {
            "question": f"Question {number}: {' '.join(draw.choices(WORDS, k=20))}?",
            "choices": [f"{draw.choice(WORDS)}{place}" for place in range(4)],
            "answer": draw.randrange(4),
        }
        for number in range(samples)
    )
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        with path.open("w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def cost(arguments: list[str]) -> Cost:
    """Run a command to its end. Exits where it fails."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen([sys.executable, "-m", "harness", *arguments], stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(said.read().decode(errors="replace"))
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
