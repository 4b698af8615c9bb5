"""The 25 checks of IFEval (Zhou et al. 2023, arXiv 2311.07911), by the rules of its official script.

google-research/instruction_following_eval, `instructions.py`. Two things differ, because the script draws at random
there: a letter that is none of a to z ("#", "!") is counted as it is asked for, where the script counts one that it
draws; and an argument that a row does not give is an error, where the script draws one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence

from .units import language_of, sentences, tokens, words

Check = Callable[..., bool]
"""Whether a reply follows an instruction: `check(reply, **arguments)`, arguments as the benchmark's rows name them."""

ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def compare(count: int, relation: str, limit: int) -> bool:
    """`less than` or `at least` so many. Raises `ValueError` for another relation."""
    if relation == "less than":
        return count < limit
    if relation == "at least":
        return count >= limit
    raise ValueError(f"the relation is '{relation}'; it can be 'less than' or 'at least'")


def pattern(keyword: str) -> re.Pattern[str]:
    """A keyword as the script reads it: as a pattern, in any case. What is no pattern stands for itself."""
    try:
        return re.compile(keyword, re.IGNORECASE)
    except re.error:
        return re.compile(re.escape(keyword), re.IGNORECASE)


def keyword_existence(reply: str, keywords: Sequence[str]) -> bool:
    """All keywords occur, also inside other words."""
    return all(pattern(keyword).search(reply) for keyword in keywords)


def keyword_frequency(reply: str, keyword: str, frequency: int, relation: str) -> bool:
    return compare(len(pattern(keyword.strip()).findall(reply)), relation, frequency)


def forbidden_words(reply: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words occurs as a word of its own."""
    return not any(pattern(rf"\b{word}\b").search(reply) for word in forbidden_words)


def letter_frequency(reply: str, letter: str, let_frequency: int, let_relation: str) -> bool:
    return compare(reply.lower().count(letter.strip().lower()), let_relation, let_frequency)


def response_language(reply: str, language: str) -> bool:
    """A text without any letters is in every language."""
    return language_of(reply) in (language, None)


def number_sentences(reply: str, num_sentences: int, relation: str) -> bool:
    return compare(len(sentences(reply)), relation, num_sentences)


def number_paragraphs(reply: str, num_paragraphs: int) -> bool:
    """Paragraphs between lines of `***`; an empty one is wrong but at the ends."""
    first, *rest = [bool(part.strip()) for part in re.split(r"\s?\*\*\*\s?", reply)]
    between, last = rest[:-1], rest[-1:]
    return all(between) and first + len(between) + sum(last) == num_paragraphs


def number_words(reply: str, num_words: int, relation: str) -> bool:
    return compare(len(words(reply)), relation, num_words)


def nth_paragraph_first_word(reply: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """So many paragraphs between empty lines, and paragraph n, counted with empty ones, starts with the word."""
    parts = [part.strip() for part in reply.split("\n\n")]
    filled = sum(bool(part) for part in parts)
    if nth_paragraph > filled or not parts[nth_paragraph - 1]:
        return False
    start = parts[nth_paragraph - 1].split()[0].lstrip("'").lstrip('"')
    return filled == num_paragraphs and re.split(r"[.,?!'\"]", start)[0].lower() == first_word.lower()


def number_placeholders(reply: str, num_placeholders: int) -> bool:
    closed = (line[: line.rfind("]") + 1] for line in reply.split("\n"))  # many open brackets would take for ever
    return sum(len(re.findall(r"\[.*?\]", line)) for line in closed) >= num_placeholders


def postscript(reply: str, postscript_marker: str) -> bool:
    """The marker stands somewhere; P.S. and P.P.S may have blanks inside."""
    marker = postscript_marker.strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker, marker.lower()), reply.lower()) is not None


def number_bullet_lists(reply: str, num_bullets: int) -> bool:
    """Exactly so many lines that start with `*` (and no second one) or `-`."""
    # The script's patterns begin with the blank lines above: that finds no other, and takes for ever on many of them.
    stars = re.findall(r"^[^\S\n]*+\*[^\*].*$", reply, re.MULTILINE)
    return len(stars) + len(re.findall(r"^[^\S\n]*+-.*$", reply, re.MULTILINE)) == num_bullets


def constrained_response(reply: str) -> bool:
    return any(answer in reply for answer in ANSWERS)


def number_highlighted_sections(reply: str, num_highlights: int) -> bool:
    """At least so many *passages*; a **passage** counts as one more where it is not empty."""
    single = [part for part in re.findall(r"\*[^\n\*]*\*", reply) if part.strip("*").strip()]
    double = [part for part in re.findall(r"\*\*[^\n\*]*\*\*", reply) if part[2:-2].strip()]
    return len(single) + len(double) >= num_highlights


def multiple_sections(reply: str, section_spliter: str, num_sections: int) -> bool:
    """At least so many headings such as `Section 1`. The spelling of the argument is the benchmark's."""
    return len(re.findall(rf"\s?{section_spliter.strip()}\s?\d+\s?", reply)) >= num_sections


def json_format(reply: str) -> bool:
    """All of the reply is JSON, in a code block or not."""
    text = reply.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def title(reply: str) -> bool:
    """A <<title>> that is not empty."""
    return any(found.lstrip("<").rstrip(">").strip() for found in re.findall(r"<<[^\n]+>>", reply))


def two_responses(reply: str) -> bool:
    """Two different texts with ****** between them."""
    parts = [part.strip() for part in reply.split("******")]
    filled = [part for part in parts if part]
    return all(parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def repeat_prompt(reply: str, prompt_to_repeat: str) -> bool:
    return reply.strip().lower().startswith(prompt_to_repeat.strip().lower())


def end_checker(reply: str, end_phrase: str) -> bool:
    return reply.strip().strip('"').lower().endswith(end_phrase.strip().lower())


def capital_word_frequency(reply: str, capital_frequency: int, capital_relation: str) -> bool:
    """Words in capitals; one with a hyphen counts once."""
    return compare(sum(token.isupper() for token in tokens(reply)), capital_relation, capital_frequency)


def english_capital(reply: str) -> bool:
    return reply.isupper() and response_language(reply, "en")


def english_lowercase(reply: str) -> bool:
    return reply.islower() and response_language(reply, "en")


def no_comma(reply: str) -> bool:
    return "," not in reply


def quotation(reply: str) -> bool:
    text = reply.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


CHECKS: Mapping[str, Check] = {
    "keywords:existence": keyword_existence,
    "keywords:frequency": keyword_frequency,
    "keywords:forbidden_words": forbidden_words,
    "keywords:letter_frequency": letter_frequency,
    "language:response_language": response_language,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_paragraphs": number_paragraphs,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_content:number_placeholders": number_placeholders,
    "detectable_content:postscript": postscript,
    "detectable_format:number_bullet_lists": number_bullet_lists,
    "detectable_format:constrained_response": constrained_response,
    "detectable_format:number_highlighted_sections": number_highlighted_sections,
    "detectable_format:multiple_sections": multiple_sections,
    "detectable_format:json_format": json_format,
    "detectable_format:title": title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": repeat_prompt,
    "startend:end_checker": end_checker,
    "startend:quotation": quotation,
    "change_case:capital_word_frequency": capital_word_frequency,
    "change_case:english_capital": english_capital,
    "change_case:english_lowercase": english_lowercase,
    "punctuation:no_comma": no_comma,
}
