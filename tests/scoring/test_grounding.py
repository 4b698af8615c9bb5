"""Boxes as models write them, compared with the gold box; rows with several sentences, and pictures of known size."""

from __future__ import annotations

import base64
import io
import json

import pytest
from PIL import Image

from harness import DataError, evaluate
from harness.scoring.official import first_box, intersection_over_union, lmms_eval_box
from harness.tasks.rows import exploded


@pytest.mark.parametrize(
    ("reply", "box"),
    [
        ("[0.1, 0.2, 0.3, 0.4]", (0.1, 0.2, 0.3, 0.4)),
        ("<ref>a dog</ref><box>(123,456),(789,900)</box>", (123, 456, 789, 900)),
        ('```json\n[{"bbox_2d": [1, 2, 3, 4], "label": "a dog"}]\n```', (1, 2, 3, 4)),
        ("<box>[[12, 34, 56, 78]]</box>", (12, 34, 56, 78)),
        ("<box>1 2 3 4</box>", (1, 2, 3, 4)),
        ("[[1, 2], [3, 4]]", (1, 2, 3, 4)),
        ("左上角（10，20），右下角（30，40）", (10, 20, 30, 40)),
        ('{"x1": 1, "y1": 2, "x2": 3, "y2": 4}', (1, 2, 3, 4)),
        ("12%, 30%, 50%, 80%", (12, 30, 50, 80)),
        ("Format (x1, y1, x2, y2): (.1, .2, .3, .4)", (0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_a_box_is_read_in_the_forms_that_models_write(reply, box):
    assert first_box(reply) == (pytest.approx(box), None)


def test_location_tokens_say_their_own_scale():
    assert first_box("<loc0256><loc0512><loc0768><loc1023> cat") == ((0.5, 0.25, 1023 / 1024, 0.75), "fraction")
    assert first_box("cat<loc_1><loc_2><loc_3><loc_4>") == ((1, 2, 3, 4), "thousand")


@pytest.mark.parametrize("reply", ["", "no", "1 2 3", "[1, 2, 3]", "[1, 2, 3, 4, 5]", "[x1, y1, x2, y2]", "1 2 3 4 5"])
def test_what_is_no_box_is_not_read(reply):
    assert first_box(reply) is None


def test_the_official_reading_wants_square_brackets():
    assert lmms_eval_box("It is [0.1, 0.2, 0.3, 0.4].") == (0.1, 0.2, 0.3, 0.4)
    assert lmms_eval_box("(0.1, 0.2, 0.3, 0.4)") is None


def test_overlap_is_common_area_over_the_area_of_both():
    assert intersection_over_union((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)
    assert intersection_over_union((0, 0, 2, 2), (2, 0, 3, 2)) == 0
    assert intersection_over_union((0, 0, 2, 2), (1, 1, 1, 1)) == 0


def test_each_item_of_a_list_is_a_row_of_its_own():
    rows = [{"a": ["x", "y"], "b": [1, 2], "c": 0}, {"a": "z", "c": 1}, {"a": [], "c": 2}]
    several = [{"a": "x", "b": 1, "c": 0}, {"a": "y", "b": 2, "c": 0}, {"a": "z", "c": 1}]
    assert exploded(rows, ["a", "b"]) == several
    assert exploded([{"pairs": "[{'q': 1}, {'q': 2}]"}], ["pairs"]) == [{"pairs": {"q": 1}}, {"pairs": {"q": 2}}]
    assert exploded([{"q1": 1, "q2": 2}], {"q": ["q1", "q2"]}) == [
        {"q1": 1, "q2": 2, "q": 1},
        {"q1": 1, "q2": 2, "q": 2},
    ]
    with pytest.raises(DataError, match="no column 'q3'"):
        exploded([{"q1": 1, "q2": 2}], {"q": ["q1", "q3"]})
    with pytest.raises(DataError, match="row 0: the lists are not equally long: 'a' has 1, 'b' has 2 items"):
        exploded([{"a": [1], "b": [1, 2]}], ["a", "b"])


def test_refcoco_asks_each_sentence_and_measures_in_the_pixels_of_its_picture(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (200, 100)).save(stream, "PNG")
    picture = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    rows = [
        {"image": picture, "answer": ["left one", "红色的"], "bbox": [20, 10, 80, 40], "file_name": "a"},
        {"image": picture[:60], "answer": ["cut off"], "bbox": [20, 10, 80, 40], "file_name": "b"},
    ]
    file = tmp_path / "data" / "lmms-lab" / "RefCOCO" / "testA.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    replies = tmp_path / "replies.jsonl"
    texts = ["[20, 10, 100, 50]", "(20,10),(70,50)", "[20, 10, 100, 50]"]
    replies.write_text("".join(json.dumps({"id": n, "response": text}) + "\n" for n, text in enumerate(texts)))
    result = evaluate(
        "replay", {"path": str(replies)}, ["refcoco_testA:pixels"], data=str(tmp_path / "data"), output=str(tmp_path)
    )
    (task,) = result.report["tasks"]
    values = {entry["metric"]: (entry["value"], entry["n"]) for entry in task["metrics"]}
    # The picture that cannot be opened has no size: its gold is unknown, which is null and no 0.
    assert values["box_acc_0.5"] == (1.0, 2) and values["box_iou"] == (pytest.approx(0.8125), 2)
