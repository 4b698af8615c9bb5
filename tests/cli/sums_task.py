"""A task of small sums whose answers are generated, written where a test runs."""

import json
from pathlib import Path

TASK = """\
task: sums
dataset_path: sums.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{ q }}"
doc_to_target: "{{ a }}"
metric_list: [{metric: exact_match}]
"""


def write_sums(rows: int, question: str = "{n} + {n}?") -> None:
    """The task file and its rows; `question` has the place `{n}`."""
    Path("sums.yaml").write_text(TASK, encoding="utf-8")
    docs = [{"q": question.format(n=n), "a": str(2 * n)} for n in range(rows)]
    Path("sums.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
