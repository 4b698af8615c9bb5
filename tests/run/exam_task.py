"""A small task of two subsets whose answers are yes or no, written where a test runs."""

import json
from collections.abc import Mapping
from pathlib import Path

TASK = """\
task: exam
dataset_path: json
dataset_kwargs: {data_files: {test: "rows_{{ subset.name }}.jsonl"}}
subsets: [law, art]
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: ["yes", "no"]
doc_to_target: a
metric_list: [{metric: acc}]
"""


def write_exam(sizes: Mapping[str, int], every: int) -> None:
    """The task file and its rows, of which each `every`-th is answered by "no"."""
    for name, rows in sizes.items():
        lines = (json.dumps({"q": f"{name} {n}", "a": int(n % every == 0)}) + "\n" for n in range(rows))
        Path(f"rows_{name}.jsonl").write_text("".join(lines))
    Path("exam.yaml").write_text(TASK)
