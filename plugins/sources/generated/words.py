"""Words and plain prose to hide things in. The words are those of the package wonderwords, as in RULER's own script."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence


@functools.cache
def words(kind: str) -> tuple[str, ...]:
    """English words of a kind: noun, adjective or verb; sorted."""
    from wonderwords import RandomWord

    return tuple(sorted(set(RandomWord().filter(include_categories=[kind]))))


SENTENCES = (
    "The {a} {n} stood near the {m} for most of the day.",
    "Nobody asked why the {n} was so {a}.",
    "After a while they {v} the {n} and went back to the {m}.",
    "It was a {a} {n}, and the {m} was no better.",
    "There is not much to say about a {n} that looks {a}.",
    "People like to {v} a {n} when the {m} is {b}.",
    "She put the {n} on the {m} and waited.",
    "If you {v} it slowly, the {n} turns {a}.",
    "The first {n} was {a}, the second {b}, and the third was lost.",
    "What matters is whether the {n} can {v} without a {m}.",
    "Most of what we know about the {n} comes from one {a} {m}.",
    "He said that every {n} needs a {a} {m}.",
)


def prose(rng: random.Random, count: int) -> list[str]:
    """So many sentences that mean nothing in particular."""
    nouns, adjectives, verbs = words("noun"), words("adjective"), words("verb")

    def sentence() -> str:
        names = {"n": nouns, "m": nouns, "a": adjectives, "b": adjectives, "v": verbs}
        return rng.choice(SENTENCES).format(**{name: rng.choice(kind) for name, kind in names.items()})

    return [sentence() for _ in range(count)]


def split_sentences(text: str) -> list[str]:
    """The sentences of a text of one's own, with single blanks."""
    return re.split(r"(?<=[.!?])\s+", " ".join(text.split()))


def repeated(sentences: Sequence[str], count: int) -> list[str]:
    """The first `count` sentences, from the start again where there are fewer."""
    times = -(-count // max(1, len(sentences)))
    return [*sentences, *(list(sentences) * (times - 1))][:count]
