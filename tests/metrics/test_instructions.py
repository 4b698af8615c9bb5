"""Instructions that a program checks: IFEval's 25, strict and loose, by prompt and by instruction."""

from __future__ import annotations

import json

import pytest

from harness import Observation, Response, Sample
from harness_plugins.metrics.instructions import (
    InstructionLoose,
    InstructionStrict,
    PromptLoose,
    PromptStrict,
    loosened,
)
from harness_plugins.metrics.instructions.ifeval import CHECKS
from harness_plugins.metrics.instructions.units import language_of, sentences, tokens

# name, arguments, a reply that follows it, a reply that does not. What follows was agreed with the official script.
CASES = [
    ("keywords:existence", {"keywords": ["river", "sea"]}, "Riverside by the SEA", "a river"),
    ("keywords:frequency", {"keyword": "sea", "frequency": 2, "relation": "at least"}, "sea, seaside", "sea"),
    ("keywords:frequency", {"keyword": "c++", "frequency": 2, "relation": "less than"}, "C++", "c++ and C++"),
    ("keywords:forbidden_words", {"forbidden_words": ["sea"]}, "seaside", "the Sea"),
    ("keywords:letter_frequency", {"letter": "A", "let_frequency": 2, "let_relation": "at least"}, "Anna", "an"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 2, "let_relation": "at least"}, "#a #b", "#a"),
    ("language:response_language", {"language": "de"}, "Das ist ein schöner Tag im Garten.", "It is a nice day."),
    ("language:response_language", {"language": "de"}, "123", "これは日本語です。"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "Dr. Li left.", "A! B!"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n***\nb"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "it's so", "two words"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "weekend"},
        "a\n\n'Weekend, at last",
        "a\n\nweekends\n\nc",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] [town]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP. S. More", "Bye. PS more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "p.p.s. more", "P.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b", "** a\n- b"),
    ("detectable_format:constrained_response", {}, "So: My answer is no.", "My answer is No"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "**both**"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section1 Section 2",
        "1",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<A day>>\nText", "<< >> <a>"),
    ("combination:two_responses", {}, "a\n******\nb", "a ****** a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi. "}, "say hi. Hi!", "Sure: say hi."),
    ("startend:end_checker", {"end_phrase": "The end"}, 'It is "the end"', "The end."),
    ("startend:quotation", {}, ' "all of it" ', '"'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "NASA and CO-OP",
        "I saw",
    ),
    ("change_case:english_capital", {}, "THE RIVER RUNS TO THE SEA", "THE RIVER runs"),
    ("change_case:english_lowercase", {}, "the river runs to the sea", "der fluss fließt in das meer hinein"),
    ("punctuation:no_comma", {}, "one; two", "one, two"),
]


def seen(instructions, *replies, **more):
    ids = [name for name, _ in instructions]
    row = {"instruction_id_list": ids, "kwargs": [given for _, given in instructions], **more}
    return Observation(Sample("t", "", 0, row, (), None), tuple(Response(text=reply) for reply in replies), (), replies)


@pytest.mark.parametrize(("name", "arguments", "right", "wrong"), CASES, ids=lambda value: str(value)[:40])
def test_a_check_tells_what_follows_from_what_does_not(name, arguments, right, wrong):
    assert CHECKS[name](right, **arguments) is True
    assert CHECKS[name](wrong, **arguments) is False


def test_every_check_of_the_benchmark_is_tried():
    assert {name for name, *_ in CASES} == set(CHECKS) and len(CHECKS) == 25


TWO = [("punctuation:no_comma", {}), ("detectable_format:number_bullet_lists", {"num_bullets": 1})]


def test_a_prompt_is_followed_when_all_of_its_instructions_are():
    half = seen(TWO, "- a, b")
    assert (PromptStrict().score(half), InstructionStrict().score(half)) == (0.0, (1.0, 2.0))
    assert PromptStrict().score(seen(TWO, "- a")) == 1.0
    assert InstructionStrict().from_means((1.5, 2.0)) == 0.75


def test_several_replies_are_averaged():
    both = seen(TWO, "- a", "- a, b")
    assert (PromptStrict().score(both), InstructionStrict().score(both)) == (0.5, (3.0, 4.0))


def test_loose_scores_take_the_best_version_of_the_reply_for_each_instruction():
    reply = seen(TWO, "Here you are, my list:\n- a\n- b")
    assert InstructionStrict().score(reply) == (0.0, 2.0)
    assert InstructionLoose().score(reply) == (2.0, 2.0) and PromptLoose().score(reply) == 1.0
    assert loosened("*a\nb\nc") == ["*a\nb\nc", "b\nc", "*a\nb", "b", "a\nb\nc", "a\nb"]


@pytest.mark.parametrize("reply", ["", " \n", None])
def test_an_empty_reply_follows_nothing(reply):
    assert InstructionLoose().score(seen(TWO, reply)) == (0.0, 2.0)


def test_arguments_may_be_null_or_a_text_of_json():
    nulls = seen([("punctuation:no_comma", {"num_bullets": None})], "a")
    texts = seen([], "a", instruction_id_list=json.dumps(["punctuation:no_comma"]), kwargs='["{}"]')
    assert PromptStrict().score(nulls) == PromptStrict().score(texts) == 1.0


@pytest.mark.parametrize(
    ("instructions", "message"),
    [
        ([("punctuation:no_dash", {})], "'punctuation:no_dash' is none that can be checked"),
        ([("length_constraints:number_words", {"relation": "at least"})], "num_words"),
        ([("length_constraints:number_words", {"relation": "about", "num_words": 3})], "'about'"),
    ],
)
def test_a_row_that_cannot_be_checked_is_an_error_and_no_zero(instructions, message):
    with pytest.raises(ValueError, match=message):
        PromptStrict().score(seen(instructions, "a"))


def test_sentences_and_words_are_those_of_nltk_without_its_downloads():
    text = "Mr. Li met Dr. Xu at 5 p.m. They ate 3.5 pies at J. Smith Inc. However, U.S. trade grew! 1. Go 2. stay"
    assert sentences(text) == [
        "Mr. Li met Dr. Xu at 5 p.m.",
        "They ate 3.5 pies at J. Smith Inc.",
        "However, U.S. trade grew!",
        "1.",
        "Go 2. stay",
    ]
    assert tokens("Don't stop. (NASA's)") == ["Do", "n't", "stop", ".", "(", "NASA", "'s", ")"]


def test_the_language_of_a_text_is_the_same_each_time():
    short = "Portal animal banal"  # langdetect itself changes its mind about such texts
    assert len({language_of.__wrapped__(short) for _ in range(10)}) == 1
    assert language_of("今天天气很好，我们去公园散步。") == "zh-cn" and language_of("...") is None
