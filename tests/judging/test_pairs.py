"""Two runs against each other: both orders are asked, and only what both agree on is a win."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from judged_runs import ROWS, Judging, Messages, headline, judge, make_run, records

from harness.judging.verdicts import Pair

OLD = {"中国": "上海", "化学式": "H2O", "2 + 2": "5", "red": "Venus"}
NEW = {"中国": "北京", "化学式": "水", "2 + 2": "5", "red": "Mars"}


def winner(name: str) -> str:
    return json.dumps({"reason": "so", "winner": name})


def answers(prompt: str) -> list[str]:
    return [text for _, text in re.findall(r"<(answer-[0-9a-f]+)>\n(.*?)\n</\1>", prompt, re.DOTALL)]


def fair(prompt: str) -> str:
    """Prefers the answer that is the reference."""
    (right,) = re.findall(r"<reference-[0-9a-f]+>\n(.*?)\n", prompt)
    found = [place for place, text in zip("AB", answers(prompt), strict=True) if text == right]
    return winner(found[0] if found else "tie")


def runs(folder: Path) -> list[str]:
    return [make_run(folder, OLD, "old"), make_run(folder, NEW, "new")]


def values(result: object) -> dict[str, float | None]:
    metrics = result.judgements[0].report["tasks"][0]["metrics"]  # type: ignore[attr-defined]
    return {metric["metric"]: metric["value"] for metric in metrics}


def test_the_second_run_wins_where_it_is_better_in_both_orders(tmp_path: Path) -> None:
    result = judge(runs(tmp_path), "preference_en", fair)
    assert [answers(request.prompt.messages[0].text) for request in Judging.asked[:2]] == [
        ["上海", "北京"],
        ["北京", "上海"],
    ]
    assert values(result) == {
        "win_rate": 0.625,
        "win": 0.5,
        "loss": 0.25,
        "tie": 0.25,
        "order_changes_verdict": 0.0,
        "first_shown_wins": 0.5,
    }
    assert result.judgements[0].report["pairs"]["talk"] == {"wins": 2, "losses": 1, "ties": 1, "p_value": 1.0}
    assert result.judgements[0].path.parent.parent.parent.name == "new"
    low, high = headline(result)["interval"]
    assert 0 <= low < 0.625 < high <= 1


def test_equal_answers_are_a_tie_and_nobody_is_asked(tmp_path: Path) -> None:
    result = judge(runs(tmp_path), "preference_en", fair)
    assert len(Judging.asked) == 6
    same = records(result)[2]
    assert same.scores["win_rate"] == 0.5
    assert same.scores["first_shown_wins"] is None
    assert same.judge["skipped"] == "the two answers are the same"
    assert result.judgements[0].report["work"]["talk"]["skipped"] == {"the two answers are the same": 1}


@pytest.mark.parametrize(("favourite", "first"), [("A", 1.0), ("B", 0.0)])
def test_a_judge_that_favours_a_place_gives_ties_and_is_shown_up(tmp_path: Path, favourite: str, first: float) -> None:
    found = values(judge(runs(tmp_path), "preference_zh", lambda prompt: winner(favourite)))
    assert (found["win_rate"], found["win"], found["loss"], found["tie"]) == (0.5, 0.0, 0.0, 1.0)
    assert (found["order_changes_verdict"], found["first_shown_wins"]) == (1.0, first)


def test_one_order_without_a_verdict_is_no_verdict(tmp_path: Path) -> None:
    def once(prompt: str) -> str:
        return "dunno" if answers(prompt)[0] in ("北京", "水", "Mars") else fair(prompt)

    result = judge(runs(tmp_path), "preference_en", once, retries=0)
    assert headline(result)["n"] == 1  # the equal pair
    record = records(result)[0]
    assert record.scores["win_rate"] is None
    assert record.answers == {"winner": ("B", None)}
    assert [asked["order"] for asked in record.judge["asked"]] == ["AB", "BA"]
    assert answers(record.judge["asked"][1]["messages"][0]["content"]) == ["北京", "上海"]


def test_the_other_way_round_is_the_other_result(tmp_path: Path) -> None:
    old, new = runs(tmp_path)
    assert headline(judge([new, old], "preference_en", fair))["value"] == 1 - 0.625
    # Which order comes first differs, the questions do not: but these are the judgements of another run.
    assert len(Judging.asked) == 6


def test_samples_that_are_not_in_both_runs_or_not_the_same_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "question": "中国的首都是哪个城市？"}, *ROWS[1:3]]
    messages = Messages()
    pair = [make_run(tmp_path / "a", OLD), make_run(tmp_path / "b", NEW, rows=rows)]
    result = judge(pair, "preference_en", fair, progress=messages)
    assert [record.id for record in records(result).values()] == [1, 2]
    assert "talk: 2 samples are not the same in both runs, and are left out" in messages.texts


def test_repeats_are_paired_in_their_order(tmp_path: Path) -> None:
    extra = "generation_kwargs: {temperature: 1.0}\n"
    pair = [make_run(tmp_path / name, replies, repeats=2, extra=extra) for name, replies in (("a", OLD), ("b", NEW))]
    result = judge(pair, "preference_en", fair)
    assert values(result)["win_rate"] == 0.625
    assert len(records(result)[0].answers["winner"]) == 4


def test_a_judge_that_agrees_with_neither_order() -> None:
    assert [Pair(a, b).winner for a in (0, 1, None) for b in (0, 1, None)] == [0, None, None, None, 1, *[None] * 4]
    assert Pair(None, 1).first_shown == 1.0
    assert Pair(None, None).first_shown is None
    assert not Pair(1, None).agrees


def test_several_judges_of_a_pair(tmp_path: Path) -> None:
    result = judge(runs(tmp_path), "preference_en", lambda p: fair(p) if "[one]" in p else winner("tie"), "one", "two")
    assert result.panel is not None
    (metric,) = result.panel.report["tasks"][0]["metrics"]
    assert (metric["metric"], metric["value"]) == ("win_rate", (0.625 + 0.5) / 2)
    # One of the four pairs has equal answers: nobody was asked, and nobody agreed.
    assert (result.panel.agreement[0].equal, result.panel.agreement[0].n) == (0.0, 3)
