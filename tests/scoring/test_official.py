"""Official rules against recorded outputs with known scores, where these are at hand, and by example."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.scoring.official.cmmmu import cmmmu_blank_correct, cmmmu_choice, cmmmu_judgement
from harness.scoring.official.cmmu import cmmu_blank_correct, cmmu_letters
from harness.scoring.official.edit_distance import edit_distance
from harness.scoring.official.guess import choice_scores
from harness.scoring.official.letters import blink_letter, supergpqa_letter
from harness.scoring.official.mathvision import mathvision_correct
from harness.scoring.official.mathvista import mathvista_extract, mathvista_normalise
from harness.scoring.official.mmmu import DISCIPLINES, mmmu_choice, mmmu_open, mmmu_open_correct, mmmu_pro_choice
from harness.scoring.official.option_matching import vlmevalkit_option
from harness.scoring.official.simple_evals import simple_evals_letter
from harness.scoring.official.vqa import anls, ocrbench_correct, relaxed_correct, vqa_accuracy, vqa_normalise
from harness.scoring.official.yes_no import mme_answer, mme_scores, pope_answer, pope_scores, words_only

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"
COLOURS = {"A": "红色", "B": "蓝色", "C": "绿色", "D": "黄色"}
ANIMALS = {"A": "cat", "B": "dog", "C": "bird", "D": "fish"}


def expected(key):
    if not (ORACLES / "expected.json").is_file():
        pytest.skip("runs where the recorded outputs lie beside the project")
    return json.loads((ORACLES / "expected.json").read_text(encoding="utf-8"))[key]


def recorded(path):
    return json.loads((ORACLES / path).read_text(encoding="utf-8"))


def test_mmmu_reproduces_the_recorded_verdicts():
    official = expected("mmmu/llava1.5_13b/<subject>/output.json")
    rows, subjects = [], {}
    for folder in sorted((ORACLES / "mmmu" / "llava1.5_13b").iterdir()):
        subject = json.loads((folder / "output.json").read_text(encoding="utf-8"))
        subjects[folder.name] = (len(rows), len(rows) + len(subject))
        rows += subject
    choices = [row for row in rows if row["question_type"] == "multiple-choice"]
    read = [(mmmu_choice(row["response"], row["index2ans"]), row["answer"], row["all_choices"]) for row in choices]
    unread = [row["id"] for row, (answer, _, _) in zip(choices, read, strict=True) if answer is None]
    assert unread == official["random_fallback"]["ids"]

    by_mode = {}
    for mode in ("official", "wrong", "expected"):
        scores = iter(choice_scores(read, mode))
        by_mode[mode] = [
            next(scores)
            if row["question_type"] == "multiple-choice"
            else float(mmmu_open_correct(row["response"], row["answer"]))
            for row in rows
        ]
    assert "".join(str(int(score)) for score in by_mode["official"]) == official["verdict_bits"]
    assert sum(by_mode["official"]) == official["correct"] == 330
    assert sum(by_mode["wrong"]) == official["fallback_counted_wrong"]["correct"] == 329
    assert sum(by_mode["expected"]) / len(rows) == pytest.approx(official["fallback_expected_value"])
    for discipline, members in DISCIPLINES.items():
        part = [score for member in members for score in by_mode["official"][slice(*subjects[member])]]
        assert sum(part) / len(part) == pytest.approx(official["disciplines"][discipline])


@pytest.mark.parametrize("kind", ["direct", "cot"])
def test_mmmu_pro_reproduces_the_recorded_counts(kind):
    official = expected(f"mmmu_pro/gpt-4o_standard10_{kind}.jsonl")
    path = ORACLES / "mmmu_pro" / f"gpt-4o_standard10_{kind}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    read = []
    for row in rows:
        texts = ast.literal_eval(row["options"]) if isinstance(row["options"], str) else row["options"]
        options = {chr(ord("A") + i): str(text) for i, text in enumerate(texts)}
        read.append((mmmu_pro_choice(row["response"], options), row["answer"], list(options)))
    unread = [row["id"] for row, (answer, _, _) in zip(rows, read, strict=True) if answer is None]
    assert sorted(unread) == sorted(official["random_fallback_ids"])
    assert sum(choice_scores(read, "wrong")) == official["fallback_counted_wrong"]["correct"]
    assert sum(choice_scores(read, "expected")) / len(rows) == pytest.approx(official["fallback_expected_value"])
    for row, (answer, _, _) in zip(rows, read, strict=True):
        assert answer is None or answer == row["pred_indexs"]


@pytest.mark.parametrize(
    "name",
    [
        "bard",
        "chatgpt_2shot_code",
        "chatgpt_2shot_solution",
        "claude",
        "gpt4",
        "instruct_blip2_vicuna_13b",
        "llava_llama_2_13b",
    ],
)
def test_mathvista_reproduces_the_counts_of_both_integer_casts(name):
    official = expected(f"mathvista/output_{name}.json")
    rows = recorded(f"mathvista/output_{name}.json").values()
    for legacy, key in ((False, "current_script"), (True, "legacy_int_cast")):
        right = [
            mathvista_normalise(
                row["extraction"],
                row["question_type"],
                row["answer_type"],
                row["choices"] or (),
                row["precision"],
                legacy_integers=legacy,
            )
            == row["answer"]
            for row in rows
        ]
        assert sum(right) == official[key]["correct"]


def vectors(kind):
    return expected("golden_vectors")["vectors"][kind]


def test_golden_vectors_of_vqa():
    for row in vectors("vqa_answer_normalise"):
        assert vqa_normalise(row["inp"]) == row["lmms_eval_evalai"], row
        assert vqa_normalise(row["inp"], vlmevalkit=True) == row["vlmevalkit"], row
    for row in vectors("vqa_accuracy_leave_one_out"):
        assert vqa_accuracy(row["pred"], row["answers"]) == pytest.approx(row["score"]), row
    for row in vectors("anls"):
        assert anls(row["pred"], row["refs"]) == pytest.approx(row["score"]), row
    for row in vectors("chartqa_relaxed"):
        assert relaxed_correct(row["pred"], row["target"]) is row["correct"], row
    for row in vectors("ocrbench_item"):
        formula = row["dataset"] == "HME100k"
        assert ocrbench_correct(row["pred"], row["answer"], handwritten_formula=formula, any_width=True) is bool(
            row["score"]
        ), row


def test_golden_vectors_of_yes_and_no():
    for row in vectors("mme_parse"):
        assert (mme_answer(row["inp"]) or "other") == row["label"], row
    for row in vectors("yes_no_extract_vlmevalkit"):
        assert (words_only(row["inp"]) or "unknown") == row["label"].lower(), row
    for row in vectors("vlmevalkit_can_infer"):
        assert vlmevalkit_option(row["inp"], row["choices"]) == row["pred"], row


def test_golden_vectors_of_cmmmu():
    for row in vectors("cmmmu_mc"):
        assert cmmmu_choice(row["inp"], COLOURS) == row["pred"], row
    for row in vectors("cmmmu_tf"):
        assert (cmmmu_judgement(row["inp"]) == row["answer"]) is bool(row["correct"]), row
    for row in vectors("cmmmu_fill"):
        assert cmmmu_blank_correct(row["inp"], row["answer"]) is bool(row["correct"]), row


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("(A) or (B), so (A)", "A"),
        ("it is B", "B"),
        ("B", "B"),
        ("A B", "B"),
        ("The picture shows a small brown dog", "B"),
        ("a dog", None),
        ("", None),
    ],
)
def test_mmmu_takes_the_last_candidate(response, letter):
    assert mmmu_choice(response, ANIMALS) == letter


def test_mmmu_pro_looks_behind_answer_first():
    assert mmmu_pro_choice("(A) ... Answer: B.", ANIMALS) == "B"
    assert mmmu_pro_choice("Answer: A or B, (C)", ANIMALS) == "C"
    assert mmmu_pro_choice("**D.** is right", ANIMALS) == "D"


def test_mmmu_reads_numbers_and_tails_of_free_answers():
    assert mmmu_open("Thus the total is 1,234.5 dollars.") == ["1,234.5 dollars", 1234.0, 234.5]
    assert mmmu_open("x = 7") == [7.0, 7.0]
    assert mmmu_open_correct("so the answer is 0.333", "1/3") is False
    assert mmmu_open_correct("x = 24.324", "24.32") is True
    assert mmmu_open_correct("it must be MgS", ["$MgS$", "MgS"]) is True
    assert mmmu_open_correct("the point is b", "B") is True
    assert mmmu_open_correct("abc", "B") is False


def test_an_empty_tail_of_a_free_answer_does_not_end_the_search():
    assert mmmu_open("The answer is \n42") == ["is"]
    assert mmmu_open_correct("The answer is \n42", "42") is False
    assert mmmu_open("The answer is so 42") == [42.0, 42.0]
    assert mmmu_open("so\nit is ") == ["so\nit is"]


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("B is what I see, as the rest of this sentence is long enough", False),  # too far from the end
        ("B a b c", "B"),
        ("B a b c d", False),
        ("a B c B d e f", False),  # where it first occurs counts
        ("Z", "Z"),
        ("The Answer is b", "B"),
        ("The answer is because", "B"),
        ("correct answer is **C**. Here is why: A is wrong", "C"),
        ("Failed to obtain answer via API. A", False),
        ("a dog", "B"),
    ],
)
def test_the_option_that_vlmevalkit_reads(reply, read):
    assert vlmevalkit_option(reply, ANIMALS) == read


def test_widths_and_punctuation_as_the_scripts_have_them():
    assert ocrbench_correct("ＡＢＣ　１２", "abc 12", any_width=True) and not ocrbench_correct("ＡＢＣ", "abc")
    assert ocrbench_correct("Ａ", "A", handwritten_formula=True, any_width=True) is False
    assert (
        ocrbench_correct("x ^ 2", "x^2", handwritten_formula=True) is True
        and ocrbench_correct("X^2", "x^2", handwritten_formula=True) is False
    )
    assert relaxed_correct("10%", "0.1") is True and relaxed_correct("10% ", "0.1") is False
    assert relaxed_correct("Yes", "yes") is True and relaxed_correct("Yes ", "yes") is False
    assert words_only("Yes, it is") == "yes" and words_only("yes: it is") is None and words_only("(no)") == "no"


def test_cmmmu_with_nothing_to_read():
    assert cmmmu_choice("", COLOURS) == ""  # wrong, and nothing is drawn
    assert cmmmu_choice("  ", COLOURS) is None
    assert cmmmu_choice("看不清", {**COLOURS, "C": ""}) == "C"
    assert cmmmu_choice("   ", {**COLOURS, "C": ""}) is None
    assert cmmmu_judgement("") is None
    assert cmmmu_blank_correct("", "3") is False


def test_what_a_guess_is_worth():
    answers = [("A", "A", "ABCD"), (None, "A", "ABCD"), (None, "B", "AB"), ("C", ("C", "D"), "ABCD")]
    assert choice_scores(answers) == [1.0, 0.0, 0.0, 1.0]
    assert choice_scores(answers, "expected") == [1.0, 0.25, 0.5, 1.0]
    drawn = choice_scores(answers, "official")
    assert drawn == choice_scores(answers, "official") and set(drawn) <= {0.0, 1.0}


def test_mathvista_by_example():
    assert mathvista_normalise("(b) dog", "multi_choice", "text", ["cat", "dog"]) == "dog"
    assert mathvista_normalise("dogs", "multi_choice", "text", ["cat", "dog"]) == "dog"
    assert mathvista_normalise("", "multi_choice", "text", ["cat", "dog"]) == "cat"
    assert mathvista_normalise("", "multi_choice", "text", ["cat", "dog"], ignore_empty=True) is None
    assert mathvista_normalise("3.0", "free_form", "integer") == "3"
    assert mathvista_normalise("3.0", "free_form", "integer", legacy_integers=True) is None
    assert mathvista_normalise("1.26", "free_form", "float", precision=1) == "1.3"
    assert mathvista_normalise("[1, 2]", "free_form", "list") == "[1, 2]"
    assert mathvista_normalise(None, "multi_choice", "text", ["None", "dog"]) == "None"
    assert mathvista_normalise([1, 2], "multi_choice", "text", ["[1, 2]", "dog"]) == "[1, 2]"
    assert mathvista_normalise(None, "free_form", "integer") is None
    assert mathvista_normalise([3], "free_form", "float", precision=1) is None
    assert mathvista_normalise(3, "free_form", "integer") == "3"
    assert mathvista_normalise(3, "free_form", "text") is None
    assert mathvista_normalise(None, "free_form", "list") == "None"
    assert mathvista_normalise("2.6", "free_form", "float") == "3"
    assert mathvista_extract("dog", "multi_choice", "text", ["cat", "dog"]) == "dog"
    assert mathvista_extract("12", "free_form", "integer") == "12"
    assert mathvista_extract('So. The answer is "7".', "free_form", "text") == "7"
    assert mathvista_extract("no idea", "free_form", "integer") is None


def test_mme_counts_images_whose_two_questions_are_right():
    rows = [("count", "1.jpg", True), ("count", "1.jpg", True), ("count", "2.jpg", True), ("count", "2.jpg", False)]
    scores = mme_scores([*rows, ("text_translation", "3.jpg", True), ("text_translation", "3.jpg", True)])
    assert scores["count"] == pytest.approx(75 + 50)
    assert (scores["perception"], scores["cognition"]) == (pytest.approx(125), pytest.approx(200))


def test_pope_scores_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.metrics")
    rows = [("yes", "yes"), ("yes", "no"), ("no", "yes"), ("no", "no"), ("yes", "yes"), ("no", "no"), ("yes", "no")]
    said, gold = ([answer == "yes" for answer in column] for column in zip(*rows, strict=True))
    scores = pope_scores(rows)
    assert scores.precision == pytest.approx(sklearn.precision_score(gold, said))
    assert scores.recall == pytest.approx(sklearn.recall_score(gold, said))
    assert scores.f1 == pytest.approx(sklearn.f1_score(gold, said))
    assert (scores.accuracy, scores.yes_ratio) == (pytest.approx(4 / 7), pytest.approx(4 / 7))


def test_an_unread_answer_stays_in_the_recall():
    assert pope_scores([(None, "yes"), ("yes", "yes")]).recall == 0.5
    with pytest.raises(ValueError, match="no answer"):
        pope_scores([])


def test_popes_own_reading():
    assert pope_answer("There is not a dog. Yes.") == "no"
    assert pope_answer("No, there is none") == "no"
    assert pope_answer("I see a nice dog") == "yes"


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_edit_distance_has_its_defining_properties(first, second):
    distance = edit_distance(first, second)
    assert distance == edit_distance(second, first)
    assert (distance == 0) is (first == second)
    assert abs(len(first) - len(second)) <= distance <= max(len(first), len(second))
    if first and second:
        substitution = edit_distance(first[1:], second[1:]) + (first[0] != second[0])
        assert distance == min(substitution, edit_distance(first[1:], second) + 1, edit_distance(first, second[1:]) + 1)


def test_a_known_edit_distance():
    assert edit_distance("kitten", "sitting") == 3


@pytest.mark.parametrize(
    ("reply", "letters"),
    [("B", "B"), ("故选 AC", "AC"), ("A不对，答案是C。", "C"), ("The answer is B", "B"), ("SIT: D", "D"), ("没有", "")],
)
def test_cmmu_takes_the_capital_letters_behind_a_cue(reply, letters):
    assert cmmu_letters(reply) == letters


def test_cmmu_fills_a_blank_with_a_line_that_is_similar_enough():
    assert cmmu_blank_correct("分析\n答案为：3cm", "3")
    assert cmmu_blank_correct("变大", "增大")
    assert not cmmu_blank_correct("减小", "增大")


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("(1.5+4)\\cdot2", "\\left(1.5+4\\right)\\cdot 2", True),
        ("\\sqrt{6}", "\\sqrt6", False),  # the script's parser reads no root without braces
        ("0.012", "1.2\\%", True),
    ],
)
def test_mathvision_compares_formulas_as_its_parser_reads_them(answer, gold, right):
    assert mathvision_correct(answer, gold) is right


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("(C)", "C"),
        ("E", "E"),  # the script takes any letter that stands alone, also one that is no option
        ("I see (B) here", "B"),
        ("(B) is near. The answer is (C).", "B"),  # "(C)." is not "(C)"
        ("(A) or (B)?\n\nIt is (B) then", "B"),
        ("(A) or (B)", None),
        ("The answer is B", None),
        ("", None),
    ],
)
def test_blink_reads_a_letter_alone_between_blanks(reply: str, letter: str | None) -> None:
    assert blink_letter(reply, "ABCD") == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("First A, then more.\nAnswer: $\\boxed{B}$.", "B"),
        ("The best option is **C**", "C"),
        ("The answer is (D).\nSo it must be", "D"),
        ("The answer is (D).\nI am sure of it", "I"),  # the script's own reading
        ("**B) dog**", "B"),
        ("answer: b", "b"),
        ("So the answer is bird.", "C"),
        ("fish", "D"),
        ("It is a bird", None),
        ("", None),
        ("(" * 5000, None),
    ],
)
def test_supergpqa_looks_at_the_last_line_first(reply, letter):
    assert supergpqa_letter(reply, list(ANIMALS.values())) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("It is red.\nAnswer: B", "B"),
        ("**Answer:** $\\boxed{C}$", "C"),
        ("Answer: A, I thought.\nAnswer: B", "A"),
        ("Antwort: A\nAnswer: B", "B"),  # the English word is looked for first
        ("答案：Ｄ", "D"),
        ("الإجابة: ج", "C"),
        ("উত্তরঃ অ", "A"),
        ("Answer: both", "b"),
        ("Answer:\nB", None),
        ("The answer is B", None),
        ("B", None),
    ],
)
def test_simple_evals_looks_behind_the_word_for_an_answer(reply, letter):
    assert simple_evals_letter(reply) == letter
