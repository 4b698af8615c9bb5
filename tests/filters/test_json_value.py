from __future__ import annotations

import pytest

from harness import Sample
from harness_plugins.filters.json_value import JsonValue

SAMPLE = Sample("task", "", 0, {}, (), None)


@pytest.mark.parametrize(
    ("reply", "key", "answer"),
    [
        ('{"answer": "B"}', "answer", "B"),
        ('格式为 {"answer": "<字母>"}。\n```json\n{"answer": " C "}\n```', "answer", "C"),
        ('<think>{"answer": "A"}</think>{"answer": "D"}', "answer", "D"),
        ('{"answer": 3}', "answer", "3"),
        ('{"q1": "A", "q2": "B"}', ["q1", "q2"], "A B"),
        ('{"q1": "A"}', ["q1", "q2"], None),
        ('结果：{"地址": ["杭州"]}', None, '{"地址": ["杭州"]}'),
        ("[[1, 2]] 和 {坏的", None, "[[1, 2]]"),
        ("没有", None, None),
    ],
)
def test_the_last_json_with_the_key_is_read(reply, key, answer):
    assert JsonValue(key).apply([reply], SAMPLE) == [answer]


def test_no_reply_stays_none():
    assert JsonValue().apply([None], SAMPLE) == [None]


def test_what_stands_between_thousands_of_open_brackets_or_digits_is_passed_over():
    nested = "[" * 995 + "1" + "]" * 995  # can just be read
    assert JsonValue("a").apply(['{"n": ' + "1" * 5000 + '} {"a": "B"}', "[" * 5000 + '{"a": "C"}'], SAMPLE) == [
        "B",
        "C",
    ]
    assert JsonValue().apply([nested, "[" * 5000], SAMPLE)[1] is None
