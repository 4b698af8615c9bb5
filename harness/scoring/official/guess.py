"""The score of an answer that could not be read, where an official script guesses."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Literal

GuessMode = Literal["official", "wrong", "expected"]


def choice_scores(
    answers: Iterable[tuple[str | None, str | Sequence[str], Sequence[str]]], mode: GuessMode = "wrong", seed: int = 42
) -> list[float]:
    """Score (answer, gold or golds, letters) one after the other; an answer of None could not be read.

    official: draw one of the letters, as MMMU's scripts do (`random.seed(42)`, then one `random.choice` for each such
    answer in the order of the samples). wrong: 0. expected: the chance that a draw is right, 1 / letters.
    """
    generator = random.Random(seed)
    scores = []
    for answer, gold, letters in answers:
        golds = (gold,) if isinstance(gold, str) else tuple(gold)
        if answer is None and mode == "official":
            answer = generator.choice(list(letters))
        if answer is None and mode == "expected":
            scores.append(min(1.0, len(golds) / len(letters)))
        else:
            scores.append(float(answer is not None and answer in golds))
    return scores
