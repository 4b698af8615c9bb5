"""Which tokens of two pictures of formulas belong together, and how many do: CDM's matching and its F1.

Tokens are assigned to each other so that the costs (another token, another place, another order) are least. Of the
pairs, those count whose places fit one shift and scale of the picture, found by RANSAC, and whose tokens are the
same. As `visual_matcher.py` and `cdm_metric.py` of OmniDocBench 1.5 (`metrics`) do it, RANSAC as scikit-image 0.20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.quick import dataclass

_COST_OF_PLACE, _COST_OF_ORDER, _COST_OF_NAME = 0.05, 0.15, 0.05
_FIRST, _ROUNDS, _TRIALS, _SEED = 3, 3, 50, 42
_NEAR = 25.0  # pixels
_SAME = {
    "\\cdot": ".",
    "\\mid": "|",
    "\\to": "\\rightarrow",
    "\\top": "T",
    "\\Tilde": "\\tilde",
    "\\cdots": "\\dots",
    "\\prime": "'",
    "\\ast": "*",
    "\\left<": "\\langle",
    "\\right>": "\\rangle",
}
_SHAPES = {
    **dict.fromkeys(("\\lVert", "\\rVert", "\\Vert"), "\\|"),
    **dict.fromkeys(("\\lvert", "\\rvert", "\\vert"), "|"),
    "\\leq": "\\le",
    "\\geq": "\\ge",
}


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """A token and its box in the picture: left, top, right, bottom, in pixels."""

    name: str
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class FormulaPicture:
    """A formula's picture: its size in pixels and the tokens that can be seen in it, in their order in LaTeX."""

    width: int
    height: int
    tokens: tuple[DrawnToken, ...]


def picture_of(fields: Mapping[str, Any]) -> FormulaPicture:
    """A picture from its fields, as `dataclasses.asdict` and JSON give them."""
    tokens = [DrawnToken(str(token["name"]), tuple(map(int, token["box"]))) for token in fields["tokens"]]  # type: ignore[arg-type]
    return FormulaPicture(int(fields["width"]), int(fields["height"]), tuple(tokens))


def f1(gold: FormulaPicture, given: FormulaPicture) -> float:
    """Twice the number of matched tokens over all tokens of both, to three places, as in the script; 0 to 1.

    0 where one of them shows no token. Needs numpy and scipy.
    """
    import numpy as np
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
    from scipy.spatial.distance import cdist  # type: ignore[import-untyped]

    if not gold.tokens or not given.tokens:
        return 0.0
    names = _name_costs(gold.tokens, given.tokens)
    places = [
        np.array([token.box for token in picture.tokens])
        / [picture.width, picture.height, picture.width, picture.height]
        for picture in (gold, given)
    ]
    orders = [np.arange(len(picture.tokens))[:, None] / len(picture.tokens) for picture in (gold, given)]
    # The same function as the script's: of two assignments that cost the same, the last digit decides.
    place, order = cdist(*places, "minkowski", p=1) / 4, cdist(*orders, "minkowski", p=1)
    rows, columns = linear_sum_assignment(names + _COST_OF_PLACE * place + _COST_OF_ORDER * order)
    fits = _fitting(_centres(gold.tokens)[rows], _centres(given.tokens)[columns])
    matched = int((fits & (names[rows, columns] != 1)).sum())
    return round(2 * matched / (len(gold.tokens) + len(given.tokens)), 3)


def same_name(token: str) -> str:
    """One name for tokens that look alike, as `norm_same_token` of the script has it."""
    token = _SAME.get(token, token)
    if token.startswith(("\\left", "\\right")):  # arrows, too
        token = token.replace("\\left", "").replace("\\right", "")
    if token.startswith(("\\big", "\\Big")):
        token = "\\" + token[4:].split("\\")[-1] if "\\" in token[4:] else token[-1]
    if token in _SHAPES:
        return _SHAPES[token]
    for arrow in ("\\rightarrow", "\\leftarrow"):
        if token.endswith(arrow[1:]):
            return arrow
    if token.startswith("\\wide"):
        return token.replace("wide", "")
    return token.replace("\\var", "") if token.startswith("\\var") else token


def _name_costs(gold: Sequence[DrawnToken], given: Sequence[DrawnToken]) -> Any:
    """0 for the same token, a little for one that looks alike, 1 for another; [gold, given]."""
    import numpy as np

    def numbers(names: Sequence[str]) -> Any:
        known: dict[str, int] = {}
        return np.array([known.setdefault(name, len(known)) for name in names])

    def differ(names: Sequence[str]) -> Any:
        each = numbers(names)
        return each[: len(gold), None] != each[None, len(gold) :]

    names = [token.name for token in (*gold, *given)]
    other, unlike = differ(names), differ([same_name(name) for name in names])
    return np.where(other, np.where(unlike, 1.0, _COST_OF_NAME), 0.0)


def _centres(tokens: Sequence[DrawnToken]) -> Any:
    """[token, (y, x)]"""
    import numpy as np

    boxes = np.array([token.box for token in tokens], dtype=float)
    return np.stack([(boxes[:, 1] + boxes[:, 3]) / 2, (boxes[:, 0] + boxes[:, 2]) / 2], axis=1)


def _fitting(source: Any, target: Any) -> Any:
    """Which pairs of points, [pair, 2] each, fit a shift and scale that others share; several such are looked for."""
    import numpy as np

    fits = np.zeros(len(source), dtype=bool)
    if len(source) <= _FIRST:
        return ~fits
    for _ in range(_ROUNDS):
        left = ~fits
        if left.sum() <= _FIRST:
            break
        found = _consensus(source[left], target[left])
        if not found.any():
            break
        fits[left] = found
    return fits


def _consensus(source: Any, target: Any) -> Any:
    """RANSAC: which pairs of points fit the best shift and scale that three of them give."""
    import numpy as np

    random = np.random.default_rng(_SEED)
    best, best_count, best_sum, trials, trial = np.zeros(len(source), dtype=bool), 0, np.inf, float(_TRIALS), 0
    while trial < trials:
        trial += 1
        chosen = random.choice(len(source), _FIRST, replace=False)
        residuals = _residuals(source, target, chosen)
        near, total = residuals < _NEAR, residuals.dot(residuals)
        count = int(np.count_nonzero(near))
        if count > best_count or (count == best_count and total < best_sum):
            best, best_count, best_sum = near, count, total
            trials = min(trials, _enough_trials(count / len(source)))
            if total <= 0:
                break
    return best


def _residuals(source: Any, target: Any, chosen: Any) -> Any:
    """How far each target is from where the chosen pairs put its source, in pixels.

    Points are scaled about the mean of all of them, not of the chosen ones: so the script does.
    """
    import numpy as np

    some, goal = source[chosen], target[chosen]
    middle, goal_middle = np.mean(some, axis=0), np.mean(goal, axis=0)
    spread = np.mean(np.linalg.norm(some - middle, axis=1))
    scale = np.mean(np.linalg.norm(goal - goal_middle, axis=1)) / (spread + 1e-10)
    mean = np.mean(source, axis=0)
    moved = scale * (source - mean) + mean + (goal_middle - middle)
    return np.sqrt(np.sum((moved - target) ** 2, axis=1))


def _enough_trials(share: float) -> float:
    """So many that three good pairs were drawn once, surely but for float noise, where this share is good."""
    import numpy as np

    if share == 0:
        return np.inf
    noise = float(np.spacing(1))
    return float(np.ceil(np.log(noise) / np.log(max(noise, 1 - share**_FIRST))))
