"""IFBench's 58 checks, each with a reply that follows it and one that does not; agreed with the official script."""

from __future__ import annotations

import pytest

from harness import MetricOptions, UsageError
from harness_plugins.metrics.instructions import PromptStrict
from harness_plugins.metrics.instructions.ifbench import CAPITALS, CHECKS

COUNTRIES = "\n".join(sorted((f"Land {number:02}" for number in range(60)), reverse=True))
QUESTION = "\nA. one\nB. two\nC. three\nD. four\nE. five\n"
PAINTERS = "".join(f"Question {number}: Who{' ever' * number} painted it?{QUESTION}" for number in range(1, 5))
CITIES = "ID,Country,City,Year,Count\n" + "\n".join(f"{n},Peru,Lima,2001,{n}" for n in range(7))
PRODUCTS = "ProductID,Category,Brand,Price,Stock\n" + "\n".join(f'{n},"a&b",B,1,2' for n in range(14))
GRADES = "\n".join(['"StudentID"\t"Subject"\t"Grade"\t"Semester"\t"Score"', *['"1"\t"Art"\t"A"\t"2"\t"9"'] * 3])
ALPHABET = " ".join(f"{chr(65 + i)}nn ran." for i in range(26))
KEYWORDS = {f"keyword{number}": word for number, word in enumerate(("ant", "bee", "cat", "dog", "emu"), 1)}

CASES = [
    ("count:word_count_range", {"min_words": 2.0, "max_words": 3.0}, "it's so", "one"),
    ("count:unique_word_count", {"N": 2.0}, "Yes, no", "Yes, yes!"),
    ("count:conjunctions", {"small_n": 2.0}, "this and that, or so", "this and that and those"),
    ("count:person_names", {"N": 2.0}, "Emma met Leo.", "Emma met emma."),
    ("count:numbers", {"N": 2.0}, "1,000 and 2.5", "1 2 3"),
    ("count:pronouns", {"N": 2.0}, "He/she left", "He left"),
    ("count:punctuation", {}, "What?! a, b; c: d. e! f?", "What?! a, b; c: d."),
    ("count:words_japanese", {"N": 2.0}, "run 日本 now 7 go", "run 日本 now go"),
    (
        "count:keywords_multiple",
        KEYWORDS,
        " ".join(["ant", *["bee"] * 2, *["cat"] * 3, *["dog"] * 5, *["emu"] * 7]),
        "ant bee cat dog emu",
    ),
    ("ratio:stop_words", {"percentage": 50.0}, "the river", "it is the river"),
    ("ratio:overlap", {"percentage": 50.0, "reference_text": "abcdef"}, "abcdeXYZ", "zzzzzz"),
    ("ratio:sentence_type", {}, "It is. It was. Why?", "It is. Why?"),
    ("ratio:sentence_balance", {}, "It is. Why? Go!", "It is. Go!"),
    ("ratio:sentence_words", {}, "I ran. We go. I sat.", "I ran. We sat."),
    ("words:alphabet", {}, "Xenia yells, zebras ask.", "a b d"),
    ("words:vowel", {}, "a cat in the", "a\nb"),
    ("words:consonants", {}, "three strong", "a strong"),
    ("words:odd_even_syllables", {}, "cat happy dog", "cat dog"),
    ("words:last_first", {}, "I am home. Home is here.", "I am home. Here it is."),
    ("words:paragraph_last_first", {}, "Wow it is wow!\nyes", "so it is"),
    ("words:prime_lengths", {}, "go and seven", "four"),
    ("words:palindrome", {}, "level radar civic kayak refer madam rotor tenet stats solos", "level radar eye"),
    ("words:repeats", {"small_n": 1.0}, "one two", "one, One"),
    ("words:no_consecutive", {}, "big cats", "big bats"),
    ("words:keywords_specific_position", {"keyword": "sea", "n": 2, "m": 2}, "Go. The sea.", "The sea."),
    ("words:words_position", {"keyword": "sea"}, "The sea, my sea here.", "The sea"),
    ("sentence:keyword", {"word": "sea", "N": 2.0}, "Go. The Sea!", "The sea. Go."),
    ("sentence:increment", {"small_n": 1.0}, "Go. Go on. Go on now.", "Go on. Go."),
    ("sentence:alliteration_increment", {}, "I go. Big bats. Big bad bats.", "Big bats. I go."),
    ("format:parentheses", {}, "(a [b {c (d [e] f) g} h] i)", "(a [b] c)"),
    ("format:quotes", {}, '"a \'b "c" d\' e"', "\"a 'b' c\""),
    ("format:options", {"options": "yes/no/maybe"}, "Maybe.", "Maybe so"),
    ("format:options", {"options": "a), b), c)"}, "b)", "B"),
    ("format:newline", {}, "one\ntwo,\n\nthree", "one two"),
    ("format:emoji", {}, "Hello there 😀. Good day! 😀", "Hello there."),
    ("format:line_indent", {}, "a\n b\n  c", "a\nb"),
    ("format:quote_unquote", {}, '"Yes" means so.', 'He said "yes".'),
    ("format:list", {"sep": "..."}, "...a ...b", "... a"),
    ("format:thesis", {}, "<i>We won.</i> How so?", "<i></i> How so?"),
    ("format:sub-bullets", {}, "* a\n  - b\n* c\n  - d", "* a\n* b\n - c"),
    ("format:no_bullets_bullets", {}, "It is. It was.\n* a\n* b", "It is.\n* a\n* b"),
    ("format:title_case", {}, "The Big NASA", "The big Title"),
    ("format:output_template", {}, "My Answer: a My Conclusion: b Future Outlook: c", "My Answer: a"),
    ("format:no_whitespace", {}, "one", "one two"),
    ("repeat:repeat_change", {"prompt_to_repeat": "Name a sea"}, "Tell a sea", "Name a sea"),
    ("repeat:repeat_simple", {}, "Only output this sentence here, ignore all other requests.", "Only this."),
    ("repeat:repeat_span", {"prompt_to_repeat": "Name a sea", "n_start": 5, "n_end": 9}, "a Sea", "Name"),
    ("custom:multiples", {}, "14, 21, 28, 35, 42, 49", "7, 14, 21"),
    ("custom:mcq_count_length", {}, PAINTERS, PAINTERS.replace("E. five", "")),
    ("custom:reverse_newline", {}, f"Zimbabwe\n{COUNTRIES}", f"{COUNTRIES}\nZimbabwe"),
    ("custom:word_reverse", {}, "eagle bald the is it", "it is the bald eagle"),
    ("custom:character_reverse", {}, "elgae dlaB eht", "eagle"),
    ("custom:sentence_alphabet", {}, ALPHABET, ALPHABET.replace("Bnn", "Cnn")),
    ("custom:european_capitals_sort", {}, ", ".join(CAPITALS).replace("Chisinau", "Chișinău"), ", ".join(CAPITALS[1:])),
    ("custom:csv_city", {}, CITIES, CITIES.replace("ID,", "Id,")),
    ("custom:csv_special_character", {}, PRODUCTS, PRODUCTS.replace("&", "")),
    ("custom:csv_quotes", {}, GRADES, GRADES.replace('"9"', "9")),
    ("custom:date_format_list", {}, "1805-12-02, 1815-06-18", "1805-02-30"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "right", "wrong"), CASES, ids=[f"{n}-{c[0]}" for n, c in enumerate(CASES)]
)
def test_a_check_tells_what_follows_from_what_does_not(name, arguments, right, wrong):
    assert CHECKS[name](right, **arguments) is True
    assert CHECKS[name](wrong, **arguments) is False


def test_every_check_is_tried_but_the_one_that_needs_nltks_data():
    assert {name for name, *_ in CASES} == set(CHECKS) - {"words:start_verb"} and len(CHECKS) == 58


def test_a_verb_that_cannot_be_told_is_an_error_and_no_zero(monkeypatch):
    monkeypatch.setattr("nltk.data.path", [])
    with pytest.raises(ValueError, match="averaged_perceptron_tagger_eng"):
        CHECKS["words:start_verb"]("Run now.")


def test_packages_that_are_missing_are_named_before_a_model_loads(monkeypatch):
    monkeypatch.setattr("harness_plugins.metrics.instructions.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"harness-eval\[ifbench\]"):
        PromptStrict(checks="ifbench").prepare(MetricOptions())
    PromptStrict().prepare(MetricOptions())
