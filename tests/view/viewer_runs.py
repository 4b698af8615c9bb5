"""Runs for the tests of the viewer: small, of recorded answers, and one whose every text is hostile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness import evaluate

TASK = """
task: {name}
title: {title}
dataset_path: .
dataset_kwargs: {{data_files: {{test: rows.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: gold
generation_kwargs: {{max_gen_toks: 8}}
filter_list: [{{name: read, filter: [{{function: regex, regex_pattern: "([A-D])"}}, {{function: take_first}}]}}]
metric_list: [{{metric: exact_match}}]
"""
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31m\u202e{{7*7}} [a](javascript:alert(3))"
QUESTIONS = ["什么是计算机网络？", "量子力学的创始人是谁？", "Which computer is fastest?", "九个苹果"]


def write_task(folder: Path, name: str = "quiz", title: str = "Quiz", questions: Sequence[str] = QUESTIONS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"question": question, "gold": "ABCD"[place % 4]} for place, question in enumerate(questions)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path = folder / "quiz.yaml"
    path.write_text(TASK.format(name=name, title=json.dumps(title)), encoding="utf-8")
    return path


def write_run(task: Path, replies: Sequence[str], output: Path, name: str) -> Path:
    answers = task.with_name(f"{name}.jsonl")
    answers.write_text("".join(json.dumps({"text": text}) + "\n" for text in replies), encoding="utf-8")
    return evaluate("replay", {"path": str(answers)}, [task], output=output, name=name).path
