"""Multi-round coreference: a long conversation in which a user asks for the same thing several times, and then for one
of the answers again ("the third poem about otters").

As OpenAI's MRCR (huggingface.co/datasets/openai/mrcr; Vodrahalli et al. 2024, arXiv 2409.12640) asks and grades; its
answers were written by a model, those here are plain generated prose, so that nothing is to be fetched.
"""

from __future__ import annotations

import functools
import random
import string
from collections.abc import Callable
from typing import Any

from harness import DataError

from .sizes import greatest_size
from .words import prose, words

Row = dict[str, Any]
FORMS = (
    "poem",
    "short story",
    "news article",
    "blog post",
    "speech",
    "riddle",
    "song",
    "formal letter",
    "essay",
    "review",
)
ORDINALS = ("1st", "2nd", "3rd", "4th", "5th", "6th", "7th", "8th")
NEEDLES = (2, 4, 8)
ANSWER_SENTENCES = 12


def recipe(task: str, length: int, seed: str, count: Callable[[str], int]) -> Callable[[int], Row]:
    """How row number `index` is made. task: `2needle`, `4needle` or `8needle`, how often the same is asked for."""
    known = {f"{needles}needle": needles for needles in NEEDLES}
    if task not in known:
        raise DataError(f"sources: generated: mrcr has no task '{task}' (it has: {', '.join(known)})")

    def drawn(index: int, turns: int) -> Row:
        return conversation(random.Random(f"{seed}\0{task}\0{length}\0{index}"), known[task], turns)

    @functools.cache
    def fitting() -> int:
        """How many turns fit beside an answer as long as theirs, by the first row."""
        return greatest_size(
            lambda turns: _tokens(drawn(0, turns), count) <= length, length, f"mrcr's '{task}'", smallest=known[task]
        )

    def make(index: int) -> Row:
        turns = fitting()
        row = drawn(index, turns)
        while _tokens(row, count) > length and turns > known[task]:
            turns -= 1
            row = drawn(index, turns)
        return {"index": index, **row}

    return make


def _tokens(row: Row, count: Callable[[str], int]) -> int:
    return count(row["prompt"] + row["answer"])


def conversation(rng: random.Random, needles: int, turns: int) -> Row:
    """A conversation of so many turns, `needles` of which ask for the same, and the request at its end."""
    topics = rng.sample(words("noun"), 40)
    form, topic = rng.choice(FORMS), topics[0]
    others = [(rng.choice(FORMS), rng.choice(topics)) for _ in range(turns - needles)]
    # Others of the same form, or about the same topic, are there; the same of both would be one more needle.
    asked = [pair if pair != (form, topic) else (form, topics[1]) for pair in others]
    places = sorted(rng.sample(range(turns), needles))
    for place in places:
        asked.insert(place, (form, topic))
    wanted = rng.randrange(needles)
    lines, answers = [], []
    for place, (kind, about) in enumerate(asked):
        text = " ".join([*prose(rng, ANSWER_SENTENCES), f"So much for the {about}."])
        lines.append(f"User: write a {kind} about {about}\n\nAssistant: {text}\n\n")
        if place in places:
            answers.append(text)
    prefix = "".join(rng.choices(string.ascii_letters + string.digits, k=10))
    request = (
        f"User: Prepend {prefix} to the {ORDINALS[wanted]} {form} about {topic}. "
        "Do not include any other text in your response.\n\nAssistant:"
    )
    return {
        "prompt": "".join(lines) + request,
        "answer": prefix + answers[wanted],
        "random_string_to_prepend": prefix,
        "n_needles": needles,
    }
