"""What people rated beside what a judge said: agreement, and what is left out is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from judged_runs import judge, make_run

from harness.errors import UsageError
from harness.judging.ratings import compare_ratings
from harness.testing import run_harness

SCORES = {"首都": 2, "化学式": 7, "2 + 2": 9}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of four rows; the judge gives 2, 7 and 9, and never makes sense of the fourth."""
    run = make_run(tmp_path_factory.mktemp("rated"), {"": "an answer"})

    def rated(prompt: str) -> str:
        found = next((score for part, score in SCORES.items() if part in prompt), None)
        return "no idea" if found is None else json.dumps({"reason": "so", "score": found})

    judge(run, "quality_en", rated, retries=0)
    return run


def ratings(folder: Path, text: str) -> Path:
    path = folder / "ratings.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_people_and_a_judge_are_compared_sample_by_sample(judged: str, tmp_path: Path) -> None:
    told: list[str] = []
    file = ratings(
        tmp_path,
        "task,id,rating,rater\n"
        "talk,0,2,ann\ntalk,1,6,ann\ntalk,2,9,ann\ntalk,3,5,ann\n"
        "talk,0,3,李\ntalk,1,7,李\ntalk,2,11,李\n"
        "talk,7,5,ann\nother,0,5,ann\ntalk,1,good,ben\ntalk,2,,ben\n",
    )
    (found,) = compare_ratings(Path(judged), file, told.append)
    assert (found.task, found.n, found.ratings, found.unscored, found.out_of_scale) == ("talk", 3, 6, 1, 1)
    assert found.exact is not None and found.exact.value == pytest.approx(3 / 6) and found.exact.interval
    # 1 - mean squared difference over that of all pairs: (0+1+0+1+0+4)/6 over the mean of (x_i - y_j)^2
    people, said = [2, 6, 9, 3, 7, 11], [2, 7, 9, 2, 7, 9]
    chance = sum((x - y) ** 2 for x in people for y in said) / 36
    assert found.kappa is not None and found.kappa.value == pytest.approx(1 - 1 / chance)
    assert found.rho is not None and found.rho.value == pytest.approx(1.0)
    assert found.between is not None and found.between.value > 0.8
    words = "\n".join(told)
    assert "2 ratings are of samples that are not there" in words and "other 0" in words
    assert "1 ratings are no numbers" in words and "'good'" in words and "1 rows have no rating" in words
    shown = run_harness("compare", judged, "--ratings", str(file)).stdout
    assert "kappa, quadratic weights" in shown and "outside the judge's scale of 1 to 10" in shown
    assert json.loads(run_harness("compare", judged, "--ratings", str(file), "--json").stdout)[0]["n"] == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("task,id,rating\ntalk,0,2\ntalk,0,3\n", "a second rating of the same sample"),
        ("task,id,score\ntalk,0,2\n", "has no column 'rating'"),
        ("task,id,rating\nother,0,2\n", "no rating is of a sample"),
    ],
)
def test_a_table_that_says_nothing_is_refused(judged: str, tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        compare_ratings(Path(judged), ratings(tmp_path, text), lambda text: None)


def test_one_rating_has_no_kappa_and_is_no_zero(judged: str, tmp_path: Path) -> None:
    (found,) = compare_ratings(Path(judged), ratings(tmp_path, "task,id,rating\ntalk,0,2\n"), lambda text: None)
    assert (found.kappa, found.rho, found.between) == (None, None, None)
    assert found.exact is not None and found.exact.value == 1.0


def test_scores_of_the_run_itself_are_compared_where_nobody_judged_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"首都": "北京", "": "no"})
    (found,) = compare_ratings(
        Path(run), ratings(tmp_path, "task,id,rating\ntalk,0,yes\ntalk,1,错\ntalk,2,true\n"), lambda text: None
    )
    assert found.metric == "exact_match" and found.n == 3
    assert found.exact is not None and found.exact.value == pytest.approx(2 / 3)
