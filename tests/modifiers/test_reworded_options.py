"""Options in other words: what a model writes once, what is refused of it, and how rows are shown with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Asked, Reply, ScriptedServer, chat, error

from harness import evaluate
from harness.run.compare import compare_runs
from harness.run.result import load_run
from harness.tasks import options_key, read_option_texts, refusal
from harness.tasks.option_texts import OptionTexts, says_words, write_option_texts
from harness.testing import run_harness

TASK = """\
task: quiz
dataset_path: rows.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}\\nA. {{A}}\\nB. {{B}}\\nC. {{C}}\\nAnswer:"
doc_to_choice: [A, B, C]
doc_to_target: y
metric_list: [{metric: acc}]
options: {columns: [A, B, C], answer: y, question: q}
variants:
  texts: {doc_to_choice: "{{[A, B, C]}}", doc_to_text: "{{q}}", doc_to_target: "{{[A, B, C].index(y)}}",
          options: {columns: [A, B, C], answer: y, question: q, form: text}}
"""
ROWS = [
    {"q": f"What do the people of village {n} plant?", "A": f"tall red maize {n}", "B": "rice on terraces",
     "C": "no crop at all", "y": "ABC"[n % 3]}
    for n in range(6)
] + [
    {"q": "How many?", "A": "12", "B": "13", "C": "14", "y": "A"},
    {"q": "Which?", "A": "the first river", "B": "the second river", "C": "both of the above", "y": "C"},
]  # fmt: skip


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_RETRY_DELAY", "0")
    write_rows(ROWS)
    Path("quiz.yaml").write_text(TASK)


def write_rows(rows: list[dict[str, str]]) -> None:
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def other_words(text: str) -> str:
    return f"what is called {text}"


def says(asked: Asked) -> Reply:
    """Rewords all options; village 1 with another number, village 2 with talk, village 3 one option too few."""
    first = str(asked.body["messages"][1]["content"])
    village = int(re.findall(r"village (\d)", first)[0])
    lines = [other_words(text) for text in (f"tall red maize {village}", "rice on terraces", "no crop at all")]
    if village == 1:
        lines[0] = lines[0].replace("1", "2")
    if village == 2:
        lines[1] += " (this is the correct answer)"
    if village == 4:
        return error(500, "busy")
    return chat(json.dumps({"options": "\n".join(lines[: 2 if village == 3 else 3])}))


def paraphrase(server: ScriptedServer, *words: str, name: str = "writer") -> Any:
    args = f"model={name},base_url={server.url},num_concurrent=2,retry_delay=0.001,max_retries=0,api_key=sk-hidden-key"
    return run_harness("paraphrase", "quiz.yaml", "--to", "words", "--model", "openai", "--model_args", args, *words)


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (["soil of 3 m", "water"], ""),
        (["earth of 3 m"], "another number of texts: 1 for 2"),
        (["earth of 3 m", " "], "a text is empty"),
        (["earth of 3 m", "earth of 3 m."], "two texts are the same"),
        (["Water", "a drink"], "a text is that of another option"),
        (["earth of 4 m", "a drink"], "numbers or units are others"),
        (["earth of 3 km", "a drink"], "numbers or units are others"),
        (["earth of 3 m", "a drink, which is the correct option"], "a text talks about options"),
        (["earth of 3 m", "B. a drink"], "a text begins with a letter of its own"),
        (["earth of 3 m", "a drink " * 12], "a text explains"),
        (["earth of 3 m", "a\ndrink"], "a text has several lines"),
        (["SOIL of ３ m", "water."], "nothing is said in other words"),
        (["earth of 3 m", "\ud83d a drink"], "a text holds half of a character"),
    ],
)
def test_only_words_that_say_the_same_may_stand_for_options(new: list[str], said: str) -> None:
    own = ["soil of 3 m", "water"]
    found = refusal(own, ["earth of 3 m", "a drink"] if not said else new)
    assert found.startswith(said) and bool(found) == bool(said)


def test_chinese_amounts_stay_and_formulas_are_not_asked_about() -> None:
    assert refusal(["1949年成立", "５米高"], ["成立于1949年", "高度为5米"]) == ""
    assert refusal(["1949年成立", "5米高"], ["成立于1950年", "高度为5米"]) == "numbers or units are others"
    assert refusal(["长江", "黄河"], ["中国最长的河", "正确答案是黄河"]) == "a text talks about options"
    assert [says_words([text]) for text in ("12 kg", "$x^2+y$", "A", "\\frac{1}{2}", "水", "of")] == [
        True, False, False, False, True, True
    ]  # fmt: skip


def test_a_model_is_asked_once_and_what_it_may_not_say_is_counted(server: ScriptedServer) -> None:
    server.answer = says
    done = paraphrase(server)
    assert done.exit_code == 1, done.output
    assert "words/quiz.options.json: the options of 2 of 8 rows in other words, by writer" in done.stdout
    for line in (
        "left out: 1, numbers or units are others",
        "left out: 1, a text talks about options",
        "left out: 1, another number of texts",
        "left out: 1, the model failed",
        "left out: 1, its options are numbers, letters or formulas",
        "left out: 1, options that may not be moved",
        "the same command asks again where the model failed",
    ):
        assert line in done.stderr, done.stderr
    kept = read_option_texts(Path("words/quiz.options.json"))
    key = options_key(ROWS[0]["q"], [ROWS[0][letter] for letter in "ABC"])
    assert kept.texts[key] == tuple(other_words(ROWS[0][letter]) for letter in "ABC")
    assert kept.model == "writer" and kept.form.startswith("options_en@") and "sk-hidden" not in str(kept)
    before = len(server.asked)
    server.answer = lambda asked: chat(json.dumps({"options": "a of 4\nb y\nc z"}))
    again = paraphrase(server, "--limit", "5")
    assert len(server.asked) == before + 1  # the one that failed
    assert "2 of 5 rows" in again.stdout
    assert len(read_option_texts(Path("words/quiz.options.json")).texts) == 3  # the row beyond the limit is still there
    other = paraphrase(server, name="another")
    assert other.exit_code == 4
    assert "has the words of another model or form (writer, options_en@" in other.output


def test_where_no_row_is_to_be_asked_the_same_command_says_so_again_and_words_stay(server: ScriptedServer) -> None:
    server.answer = says
    write_rows(ROWS[6:])  # numbers, and options that may not be moved
    for _ in range(2):
        done = paraphrase(server)
        assert done.exit_code == 0 and "the options of 0 of 2 rows in other words" in done.output
    write_rows(ROWS)
    assert "the options of 2 of 8 rows in other words, by writer" in paraphrase(server).stdout
    write_rows(ROWS[6:])
    assert paraphrase(server).exit_code == 0
    kept = read_option_texts(Path("words/quiz.options.json"))
    assert (kept.model, len(kept.texts)) == ("writer", 2) and kept.form.startswith("options_en@")


def texts_of(rows: list[dict[str, str]]) -> Mapping[str, tuple[str, ...]]:
    return {
        options_key(row["q"], [row[letter] for letter in "ABC"]): tuple(other_words(row[letter]) for letter in "ABC")
        for row in rows
    }


def written(rows: list[dict[str, str]], name: str = "quiz.options.json", **refused: str) -> str:
    write_option_texts(OptionTexts("quiz", "writer", "options_en@0", "2026-11-29", texts_of(rows), refused), Path(name))
    return name


def test_rows_are_shown_with_other_words_and_compared_with_plain_ones() -> None:
    file = written(ROWS[:5])
    result = evaluate("dummy", "mode=gold", "quiz.yaml", modify=(f"paraphrase_options={file}",))
    (task,) = result.report["tasks"]
    assert task["task"] == "quiz+paraphrase_options=quiz"
    found = {metric["metric"]: (metric["value"], metric["n"]) for metric in task["metrics"]}
    assert found == {"acc": (1.0, 8), "reworded_acc": (1.0, 5), "kept_options": (0.375, 8)}
    first, *_, last = result.samples()
    assert "A. what is called tall red maize 0\nB. what is called rice on terraces" in first.prompt.text
    assert (first.target, last.view.kept) == (0, "option C refers to others: both of the above")
    told = load_run(result.path).manifest["tasks"][task["task"]]["modified_by"]["paraphrase_options=quiz"]
    assert (told["model"], told["form"]) == ("writer", "options_en@0")
    plain = evaluate("dummy", "mode=gold", "quiz.yaml")
    (comparison,) = compare_runs(plain.path, result.path, across=True)
    assert (comparison.difference, comparison.ties) == (0.0, 8)
    other = written(ROWS[:4], "quiz.second.json")
    second = evaluate("dummy", "mode=gold", "quiz.yaml", modify=(f"paraphrase_options={other}",))
    assert second.path != result.path  # other words, another run


def test_other_words_go_with_their_option_wherever_it_stands_and_are_its_answer() -> None:
    file = written(ROWS[:6])
    turned = evaluate("dummy", "mode=gold", "quiz.yaml", modify=(f"paraphrase_options={file}", "circular"), limit=3)
    views = [record for record in turned.samples() if record.id == 1]
    assert [record.doc["A"] for record in views] == [
        f"what is called {text}" for text in ("tall red maize 1", "rice on terraces", "no crop at all")
    ]
    assert [record.target for record in views] == [1, 0, 2]
    write_rows([{**row, "y": row[row["y"]]} for row in ROWS[:6]])
    texts = evaluate("dummy", "mode=gold", "quiz.yaml:texts", modify=(f"paraphrase_options={file}",))
    for record in texts.samples():
        assert record.choices[record.target] == record.doc["y"] == other_words(ROWS[record.id]["ABC"[record.id % 3]])


def test_files_that_are_none_are_one_line() -> None:
    def said(value: str) -> str:
        done = run_harness("--tasks", "quiz.yaml", "--model", "dummy", "--modify", f"paraphrase_options={value}")
        assert done.exit_code == 4 and "Traceback" not in done.output
        return done.output.strip().splitlines()[-1]

    assert "nowhere: cannot be read: No such file or directory; `harness paraphrase` writes such files" in said(
        "nowhere"
    )
    Path("x.json").write_text("{}")
    assert "x.json: no file of options in other words" in said("x.json")
    Path("x.json").write_text('{"format": "harness option texts 1", "texts": {"a": [1]}, "refused": {}}')
    assert "x.json: damaged: 'texts' should map each row to a list of texts" in said("x.json")
    assert "name the file that `harness paraphrase` wrote" in said("3")
    strangers = written([{**ROWS[0], "q": "Another question?"}])
    assert "none of the 8 rows of task 'quiz+paraphrase_options=quiz' can be changed" in said(strangers)


def test_where_nothing_was_left_to_ask_nobody_is_named(server: ScriptedServer) -> None:
    write_rows(ROWS[6:])
    done = paraphrase(server)
    assert "words/quiz.options.json: the options of 0 of 2 rows in other words\n" in done.stdout
