"""A record as a line of JSON, and back."""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_samples import SHOTS, make_record

from harness import Media, Message, Prompt, Record, Response, View
from harness.record.codec import (
    decode_record,
    encode_record,
    line_digest,
    line_key,
    parse_line,
    row_digest,
    without_seconds,
)
from harness.types import ScoredBy

FULL = Response(
    text="因为…<br>\r\nB",
    reasoning="想一想",
    finish_reason="length",
    prompt_tokens=100,
    completion_tokens=3,
    truncated=7,
    seconds=0.25,
)
IMAGE = Media("image", "ab" * 32, b"bytes", "image/png")
CHAT = Prompt(
    messages=(Message("system", "s"), Message("user", ("看 ", IMAGE, " 说")), Message("user", "?")),
    shared_messages=1,
    prefill="答:",
)


def there_and_back(record: Record) -> Record:
    shared: Any = record.prompt.messages[: record.prompt.shared_messages] or record.prompt.prefix
    line = encode_record(record, "ref" if shared else None)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    return decode_record(parse_line(line), {"ref": shared}.__getitem__)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"responses": (FULL, Response(error="HTTP 500: 出错了"))},
        {"responses": (), "request_keys": (), "error": "metric acc: ValueError: no"},
        {"prompt": CHAT},
        {"prompt": replace(CHAT, shared_messages=0)},
        {"prompt": Prompt(suffix="<image>", media=(IMAGE,))},
        {"contexts": (Prompt(prefix=SHOTS, suffix="甲"), Prompt(prefix=SHOTS, suffix="乙")), "continuation": " 走了。"},
        {"prompt": CHAT, "contexts": (CHAT, replace(CHAT, prefill="?")), "continuation": "x"},
        {"contexts": (Prompt(suffix="another beginning"),)},
        {"target": None, "choices": ()},
        {"target": ("甲", "乙")},
        {"target": (0, 2)},
        {"target": "一"},
        {"scores": {"bleu@x": (1.0, 2.0, 0.1 + 0.2), "acc": None, "f1": 1e-300}},
        {"answers": {"none": ("A", None)}, "unparsed": True, "cluster": "图 1"},
        {"scored_by": {"bertscore@x": ScoredBy("3f2a90c1d4e5", 2), "clip_score": ScoredBy("0")}},
        {"doc": {"n": None, "f": 0.1, "l": [1, [2, {"x": True}]], "big": 2**70}},
        {"subset": '怪"\\名', "id": 10**12},
    ],
)
def test_a_record_comes_back_as_it_was(fields: dict[str, Any]) -> None:
    record = make_record(3, **{"subset": "civil", **fields}) if "subset" not in fields else make_record(3, **fields)
    assert there_and_back(record) == record


@pytest.mark.parametrize("text", ["🙂", "a\r\nb\rc\n", "\u2028\u2029\x85", "\ud800 alone", "\x00\x1f\x7f", "\ufeff"])
def test_any_text_comes_back_as_it_was(text: str) -> None:
    record = make_record(responses=(Response(text=text),), doc={text: text}, prompt=Prompt(prefix=text, suffix=text))
    assert there_and_back(record) == record


def test_no_reader_can_take_a_text_for_a_line_end() -> None:
    line = encode_record(make_record(responses=(Response(text="a\u2028b\u2029c\x85d\r\ne\x0b\x0c\x1e"),)), None)
    assert len(line.decode().splitlines()) == 1


def test_chinese_stays_readable_on_disk() -> None:
    assert "问题 0 🙂" in encode_record(make_record(), None).decode()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_does_not_have_come_back_and_the_line_stays_json(value: float) -> None:
    record = make_record(
        responses=(Response(logprobs=(value, -1.0), seconds=value),),
        scores={"ppl": value, "sums": (value, 2.0)},
        doc={"x": value, "deep": [{"y": value}]},
    )
    line = encode_record(record, None)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    json.loads(line, parse_constant=refuse)
    back = decode_record(parse_line(line), {}.__getitem__)
    for was, read in (
        (record.responses[0].logprobs, back.responses[0].logprobs),
        ((record.responses[0].seconds,), (back.responses[0].seconds,)),
        ((record.scores["ppl"],), (back.scores["ppl"],)),
        (record.scores["sums"], back.scores["sums"]),
        ((record.doc["x"],), (back.doc["x"],)),
        ((record.doc["deep"][0]["y"],), (back.doc["deep"][0]["y"],)),
    ):
        assert list(map(repr, was or ())) == list(map(repr, read or ()))


def test_bytes_of_media_are_left_out_and_named_by_their_hash() -> None:
    doc = {"image": {"bytes": b"\x89PNG" * 1000, "path": "a.png"}}
    back = there_and_back(make_record(doc=doc))
    assert back.doc["image"]["bytes"]["$bytes"] == 4000
    assert len(back.doc["image"]["bytes"]["$sha256"]) == 64
    assert there_and_back(make_record(prompt=CHAT)).prompt.messages[1].content[1].data == b""


MARKERS = st.sampled_from(["$float", "$sha256", "$bytes", "$escaped", "a"])
ODD_ROWS = st.dictionaries(
    MARKERS,
    st.recursive(
        st.sampled_from(["abc", "NaN", "Infinity", "", None, 1, True, math.inf]),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(MARKERS, inner, max_size=2),
        max_leaves=6,
    ),
    max_size=3,
)


@given(doc=ODD_ROWS)
def test_a_row_with_keys_like_our_own_comes_back_as_it_was(doc: dict[str, Any]) -> None:
    back = there_and_back(make_record(doc=doc))
    assert back.doc == doc
    line = encode_record(back, None)
    assert there_and_back(back) == back
    assert line == encode_record(make_record(doc=doc), None)
    assert line_digest(parse_line(line)) == row_digest(doc, back.target, back.choices, back.cluster)


def test_a_row_of_version_1_that_looks_like_a_number_is_read_as_what_it_is() -> None:
    line = encode_record(make_record(doc={"x": 1}), None).replace(
        b'{"x": 1}', b'{"x": {"$float": "abc"}, "y": {"$float": "NaN"}}'
    )
    doc = decode_record(parse_line(line), lambda _: "").doc
    assert doc["x"] == {"$float": "abc"}
    assert math.isnan(doc["y"])


def test_what_was_left_out_of_a_row_stays_left_out_when_the_record_is_written_again() -> None:
    record = make_record(doc={"image": {"bytes": b"\x89PNG", "path": "a.png"}, "own": {"$sha256": "x", "$bytes": 1}})
    once = encode_record(record, None)
    assert encode_record(there_and_back(record), None) == once
    assert there_and_back(record).doc["own"] == {"$sha256": "x", "$bytes": 1}


@pytest.mark.parametrize(
    "doc", [{"b": 1, "a": [np.float32(0.5), b"x"]}, {"n": math.nan}, {"k": {1: 2, "x": None}}, {"t": (1, "\ud800")}]
)
def test_a_row_and_its_line_have_one_digest(doc: dict[str, Any]) -> None:
    record = make_record(doc=doc, target=(0, 1), choices=("x", "y"))
    line = parse_line(encode_record(record, None))
    turned = dict(reversed(doc.items()))
    assert line_digest(line) == row_digest(turned, record.target, record.choices, record.cluster)
    assert line_digest(line) != row_digest(doc, 0, record.choices, record.cluster)
    back = decode_record(line, lambda _: "")
    assert line_digest(line) == row_digest(back.doc, back.target, back.choices, back.cluster)


def test_values_of_other_libraries_are_written_as_plain_ones() -> None:
    doc = {
        "scalar": np.float32(0.5),
        "bad": np.float32("nan"),
        "array": np.arange(3),
        "date": datetime.date(2026, 8, 1),
        "price": Decimal("1.50"),
        "set": {"b", "a"},
    }
    back = there_and_back(make_record(doc=doc, scores={"acc": np.float64(0.1)})).doc
    assert math.isnan(back["bad"])
    assert {name: value for name, value in back.items() if name != "bad"} == {
        "scalar": 0.5,
        "array": [0, 1, 2],
        "date": "2026-08-01",
        "price": "1.50",
        "set": ["a", "b"],
    }


def test_seconds_alone_differ_between_two_runs_of_the_same_work() -> None:
    slow, fast = (
        make_record(responses=(Response(text='x", "seconds": [9]', seconds=s),), doc={"seconds": 1}) for s in (9.0, 0.1)
    )
    assert encode_record(slow, None) != encode_record(fast, None)
    assert without_seconds(encode_record(slow, None)) == without_seconds(encode_record(fast, None))


views = st.none() | st.builds(
    View,
    index=st.integers(0, 99),
    count=st.integers(1, 99),
    order=st.permutations(range(4)).map(tuple),
    wording=st.integers(0, 9),
    question=st.none() | st.text(),
    fixed=st.text(),
    images=st.booleans(),
)


@given(st.text(), st.text(), st.integers(0, 2**60), views)
def test_the_key_is_read_without_parsing_the_line(task: str, subset: str, number: int, view: View | None) -> None:
    line = encode_record(make_record(number, subset, task, view=view), None)
    assert line_key(line) == (task, subset, number, view.index if view else 0)


@given(views)
def test_a_view_comes_back_as_it_was(view: View | None) -> None:
    record = make_record(view=view)
    assert there_and_back(record) == record


def test_a_record_without_views_says_nothing_of_them() -> None:
    assert b'"view"' not in encode_record(make_record(), None)


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"{}", b'{"task": "a"}\n', b'{"task": "a", "subset": "", "id": 1, ', b"[]"]
)
def test_what_is_no_record_has_no_key(line: bytes) -> None:
    assert line_key(line) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.dictionaries(st.text(), json_values, max_size=4), st.text(), st.floats(allow_nan=False))
def test_any_row_comes_back_as_it_was(doc: dict[str, Any], text: str, value: float) -> None:
    record = make_record(doc=doc, responses=(Response(text=text, logprobs=(value,)),), scores={"m": value})
    assert there_and_back(record) == record


def test_the_shared_part_is_not_repeated_in_the_line() -> None:
    assert SHOTS[:10] not in encode_record(make_record(), "ref").decode()
