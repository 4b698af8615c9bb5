"""Corrections of Chinese sentences: which edits of a reply are those of a reference, character by character.

After ChERRANT (Zhang et al. 2022, arXiv 2204.10994; HillZhang1999/MuCGEC, scorers/ChERRANT, `-g char`): a sentence is
aligned with its correction at least cost, neighbouring changes become one edit, and a piece that has moved is one edit.
Its script also weighs a replacement by a thesaurus, by which characters are taken for one another and by their sounds;
here it costs as much as one of two characters that have nothing to do with each other, so that some edits differ: on
MuCGEC's example (data/MuCGEC/example_pred_dev.txt) F0.5 is 0.3595, and the script's 0.3622.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness import CorpusMetric, Metric, Observation, hookimpl
from harness.scoring import gold_texts
from harness.scoring.official import edit_distance

_JINJA = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, autoescape=False)
Edit = tuple[int, int, str]  # the characters from here to there become this text
_Step = tuple[str, int, int, int, int]  # what happens, from and to in the sentence, from and to in its correction
# What it costs to replace a character; to delete or to insert one costs 1 (alignment.py, get_sub_cost).
_REPLACED = {(False, False): 4 / 6 + 0.5 + 0.25, (True, True): 4 / 6 + 0.5, (False, True): 4 / 6 + 0.5 + 0.499}
_MANY_PATHS = 10  # difference in length above which one cheapest alignment is looked at instead of all
_MOST_PATHS = 64
_MARKS = frozenset(
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
    "！？｡＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟–—‘'‛“”„‟…‧."
)


class CorrectionF(CorpusMetric):
    """F0.5 of the edits that a reply makes, over the whole set, beside precision and recall.

    source: Jinja, the sentence that is to be corrected, from the row's fields. Of several references the one counts
    that makes the F of all rows so far greatest, as in compare_m2_for_evaluation.py. White space does not count, and a
    reply that could not be read changes nothing. A reference that says 没有错误 or is the sentence has no edits.
    """

    name = "correction_f"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def __init__(self, source: str, beta: float = 0.5) -> None:
        self._source, self._beta = _JINJA.from_string(source), beta

    @property
    def identity(self) -> Mapping[str, Any]:
        return {}

    def item(self, seen: Observation) -> tuple[frozenset[Edit], tuple[frozenset[Edit], ...]] | None:
        golds = gold_texts(seen.sample)
        if not golds or not seen.predictions:
            return None
        source = _bare(self._source.render(**seen.sample.doc))
        reply = _bare(seen.predictions[0] or "") or source
        return edits(source, reply), tuple(edits(source, _bare(gold)) for gold in golds)

    def measure(self, items: Sequence[Any]) -> Mapping[str, float]:
        right = wrong = missed = 0
        for made, references in items:
            counts = [(len(made & wanted), len(made - wanted), len(wanted - made)) for wanted in references]
            best = max(
                counts,
                key=lambda count: (
                    self._f(right + count[0], wrong + count[1], missed + count[2])[2],
                    count[0],
                    -count[1],
                    -count[2],
                ),
            )
            right, wrong, missed = right + best[0], wrong + best[1], missed + best[2]
        precision, recall, f = self._f(right, wrong, missed)
        return {self.name: f, "precision": precision, "recall": recall}

    def _f(self, right: int, wrong: int, missed: int) -> tuple[float, float, float]:
        precision = right / (right + wrong) if wrong else 1.0
        recall = right / (right + missed) if missed else 1.0
        weight = self._beta**2
        both = weight * precision + recall
        return precision, recall, (1 + weight) * precision * recall / both if both else 0.0


def _bare(text: str) -> str:
    return "".join(text.split())


def edits(source: str, target: str) -> frozenset[Edit]:
    """The edits that make `target` of `source`, of all cheapest alignments together."""
    if target in (source, "没有错误"):
        return frozenset()
    found: set[Edit] = set()
    for path in _cheapest(source, target):
        found |= {(start, end, target[first:last]) for _, start, end, first, last in _merged(path, source, target)}
    return frozenset(found)


def _cheapest(source: str, target: str) -> list[list[_Step]]:
    """The cheapest alignments; one where there are many."""
    costs = [[0.0] * (len(target) + 1) for _ in range(len(source) + 1)]
    steps: list[list[list[tuple[str, int]]]] = [[[] for _ in row] for row in costs]
    for i in range(1, len(source) + 1):
        costs[i][0], steps[i][0] = float(i), [("D", 1)]
    for j in range(1, len(target) + 1):
        costs[0][j], steps[0][j] = float(j), [("I", 1)]
    for i in range(1, len(source) + 1):
        for j in range(1, len(target) + 1):
            if source[i - 1] == target[j - 1]:
                costs[i][j], steps[i][j] = costs[i - 1][j - 1], [("M", 1)]
                continue
            size = _moved(costs, source, target, i, j)
            marks = sorted((source[i - 1] in _MARKS, target[j - 1] in _MARKS))
            ways = [
                (costs[i - size][j - size] + size - 1 if size else float("inf"), ("T", size)),
                (costs[i - 1][j - 1] + _REPLACED[marks[0], marks[1]], ("S", 1)),
                (costs[i][j - 1] + 1, ("I", 1)),
                (costs[i - 1][j] + 1, ("D", 1)),
            ]
            costs[i][j] = min(cost for cost, _ in ways)
            steps[i][j] = [way for cost, way in ways if cost == costs[i][j]]
    several = abs(len(source) - len(target)) <= _MANY_PATHS
    paths: list[list[_Step]] = []
    open_paths: list[tuple[int, int, list[_Step]]] = [(len(source), len(target), [])]
    while open_paths and len(paths) < (_MOST_PATHS if several else 1):
        i, j, path = open_paths.pop()
        if i + j == 0:
            paths.append(path[::-1])
            continue
        for kind, size in reversed(steps[i][j]):
            back = (0 if kind == "I" else size, 0 if kind == "D" else size)
            step = (kind, i - back[0], i, j - back[1], j)
            open_paths.append((i - back[0], j - back[1], [*path, step]))
    return paths


def _moved(costs: Sequence[Sequence[float]], source: str, target: str, i: int, j: int) -> int:
    """How many characters up to here are the same in another order; 0 where none are."""
    size = 2
    while size <= min(i, j) and costs[i - size + 1][j - size + 1] != costs[i - size][j - size]:
        if sorted(source[i - size : i]) == sorted(target[j - size : j]):
            return size
        size += 1
    return 0


def _merged(path: Sequence[_Step], source: str, target: str) -> list[_Step]:
    """Neighbouring changes as one edit, and a piece that has moved over what stays as one, too."""
    grouped: list[_Step] = []
    start = 0
    while start < len(path):
        end = start + 1
        if path[start][0] != "T":
            same = path[start][0] == "M"
            while end < len(path) and path[end][0] != "T" and (path[end][0] == "M") == same:
                end += 1
        grouped += _one_edit(path[start:end])
        start = end
    merged: list[_Step] = []
    place = 0
    while place < len(grouped):
        three = grouped[place : place + 3]
        if len(three) == 3 and place < len(grouped) - 2 and _has_moved(three, source, target):
            merged.append(("T", three[0][1], three[2][2], three[0][3], three[2][4]))
            place += 3
        else:
            merged += [grouped[place]] if grouped[place][0] != "M" else []
            place += 1
    return [trimmed for step in merged if (trimmed := _trimmed(step, source, target))]


def _one_edit(group: Sequence[_Step]) -> list[_Step]:
    kinds = {step[0] for step in group}
    if len(group) == 1 or kinds == {"D", "I"}:  # deletions beside insertions stay apart
        return list(group)
    kind = kinds.pop() if len(kinds) == 1 else "S"
    return [(kind, group[0][1], group[-1][2], group[0][3], group[-1][4])]


def _has_moved(three: Sequence[_Step], source: str, target: str) -> bool:
    kinds = [step[0] for step in three]
    taken = [source[step[1] : step[2]] for step in three]
    put = [target[step[3] : step[4]] for step in three]
    if kinds == ["S", "M", "S"]:
        pairs = ((taken[0], put[2]), (put[0], taken[2]))
        if min(len(text) for pair in pairs for text in pair) == 1:
            return all(one == other for one, other in pairs)
        return all(edit_distance(one, other) <= 1 for one, other in pairs)
    if kinds not in (["D", "M", "I"], ["I", "M", "D"], ["D", "T", "I"], ["I", "T", "D"]):
        return False
    longer, shorter = (taken[0], put[2]) if kinds[0] == "D" else (taken[2], put[0])
    longer, shorter = (shorter, longer) if len(longer) < len(shorter) else (longer, shorter)
    if longer in _MARKS or shorter in _MARKS or len(longer) - len(shorter) > 1:
        return False
    if len(shorter) == 1:
        return longer == shorter
    return edit_distance(longer, shorter) <= 1 or (len(longer) == len(shorter) and shorter in longer + longer)


def _trimmed(step: _Step, source: str, target: str) -> _Step | None:
    """A replacement without the characters that it begins or ends with on both sides; None where nothing is left."""
    kind, start, end, first, last = step
    if source[start:end] == target[first:last]:
        return None
    if kind != "S":
        return step
    while start < end and first < last and source[start] == target[first]:
        start, first = start + 1, first + 1
    while start < end and first < last and source[end - 1] == target[last - 1]:
        end, last = end - 1, last - 1
    return (kind, start, end, first, last)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CorrectionF]
