"""Groups of tasks whose numbers are compared with lm-eval's: task files, rows, and a model that is a hash.

Imported by the test, with this project, and by make_numbers.py, with lm-eval: it needs neither of them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

CHOICE = """\
task: NAME
dataset_path: json
dataset_kwargs: {data_files: {test: NAME.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: ["red", "dark green", "blue"]
doc_to_target: "{{a}}"
metric_list: METRICS
"""
REPLY = """\
task: sums
dataset_path: json
dataset_kwargs: {data_files: {test: sums.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: "{{a}}"
generation_kwargs: {until: ["\\n"]}
filter_list:
  - {name: strict, filter: [{function: regex, regex_pattern: "is (\\\\d)"}, {function: take_first}]}
  - {name: loose, filter: [{function: regex, regex_pattern: "(\\\\d)"}, {function: take_first}]}
metric_list: [{metric: exact_match}]
"""
BOTH = "[{metric: acc}, {metric: acc_norm}]"
TASKS = {
    "one": CHOICE.replace("METRICS", BOTH),
    "two": CHOICE.replace("METRICS", BOTH),
    "three": CHOICE.replace("METRICS", "[{metric: acc}]"),
    "sums": REPLY,
}
SIZES = {"one": 17, "two": 40, "three": 5, "sums": 30}
GROUPS = {
    "micro": """\
group: micro
task: [one, two]
aggregate_metric_list: [{metric: acc}, {metric: acc_norm, aggregation: mean, weight_by_size: true}]
metadata: {version: 1.0}
""",
    "macro": """\
group: macro
group_alias: Macro mean
task: [one, two, three]
aggregate_metric_list: {metric: acc, weight_by_size: false}
""",
    "nested": """\
group: nested
task:
  - {group: inner, task: [three], aggregate_metric_list: [{metric: acc, weight_by_size: false}]}
  - micro
  - {task: sums, num_fewshot: 0}
aggregate_metric_list: [{metric: acc}, {metric: acc_norm}, {metric: exact_match, filter_list: [strict]}]
""",
    "replies": """\
group: replies
task: [sums]
aggregate_metric_list: [{metric: exact_match}]
""",
    "only_names": "group: only_names\ntask: [one, two]\n",
}


def write(folder: Path) -> None:
    """Write the task files, the group files and the rows."""
    for name, text in TASKS.items():
        rows = folder / f"{name}.jsonl"
        lines = ({"q": f"{name} {n}: which is it?", "a": n % 3} for n in range(SIZES[name]))
        rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / f"{name}.yaml").write_text(text.replace("NAME.jsonl", str(rows)).replace("NAME", name))
    sums = folder / "sums.yaml"
    sums.write_text(sums.read_text().replace("sums.jsonl", str(folder / "sums.jsonl")))
    for name, text in GROUPS.items():
        (folder / f"{name}_group.yaml").write_text(text)


def log_probability(context: str, continuation: str) -> float:
    """What the model gives a continuation, in nats."""
    return -(_draw(f"{context}|{continuation}") % 4000) / 128


def reply(context: str) -> str:
    """What the model answers."""
    number = _draw(context)
    return f"It {'is' if number % 3 else 'was'} {number % 4}"


def _draw(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
