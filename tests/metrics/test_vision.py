"""Scores of benchmarks of images: what each of their metrics makes of answers, of sets and of resampled sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import Observation, Sample, SetValue, evaluate
from harness_plugins.metrics.captions import CaptionScores, DuReaderScores
from harness_plugins.metrics.mmmu import MmmuGuessed
from harness_plugins.metrics.option_letters import CircularAccuracy, OfficialLetter
from harness_plugins.metrics.yes_no import HallusionScores, MmeScores, YesNo, YesNoScores


def seen(answer: str | None, gold: str, **doc: Any) -> Observation:
    return Observation(Sample("task", "", 0, doc, (), gold), (), predictions=(answer,))


def values(metric: Any, answers: list[Observation]) -> dict[str, float | None]:
    found = metric.measure([metric.item(each) for each in answers])
    return {name: each.value if isinstance(each, SetValue) else each for name, each in found.items()}


def read(rule: str, reply: str, **doc: Any) -> str | None:
    return OfficialLetter(rule).apply([reply], Sample("task", "", 0, doc, (), "A"))[0]


COCO = {
    "cider": 4.165768,
    "bleu_1": 0.6514391,
    "bleu_2": 0.6514391,
    "bleu_3": 0.6514391,
    "bleu_4": 0.6514391,
    "rouge_l": 0.7448995,
}
COLOURS = {"A": "red", "B": "blue", "C": "nan", "D": None}


@pytest.mark.parametrize(
    ("rule", "reply", "letter"),
    [
        ("vlmevalkit", "B. blue", "B"),
        ("vlmevalkit", "It is blue", "B"),
        ("vlmevalkit", "Sorry, I can't help with images of people yet.", None),
        ("vlmevalkit", "C", None),  # there is no such option
        ("seed_bench", "because", "B"),
        ("seed_bench", "", None),
        ("scienceqa", "B. blue", "B"),
        ("scienceqa", "b", "B"),
        ("scienceqa", "The answer is B", None),
        ("video_mme", "The best answer is: (C)", "C"),
        ("video_mme", "Based on the video, C", "B"),
        ("video_mme", "the second one", None),
        ("lvbench", "(B) blue", "B"),
        ("lvbench", "B) blue (C)", "B"),
        ("lvbench", "It is B", None),
        ("mvbench", "B) blue", "B"),
        ("mvbench", "(b) blue", "B"),
        ("first_capital", "故选B，不选A", "B"),
        ("first_capital", "在ΔABC中，选A", "Δ"),  # and so no option
        ("first_capital", "没有", None),
        ("last_capital", "不选A，选B。", "B"),
        ("all_capitals", "CA，还有C", "AC"),
        ("all_capitals", "都不选", None),
        ("mvbench", "", None),  # which its script takes for each of them
    ],
)
def test_each_rule_looks_where_its_script_looks(rule: str, reply: str, letter: str | None) -> None:
    assert read(rule, reply, **COLOURS) == letter


def test_a_question_counts_where_all_its_rotations_are_right() -> None:
    answers = [
        seen("A", "A", index=1),
        seen("B", "B", index=1_000_001),
        seen("A", "A", index=2),
        seen("A", "B", index=1_000_002),
        seen(None, "A", index=3),
        seen("C", "C", index=1_000_004),  # its first rotation is not there
    ]
    metric = CircularAccuracy()
    assert values(metric, answers) == {"circular_acc": pytest.approx(1 / 3), "vanilla": pytest.approx(2 / 3)}
    twice = [*answers, *answers[:2]]  # as a resample may draw a question
    assert values(metric, twice) == {"circular_acc": pytest.approx(2 / 4), "vanilla": pytest.approx(3 / 4)}


def test_mme_adds_the_accuracy_of_questions_and_of_images() -> None:
    answers = [
        seen("yes", "Yes", question_id="a", category="count"),
        seen("no", "No", question_id="a", category="count"),
        seen("yes", "Yes", question_id="b", category="count"),
        seen(None, "No", question_id="b", category="count"),
        seen("no", "Yes", question_id="c", category="code_reasoning"),
        seen("no", "No", question_id="c", category="code_reasoning"),
    ]
    found = values(MmeScores(), answers)
    assert (found["perception"], found["cognition"], found["mme"]) == (125, 50, 175)
    assert (found["acc"], found["acc_plus"]) == (pytest.approx(4 / 6), pytest.approx(1 / 3))
    assert "cognition" not in values(MmeScores(), answers[:4])


def test_hallusion_bench_leaves_questions_without_a_figure_out_of_the_accuracy_of_figures() -> None:
    def answer(right: bool, figure: int, question: int) -> Observation:
        place = {"category": "VS", "subcategory": "chart", "set_id": "0"}
        return seen("yes" if right else "no", "yes", figure_id=str(figure), question_id=str(question), **place)

    found = values(HallusionScores(), [answer(False, 0, 0), answer(True, 1, 0), answer(True, 1, 1), answer(True, 2, 1)])
    assert found == {"hallusion": pytest.approx(0.75), "aAcc": 0.75, "fAcc": 1.0, "qAcc": 0.5}


def test_pope_reads_yes_where_nothing_is_denied_and_the_ratio_is_of_replies() -> None:
    (said,) = YesNo("pope").apply(["There is a dog."], Sample("task", "", 0, {}, (), "yes"))
    assert said == "yes"
    found = values(YesNoScores(), [seen("yes", "yes"), seen("yes", "no"), seen("no", "yes"), seen(None, "no")])
    assert found == {"f1": 0.5, "accuracy": 0.25, "precision": 0.5, "recall": 0.5, "yes_ratio": 0.5}


def test_mmmu_guesses_as_its_script_does_and_as_one_would_on_average() -> None:
    row = {"options": "['a', 'b', 'c', 'd']", "question_type": "multiple-choice"}
    answers = [seen("A", "A", **row), seen(None, "A", **row), seen(None, "B", **row)]
    # random.seed(42) draws A and A of four letters.
    assert values(MmmuGuessed(), answers) == {
        "official": pytest.approx(2 / 3),
        "expected": pytest.approx((1 + 0.25 + 0.25) / 3),
    }
    opened = seen("about 4 cm", "4", question_type="open", options="[]")
    assert values(MmmuGuessed(), [opened])["official"] == 1


def test_captions_score_as_the_coco_evaluation_scores_them() -> None:
    """The values are those of pycocoevalcap 1.2 for these tokens."""
    row = ("A red square.", ("A red square on white.", "There is a red square!"))
    other = ("the dog's ball", ("The dog's ball is blue.", "It isn't a cat"))
    metric = CaptionScores()
    items = [
        metric.item(Observation(Sample("t", "", 0, {}, (), gold), (), predictions=(said,)))
        for said, gold in (row, other)
    ]
    found = metric.measure(items)
    assert items[1] == (
        ["the", "dog", "'s", "ball"],
        [["the", "dog", "'s", "ball", "is", "blue"], ["it", "is", "n't", "a", "cat"]],
    )
    assert found == {name: pytest.approx(value, abs=1e-6) for name, value in COCO.items()}


def test_each_chinese_character_is_a_token() -> None:
    seen = Observation(Sample("t", "", 0, {}, (), ("红色方块。",)), (), predictions=("一个red方块",))
    assert CaptionScores("char").item(seen) == (["一", "个", "red", "方", "块"], [["红", "色", "方", "块"]])


def test_a_value_under_the_metrics_own_name_is_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"index": index, "q": "?", "answer": answer} for index, answer in ((1, "A"), (1_000_001, "B"))]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    Path("turn.yaml").write_text(
        "task: turn\ndataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: q\ndoc_to_target: answer\n"
        "metric_list: [{metric: circular_acc}]\n",
        encoding="utf-8",
    )
    (found,) = evaluate("dummy", {"mode": "gold"}, ["turn.yaml"]).report["tasks"]
    assert [each["metric"] for each in found["metrics"]] == ["circular_acc", "circular_acc_vanilla"]


def test_what_hangs_on_an_answer_that_failed_is_not_taken_for_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = {1: "A", 1_000_001: "C", 2: "A", 1_000_002: None, 3: "A", 1_000_003: "B"}
    rows = [
        {"index": index, "q": "?", "answer": "AB"[index > 9], "category": "VD", "subcategory": "x", "set_id": 0}
        | {"figure_id": index % 10, "question_id": index > 9}
        for index in said
    ]
    replies = [{"index": index, "prediction": text} for index, text in said.items() if text]
    for name, lines in (("rows.jsonl", rows), ("replies.jsonl", replies)):
        Path(name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    Path("turn.yaml").write_text(
        "task: turn\ndataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: q\ndoc_to_target: answer\n"
        "metric_list: [{metric: circular_acc}, {metric: hallusion}]\n",
        encoding="utf-8",
    )
    (found,) = evaluate("replay", {"path": "replies.jsonl", "missing": "sample"}, ["turn.yaml"]).report["tasks"]
    got = {each["metric"]: each["value"] for each in found["metrics"]}
    assert got["circular_acc"] == got["hallusion_fAcc"] == pytest.approx(1 / 2)
    assert (got["circular_acc_vanilla"], got["hallusion_aAcc"]) == (1, pytest.approx(4 / 5))
    assert {each["n"] for each in found["metrics"]} == {5}


SETS = """task: sets
dataset_path: rows.jsonl
test_split: test
doc_to_text: q
doc_to_target: answer
metric_list: [{metric: circular_acc}, {metric: mme}, {metric: hallusion}]
"""


def of_sets(rows: list[dict[str, Any]], said: dict[int, str], **options: Any) -> tuple[dict[str, Any], str]:
    """What three metrics of sets make of answers by row: each (value, how many groups are unknown), and the table."""
    place = {"q": "?", "category": "count", "subcategory": "x", "set_id": 0, "figure_id": 1}
    lines = [place | {"index": at, "question_id": at % 1_000_000} | row for at, row in enumerate(rows)]
    replies = [{"doc_id": at, "prediction": text} for at, text in said.items()]
    for name, content in (("rows.jsonl", lines), ("replies.jsonl", replies)):
        Path(name).write_text("".join(json.dumps(line) + "\n" for line in content), encoding="utf-8")
    Path("sets.yaml").write_text(SETS, encoding="utf-8")
    result = evaluate("replay", {"path": "replies.jsonl", "missing": "sample"}, ["sets.yaml"], **options)
    metrics = result.report["tasks"][0]["metrics"]
    return {each["metric"]: (each["value"], each.get("unknown", 0)) for each in metrics}, result.summary(200)


def test_what_nobody_answered_for_is_null_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"A": "x", "B": "y", "answer": "yes", "question_id": 5}
    rows = [{"index": 5, **options}, {"index": 1_000_005, **options}]

    got, table = of_sets(rows, {0: "yes"})
    assert got["circular_acc"] == (None, 1) and got["circular_acc_vanilla"] == (1, 0)
    assert got["mme"] == got["mme_perception"] == got["mme_acc_plus"] == (None, 1)
    assert got["mme_acc"] == (1, 0)
    assert (got["hallusion"], got["hallusion_aAcc"], got["hallusion_fAcc"]) == ((None, 2), (1, 0), (None, 1))
    assert "sets: circular_acc, mme, mme_acc_plus, mme_perception" in table and ": 1 left out of the questions" in table

    assert of_sets(rows, {0: "no"})[0]["mme"] == (0, 0)  # one that is wrong settles it
    known = [row | {"question_id": 6} for row in rows]
    got, _ = of_sets([*rows, *known], {0: "yes", 2: "yes", 3: "yes"})
    assert got["mme_acc_plus"] == (1, 1) and got["mme"] == (200, 1)


def test_rotations_that_were_not_asked_are_not_taken_for_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        {"index": question + turn * 1_000_000, "answer": "yes", "A": "x", "B": "y", "C": "nan" if question < 3 else "z"}
        for turn in range(2)
        for question in (1, 2, 3)
    ]
    said = {0: "yes", 1: "no", 2: "yes", 3: "yes", 4: "yes", 5: "yes"}
    assert of_sets(rows, said)[0]["circular_acc"] == (0.5, 1)  # of the third question a rotation is not there
    got, _ = of_sets(rows, said, limit=3)
    assert (got["circular_acc"], got["circular_acc_vanilla"]) == ((0, 2), (pytest.approx(2 / 3), 0))


def test_dureaders_answers_are_counted_by_characters(text_seen) -> None:
    # What pycocoevalcap gives for the characters of these answers.
    metric = DuReaderScores()
    items = [metric.item(text_seen(("石匠陈三。", "陈三"), "陈 三")), metric.item(text_seen("桥长三丈", None))]
    assert items == [(["陈", "三"], [list("石匠陈三。"), ["陈", "三"]]), ([], [list("桥长三丈")])]
    values = metric.measure(items)
    assert values["rouge_l"] == 0.5 and values["bleu_4"] < 1e-3
    assert metric.measure([metric.item(text_seen("石匠陈三。", "石匠陈三。"))])["bleu_4"] == pytest.approx(1)
