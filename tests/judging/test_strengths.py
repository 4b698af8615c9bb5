"""Win rates against the reference answers, and several runs in one order."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judged_runs import Judging, headline, judge, make_run, records
from scipy.optimize import minimize
from test_pairs import NEW, OLD, answers, winner

import harness
from harness import UsageError
from harness.judging.strengths import ELO, JudgedPair, task_strengths
from harness.scoring.statistics.bradley_terry import PairOutcome, strengths
from harness.testing import run_harness
from harness.types import Prompt, Record


def longer(prompt: str) -> str:
    """Prefers the longer answer."""
    first, second = map(len, answers(prompt))
    return winner("tie" if first == second else "AB"[second > first])


def test_a_run_wins_or_loses_against_the_reference_answers_which_the_judge_is_not_told(tmp_path: Path) -> None:
    replies = {"中国": "上海", "化学式": "H2O", "2 + 2": "four, I think", "red": "Venus"}
    result = judge(make_run(tmp_path, replies), "preference_en", longer, against_references=True)
    shown = [answers(request.prompt.messages[0].text) for request in Judging.asked]
    assert shown[:2] == [["北京", "上海"], ["上海", "北京"]]
    assert not re.search("answer that is known to be right", Judging.asked[0].prompt.messages[0].text)
    assert headline(result)["value"] == (0.5 + 0.5 + 1 + 1) / 4
    assert [each["model"] for each in result.judgements[0].report["judged"]] == ["the reference answers", "says"]
    assert records(result)[1].judge["skipped"] == "the two answers are the same"


def test_a_row_without_a_reference_answer_is_not_asked_and_is_counted(tmp_path: Path) -> None:
    rows = [{"subset": "", "question": "2 + 2", "answer": ""}, {"subset": "", "question": "red", "answer": "Mars"}]
    run = make_run(tmp_path, {"2 + 2": "4", "red": "Jupiter"}, rows=rows)
    result = judge(run, "preference_en", longer, against_references=True)
    assert (headline(result)["n"], headline(result)["value"]) == (1, 1.0)
    assert result.judgements[0].report["work"]["talk"]["skipped"] == {"the row has no reference answer": 1}


def test_a_rubric_of_single_answers_has_no_references_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'quality_en' judges the answers of one run"):
        judge(make_run(tmp_path, OLD), "quality_en", longer, against_references=True)


def test_several_runs_are_compared_two_by_two_and_put_in_order(tmp_path: Path) -> None:
    third = {"中国": "北京市", "化学式": "H2O2", "2 + 2": "4!", "red": "M"}
    runs = [make_run(tmp_path, said, name) for name, said in (("old", OLD), ("new", NEW), ("third", third))]
    result = judge(runs, "preference_en", longer, "one", "two", against_references=True)
    assert len(result.judgements) == 2 * 6
    assert Judging.loads == ["one", "two"]  # once each, not once a pair
    found, again, joint = result.strengths
    assert (found.task, found.n, found.without, found.agreement) == ("talk", 24, 0, None)
    assert [side.elo for side in found.sides] == [side.elo for side in again.sides]
    assert (
        joint.judge == f"{found.judge}, {again.judge}" and joint.sides == found.sides
    )  # judges that agree are no further questions
    assert joint.agreement is not None and (joint.agreement.alpha, joint.agreement.equal) == (1.0, 1.0)
    said = [record for each in result.judgements[:6] for record in harness.load_run(each.path).records()]
    assert joint.agreement.n == 24 - sum("skipped" in (record.judge or {}) for record in said) < 24
    assert [side.run for side in found.sides] == ["", *runs]
    by_name = dict(zip(("references", "old", "new", "third"), found.sides, strict=True))
    assert by_name["references"].elo == 0.0
    assert by_name["third"].elo is not None and by_name["new"].elo is not None
    assert by_name["third"].elo > by_name["new"].elo
    low, high = by_name["third"].interval or (0.0, 0.0)
    assert low < by_name["third"].elo < high
    assert (by_name["third"].wins, by_name["third"].losses, by_name["third"].ties) == (9, 3, 0)


def verdict(score: float | None, question: int, **more: Any) -> Record:
    scores: dict[str, float | tuple[float, ...] | None] = {"win_rate": score}
    return Record(
        task="talk", subset="", id=str(question), doc={}, prompt=Prompt(), target=None, choices=None, responses=(),
        request_keys=(), scores=scores, **more,
    )  # fmt: skip


def test_several_judges_count_where_each_of_them_gave_a_verdict() -> None:
    """Judge b has no verdict on question 3, and nobody was asked about question 4, whose answers are the same."""
    one = [verdict(score, n) for n, score in enumerate([1.0, 1.0, 0.0, 1.0])]
    other = [verdict(score, n) for n, score in enumerate([1.0, 0.0, 0.0, None])]
    tie = verdict(0.5, 4, judge={"skipped": "the two answers are the same"})
    found = task_strengths(
        "talk", ["a", "b"], {"x": "X", "y": "Y"}, [JudgedPair("x", "y", [[*one, tie], [*other, tie]])]
    )
    assert (found.judge, found.n, found.without) == ("a, b", 4, 1)
    assert (found.sides[1].wins, found.sides[1].losses, found.sides[1].ties) == (1, 1, 2)
    assert found.sides[1].elo == pytest.approx(0.0)
    assert found.agreement is not None and (found.agreement.n, found.agreement.equal) == (3, 2 / 3)


@pytest.mark.slow
def test_a_side_that_lost_every_time_has_no_finite_strength_and_the_table_says_so(tmp_path: Path) -> None:
    nothing = make_run(tmp_path, dict.fromkeys(OLD, ""), "nothing")
    runs = [make_run(tmp_path, OLD, "old"), make_run(tmp_path, NEW, "new"), nothing]
    result = judge(runs, "preference_zh", longer)
    assert [side.elo is None for side in result.strengths[0].sides] == [False, False, True]
    assert result.to_dict()["strengths"][0]["sides"][2]["losses"] == 8


def test_the_command_shows_the_order(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, said, name) for name, said in (("old", OLD), ("new", NEW))]
    argv = ["judge", *runs, "--rubric", "preference_en", "--against_references", "--model", "dummy"]
    done = run_harness(*argv)
    assert done.exit_code == 0
    assert done.stdout.count("judged by dummy") == 3
    (place,) = [n for n, text in enumerate(done.stdout.splitlines()) if "Bradley-Terry" in text]
    assert "the reference answers" in done.stdout.splitlines()[place]
    assert done.stdout.splitlines()[place + 1].split() == ["model", "Elo", "95%", "interval", "wins", "losses", "ties"]
    assert len(json.loads(run_harness(*argv, "--json").stdout)["strengths"][0]["sides"]) == 3
    assert "12 samples" in run_harness(*argv, "--dry_run").stdout
    assert "is named twice" in run_harness("judge", runs[0], *runs, *argv[3:]).stderr


def test_two_players_have_the_closed_form() -> None:
    outcomes = [PairOutcome(0, 1, float(n < 30), n) for n in range(40)]
    first, second = strengths(outcomes, 2)
    assert first is not None and first.value == 0.0 and first.stderr is None
    assert second is not None and second.stderr is not None
    assert second.value == pytest.approx(np.log(30 / 10))
    assert second.stderr == pytest.approx(np.sqrt(1 / 30 + 1 / 10) * np.sqrt(40 / 39))


def test_strengths_are_the_maximum_of_the_likelihood_whichever_way_round_a_pair_stands() -> None:
    generator = np.random.default_rng(5)
    outcomes = [
        PairOutcome(a, b, float(generator.choice([0.0, 0.5, 1.0], p=[0.3, 0.2, 0.5])), n)
        for n in range(60)
        for a, b in ((0, 1), (2, 1), (3, 0), (2, 3))
    ]

    def loss(values: np.ndarray) -> float:
        s = np.array([0.0, *values])
        odds = np.array([s[each.second] - s[each.first] for each in outcomes])
        won = np.array([each.score for each in outcomes])
        return float(np.logaddexp(0, odds).sum() - won @ odds)

    best = minimize(loss, np.zeros(3), tol=1e-12).x
    found = strengths(outcomes, 4)
    assert [each.value for each in found if each] == pytest.approx([0.0, *best], abs=1e-5)
    turned = strengths([PairOutcome(each.second, each.first, 1 - each.score, each.cluster) for each in outcomes], 4)
    assert [each.stderr for each in turned if each] == pytest.approx([each.stderr for each in found if each])


def test_those_without_a_chain_of_wins_both_ways_are_left_out_and_the_others_are_not_moved() -> None:
    outcomes = [PairOutcome(0, 1, float(n % 3 == 0), n) for n in range(30)]
    alone = strengths(outcomes, 2)
    beaten = [PairOutcome(player, 2, 0.0, n) for n in range(30) for player in (0, 1)]
    assert strengths([*outcomes, *beaten], 3) == [*alone, None]
    assert strengths([], 2)[1] is None
    assert strengths([PairOutcome(0, 1, 1.0, 0)] * 5, 2)[1] is None
    (_, one_question) = strengths([PairOutcome(0, 1, float(n % 3 == 0), "same") for n in range(30)], 2)
    assert one_question is not None and one_question.stderr is None


@pytest.mark.slow
def test_intervals_cover_the_truth_where_questions_are_shared_by_all_pairs() -> None:
    """Every question favours a player for all its pairs: as independent verdicts, the intervals would be too narrow."""
    truth, generator, covered, tries = np.array([0.0, 0.5, -0.3]), np.random.default_rng(3), 0, 400
    pairs = [(0, 1), (0, 2), (1, 2)]

    def drawn(questions: int) -> list[PairOutcome]:
        shift = generator.normal(0, 1.0, (questions, 3))
        outcomes = []
        for n in range(questions):
            for a, b in pairs:
                odds = truth[b] - truth[a] + shift[n, b] - shift[n, a]
                outcomes += [
                    PairOutcome(a, b, float(generator.random() < 1 / (1 + np.exp(-odds))), n) for _ in range(2)
                ]
        return outcomes

    # Favours draw the odds of all questions together towards even ones: what they come to, in a far larger sample.
    (_, whole, _) = strengths(drawn(20_000), 3)
    assert whole is not None
    for _ in range(tries):
        found = strengths(drawn(60), 3)[1]
        assert found is not None and found.interval is not None
        covered += found.interval[0] <= whole.value <= found.interval[1]
    assert 0.92 <= covered / tries <= 0.98


@pytest.mark.slow
def test_intervals_of_several_judges_cover_the_truth() -> None:
    """Judges have their own tastes, and share what a question favours: counted one by one, they would be too sure."""
    truth, generator = np.array([0.0, 0.5, -0.3]), np.random.default_rng(4)
    tastes = generator.normal(0, 0.5, (3, 3))  # of each judge for each side
    pairs = [(0, 1), (0, 2), (1, 2)]

    def drawn(questions: int) -> Any:
        """Scores of shape [pairs, judges, questions]."""
        favour = generator.normal(0, 1.0, (questions, 3))
        appeal = truth + tastes[:, None, :] + favour
        odds = np.stack([appeal[..., b] - appeal[..., a] for a, b in pairs])
        return (generator.random(odds.shape) < 1 / (1 + np.exp(-odds))).astype(float)

    means = drawn(20_000).mean(axis=1)
    outcomes = [PairOutcome(a, b, s, n) for (a, b), row in zip(pairs, means, strict=True) for n, s in enumerate(row)]
    whole = strengths(outcomes, 3)[1]
    assert whole is not None
    covered, tries, runs = 0, 300, ("a", "b", "c")
    for _ in range(tries):
        judged = [
            JudgedPair(runs[a], runs[b], [[verdict(float(s), n) for n, s in enumerate(row)] for row in scores])
            for (a, b), scores in zip(pairs, drawn(50), strict=True)
        ]
        found = task_strengths("talk", ["j", "k", "l"], dict.fromkeys(runs, "run"), judged).sides[1]
        assert found.interval is not None
        covered += found.interval[0] <= ELO * whole.value <= found.interval[1]
    assert 0.92 <= covered / tries <= 0.98
