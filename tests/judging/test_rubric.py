"""Rubric files: the built-in ones hold, and a mistake in one is a line of the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from judged_runs import Judging, judge, make_run

from harness.errors import TaskError, UsageError
from harness.judging.rubric import find_rubric, read_rubric, rubric_files
from harness.registry import load_plugins

FOLDERS = tuple(load_plugins().template_folders())
BUILT_IN = {path.stem: path for _, path in rubric_files(FOLDERS)}
GOOD = """\
rubric: mine
title: Mine
prompt: "{{ question }} {{ answer | fenced }}"
reply:
  reason: {type: text}
  score: {type: integer, min: 1, max: 5}
score: score
"""


def read(folder: Path, text: str, name: str = "mine.yaml") -> object:
    (folder / name).write_text(text, encoding="utf-8")
    return read_rubric(folder / name, FOLDERS)


def test_each_kind_is_there_in_chinese_and_english() -> None:
    assert set(BUILT_IN) == {
        f"{kind}_{language}" for kind in ("quality", "correctness", "preference", "live") for language in ("en", "zh")
    }


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_rubric_is_named_as_its_file_and_fences_all_that_others_wrote(name: str) -> None:
    rubric = find_rubric(name, FOLDERS)
    assert rubric.name == name
    assert rubric.title
    assert (rubric.format.language, rubric.pairwise) == (name[-2:], name.startswith("preference"))
    for variable in ("question", "answer", "answer_a", "answer_b", "reference"):
        for use in rubric.prompt.source.split("{{ " + variable + " ")[1:]:
            assert use.startswith("| fenced("), f"{variable} is shown without marks"
    assert rubric.prompt.source.rstrip().endswith("{{ format }}"), "what others wrote has the last word"
    for example in rubric.format.examples():
        assert rubric.format.parse(example)


def test_names_packages_and_files(tmp_path: Path) -> None:
    assert find_rubric("harness-eval/quality_en", FOLDERS).name == "quality_en"
    (tmp_path / "rubrics").mkdir()
    (tmp_path / "rubrics" / "quality_en.yaml").write_text(GOOD, encoding="utf-8")
    both = (*FOLDERS, ("other", tmp_path))
    with pytest.raises(UsageError, match="say which, harness-eval/quality_en and other/quality_en"):
        find_rubric("quality_en", both)
    assert find_rubric("other/quality_en", both).name == "mine"
    with pytest.raises(UsageError, match="there is no rubric 'qualty_en'; did you mean 'quality_en'"):
        find_rubric("qualty_en", FOLDERS)


def test_a_rubric_can_build_on_another(tmp_path: Path) -> None:
    base = BUILT_IN["quality_en"]
    text = f"include: {base}\nrubric: kind\ncriteria: [It is kind to beginners.]\n"
    (tmp_path / "kind.yaml").write_text(text, encoding="utf-8")
    rubric = read_rubric(tmp_path / "kind.yaml", FOLDERS)
    assert rubric.criteria == ("It is kind to beginners.",)
    assert rubric.digest != read_rubric(base, FOLDERS).digest
    judge(make_run(tmp_path, {"": "x"}), str(tmp_path / "kind.yaml"), lambda prompt: "", retries=0)
    asked = Judging.asked[0].prompt.messages[0].text
    assert "- It is kind to beginners.\n" in asked
    assert "It is true" not in asked


def test_the_digest_is_of_what_a_judge_is_asked_and_of_nothing_else(tmp_path: Path) -> None:
    first = read(tmp_path, GOOD)
    renamed = read(tmp_path, GOOD.replace("title: Mine", "title: Other"))
    assert first.digest == renamed.digest  # type: ignore[attr-defined]
    for change in (("max: 5", "max: 6"), ("fenced", "fenced('x')"), ("type: text", "type: text, about: why")):
        assert read(tmp_path, GOOD.replace(*change)).digest != first.digest  # type: ignore[attr-defined]


def test_a_shared_template_is_part_of_the_digest(tmp_path: Path) -> None:
    (tmp_path / "intro.jinja").write_text("Be strict. {{ answer }}", encoding="utf-8")
    text = GOOD.replace('"{{ question }} {{ answer | fenced }}"', "\"{% include 'intro.jinja' %}\"")
    first = read(tmp_path, text).digest  # type: ignore[attr-defined]
    (tmp_path / "intro.jinja").write_text("Be kind. {{ answer }}", encoding="utf-8")
    assert read_rubric(tmp_path / "mine.yaml", FOLDERS).digest != first


def test_a_prompt_without_the_format_gets_it_at_its_end_and_a_system_turn_stands_first(tmp_path: Path) -> None:
    read(tmp_path, GOOD + "system: You judge {{ task }}.\n")
    rubric, run = str(tmp_path / "mine.yaml"), make_run(tmp_path, {"": "x"})
    judge(run, rubric, lambda prompt: "", retries=0)
    first, second = Judging.asked[0].prompt.messages
    assert (first.role, first.text) == ("system", "You judge talk.")
    assert second.text.endswith('"score": <a whole number from 1 to 5>}')
    judge(run, rubric, lambda prompt: "", retries=1, apply_chat_template=False)
    plain = Judging.asked[0].prompt
    assert not plain.is_chat
    assert plain.prefix == "You judge talk.\n\n"
    assert Judging.asked[-1].prompt.suffix.startswith(Judging.asked[3].prompt.suffix)
    assert "could not be read: it is empty" in Judging.asked[-1].prompt.suffix


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("title", "titel", 2, "unknown key 'titel'; did you mean 'title'?"),
        ("score: score\n", "", 1, "missing key 'score'"),
        ("score: score", "score: scor", 7, "score: the reply has no key 'scor'; did you mean 'score'?"),
        ("score: score", "score: reason", 5, "reply.reason: the headline has a value; make it a score"),
        ("max: 5", "mx: 5", 6, "unknown key 'mx' in 'reply.score'; did you mean 'max'?"),
        (", max: 5", "", 6, "reply.score: type integer needs 'max'"),
        ("max: 5", "max: 1", 6, "reply.score.min: should be less than max, found 1.0 and 1.0"),
        ("max: 5", "max: .nan", 6, "should be less than max"),
        ("max: 5", "max: 4.5", 6, "the ends of a range of whole numbers are whole"),
        ("max: 5", "max: five", 6, "reply.score.max: should be a valid number, found 'five'"),
        ("{type: text}", "{type: text, min: 1}", 5, "reply.reason.min: has no meaning for type text"),
        ("{type: text}", "{type: string}", 5, "reply.reason.type: should be 'integer', 'number', 'boolean', 'choice'"),
        ("reason:", "my reason:", 5, "reply.my reason: a key of the reply is a word"),
        ("question }}", "questoin }}", 3, "prompt: there is no 'questoin' to show; did you mean 'question'?"),
        ("answer |", "question |", 3, "prompt: shows no answer, so that"),
        ("fenced", "fencd", 3, "prompt: No filter named 'fencd'"),
        ("{{ question }}", "{{ question", 3, "prompt: "),
        ('"{{ question }} {{ answer | fenced }}"', '""', 3, "prompt: should be something, not empty"),
        ("{type: integer, min: 1, max: 5}", "{type: choice}", 6, "reply.score: type choice needs 'choices'"),
        ("{type: integer, min: 1, max: 5}", "{type: choice, choices: [a]}", 6, "should be two or more, all different"),
        ("{type: integer, min: 1, max: 5}", "{type: choice, choices: [a, a]}", 6, "should be two or more, all differ"),
        (
            "{type: integer, min: 1, max: 5}",
            "{type: choice, choices: [a, b]}",
            6,
            "its choices say what they are",
        ),
        ("{type: integer, min: 1, max: 5}", "{type: choice, choices: [yes, no]}", 6, "should be"),
        ("title: Mine", "kind: pairwise", 6, "the winner of a pair is a choice of A, B and tie"),
        ("title: Mine", "language: fr", 2, "language: should be 'en' or 'zh', found 'fr'"),
        ("title: Mine", "generation_kwargs: {temperature: hot}", 2, "temperature: should be a valid number"),
        ("title: Mine", "system: Judge {{ answer }}", 2, "system: there is no 'answer' to show"),
        ("title: Mine", "title: !function my.code", 2, "is Python"),
    ],
)
def test_a_mistake_is_a_line_of_the_file(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(TaskError) as refused:
        read(tmp_path, GOOD.replace(old, new))
    text = str(refused.value)
    assert f"mine.yaml:{line}: " in text
    assert message in text
    assert "\n" not in text


def test_a_pair_needs_both_answers_and_a_winner_without_a_price(tmp_path: Path) -> None:
    pair = (
        GOOD.replace("title: Mine", "kind: pairwise")
        .replace("{{ answer | fenced }}", "{{ answer_a }} {{ answer_b }}")
        .replace("{type: integer, min: 1, max: 5}", "{type: choice, choices: [A, B, tie]}")
    )
    assert read(tmp_path, pair).pairwise  # type: ignore[attr-defined]
    for old, new, message in (
        ("{{ answer_b }}", "", "shows no answer_b"),
        ("[A, B, tie]", "[A, B, C]", "a choice of A, B and tie"),
        ("[A, B, tie]", "[A, tie]", "a choice of A, B and tie"),
        ("[A, B, tie]", "{A: 1, B: 0}", "what a winner is worth"),
        ("{{ answer_b }}", "{{ answer }}", "there is no 'answer' to show"),
    ):
        with pytest.raises(TaskError, match=message):
            read(tmp_path, pair.replace(old, new))
