"""Modifiers that change what a question shows: does the answer follow the picture, or would any other do as well?

Images of few-shot examples stay as they are, but for `no_image`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness import Answered, Asked, Metric, Modifier, Observation, RowScore, ScoreKey, View, hookimpl
from harness.scoring import (
    FIRST,
    ZERO_TO_ONE,
    Chance,
    FirstView,
    against_chance,
    averaged,
    chance_of,
    shares,
)


class NoImage(Modifier):
    """The question without its images (Chen et al. 2024, MMStar, arXiv 2403.20330, section 3.1). A score above chance
    shows what can be told without seeing: from the text alone, or because the rows were in the training.

    Where the task says where its options are, `chance` and `above_chance_` are reported too, as for `no_question`.
    """

    name = "no_image"
    needs = frozenset({"images"})

    def views(self, asked: Asked) -> list[View]:
        return [View(images=False)]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        return against_chance(keys) if labels else []


class BlankImage(Modifier):
    """A grey image of the same size in the place of each: the prompt has its tokens, and they show nothing.

    Where the task says where its options are, `chance` and `above_chance_` are reported too.
    """

    name = "blank_image"
    needs = frozenset({"images"})

    def views(self, asked: Asked) -> list[View]:
        return [View(stand_in="blank")]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        return against_chance(keys) if labels else []


class WrongImage(Modifier):
    """An image of another row in the place of each, drawn from a hash of seed, task and row; never one of the row's
    own. What is still right was not seen.

    The rows that the images are of stand in the log (`image_rows`). Where the task says where its options are, `chance`
    and `above_chance_` are reported too.
    """

    name = "wrong_image"
    needs = frozenset({"images"})

    def views(self, asked: Asked) -> list[View]:
        return [View(stand_in="other")]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        return against_chance(keys) if labels else []


class ShuffleImages(Modifier):
    """The images of each question in another order than the row's, drawn from a hash of seed, task and row.

    `kept_images` says how many rows were shown as they are, because they do not have two images that differ.
    """

    name = "shuffle_images"
    needs = frozenset({"images"})

    def views(self, asked: Asked) -> list[View]:
        return [View(image_order=_another_order(asked))]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        return [RowScore("kept_images", keys[0].name, KeptImages())]


PROBES = {
    "no_image": View(images=False),
    "blank_image": View(stand_in="blank"),
    "wrong_image": View(stand_in="other"),
    "shuffle_images": None,
}
"""Probe -> how it shows a row; None where that depends on the row."""


class ImageProbes(Modifier):
    """Each row as it is, and again without its images, with grey ones and with those of another row: in one run, what
    a model owes to the picture. `image_probes=no_image` (or another one's name) asks that one alone.

    Reported for each score: `vanilla_` (the row as it is), then for each probe its own score (`no_image_`) and
    `gain_over_no_image_`, the difference to it, paired row by row, with its interval: the multi-modal gain of Chen et
    al. 2024 (MMStar, arXiv 2403.20330, section 4.1). Of the answers: `same_answer_wrong_image` and so on, the share of
    rows that are answered the same whatever is shown; where it is high, answers are made up and not seen. Where the
    task says where its options are, `chance`, and how far the score without images is above it: what is guessed from
    the text alone, or known by heart. Rows without images are asked once and are in none of these differences.
    """

    name = "image_probes"
    needs = frozenset({"images"})
    several = True

    def __init__(self, probe: str = "") -> None:
        if probe and probe not in PROBES:
            raise ValueError(f"'{probe}' is no probe (one of {', '.join(PROBES)})")
        self._probes = [probe] if probe else [name for name, view in PROBES.items() if view is not None]

    def views(self, asked: Asked) -> list[View]:
        if not asked.images:
            return [View()]
        shown = [PROBES[probe] or View(image_order=_another_order(asked)) for probe in self._probes]
        return [View(), *(view for view in shown if not view.is_plain)]

    def row_scores(self, keys: Sequence[ScoreKey], labels: str) -> list[RowScore]:
        scores: list[RowScore] = []
        for key in averaged(keys):
            scores.append(RowScore(f"{FIRST}_{key.name}", key.name, FirstView(key.metric.bounds), key.higher_is_better))
            for probe in self._probes:
                of_probe = ProbeScore(probe, key.metric.bounds)
                gain = Gain(probe, key.metric.bounds)
                scores.append(RowScore(f"{probe}_{key.name}", key.name, of_probe, key.higher_is_better))
                scores.append(RowScore(f"gain_over_{probe}_{key.name}", key.name, gain, key.higher_is_better))
        if not scores:
            return []
        alike = [
            RowScore(f"same_answer_{probe}", keys[0].name, SameAnswer(probe), higher_is_better=False)
            for probe in self._probes
        ]
        guessed = shares(keys) if labels and "no_image" in self._probes else []
        for key in guessed:
            scores.append(RowScore(f"no_image_above_chance_{key.name}", key.name, GuessedBlind()))
        chance = [RowScore("chance", guessed[0].name, Chance())] if guessed else []
        return [*scores, *alike, *chance]


class ProbeScore(Metric):
    """The score of a row as one probe shows it."""

    name = "probe_score"

    def __init__(self, probe: str, bounds: tuple[float, float] | None) -> None:
        self._probe = probe
        self.bounds = bounds

    def score(self, seen: Observation) -> float | None:
        probed = _as_shown_by(self._probe, seen)
        return probed.score if probed and isinstance(probed.score, int | float) else None


class Gain(Metric):
    """The score of a row as it is less its score as a probe shows it."""

    name = "gain"

    def __init__(self, probe: str, bounds: tuple[float, float] | None) -> None:
        self._probe = probe
        self.bounds = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])

    def score(self, seen: Observation) -> float | None:
        probed, plain = _as_shown_by(self._probe, seen), seen.views[0].score
        if probed is None or not isinstance(probed.score, int | float) or not isinstance(plain, int | float):
            return None
        return plain - probed.score


class SameAnswer(Metric):
    """1 where a row is answered the same as a probe shows it, 0 where it is not; not scored where neither or only one
    of the two answers could be read."""

    name = "same_answer"
    bounds = ZERO_TO_ONE
    higher_is_better = False

    def __init__(self, probe: str) -> None:
        self._probe = probe

    def score(self, seen: Observation) -> float | None:
        probed, plain = _as_shown_by(self._probe, seen), seen.views[0].answer
        if probed is None or probed.answer is None or plain is None:
            return None
        return float(probed.answer == plain)


class GuessedBlind(Metric):
    """The score of a row without its images less what a guess among its options would score on average."""

    name = "guessed_blind"
    bounds = (-1.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        chance, blind = chance_of(seen), _as_shown_by("no_image", seen)
        if chance is None or blind is None or not isinstance(blind.score, int | float):
            return None
        return blind.score - chance


class KeptImages(Metric):
    """1 where the images stand as in the row, because no two of them differ."""

    name = "kept_images"
    is_constant = True
    bounds = ZERO_TO_ONE

    def score(self, seen: Observation) -> float:
        return float(all(view.view.shows_own_images for view in seen.views))


def _as_shown_by(probe: str, seen: Observation) -> Answered | None:
    """The view of a probe, where the row was shown so."""
    wanted = PROBES[probe]
    for answered in seen.views:
        view = answered.view
        if wanted is None:
            is_it = view.images and not view.stand_in and not view.shows_own_images
        else:
            is_it = (view.images, view.stand_in) == (wanted.images, wanted.stand_in)
        if is_it:
            return answered
    return None


def _another_order(asked: Asked) -> tuple[int, ...]:
    """The images in an order in which another one is seen at some place; as they are, where there is none."""

    def rank(place: int) -> bytes:
        return hashlib.sha256(f"{asked.salt}\0{place}".encode("utf-8", "surrogatepass")).digest()

    order = sorted(range(len(asked.images)), key=rank)
    turns = [(*order[start:], *order[:start]) for start in range(len(order))]
    moved = (turn for turn in turns if [asked.images[place] for place in turn] != list(asked.images))
    return next(moved, tuple(range(len(order))))


@hookimpl
def harness_modifiers() -> list[type[Modifier]]:
    return [BlankImage, ImageProbes, NoImage, ShuffleImages, WrongImage]
