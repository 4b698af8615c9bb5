"""IFEval's instructions for Chinese replies, where those of English count words, sentences and commas otherwise.

A Chinese character is a word, as 600字 means; so is a run of Latin letters or digits. Sentences end at 。！？ and the
like, or at a line's end. The rest is IFEval's. P-MMEval's script for Chinese (OpenCompass, datasets/PMMEval) has these
commas and quotation marks; it counts every character, punctuation included, and lines for sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from . import ifeval

_WORD = re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]|[A-Za-z0-9_'’-]+|[^\\W\\d_]+")
_SENTENCE_END = re.compile(r"[。！？!?…]+[”’」』\"]*|\.(?=\s|$)|\n")
_QUOTES = ('""', "“”", "「」", "『』")
_ANSWER = re.compile(
    r"我的(?:答案|回答)是"
    r"(?:肯定|否定|是|否|不是|可能|也许|或许|不确定|no|yes|maybe)",
    re.IGNORECASE,
)


def number_words(reply: str, num_words: int, relation: str) -> bool:
    return ifeval.compare(len(_WORD.findall(reply)), relation, num_words)


def number_sentences(reply: str, num_sentences: int, relation: str) -> bool:
    sentences = [part for part in _SENTENCE_END.split(reply) if re.search(r"\w", part)]
    return ifeval.compare(len(sentences), relation, num_sentences)


def forbidden_words(reply: str, forbidden_words: Sequence[str]) -> bool:
    """None of the words occurs; Chinese has no blanks around words, and others stand as words of their own."""
    edges = {word: r"\b" if word.isascii() else "" for word in forbidden_words}
    patterns = [f"{edge}{re.escape(word)}{edge}" for word, edge in edges.items()]
    return not any(re.search(pattern, reply, re.IGNORECASE | re.ASCII) for pattern in patterns)


def nth_paragraph_first_word(reply: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """So many paragraphs between blank lines, of which one begins with a word."""
    paragraphs = [part.strip() for part in re.split(r"\n\n", reply) if part.strip()]
    if len(paragraphs) != num_paragraphs or nth_paragraph > len(paragraphs):
        return False
    begins = paragraphs[nth_paragraph - 1].lstrip("\"“「『'*　 ").lower()
    return begins.startswith(first_word.strip().lower())


def no_comma(reply: str) -> bool:
    return not re.search("[,，]", reply)


def quotation(reply: str) -> bool:
    text = reply.strip()
    return len(text) > 1 and text[0] + text[-1] in _QUOTES


def constrained_response(reply: str) -> bool:
    return _ANSWER.search(reply) is not None or ifeval.constrained_response(reply)


CHECKS: Mapping[str, ifeval.Check] = {
    **ifeval.CHECKS,
    "keywords:forbidden_words": forbidden_words,
    "length_constraints:number_sentences": number_sentences,
    "length_constraints:number_words": number_words,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_first_word,
    "detectable_format:constrained_response": constrained_response,
    "startend:quotation": quotation,
    "punctuation:no_comma": no_comma,
}
