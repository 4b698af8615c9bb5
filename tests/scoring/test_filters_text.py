from __future__ import annotations

import pytest

from harness import Sample
from harness_plugins.filters.text import (
    Lowercase,
    MajorityVote,
    Map,
    Regex,
    RemoveWhitespace,
    Strip,
    TakeFirst,
    TakeFirstK,
    Uppercase,
)

SAMPLE = Sample("t", "", 0, {}, (), "A")


def read(step, *replies):
    return tuple(step.apply(replies, SAMPLE))


def test_regex_takes_the_chosen_match_stripped():
    assert read(Regex(r"#### (\-?[0-9\.\,]+)"), "so #### 1,024 it is", "none") == ("1,024", None)
    assert read(Regex(r"(\d+)", group_select=-1), "1 then 2 then 3") == ("3",)


def test_regex_takes_the_first_group_that_is_not_empty():
    # the flexible pattern of GSM8K in lm-evaluation-harness
    pattern = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
    assert read(Regex(pattern, group_select=-1), "I say 1,024 then 7") == ("7",)


def test_regex_gives_its_fallback_where_nothing_matches():
    assert read(Regex("x(y)", fallback="[invalid]"), "abc", None) == ("[invalid]", None)
    assert read(Regex("(a)", group_select=3), "a a") == (None,)


def test_plain_text_filters():
    assert read(RemoveWhitespace(), " a\n", None) == ("a", None)
    assert read(Strip("。 "), "答案。 ") == ("答案",)
    assert read(Lowercase(), "ＡB") == ("ａb",)
    assert read(Uppercase(), "ab") == ("AB",)


def test_map_gives_texts_and_leaves_the_unknown_unparsed():
    assert read(Map({"yes": 1, "no": 0}), "yes", "maybe") == ("1", None)
    assert read(Map({"yes": 1}, default_value=0), "maybe") == ("0",)
    with pytest.raises(ValueError, match="must map"):
        Map(["yes"])


def test_choosing_between_replies():
    assert read(TakeFirst(), "a", "b") == ("a",)
    assert read(TakeFirstK(k=2), "a", "b", "c") == ("a", "b")
    with pytest.raises(ValueError, match="fewer than k = 4"):
        read(TakeFirstK(k=4), "a")


def test_majority_vote_leaves_out_what_could_not_be_read():
    assert read(MajorityVote(), None, None, "B", "A", "A") == ("A",)
    assert read(MajorityVote(), "B", "A") == ("B",)
    assert read(MajorityVote(), None, None) == (None,)
