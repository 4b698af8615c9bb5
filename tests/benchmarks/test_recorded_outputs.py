"""Outputs of models that the authors of vision benchmarks published, run through the tasks: their scores come out.

No recorded answer looks at a picture, and the rows have none.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import evaluate

ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"
pytestmark = [
    pytest.mark.skipif(not (ORACLES / "expected.json").is_file(), reason="the recorded outputs are not there"),
    pytest.mark.slow,
]


def expected(key):
    return json.loads((ORACLES / "expected.json").read_text(encoding="utf-8"))[key]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def report(task, mirror, model_args, out):
    result = evaluate("replay", model_args, [task], data=str(mirror), output=str(out))
    (found,) = result.report["tasks"]
    return found


def value(entry, metric):
    return next(each["value"] for each in entry["metrics"] if each["metric"] == metric)


def rights(parts, metric):
    """Name -> [right, all]."""
    return {part["name"]: [round(value(part, metric) * part["counts"]["n"]), part["counts"]["n"]] for part in parts}


def test_mmmu_gives_the_numbers_of_llava(tmp_path):
    official = expected("mmmu/llava1.5_13b/<subject>/output.json")
    folder = ORACLES / "mmmu" / "llava1.5_13b"
    for file in folder.glob("*/output.json"):
        rows = []
        for row in json.loads(file.read_text(encoding="utf-8")):
            kind = "multiple-choice" if row["question_type"] == "multiple-choice" else "open"
            gold = row["answer"] if isinstance(row["answer"], str) else repr(row["answer"])
            options = repr(list(row.get("index2ans", {}).values()))
            rows.append({"id": row["id"], "question": "", "options": options, "answer": gold, "question_type": kind})
        write(tmp_path / "data" / "MMMU" / "MMMU" / file.parent.name / "validation.jsonl", rows)
    found = report("mmmu", tmp_path / "data", {"path": str(folder)}, tmp_path / "out")
    assert value(found, "mmmu_guessed_official") == official["accuracy"]
    assert value(found, "mmmu_guessed_expected") == pytest.approx(official["fallback_expected_value"])
    assert value(found, "mmmu_acc") == pytest.approx(official["fallback_counted_wrong"]["accuracy"])
    assert found["counts"]["unparsed"] == official["random_fallback"]["n"]
    for level, key in (("groups", "disciplines"), ("subsets", "subjects")):
        got = {part["name"]: value(part, "mmmu_guessed_official") for part in found[level]}
        assert got == pytest.approx(official[key])
    forms = rights([part for part in found["categories"] if part["breakdown"] == "form"], "mmmu_guessed_official")
    assert list(forms.values()) == list(official["by_type_correct_total"].values())


@pytest.mark.parametrize("kind", ["direct", "cot"])
def test_mmmu_pro_gives_the_numbers_of_gpt_4o(kind, tmp_path):
    official = expected(f"mmmu_pro/gpt-4o_standard10_{kind}.jsonl")
    path = ORACLES / "mmmu_pro" / f"gpt-4o_standard10_{kind}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        del row["response"], row["pred_indexs"], row["if_right"]
    write(tmp_path / "data" / "MMMU" / "MMMU_Pro" / "standard (10 options)" / "test.jsonl", rows)
    task = "mmmu_pro_standard" + (":cot" if kind == "cot" else "")
    found = report(task, tmp_path / "data", {"path": str(path)}, tmp_path / "out")
    assert value(found, "mmmu_acc") == pytest.approx(official["fallback_counted_wrong"]["accuracy"])
    assert value(found, "mmmu_guessed_expected") == pytest.approx(official["fallback_expected_value"])
    assert found["counts"]["unparsed"] == official["random_fallback_n"]
    subjects = rights([part for part in found["categories"] if part["breakdown"] == "subject"], "mmmu_acc")
    assert subjects == official["subjects_strict_correct_total"]


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
def test_mathvista_gives_the_numbers_of_both_integer_casts(name, tmp_path):
    official = expected(f"mathvista/output_{name}.json")
    path = ORACLES / "mathvista" / f"output_{name}.json"
    rows = list(json.loads(path.read_text(encoding="utf-8")).values())
    kept = (
        "question",
        "image",
        "choices",
        "unit",
        "precision",
        "answer",
        "question_type",
        "answer_type",
        "pid",
        "metadata",
    )
    data = [{**{key: row[key] for key in kept}, "query": row["query"]} for row in rows]
    write(tmp_path / "data" / "AI4Math" / "MathVista" / "testmini.jsonl", data)
    for task, key in (("mathvista", "current_script"), ("mathvista:results_2023", "legacy_int_cast")):
        arguments = {"path": str(path), "text_field": "extraction"}
        found = report(task, tmp_path / "data", arguments, tmp_path / key)
        assert value(found, "exact_match") * 1000 == pytest.approx(official[key]["correct"])
        if key == "current_script":
            for breakdown, counts in official["breakdown_correct_total"].items():
                parts = [part for part in found["categories"] if part["breakdown"] == breakdown]
                assert rights(parts, "exact_match") == counts, breakdown
