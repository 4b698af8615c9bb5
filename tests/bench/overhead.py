"""Measure what the harness itself costs: many samples with a model that answers at once.

    python tests/bench/overhead.py [--samples 10000]

Prints seconds from command to report, samples a second, and peak memory at several sizes, so that growth shows.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASKS = {
    "many_choices": """\
task: many_choices
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}\\nA. {{a}}\\nB. {{b}}\\n答案："
doc_to_choice: [A, B]
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}]
""",
    "many_replies": """\
task: many_replies
dataset_path: json
dataset_kwargs: {data_files: {test: ROWS}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{a}}"
generation_kwargs: {until: ["\\n"]}
metric_list: [{metric: exact_match}]
""",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10_000)
    arguments = parser.parse_args()
    print(f"{'task':14} {'samples':>8} {'seconds':>8} {'samples/s':>10} {'peak MB':>8} {'log MB':>7}")
    for name in TASKS:
        for count in (arguments.samples // 10, arguments.samples):
            measure(name, count)


def measure(name: str, count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        rows = work / "rows.jsonl"
        with rows.open("w", encoding="utf-8") as handle:
            for index in range(count):
                row = {
                    "question": f"第{index}题？" + "字" * 200,
                    "a": f"甲{index}",
                    "b": f"乙{index}",
                    "answer": index % 2,
                }
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        task = work / f"{name}.yaml"
        task.write_text(TASKS[name].replace("ROWS", str(rows)), encoding="utf-8")
        command = [sys.executable, "-m", "harness", "--tasks", str(task), "--model", "dummy"]
        start = time.perf_counter()
        done = subprocess.run([*command, "--output", str(work / "runs")], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(done.stderr)
        # The largest child so far; sizes are measured in rising order, so it is this one.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        log = sum(path.stat().st_size for path in (work / "runs").rglob("*.jsonl")) / 1e6
        print(f"{name:14} {count:8} {seconds:8.2f} {count / seconds:10.0f} {peak:8.0f} {log:7.1f}")


if __name__ == "__main__":
    main()
