from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import Observation, Sample
from harness_plugins.metrics.gaokao import GaokaoAnswer, GaokaoMmAccuracy, GaokaoPoints

RECORDED = Path(__file__).parents[2].parent / "shared" / "oracles" / "gaokao" / "gpt-4-0314"
TYPES = {
    "2010-2022_Physics_MCQs": "multi_choice",
    "2012-2022_English_Cloze_Test": "five_out_of_seven",
    "2010-2022_Chinese_Lang_and_Usage_MCQs": "multi_question_choice",
    "2010-2022_Chinese_Modern_Lit": "multi_question_choice",
    "2010-2022_English_Fill_in_Blanks": "multi_question_choice",
    "2010-2022_English_Reading_Comp": "multi_question_choice",
    "2010-2022_Geography_MCQs": "multi_question_choice",
}


def question(question_type, *golds, score=6, partial=False):
    fields = {"question_type": question_type, "partial_credit": partial}
    return Sample("gaokao", "", 0, {"score": score}, (), golds, subset_fields=fields)


def read(sample, reply):
    return GaokaoAnswer().apply([reply], sample)[0]


def points(sample, answer):
    return GaokaoPoints().score(Observation(sample, (), (), (answer,)))


def test_a_single_choice_is_the_last_letter():
    assert read(question("single_choice", "B"), "A错误，B正确。【答案】 B <eoa>") == "B"
    assert read(question("single_choice", "B"), "无法判断") is None


def test_marked_answers_of_several_parts_are_read_in_order():
    sample = question("multi_question_choice", "A", "C", "D")
    assert read(sample, "（1）【答案】A\n（2）【答案】：C\n（3）【答案】 D <eoa>") == "A C D"
    assert read(sample, "1. B 2. C 3. A 4. D") == "B C A"


def test_several_letters_stand_after_the_mark_or_at_the_end():
    sample = question("multi_choice", "ABD")
    assert read(sample, "【解析】C错误<eoe>【答案】 A B\nD <eoa>") == "ABD"
    assert read(sample, "所以正确的是 A、D") == "AD"


def test_five_out_of_seven_takes_the_first_five_letters():
    assert read(question("five_out_of_seven", *"ACDFB"), "【答案】 A C D F B <eoa> G") == "A C D F B"


def test_points_are_given_for_each_part():
    assert points(question("multi_question_choice", "A", "C", "D", score=4), "A C B") == (8.0, 12.0)
    assert points(question("multi_question_choice", "A", "C", "D", score=4), "A C") == (0.0, 12.0)
    assert points(question("single_choice", "A"), None) == (0.0, 6.0)


def test_physics_gives_half_for_some_letters_and_no_wrong_one():
    sample = question("multi_choice", "ABD", partial=True)
    assert [points(sample, answer)[0] for answer in ("ABD", "AB", "ABC", "C")] == [6.0, 3.0, 0.0, 0.0]
    assert points(question("multi_choice", "ABD"), "AB")[0] == 0.0


def test_hidden_gold_and_an_unknown_type():
    assert GaokaoPoints().score(Observation(Sample("g", "", 0, {}, (), None), (), (), ("A",))) is None
    with pytest.raises(ValueError, match="question_type is 'essay'"):
        read(question("essay", "A"), "A")


def test_the_recorded_run_gives_the_recorded_points():
    if not RECORDED.is_dir():
        pytest.skip("runs where the recorded run lies beside the project")
    official = json.loads((RECORDED / "result" / "correction_score.json").read_text(encoding="utf-8"))
    expected = {name: values for subject in official["subject"].values() for name, values in subject["type"].items()}
    statistics = []
    for file in sorted(RECORDED.glob("*.json")):
        data = json.loads(file.read_text(encoding="utf-8"))
        name = data.get("keyword") or data["keywords"]
        rows = []
        for row in data["example"]:
            fields = {"question_type": TYPES.get(name, "single_choice"), "partial_credit": "Physics" in name}
            sample = Sample("gaokao", name, row["index"], row, (), tuple(row["standard_answer"]), subset_fields=fields)
            answer = read(sample, row["model_output"])
            assert (answer or "").split() == row["model_answer"]
            rows.append(points(sample, answer))
        earned, possible = (sum(column) for column in zip(*rows, strict=True))
        assert (earned, possible) == (expected[name]["correct_score"], expected[name]["total_score"]), name
        statistics += rows
    assert len(expected) == 14
    assert GaokaoPoints().aggregate(statistics) == pytest.approx(7000 / 9702)


@pytest.mark.parametrize(("answer", "score"), [("AC", 1.0), ("C", 0.5), ("AB", 0.0), (None, 0.0)])
def test_gaokao_mm_gives_half_for_a_part_where_the_subset_says_so(answer: str | None, score: float) -> None:
    sample = Sample("task", "physics", 0, {}, (), "AC", subset_fields={"partial_credit": True})
    assert GaokaoMmAccuracy().score(Observation(sample, (), predictions=(answer,))) == score
