"""RULER's tasks (Hsieh et al. 2024, arXiv 2404.06654), by the recipes of NVIDIA/RULER, scripts/data/synthetic.

Templates, sizes and the rules of where things are hidden are the authors'. Three things differ, because nothing is to
be fetched: the haystack that is Paul Graham's essays there is plain generated prose here, unless `haystack: FILE` names
a text; words beyond wonderwords' list are compounds of two; and the two tasks of question answering stand apart
(ruler_qa.py), since they need data.
"""

from __future__ import annotations

import functools
import itertools
import random
import string
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness import DataError

from .sizes import greatest_size
from .words import prose, repeated, split_sentences, words

Count = Callable[[str], int]
Row = dict[str, Any]
# A text with its prefix of the answer, and what the answer must hold, for a haystack of a size.
Draw = Callable[[random.Random, int], tuple[str, str, list[str]]]

NOISE = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
NEEDLE = "One of the special magic {kind} for {key} is: {value}."
NIAH = (
    "Some special magic {kind} are hidden within the following text. Make sure to memorize it. I will quiz you about "
    "the {kind} afterwards.\n{context}\n"
    "What are all the special magic {kind} for {query} mentioned in the provided text?"
)
NIAH_ANSWER = " The special magic {kind} for {query} mentioned in the provided text are"
TRACKING = (
    "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n{context}\n"
    "Question: Find all variables that are assigned the value {query} in the text above."
)
TRACKING_ANSWER = (
    " Answer: According to the chain(s) of variable assignment in the text above, {count} variables are assigned the "
    "value {query}, they are: "
)
COMMON = (
    "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
    "appear most often.\n{context}\nQuestion: What are the 10 most common words in the above list?"
)
COMMON_ANSWER = " Answer: The top 10 words that appear most often in the list are:"
FREQUENT = (
    "Read the following coded text and track the frequency of each coded word. Find the three most frequently appeared "
    "coded words. {context}\nQuestion: Do not provide any explanation. Please ignore the dots '....'. What are the "
    "three most frequently appeared words in the above coded text?"
)
FREQUENT_ANSWER = " Answer: According to the coded text above, the three most frequently appeared words are:"

# haystack, kind of keys, kind of values, and how many keys, values a key, and keys that are asked for.
NEEDLES: dict[str, tuple[str, str, str, int, int, int]] = {
    "niah_single_1": ("noise", "words", "numbers", 1, 1, 1),
    "niah_single_2": ("essay", "words", "numbers", 1, 1, 1),
    "niah_single_3": ("essay", "words", "uuids", 1, 1, 1),
    "niah_multikey_1": ("essay", "words", "numbers", 4, 1, 1),
    "niah_multikey_2": ("needle", "words", "numbers", 1, 1, 1),
    "niah_multikey_3": ("needle", "uuids", "uuids", 1, 1, 1),
    "niah_multivalue": ("essay", "words", "numbers", 1, 4, 1),
    "niah_multiquery": ("essay", "words", "numbers", 4, 1, 4),
}
ANSWER_TOKENS = {"vt": 30, "cwe": 120, "fwe": 50}  # of the others: 128
TASKS = (*NEEDLES, *ANSWER_TOKENS)


def recipe(task: str, length: int, seed: str, count: Count, haystack: str = "") -> Callable[[int], Row]:
    """How row number `index` of a task is made. The haystack is as long as fits, by the tokens of one row."""
    if task not in TASKS:
        raise DataError(f"sources: generated: ruler has no task '{task}' (it has: {', '.join(TASKS)})")
    draw = _drawer(task, length, seed, count, haystack)
    room = length - ANSWER_TOKENS.get(task, 128)

    def tokens(size: int, index: int) -> tuple[int, tuple[str, str, list[str]]]:
        drawn = draw(random.Random(f"{seed}\0{task}\0{length}\0{index}"), size)
        return count(drawn[0] + drawn[1]), drawn

    @functools.cache
    def fitting() -> int:
        """The size by the first row; rows that come out longer are made smaller."""
        return greatest_size(lambda size: tokens(size, 0)[0] <= room, length, f"ruler's '{task}'")

    def make(index: int) -> Row:
        size = fitting()
        used, (text, prefix, answers) = tokens(size, index)
        while used > room and size > 1:
            size -= max(1, size // 100)
            used, (text, prefix, answers) = tokens(size, index)
        return {
            "index": index,
            "input": text,
            "answer_prefix": prefix,
            "outputs": answers,
            "length": used + length - room,
        }

    return make


def _drawer(task: str, length: int, seed: str, count: Count, haystack: str) -> Draw:
    if task in NEEDLES:
        return functools.partial(_needles, NEEDLES[task], _essay(seed, haystack))
    if task == "vt":
        example = _tracking_example(seed, count)

        def variables(rng: random.Random, size: int) -> tuple[str, str, list[str]]:
            shown = example(rng)
            text, prefix, names = _tracked(rng, size, 5)
            return shown + text, prefix, names

        return variables
    return functools.partial(_common_words, length) if task == "cwe" else functools.partial(_frequent_words, length)


def _essay(seed: str, haystack: str) -> Callable[[int], list[str]]:
    """The first sentences of the text that the needles are hidden in, the same for all rows."""
    if haystack:
        try:
            own = split_sentences(Path(haystack).expanduser().read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"dataset_kwargs: haystack '{haystack}': {error.strerror}") from None
        return functools.partial(repeated, own)
    rng, sentences = random.Random(f"{seed}\0essay"), list[str]()

    def first(size: int) -> list[str]:
        sentences.extend(prose(rng, size - len(sentences)))
        return sentences[:size]

    return first


def _value(rng: random.Random, kind: str) -> str:
    if kind == "numbers":
        return str(rng.randint(10**6, 10**7 - 1))
    if kind == "uuids":
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))
    return f"{rng.choice(words('adjective'))}-{rng.choice(words('noun'))}"


def _needles(
    task: tuple[str, str, str, int, int, int], essay: Callable[[int], list[str]], rng: random.Random, size: int
) -> tuple[str, str, list[str]]:
    hay, key_kind, kind, keys, values, asked = task
    pairs = {_value(rng, key_kind): [_value(rng, kind) for _ in range(values)] for _ in range(keys)}
    needles = [NEEDLE.format(kind=kind, key=key, value=value) for key, own in pairs.items() for value in own]
    rng.shuffle(needles)
    if hay == "essay":
        context = " ".join(_hidden(essay(size), needles, rng))
    else:
        made = (NEEDLE.format(kind=kind, key=_value(rng, key_kind), value=_value(rng, kind)) for _ in range(size))
        lines = list(made) if hay == "needle" else [NOISE] * size
        places = sorted(rng.sample(range(size + 1), min(len(needles), size + 1)), reverse=True)
        for place, needle in zip(places, needles, strict=False):
            lines.insert(place, needle)
        context = "\n".join(lines)
    chosen = rng.sample(sorted(pairs), asked)
    query = ", ".join(chosen[:-1]) + ", and " + chosen[-1] if asked > 1 else chosen[0]
    text, prefix = NIAH, NIAH_ANSWER
    if asked * values == 1:
        kind = kind.removesuffix("s")
        text, prefix = (
            template.replace("Some", "A").replace("are all", "is").replace("are", "is") for template in (text, prefix)
        )
    fields = {"kind": kind, "context": context, "query": query}
    return text.format(**fields), prefix.format(**fields), [value for key in chosen for value in pairs[key]]


def _hidden(sentences: list[str], needles: Sequence[str], rng: random.Random) -> list[str]:
    """The needles between the sentences, at depths that are drawn from forty."""
    depths = sorted(rng.sample([round(100 * step / 39) for step in range(40)], len(needles)))
    parts, last = [], 0
    for depth, needle in zip(depths, needles, strict=True):
        place = int(len(sentences) * depth / 100)
        parts += [*sentences[last:place], needle]
        last = place
    return [*parts, *sentences[last:]]


def _chain(rng: random.Random, letters: int, value: str) -> tuple[list[str], list[str]]:
    """Five names, and the lines that give the first a value and each of the others the one before it."""
    names: dict[str, None] = {}
    while len(names) < 5:
        names.setdefault("".join(rng.choices(string.ascii_uppercase, k=letters)))
    order = list(names)
    follow = [f"VAR {later} = VAR {former} " for former, later in itertools.pairwise(order)]
    return order, [f"VAR {order[0]} = {value}", *follow]


def _tracked(rng: random.Random, size: int, letters: int) -> tuple[str, str, list[str]]:
    value = str(rng.randint(10000, 99998))
    names, lines = _chain(rng, letters, value)
    text = [NOISE] * max(size, len(lines))
    for offset, (place, line) in enumerate(zip(sorted(rng.sample(range(len(text)), len(lines))), lines, strict=True)):
        text.insert(place + offset, line)
    context = "\n".join(text).replace(". \n", ".\n")
    fields = {"context": context, "query": value, "count": len(names)}
    return TRACKING.format(**fields), TRACKING_ANSWER.format(**fields), names


def _tracking_example(seed: str, count: Count) -> Callable[[random.Random], str]:
    """The one worked example that stands before a row, as long as fits into 500 tokens, with names drawn anew."""

    def example(rng: random.Random, size: int) -> str:
        text, prefix, names = _tracked(rng, size, 3)
        return f"{text}{prefix} {' '.join(names)}\n\n"

    size = max((n for n in range(5, 60) if count(example(random.Random(f"{seed}\0example"), n)) <= 500), default=5)
    return lambda rng: example(rng, size)


@functools.cache
def _all_words() -> list[str]:
    return sorted({*words("noun"), *words("adjective"), *words("verb")})


def _word_list(rng: random.Random, size: int, often: int, seldom: int) -> tuple[str, list[str]]:
    known = _all_words()
    drawn = rng.sample(known, min(size, len(known)))
    while len(drawn) < size:
        drawn.append(_value(rng, "words"))
    common, others = drawn[:10], drawn[10:]
    listed = common * often + others * seldom
    rng.shuffle(listed)
    return " ".join(f"{number}. {word}" for number, word in enumerate(listed, 1)), common


def _common_words(length: int, rng: random.Random, size: int) -> tuple[str, str, list[str]]:
    """Ten words thirty times each among others that stand there three times; one short example before."""
    short = length < 4096
    example, known = _word_list(rng, 20 if short else 40, *((3, 1) if short else (10, 3)))
    context, common = _word_list(rng, size + 10, *((6, 1) if short else (30, 3)))
    answer = " ".join(f"{number}. {word}" for number, word in enumerate(known, 1))
    shown = f"{COMMON.format(context=example)}{COMMON_ANSWER} {answer}\n"
    return shown + COMMON.format(context=context), COMMON_ANSWER, common


def _frequent_words(length: int, rng: random.Random, size: int) -> tuple[str, str, list[str]]:
    """Coded words of six letters whose frequencies follow a zeta distribution; the most frequent one is dots."""
    vocabulary: dict[str, None] = {}
    while len(vocabulary) < max(4, (length - ANSWER_TOKENS["fwe"]) // 50):
        vocabulary.setdefault("".join(rng.choices(string.ascii_lowercase, k=6)))
    coded = ["...", *list(vocabulary)[1:]]
    total = max(size, 27) / 1.6449340668482264  # zeta(2); from 27 words on, the third coded word is there, alone
    text = [word for rank, word in enumerate(coded, 1) for _ in range(int(total / rank**2))]
    rng.shuffle(text)
    return FREQUENT.format(context=" ".join(text)), FREQUENT_ANSWER, coded[1:4]


__all__ = ["TASKS", "recipe"]
