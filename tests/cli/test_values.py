"""What is written after a flag becomes a typed value, or an error that says what was expected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import values
from harness.secret import is_secret_name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("none", None),
        ("null", None),
        ("3", 3),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-4", 1e-4),
        ("1.", 1.0),
        ("007", "007"),
        ("1_000", "1_000"),
        ("nan", "nan"),
        ("'8'", "8"),
        ('"true"', "true"),
        ("bfloat16", "bfloat16"),
        ("[1, 2]", [1, 2]),
        ("['a', b]", ["a", "b"]),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("{% for m in messages %}", "{% for m in messages %}"),
        ("", ""),
    ],
)
def test_one_value(text: str, value: Any) -> None:
    read = values.parse_value(text)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("pretrained=DIR,dtype=float32", {"pretrained": "DIR", "dtype": "float32"}),
        ("pretrained=/a=b/c", {"pretrained": "/a=b/c"}),
        ("a='x,y',b=[1,2],c={\"k\": 1}", {"a": "x,y", "b": [1, 2], "c": {"k": 1}}),
        ('{"a": 1, "b": [true]}', {"a": 1, "b": [True]}),
        ('until=["\\n", "Q:"]', {"until": ["\n", "Q:"]}),
        ("name=it's,b=1", {"name": "it's", "b": 1}),
        ("a=1,", {"a": 1}),
        ("a=", {"a": ""}),
        ("", {}),
    ],
)
def test_pairs(text: str, pairs: dict[str, Any]) -> None:
    assert values.parse_pairs(text) == pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretrained", "'pretrained' is not of the form key=value"),
        ("=3", "'=3' is not of the form key=value"),
        ("a=1,a=2", "'a' is given twice"),
        ("a=[1,2", "] is missing"),
        ("a='x", "' is missing"),
        ('{"a": 1', "not a JSON object"),
    ],
)
def test_bad_pairs_say_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        values.parse_pairs(text)


NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1).filter(lambda name: not is_secret_name(name))
"""Values of other names, as `key`, are kept as secrets."""


@given(st.dictionaries(NAMES, st.integers() | st.booleans() | st.none()))
def test_pairs_read_back_what_was_written(pairs: dict[str, Any]) -> None:
    text = ",".join(f"{key}={value}" for key, value in pairs.items())
    assert values.parse_pairs(text) == pairs


def test_names_split_at_commas_and_spaces() -> None:
    assert values.parse_names("ceval, cmmlu:lm_eval/*law*  demo") == ["ceval", "cmmlu:lm_eval/*law*", "demo"]


@pytest.mark.parametrize(("text", "limit"), [("10", 10), ("10.0", 10), ("0.1", 0.1), ("1", 1), ("1e3", 1000), (5, 5)])
def test_limit(text: str, limit: float) -> None:
    assert values.parse_limit(text) == limit
    assert isinstance(values.parse_limit(text), int) == (limit >= 1)


@pytest.mark.parametrize("text", ["-3", "0", "0.0", "1.5", "ten", "nan", "inf", "", True])
def test_a_limit_that_selects_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a count of rows"):
        values.parse_limit(text)


def test_batch_size() -> None:
    assert [values.parse_batch_size(text) for text in ("auto", "auto:4", "AUTO", "16", 8)] == ["auto"] * 3 + [16, 8]
    for text in ("0", "-1", "1.5", "many", ""):
        with pytest.raises(ValueError, match="neither 'auto'"):
            values.parse_batch_size(text)


@pytest.mark.parametrize(
    ("text", "seed"), [("7", 7), (7, 7), ("0,1,2,3", 3), ("None,None,None,42", 42), ("0,1,2", 1234)]
)
def test_seed(text: str, seed: int) -> None:
    assert values.parse_seed(text) == seed


@pytest.mark.parametrize("text", ["-1", "x", "1.5", "1,2", "0,1,2,None", ""])
def test_bad_seed(text: str) -> None:
    with pytest.raises(ValueError, match="whole number"):
        values.parse_seed(text)


def test_override() -> None:
    assert values.parse_override("cmmlu.num_fewshot=3") == ("cmmlu", "num_fewshot", 3)
    assert values.parse_override("a:v.fewshot_config.split='x=y'") == ("a:v", "fewshot_config.split", "x=y")
    for text in ("cmmlu", "cmmlu.num_fewshot", "num_fewshot=3", ".k=1", "t.=1"):
        with pytest.raises(ValueError, match="form TASK"):
            values.parse_override(text)


def test_switch_and_template() -> None:
    assert values.parse_switch("False") is False
    assert values.parse_switch("yes") is True
    with pytest.raises(ValueError, match="neither true nor false"):
        values.parse_switch("perhaps")
    assert [values.parse_template(text) for text in ("true", "False", "tool_use")] == [True, False, "tool_use"]
