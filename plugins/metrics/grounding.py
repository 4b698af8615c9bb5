"""Boxes of what a sentence describes: RefCOCO, RefCOCO+ and RefCOCOg.

filter_list: [{name: box, filter: [{function: box, scale: thousand, image: image}]}]
metric_list: [{metric: grounding}]

Boxes are texts between filter and metric, and in the target: `left,top,right,bottom` in fractions of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness import Filter, Metric, Observation, Sample, hookimpl
from harness.scoring import gold_texts
from harness.scoring.official import (
    SCALES,
    Box,
    Scale,
    as_fraction,
    first_box,
    intersection_over_union,
    is_centre_within,
    lmms_eval_box,
    upright,
)

RULES = ("any", "lmms_eval")
ORDERS = {"xyxy": (0, 1, 2, 3), "yxyx": (1, 0, 3, 2)}


class BoxOfReply(Filter):
    """The first box of a reply, in fractions of the picture; None where it holds none.

    scale: what the prompt asks for: `fraction` (0 to 1), `percent`, `thousand` or `pixels`. rule: `any` form that
    models write, or `lmms_eval` (four numbers in square brackets, as they stand). order: `xyxy`, or `yxyx` where the
    top comes first. image: the column of the picture, whose `width` and `height` scale pixels (`image_sizes: true`),
    or the row's own columns of these names.
    """

    name = "box"

    def __init__(self, scale: Scale = "fraction", rule: str = "any", order: str = "xyxy", image: str = "image") -> None:
        for what, given, known in (("scale", scale, SCALES), ("rule", rule, RULES), ("order", order, tuple(ORDERS))):
            if given not in known:
                raise ValueError(f"{what} is '{given}'; it can be one of {', '.join(known)}")
        self._scale, self._rule, self._order, self._image = scale, rule, ORDERS[order], image

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(reply, sample.doc) for reply in replies]

    def _read(self, reply: str, doc: Mapping[str, Any]) -> str | None:
        size = _size(doc, self._image) if self._scale == "pixels" else None
        if self._rule == "lmms_eval":
            box = lmms_eval_box(reply)
            box = box and as_fraction(self._turned(box), self._scale, size)
        else:
            found = first_box(reply)
            box = found and as_fraction(found[0] if found[1] else self._turned(found[0]), found[1] or self._scale, size)
            box = box and upright(box)
        return ",".join(map(repr, box)) if box and all(map(math.isfinite, box)) else None

    def _turned(self, box: Box) -> Box:
        left, top, right, bottom = (box[place] for place in self._order)
        return left, top, right, bottom


class Grounding(Metric):
    """Intersection over union with the gold box: how often it reaches 0.5 (the published accuracy), and its mean; and
    how often the middle of the box lies in the gold one. What cannot be read scores 0. thresholds: others than 0.5.
    """

    name = "grounding"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)
    stem = None

    def __init__(self, thresholds: Sequence[float] = (0.5,)) -> None:
        if not all(isinstance(each, int | float) and 0 < each <= 1 for each in thresholds):
            raise ValueError(f"thresholds are {thresholds}; each has to be above 0 and at most 1")
        self._thresholds = tuple(thresholds)
        self.values = (*(f"box_acc_{threshold:g}" for threshold in self._thresholds), "box_iou", "box_centre")

    def score(self, seen: Observation) -> tuple[float, ...] | None:
        golds = gold_texts(seen.sample)
        if not golds or not seen.predictions:
            return None
        gold = _parsed(golds[0])
        if gold is None:  # a row without a box, or one that its picture gives no scale
            return None
        scores = [self._scores(gold, text) for text in seen.predictions]
        return tuple(sum(column) / len(scores) for column in zip(*scores, strict=True))

    def _scores(self, gold: Box, text: str | None) -> tuple[float, ...]:
        given = None if text is None else _parsed(text)
        if given is None:
            return (0.0,) * len(self.values)
        overlap = intersection_over_union(gold, given)
        reached = (float(overlap >= threshold) for threshold in self._thresholds)
        return (*reached, overlap, float(is_centre_within(gold, given)))


def _parsed(text: str) -> Box | None:
    """The box of a text `left,top,right,bottom`; None where it is none."""
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError:
        return None
    return left, top, right, bottom


def _size(doc: Mapping[str, Any], image: str) -> tuple[float, float] | None:
    picture = doc.get(image)
    holder = picture if isinstance(picture, Mapping) and "width" in picture else doc
    width, height = holder.get("width"), holder.get("height")
    return (float(width), float(height)) if width and height else None


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [BoxOfReply]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [Grounding]
