"""Measure how long scoring takes when all answers are there: many multiple-choice replies, and a bootstrap of BLEU.

    python tests/bench/scoring.py [--replies 100000] [--texts 2000]

A run of recorded answers (`--model replay`) is made first, then `harness score` reads, scores and sums them up again.
The goals: 100,000 replies in under 20 s on two cores, 1,000 resamples of the BLEU of 2,000 texts in under 3 s. Seconds
are those of the whole command, from its start to its report. Returns 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_CHOICES = """\
task: recorded_choices
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{question}}\\nA. 甲\\nB. 乙\\nC. 丙\\nD. 丁\\n答案："
doc_to_target: "{{answer}}"
filter_list:
  - name: letter
    filter: [{function: choice_letter}]
metric_list: [{metric: exact_match}]
"""
_TEXTS = """\
task: recorded_texts
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: bleu, tokenize: zh}]
"""
# What models say, from a lone letter to a judgement on each option.
_REPLIES = (
    "{0}",
    "答案：{0}",
    "The answer is ({0}).",
    "**{0}. 甲**\n\n解析：其余三项与题意不符。",
    "首先看A项，条件不足；再看B项，与题干矛盾；C项过于绝对。" * 6 + "综上所述，本题应选{0}。",
    "Let us go through the options one by one. " * 8 + "So the correct answer is {0}, and the others are wrong.",
    "<think>也许是A，不对，再想想。" + "题目要求选出符合题意的一项。" * 20 + "</think>\n\\boxed{{{0}}}",
    "抱歉，我无法回答这个问题。",
)
_SENTENCE = "the cat sat on a mat while it rained 今天 天气 很好 我们 去 公园 散步 然后 回家 吃饭 。"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, default=100_000)
    parser.add_argument("--texts", type=int, default=2_000)
    arguments = parser.parse_args()
    print(f"{'what':18} {'samples':>8} {'replay s':>9} {'score s':>8} {'goal s':>7}")
    late = measure("recorded_choices", _CHOICES, choice_rows(arguments.replies), 20)
    late |= measure("recorded_texts", _TEXTS, text_rows(arguments.texts), 3)
    return int(late)


def choice_rows(count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(1)
    for index in range(count):
        answer = draw.choice("ABCD")
        reply = _REPLIES[index % len(_REPLIES)].format(draw.choice("ABCD"))
        yield {"id": index, "question": f"第{index}题？" + "字" * 100, "answer": answer, "reply": reply}


def text_rows(count: int) -> Iterator[dict[str, Any]]:
    draw, vocabulary = random.Random(2), _SENTENCE.split(" ")
    for index in range(count):
        words = draw.choices(vocabulary, k=30)
        reply = [word if draw.random() < 0.8 else draw.choice(vocabulary) for word in words]
        yield {"id": index, "question": f"{index}", "answer": " ".join(words), "reply": " ".join(reply)}


def measure(name: str, task: str, rows: Iterator[Mapping[str, Any]], goal: float) -> bool:
    """Print a line; return whether the goal was missed."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        count = write(work, list(rows))
        (work / f"{name}.yaml").write_text(task, encoding="utf-8")
        model = f"path={work / 'replies.jsonl'},text_field=reply"
        command = ("--tasks", str(work / f"{name}.yaml"), "--model", "replay", "--model_args", model)
        replayed = seconds(*command, "--output", str(work / "runs"))
        scored = seconds("score", str(next((work / "runs").iterdir())))
    print(f"{name:18} {count:8} {replayed:9.2f} {scored:8.2f} {goal:7.0f}{'  too slow' if scored > goal else ''}")
    return scored > goal


def write(work: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """The rows of the benchmark and, apart from them, what was replied; returns how many."""
    with (work / "rows.jsonl").open("w", encoding="utf-8") as asked, (work / "replies.jsonl").open("w") as replied:
        for row in rows:
            kept = {key: value for key, value in row.items() if key != "reply"}
            asked.write(json.dumps(kept, ensure_ascii=False) + "\n")
            replied.write(json.dumps({"id": row["id"], "reply": row["reply"]}) + "\n")
    return len(rows)


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "harness", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - start


if __name__ == "__main__":
    raise SystemExit(main())
