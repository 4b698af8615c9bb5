"""Which parts of a reply belong to which parts of a page: OmniDocBench's `quick_match` (`utils/match_quick.py`).

Parts are first joined where a model cut what the page has in one piece, then assigned so that the distances are least,
and what fits nothing is looked for inside longer parts. Needs rapidfuzz and scipy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.quick import dataclass

UNCOUNTED = frozenset(
    {
        *("figure_caption", "figure_footnote", "table_caption", "table_footnote", "code_algorithm"),
        *("code_algorithm_caption", "header", "footer", "page_footnote", "page_number", "equation_caption"),
    }
)
"""Kinds of parts of a page that a reply may hold or leave out."""
_ALIKE, _TOO_FAR, _PIECE, _INSIDE = 0.25, 0.7, 0.6, 0.4


@dataclass(frozen=True, slots=True)
class Line:
    """A part to be matched. text: as it stands; normal: as it is compared; place: where it stands, None if unknown."""

    category: str
    text: str
    normal: str
    place: float | None


@dataclass(frozen=True, slots=True)
class Match:
    """Parts of a page (one at least) with the parts of the reply that belong to them (perhaps none)."""

    gold: tuple[Line, ...]
    given: tuple[Line, ...]

    @property
    def category(self) -> str:
        return Counter(line.category for line in self.gold).most_common(1)[0][0]


@dataclass(slots=True)
class _Distances:
    """Edit distances between texts, each computed once."""

    _known: dict[tuple[str, str], float]
    _pieces: dict[tuple[str, str, float], float]

    def share(self, first: str, second: str) -> float:
        """The edit distance over the longer length."""
        from rapidfuzz.distance import Levenshtein

        key = first, second
        if key not in self._known:
            self._known[key] = Levenshtein.distance(first, second) / max(len(first), len(second))
        return self._known[key]

    def piece(self, text: str, piece: str, below: float) -> float | None:
        """The least share by which `piece` differs from a stretch of `text` of its length, or any below `below`.

        None where `piece` is longer. Above `below` it may be any value there, too: more is not asked.
        """
        from rapidfuzz.distance import Levenshtein

        if len(text) < len(piece):
            return None
        key = text, piece, below
        if key not in self._pieces:
            length, most = len(piece), int(below * len(piece)) + 1
            least = most + 1
            for start in range(len(text) - length + 1):
                distance = Levenshtein.distance(text[start : start + length], piece, score_cutoff=most)
                if distance < least:
                    least, most = distance, distance
                    if least / length < below:
                        break
            self._pieces[key] = least / length
        return self._pieces[key]


def quick_match(gold: Sequence[Line], given: Sequence[Line]) -> list[Match]:
    """The parts of a page that count, with what a reply has of them. No line's `normal` is empty."""
    if not given:
        return [Match((line,), ()) for line in gold if line.category not in UNCOUNTED]
    if len(gold) == len(given) == 1:
        return [] if gold[0].category in UNCOUNTED else [Match((gold[0],), (given[0],))]
    distances = _Distances({}, {})
    uncounted = [line for line in gold if line.category in UNCOUNTED]
    counted = [line for line in gold if line.category not in UNCOUNTED]
    left = [line for line in given if all(distances.share(other.normal, line.normal) >= _ALIKE for other in uncounted)]
    pairs = _match([line.normal for line in counted], [line.normal for line in left], distances)
    return [
        Match(tuple(counted[index] for index in golds), tuple(left[index] for index in givens))
        for golds, givens in pairs
    ]


def assigned(rows: Sequence[str], columns: Sequence[str], share: Callable[[str, str], float]) -> list[tuple[int, int]]:
    """Pairs (row, column) so that the sum of the shares by which they differ is least."""
    import numpy as np
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    costs = np.array([[share(row, column) for column in columns] for row in rows]).reshape(len(rows), len(columns))
    chosen_rows, chosen_columns = linear_sum_assignment(costs)
    return list(zip(chosen_rows.tolist(), chosen_columns.tolist(), strict=True))


def _match(gold: Sequence[str], given: Sequence[str], distances: _Distances) -> Iterator[tuple[list[int], list[int]]]:
    """(indices of gold, indices of given) that belong together; every gold index once."""
    joined = _joined_parts(gold, given, distances)
    texts = [" ".join(given[index] for index in indices) for indices in joined]
    near: dict[int, list[int]] = {
        row: joined[column]
        for row, column in assigned(gold, texts, distances.share)
        if distances.share(gold[row], texts[column]) <= _TOO_FAR
    }
    groups: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(near):
        groups.setdefault(tuple(near[row]), []).append(row)
    _add_contained(groups, [row for row in range(len(gold)) if row not in near], gold, given, distances)
    for rest_row, rest_column in _rest(groups, gold, given, distances):
        groups[(rest_column,)] = [rest_row]
    for columns, rows in groups.items():
        if rows:
            yield sorted(rows), list(columns)
    placed = {row for rows in groups.values() for row in rows}
    for row in range(len(gold)):
        if row not in placed:
            yield [row], []


def _add_contained(
    groups: dict[tuple[int, ...], list[int]],
    unmatched: Sequence[int],
    gold: Sequence[str],
    given: Sequence[str],
    distances: _Distances,
) -> None:
    """Put each of the unmatched to the first given part in which it stands, nearly as it is."""
    placed = {row for rows in groups.values() for row in rows}
    for column, text in enumerate(given):
        inside = []
        for row in unmatched:
            differs = distances.piece(text, gold[row], _INSIDE)
            if differs is not None and differs < _INSIDE:
                inside.append(row)
        if inside:
            # Also where all of them are placed already: the part then counts as used.
            rows = groups.setdefault((column,), [])
            rows += [row for row in inside if row not in placed]
            placed.update(inside)


def _rest(
    groups: Mapping[tuple[int, ...], Sequence[int]], gold: Sequence[str], given: Sequence[str], distances: _Distances
) -> list[tuple[int, int]]:
    """Pairs of what is left on both sides, however far apart."""
    # Differences of sets, in the order that sets have: it decides between assignments that are equally good.
    rows = list(set(range(len(gold))) - {row for members in groups.values() for row in members})
    columns = list(set(range(len(given))) - {column for key in groups for column in key})
    if not rows or not columns:
        return []
    pairs = assigned([gold[row] for row in rows], [given[column] for column in columns], distances.share)
    return [(rows[row], columns[column]) for row, column in pairs]


def _joined_parts(gold: Sequence[str], given: Sequence[str], distances: _Distances) -> list[list[int]]:
    """All given parts in their order, neighbours as one where together they fit a gold part better."""
    close = [[distances.share(row, column) < _ALIKE for column in given] for row in gold]
    taken = {column for column in range(len(given)) if any(row[column] for row in close)}
    wanted: list[tuple[list[int], float]] = []
    for text, row in zip(gold, close, strict=True):
        if any(row):
            continue
        best: tuple[list[int], float] | None = None
        for start in range(len(given)):
            if start in taken:
                continue
            run = _run(text, given, start, taken, distances)
            differs = distances.share(text, " ".join(given[start : run[-1] + 1]))
            if best is None or differs < best[1]:
                best = run, differs
        if best is not None:
            wanted.append(best)
    parts: list[list[int]] = [[index] for index in range(len(given))]
    for run in _compatible(wanted):
        place = next(place for place, part in enumerate(parts) if part[0] == run[0])
        parts[place : place + len(run)] = [run]
    return parts


def _run(text: str, given: Sequence[str], start: int, taken: set[int], distances: _Distances) -> list[int]:
    """A given part and those behind it, as long as each is a piece of the text and all of them fit it better."""
    end, joined = start + 1, given[start]
    first = distances.piece(text, joined, _PIECE)
    while end < len(given) and end not in taken and first is not None and first <= _PIECE:
        longer = f"{joined} {given[end]}"
        if distances.share(text, longer) > distances.share(text, joined):
            break
        last = distances.piece(text, given[end], _PIECE)
        if last is None or last >= _PIECE:
            break
        end, joined = end + 1, longer
        if len(joined) > len(text):
            break
    return list(range(start, end))


def _compatible(wanted: Sequence[tuple[list[int], float]]) -> Iterator[list[int]]:
    """Runs of parts that share none, chosen among those that were wanted: of overlapping ones the best set.

    Sets grow one run at a time, and a run that fits in none of them begins another; the script does no more.
    """
    ordered = sorted(wanted, key=lambda run: run[0][0])
    clusters: list[list[tuple[list[int], float]]] = []
    for run in ordered:
        if clusters and any(set(run[0]) & set(other[0]) for other in clusters[-1]):
            clusters[-1].append(run)
        else:
            clusters.append([run])
    for cluster in clusters:
        best = min(_sets(cluster), key=lambda runs: sum(cost for _, cost in runs) / len(runs))
        yield from (run for run, _ in best)


def _sets(cluster: Sequence[tuple[list[int], float]]) -> list[list[tuple[list[int], float]]]:
    sets = [[cluster[0]]]
    for run, cost in cluster[1:]:
        fits_somewhere = False
        for runs in sets:
            overlaps = same = False
            for other, other_cost in runs:  # which may change meanwhile, as in the script
                if other == run:
                    overlaps = same = True
                    if other_cost > cost:
                        runs.remove((other, other_cost))
                        runs.append((run, cost))
                elif set(other) & set(run):
                    overlaps = True
            if not overlaps:
                runs.append((run, cost))
            fits_somewhere |= same or not overlaps
        if not fits_somewhere:
            sets.append([(run, cost)])
    return sets
