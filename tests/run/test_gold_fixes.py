"""Scores with corrected golds: what changes, what is refused, and that the run itself stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness import evaluate
from harness.errors import UsageError
from harness.run.compare import compare_runs
from harness.run.rescore import score_run
from harness.run.result import load_run
from harness.run.spec import Progress
from harness.testing import run_harness

CHOICE = """
task: letters
dataset_path: .
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{options}}"
doc_to_target: gold
subsets: {law: {}, art: {}}
where: kind == subset.name
metric_list: [{metric: acc}]
"""
TEXT = """
task: words
dataset_path: .
dataset_kwargs: {data_files: {test: words.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: gold
generation_kwargs: {max_gen_toks: 8}
metric_list: [{metric: exact_match}]
"""


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a task of options in two subsets and of a task of texts, whose answers are all the golds."""
    folder = tmp_path_factory.mktemp("fixes")
    rows = [
        {"kind": kind, "question": f"{kind} {n}", "options": ["one", "two", "three"], "gold": n % 3}
        for kind in ("law", "art")
        for n in range(3)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [{"question": f"word {n}", "gold": f"词{n}"} for n in range(4)]
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in words), encoding="utf-8")
    (folder / "letters.yaml").write_text(CHOICE, encoding="utf-8")
    (folder / "words.yaml").write_text(TEXT, encoding="utf-8")
    tasks = [folder / "letters.yaml", folder / "words.yaml"]
    return evaluate("dummy", {"mode": "gold"}, tasks, output=folder / "runs", name="right").path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def fixes(folder: Path, text: str, name: str = "fixes.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def values(path: Path) -> dict[str, float]:
    report = load_run(path).report
    assert report is not None
    return {task["task"]: task["metrics"][0]["value"] for task in report["tasks"]}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("task,id,gold\nletters,law/0,two\nwords,1,别的\nwords,2,词2\nwords,99,x\n", "utf-8"),
        ("\ufefftask;subset;id;gold\r\nletters;law;0;B\r\nwords;;1;别的\r\nwords;;2;词2\r\nwords;;99;x\r\n", "utf-8"),
        ("Task\tID\tGold\nletters\tlaw/0\ttwo\nwords\t1\t别的\nwords\t2\t词2\nwords\t99\tx\n", "gb18030"),
    ],
    ids=["commas", "a spreadsheet of Windows", "tabs in GB 18030"],
)
def test_scores_with_corrected_golds_say_so_and_leave_the_run_as_it_is(run: Path, text: str, encoding: str) -> None:
    before = {path.name: path.read_bytes() for path in run.glob("*.json*")}
    told = Told()
    result = score_run(run, progress=told, gold_fixes=fixes(run.parent, text, encoding=encoding))
    assert {path.name: path.read_bytes() for path in run.glob("*.json*")} == before
    assert result.path.parent == run / "corrected"
    assert values(result.path) == {"letters": pytest.approx(5 / 6), "words": 0.75}
    corrected = result.report["corrected"]
    assert (corrected["changed"], corrected["as_before"], corrected["unknown"]) == (2, 1, 1)
    assert any("row 4" in line and "no such sample" in line for line in told.lines)
    shown = run_harness("report", str(result.path)).stdout.replace("\n", " ")
    assert "2 golds corrected by" in shown and "letters: acc 1.0000 -> 0.8333" in shown
    assert (result.path / "report.html").read_text("utf-8").count("corrected") >= 2
    (letters, words) = compare_runs(run, result.path)
    assert letters.notes and words.notes, "rows whose gold changed are named, and compared with nothing"
    score_run(result.path)
    assert values(result.path)["words"] == 0.75, "scored again, it is corrected again"


def test_notes_of_the_viewer_are_corrections(run: Path) -> None:
    notes = [
        {"task": "words", "subset": "", "id": 0, "kind": "gold", "why": "", "at": "", "gold": "x"},
        {"task": "words", "subset": "", "id": 1, "kind": "gold", "why": "?", "at": ""},
        {"task": "words", "subset": "", "id": 2, "kind": "interesting", "why": "", "at": ""},
    ]
    path = fixes(run, json.dumps({"format": 1, "notes": notes}), "notes.json")
    told = Told()
    result = score_run(run, progress=told, gold_fixes=path)
    assert values(result.path) == {"letters": 1.0, "words": 0.75}
    assert any("1 of 2 do not say what is right" in line for line in told.lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task,id,gold\nletters,0,two\n", "2 subsets"),
        ("task,id,gold\nletters,law/0,four\n", "no option of letters law/0"),
        ("task,id,gold\nletters,law/0,D\n", "no option"),
        ("task,id,gold\nwords,1,a\nwords,1,b\n", "another row says 'a'"),
        ("task,id,gold\nwords,one,a\n", "row 1: id 'one'"),
        ("task,id,glod\nwords,1,a\n", "did you mean 'glod'"),
        ("task,id,gold\nwords,1,词1\n", "changes no gold"),
        ("task,id,gold\nword,1,a\n", "changes no gold"),
        ("task,id,gold\nwords,1,\n", "says of no sample"),
        ("task,id,gold\n", "has no rows"),
        ("", "rows"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(run: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        score_run(run, gold_fixes=fixes(run.parent, text))
    assert not (run / "corrected").exists() or not list((run / "corrected").iterdir())


def test_a_file_that_is_not_there_and_a_run_that_is_corrected_already(run: Path) -> None:
    refused = run_harness("score", str(run), "--gold_fixes", "nowhere.csv")
    assert refused.exit_code == 4 and "nowhere.csv: there is no such file" in refused.stderr
    path = fixes(run.parent, "task,id,gold\nwords,1,x\n")
    result = score_run(run, gold_fixes=path)
    with pytest.raises(UsageError, match="name the run itself"):
        score_run(result.path, gold_fixes=path)
