"""Measure what a run of very many samples takes: processor time and memory, each a sample.

    python tests/bench/million.py [--samples 100000] [--rows jsonl|parquet] [--kind choices|replies] [--subsets 1]

Runs the dummy model on made-up rows, once on a quarter of the samples and once on all, then the same command again,
`score`, `compare` with a second run, and `report`; `go on` is a command that finishes a run which was killed (-9) when
half of its records were there, and `draw` asks all rows in a random order (`--precision`). The bytes a sample are what
the larger one took more, so that the size of the program itself is no part of them; so are the microseconds. Both sizes
should be above 20,000, from which on a run keeps its samples in a file. `--only run resume` leaves the other commands
out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from subprocess import DEVNULL

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
TASK = """\
task: many
dataset_path: "FOLDER/{{subset.name}}.FORM"
test_split: test
subsets: [SUBSETS]
doc_to_text: "{{question}}\\nAnswer:"
"""
CHOICES = """\
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""
REPLIES = """\
output_type: generate_until
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
metric_list: [{metric: exact_match}]
"""
COMMANDS = ("run", "resume", "score", "compare", "report", "go on", "draw")
Cost = tuple[float, int]
"""Seconds of processor, and bytes of memory at the most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--rows", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--kind", choices=("choices", "replies"), default="choices")
    parser.add_argument("--subsets", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=COMMANDS)
    arguments = parser.parse_args()
    sizes = (arguments.samples // 4, arguments.samples)
    kind = CHOICES if arguments.kind == "choices" else REPLIES
    small, large = (measured(size, arguments.rows, kind, arguments.subsets, arguments.only) for size in sizes)
    print(f"{sizes[1]:,} samples in {arguments.subsets} subsets, {arguments.kind}, rows in {arguments.rows}")
    print(f"{'command':8} {'us a sample':>12} {'bytes a sample':>15} {'peak MB':>8} {'seconds':>8}")
    for command, (seconds, most) in large.items():
        more = sizes[1] - sizes[0]
        time, memory = (seconds - small[command][0]) / more * 1e6, (most - small[command][1]) / more
        print(f"{command:8} {time:12.1f} {memory:15,.0f} {most / 1e6:8.0f} {seconds:8.1f}")


def measured(samples: int, form: str, kind: str, subsets: int, only: Collection[str]) -> dict[str, Cost]:
    """What each command costs with so many samples."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        names = [f"part{number}" for number in range(subsets)]
        for number, name in enumerate(names):
            write_rows(work / f"{name}.{form}", samples // subsets, seed=number)
        task = work / "many.yaml"
        head = TASK.replace("FOLDER", str(work)).replace("FORM", form).replace("SUBSETS", ", ".join(names))
        task.write_text(head + kind, encoding="utf-8")

        def asking(seed: int) -> list[str]:
            model = ["--model", "dummy", "--model_args", f"seed={seed}"]
            return ["--tasks", str(task), *model, "--output", str(work / str(seed))]

        costs = {"run": cost(asking(1))}
        (first,) = (work / "1").iterdir()
        commands = {"resume": asking(1), "score": ["score", str(first)], "report": ["report", str(first)]}
        if "compare" in only:
            cost(asking(2))
            (second,) = (work / "2").iterdir()
            commands["compare"] = ["compare", str(first), str(second)]
        costs |= {name: cost(command) for name, command in commands.items() if name in only}
        if "go on" in only:
            kill_when(asking(3), work / "3", (first / "many.jsonl").stat().st_size // 2)
            costs["go on"] = cost(asking(3))
        if "draw" in only:
            costs["draw"] = cost([*asking(4), "--precision", "1e-9"])
        return {name: costs[name] for name in COMMANDS if name in costs}


def write_rows(path: Path, samples: int, seed: int) -> None:
    """Write a file of rows, of which memory holds a part at a time."""
    draw = random.Random(seed)

    def rows() -> Iterator[dict[str, object]]:
        for number in range(samples):
            yield {
                "question": f"Question {number}: {' '.join(draw.choices(WORDS, k=20))}?",
                "choices": [f"{draw.choice(WORDS)}{place}" for place in range(4)],
                "answer": draw.randrange(4),
            }

    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows())), path)
    else:
        with path.open("w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(row) + "\n" for row in rows())


def kill_when(arguments: list[str], output: Path, size: int) -> None:
    """Run a command, and kill it once its records are so many bytes."""
    process = subprocess.Popen([sys.executable, "-m", "harness", *arguments], stdout=DEVNULL, stderr=DEVNULL)
    while process.poll() is None and all(file.stat().st_size < size for file in output.glob("*/many.jsonl")):
        time.sleep(0.05)
    process.kill()
    process.wait()


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
