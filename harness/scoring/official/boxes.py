"""Boxes of referring expressions (RefCOCO, RefCOCO+, RefCOCOg): read from replies, and compared with the gold box.

Accuracy at an intersection over union of 0.5 is what all of them report (Yu et al. 2016; Mao et al. 2016). Values as
lmms-eval computes them at 75571cf (`tasks/refcoco/utils_rec.py`); `lmms_eval_box` is its reading. The forms that
`first_box` reads are those in which LLaVA, Shikra, CogVLM, InternVL, Qwen-VL to Qwen3-VL, GLM-4.5V, DeepSeek-VL2,
MiniCPM-V, Kosmos-2, Florence-2 and PaliGemma write a box.
"""

from __future__ import annotations

import re
from typing import Literal

from harness.later_patterns import later_pattern

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
Scale = Literal["fraction", "percent", "thousand", "pixels"]
SCALES: tuple[Scale, ...] = ("fraction", "percent", "thousand", "pixels")

_NUMBER = r"(-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)(?:\s*(?:%|px))?"
_GAP = r"\s*[,;，、\s]\s*"
_OFFICIAL = later_pattern(r"\[\s*" + r",\s*".join([r"(-?\d+(?:\.\d+)?)"] * 4) + r"\s*\]")
_CORNER = rf"[(\[（]\s*{_NUMBER}{_GAP}{_NUMBER}\s*[)\]）]"
# Two corners in brackets of their own: (x1,y1),(x2,y2), [[x1, y1], [x2, y2]], "from (x1, y1) to (x2, y2)".
_CORNERS = later_pattern(rf"{_CORNER}[^\d()\[\]（）]{{0,40}}{_CORNER}")
_BRACKETS = later_pattern(r"[\[({<>（]\s*" + _GAP.join([_NUMBER] * 4) + r"\s*[\])}<）]")
_NAMED = later_pattern(
    r"[\"']?(?:x_?1|x_?min|xmin|left)[\"']?\s*[:=]\s*" + _NUMBER + r"\W+"
    r"(?:y_?1|y_?min|ymin|top)[\"']?\s*[:=]\s*" + _NUMBER + r"\W+"
    r"(?:x_?2|x_?max|xmax|right)[\"']?\s*[:=]\s*" + _NUMBER + r"\W+"
    r"(?:y_?2|y_?max|ymax|bottom)[\"']?\s*[:=]\s*" + _NUMBER,
    re.IGNORECASE,
)
_LOCATIONS = later_pattern(r"(?:<loc_?\d+>\s*){4}")
_BARE = later_pattern(r"\s*" + _GAP.join([_NUMBER] * 4) + r"\s*\.?\s*")


def lmms_eval_box(reply: str) -> Box | None:
    """The first four numbers between square brackets, as they stand."""
    found = _OFFICIAL.search(reply)
    return _floats(found.groups()) if found else None


def first_box(reply: str) -> tuple[Box, Scale | None] | None:
    """The first box of a reply in any of the forms that models write, and its scale where the form says it.

    Location tokens say their scale: PaliGemma's `<loc0123>` are 1,024 bins with the top first, `<loc_123>` thousandths.
    """
    forms = [found for form in (_CORNERS, _BRACKETS, _NAMED) if (found := form.search(reply))]
    tokens = _LOCATIONS.search(reply)
    if tokens and all(tokens.start() <= found.start() for found in forms):
        return _of_tokens(tokens[0])
    if forms:
        return _floats(min(forms, key=lambda found: found.start()).groups()), None
    bare = _BARE.fullmatch(reply)
    return (_floats(bare.groups()), None) if bare else None


def as_fraction(box: Box, scale: Scale, size: tuple[float, float] | None) -> Box | None:
    """The box in fractions of the picture. size: width and height in pixels, without which there is no such box."""
    if scale == "pixels":
        if size is None or not all(size):
            return None
        width, height = size
    else:
        width = height = {"fraction": 1.0, "percent": 100.0, "thousand": 1000.0}[scale]
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def upright(box: Box) -> Box:
    """The box whose opposite corners are given in any order."""
    return min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])


def intersection_over_union(first: Box, second: Box) -> float:
    """0 where they do not meet; 0, too, where a corner is on the wrong side of the other, as in the script."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    union = _area(first) + _area(second) - common
    return common / union if common and union else 0.0


def is_centre_within(gold: Box, given: Box) -> bool:
    """Whether the middle of the given box lies in the gold one, its edges included."""
    x, y = (given[0] + given[2]) / 2, (given[1] + given[3]) / 2
    return gold[0] <= x <= gold[2] and gold[1] <= y <= gold[3]


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _of_tokens(text: str) -> tuple[Box, Scale | None]:
    bins = _floats(re.findall(r"\d+", text))
    if "<loc_" in text:
        return bins, "thousand"
    top, left, bottom, right = (value / 1024 for value in bins)
    return (left, top, right, bottom), "fraction"


def _floats(texts: tuple[str, ...] | list[str]) -> Box:
    left, top, right, bottom = map(float, texts)
    return left, top, right, bottom
