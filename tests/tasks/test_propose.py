"""`harness new task --from`: columns, options and answers are proposed from real rows, and the file works at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.tasks.propose import propose
from harness.testing import run_harness

LETTERED = [
    {"题目": f"哪个是{n}？", "A": f"甲{n}", "B": f"乙{n}", "C": f"丙{n}", "答案": "ABC"[n % 3]} for n in range(6)
]
SHAPES: dict[str, tuple[list[dict[str, Any]], str, tuple[str, ...], str]] = {
    "letters": (LETTERED, "题目", ("A", "B", "C"), "letter"),
    "small letters": ([{**row, "答案": row["答案"].lower()} for row in LETTERED], "题目", ("A", "B", "C"), "letter"),
    "numbered columns, place from 0": (
        [{"question": f"q{n}", "option_a": "x", "option_b": "y", "label": n % 2} for n in range(4)],
        "question",
        ("option_a", "option_b"),
        "index from 0",
    ),
    "list, place from 1": (
        [{"question": f"q{n}", "choices": ["x", "y", "z"], "answer": str(n % 3 + 1)} for n in range(6)],
        "question",
        ("choices",),
        "index from 1",
    ),
    "list, text of an option": (
        [{"stem": f"q{n}", "options": [f"x{n}", f"y{n}"], "answer": f"y{n}"} for n in range(4)],
        "stem",
        ("options",),
        "text of an option",
    ),
    "mapping of lists": (
        [
            {"question": f"q{n}", "choices": {"text": ["u", "v"], "label": ["A", "B"]}, "answerKey": "B"}
            for n in range(3)
        ],
        "question",
        ("choices.text",),
        "letter",
    ),
    "free text": ([{"question": f"1+{n}=?", "answer": str(1 + n)} for n in range(4)], "question", (), "free text"),
    "passage": (
        [{"context": f"第{n}段。" * 9, "question": f"问{n}", "A": "对", "B": "错", "answer": "A"} for n in range(4)],
        "question",
        ("A", "B"),
        "letter",
    ),
    "mapping of letters": (
        [{"q": f"q{n}", "options": {"A": f"x{n}", "B": "y"}, "gold": "AB"[n % 2]} for n in range(4)],
        "q",
        ("options",),
        "letter",
    ),
    "mappings of unlike sizes": (
        [{"q": f"q{n}", "options": {k: f"{k}{n}" for k in "ABC"[: 2 + n % 2]}, "gold": "B"} for n in range(4)],
        "q",
        ("options",),
        "letter",
    ),
    "list of mappings": (
        [
            {"question": "q", "choices": [{"label": "A", "text": "x"}, {"label": "B", "text": f"y{n}"}], "label": "B"}
            for n in range(3)
        ],
        "question",
        ("choices",),
        "letter",
    ),
    "list of numbers": (
        [{"question": f"1 + {n}", "choices": [1, 2, 3], "answer": 1 + n} for n in range(3)],
        "question",
        ("choices",),
        "text of an option",
    ),
    "letters in front of the texts": (
        [{"question": f"q{n}", "options": [f"A. x{n}", "B. y"], "answer": "AB"[n % 2]} for n in range(4)],
        "question",
        ("options",),
        "letter",
    ),
    "a line an option": (
        [{"question": f"q{n}", "options": f"A、x{n}\nB、y", "answer": "AB"[n % 2]} for n in range(4)],
        "question",
        ("options",),
        "letter",
    ),
    "JSON in a cell": (
        [{"question": f"q{n}", "options": f'["x{n}", "y"]', "answer": n % 2} for n in range(4)],
        "question",
        ("options",),
        "index from 0",
    ),
    "texts between bars": (
        [{"問題": f"q{n}", "選項": f"x|y|z{n}", "答案": "xy"[n % 2]} for n in range(4)],
        "問題",
        ("選項",),
        "text of an option",
    ),
    "options in the question": (
        [{"question": f"q{n}\nA. x\nB. y", "answer": "AB"[n % 2]} for n in range(4)],
        "question",
        (),
        "letter",
    ),
    "letters in full width or brackets": (
        [{"题目": f"q{n}", "选项A": "x", "选项B": "y", "答案": ("Ａ", "(B)", "b.")[n % 3]} for n in range(6)],
        "题目",
        ("选项A", "选项B"),
        "letter",
    ),
    "names that are no identifiers": (
        [{"the question": f"q{n}", "opt-a": "x", "opt-b": "y", "correct answer": "xy"[n % 2]} for n in range(4)],
        "the question",
        ("opt-a", "opt-b"),
        "text of an option",
    ),
    "fewer options in some rows": (
        [{"question": f"q{n}", "A": "x", "B": "y", "C": "z" * (n % 2), "answer": "AC"[n % 2]} for n in range(4)],
        "question",
        ("A", "B", "C"),
        "letter",
    ),
    "blanks around the names of columns": (
        [{"question": f"q{n}", "A ": "x", " B": "y", "answer ": "AB"[n % 2]} for n in range(4)],
        "question",
        ("A ", " B"),
        "letter",
    ),
    "columns from the last option to the first": (
        [{"question": f"q{n}", "C": "z", "B": "y", "A": "x", "answer": "ABC"[n % 3]} for n in range(6)],
        "question",
        ("A", "B", "C"),
        "letter",
    ),
    "columns that begin at no first option": (
        [{"question": f"q{n}", "B": "y", "C": "z", "answer": "BC"[n % 2]} for n in range(4)],
        "question",
        (),
        "free text",
    ),
    "several letters are right": (
        [{"question": f"q{n}", "A": "x", "B": "y", "answer": ("AB", "A")[n % 2]} for n in range(4)],
        "question",
        ("A", "B"),
        "free text",
    ),
    "an input behind the instruction": (
        [{"instruction": "Translate", "input": f"word {n}", "output": f"词{n}"} for n in range(3)],
        "instruction",
        (),
        "free text",
    ),
    "a number behind its derivation": (
        [{"question": f"1+{n}=?", "answer": f"It is\n#### {1 + n}"} for n in range(3)],
        "question",
        (),
        "free text",
    ),
    "answers under an unknown name": (
        [{"question": f"q{n}", "A": "x", "B": "y", "key": "AB"[n % 2]} for n in range(4)],
        "question",
        ("A", "B"),
        "letter",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_proposed_passes_its_own_check_and_a_right_model_scores_1(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows, question, options, form = SHAPES[shape]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    proposal = propose(rows)
    assert (proposal.question, proposal.options, proposal.form) == (question, options, form)
    made = run_harness("new", "task", "mine", "--from", "rows.jsonl")
    assert made.exit_code == 0, made.output
    assert f"question: {question}; options: {', '.join(options) or 'none'}" in made.output
    checked = run_harness("check", "mine.yaml", "--data", ".")
    assert checked.exit_code == 0, checked.output
    assert f"mine, split test: {len(rows)} rows" in checked.output
    ran = run_harness("--tasks", "mine.yaml", "--model", "dummy", "--model_args", "mode=gold")
    assert ran.exit_code == 0, ran.output
    assert " 1.0000 " in ran.output


def test_rows_that_no_file_can_hold_are_no_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"question": "\\ud800 x", "choices": ["a", "b"], "answer": 0}\n', encoding="utf-8")
    made = run_harness("new", "task", "mine", "--from", "rows.jsonl")
    assert (made.exit_code, "half of a character (U+D800)" in made.output) == (0, True)
    assert "example:" not in Path("mine.yaml").read_text(encoding="utf-8")
    Path("rows.jsonl").write_text('{"question \\ud800": "x", "answer": "0"}\n', encoding="utf-8")
    refused = run_harness("new", "task", "other", "--from", "rows.jsonl")
    assert (refused.exit_code, "the name of a column holds half of a character" in refused.output) == (4, True)
    assert not Path("other.yaml").exists()


def test_a_csv_in_a_mirror_and_a_config_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("mirror/org/set/law")
    folder.mkdir(parents=True)
    (folder / "val.csv").write_text("question,A,B,answer\nq1,x,y,A\nq2,x,y,B\n", encoding="utf-8")
    made = run_harness("new", "task", "mine", "--from", "org/set:law", "--data", "mirror")
    assert made.exit_code == 0, made.output
    text = Path("mine.yaml").read_text(encoding="utf-8")
    assert 'dataset_path: "org/set"\ndataset_name: "law"\nvalidation_split: "validation"' in text
    assert run_harness("check", "mine.yaml", "--data", "mirror").exit_code == 0


@pytest.mark.parametrize(
    ("encoding", "delimiter", "said"),
    [
        ("gb18030", ",", '{"encoding": "gb18030"}'),
        ("utf-16", "\t", '{"encoding": "utf-16", "delimiter": "\\t"}'),
        ("utf-8-sig", ";", '{"delimiter": ";"}'),
        ("utf-8", ",", ""),
    ],
)
def test_a_table_of_a_spreadsheet_is_read_as_it_was_saved(
    encoding: str, delimiter: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cells = ["题目,A,B,答案", "一加一等于几？,二,三,A", "二加一等于几？,二,三,B"]
    text = "\r\n".join(line.replace(",", delimiter) for line in cells) + "\r\n"
    Path("rows.csv").write_bytes(text.encode(encoding))
    made = run_harness("new", "task", "mine", "--from", "rows.csv")
    assert made.exit_code == 0, made.output
    assert ("which is a guess" in made.output) == ("encoding" in said)
    written = Path("mine.yaml").read_text(encoding="utf-8")
    assert (f"dataset_kwargs: {said}\n" in written) if said else ("dataset_kwargs" not in written)
    assert "一加一等于几？\\nA. 二\\nB. 三\\n答案：" in written
    assert run_harness("check", "mine.yaml", "--data", ".").exit_code == 0


def test_what_the_model_is_not_shown_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"qid": n, "question": f"q{n}", "hint": "h", "answer": f"a{n}", "level": 3} for n in range(4)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = run_harness("new", "task", "mine", "--from", "rows.jsonl")
    assert "look at: what the model is not shown: hint, level" in made.output


def test_doubts_are_said_and_stand_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"q{n}", "choices": ["x", "y", "z"], "answer": 1} for n in range(4)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = run_harness("new", "task", "mine", "--from", "rows.jsonl")
    assert "is never 0 and never the last: does it count from 1?" in made.output
    assert "# Look at: 'answer' is never 0" in Path("mine.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"n": 1, "m": 2}], "no column holds texts"),
        ([{"question": "q"}], "no column says which answer is right"),
    ],
)
def test_rows_that_say_too_little_are_refused(
    rows: list[dict[str, Any]], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    made = run_harness("new", "task", "mine", "--from", "rows.jsonl")
    assert made.exit_code == 4
    assert said in made.output
    assert not Path("mine.yaml").exists()
