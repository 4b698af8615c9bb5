"""Which few rows stand for many: weighted rows, chosen by what they say or by which models answer them.

    vectors = character_tfidf(texts)
    rows, weights = k_center(vectors, 20)         # far apart
    rows, weights = anchors(correct, 20, seed=1)  # correct: [rows, models]; clusters of rows answered alike

k-center: T. F. Gonzalez, Clustering to minimize the maximum intercluster distance, 1985, as the paper of LMMs-Eval
(arXiv:2407.12772) chooses its Lite sets. Anchors: F. Maia Polo et al., tinyBenchmarks (arXiv:2402.14992).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from harness.scoring.statistics.estimates import Floats

Chosen = tuple[list[int], Floats]
"""Numbers of rows, and for how many rows each of them stands."""

DIMENSIONS = 1024
_ROUNDS = 30
_BLOCK = 4096


def character_tfidf(texts: Sequence[str], dimensions: int = DIMENSIONS) -> npt.NDArray[np.float32]:
    """Vectors of length 1 of texts, shape [texts, dimensions]: their runs of one to three characters, hashed, weighted
    by how few texts have them. Needs no words, so that Chinese and English are treated alike."""
    counts = np.zeros((len(texts), dimensions), dtype=np.float32)
    for place, text in enumerate(texts):
        plain = " ".join(text.casefold().split())
        grams = [plain[start : start + n] for n in (1, 2, 3) for start in range(len(plain) - n + 1)]
        hashed = [zlib.crc32(gram.encode("utf-8", "surrogatepass")) % dimensions for gram in grams]
        counts[place] = np.bincount(hashed, minlength=dimensions)
    # In place and in blocks: a second copy of the vectors of 100,000 texts is 0.4 GB.
    having = np.zeros(dimensions, dtype=np.int64)
    for block in _blocks(counts):
        having += (block > 0).sum(axis=0)
    rarity = np.log((1 + len(texts)) / (1 + having)).astype(np.float32)
    for block in _blocks(counts):
        np.log1p(block, out=block)
        block *= rarity
        block[:] = unit(block)
    return counts


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Vectors of length 1, shape [n, dimensions]; those of length 0 stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def k_center(vectors: npt.NDArray[np.float32], size: int) -> Chosen:
    """`size` rows of `vectors`, shape [n, dimensions], so that no row is far from all of them: the first is nearest to
    the mean, each further one is farthest from those before it. All weigh the same:
    weighed by how many rows are nearest to each, the row in the middle decides nearly alone."""
    n = len(vectors)
    size = min(size, n)
    chosen = [int(np.argmin(_squared_distances(vectors, vectors.mean(axis=0))))]
    distance = _squared_distances(vectors, vectors[chosen[0]])
    while len(chosen) < size:
        distance[chosen] = -1.0  # rows of one text are at distance 0: each may still be chosen once
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, _squared_distances(vectors, vectors[chosen[-1]]))
    return chosen, np.full(size, n / size)


def _blocks(vectors: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """Views of some rows after another, all of them together."""
    return (vectors[start : start + _BLOCK] for start in range(0, len(vectors), _BLOCK))


def _squared_distances(vectors: npt.NDArray[np.float32], point: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Of each row of `vectors` from one point, shape [n]."""
    return np.concatenate([((block - point) ** 2).sum(axis=1) for block in _blocks(vectors)])


def anchors(correct: Floats, size: int, seed: int) -> Chosen:
    """The rows nearest to the centres of `size` clusters (k-means) of rows that models answer alike.

    correct: shape [rows, models], their scores. Where centres fall together, large clusters give several rows.
    """
    n, size = len(correct), min(size, len(correct))
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(n)  # of rows that are alike, none is always taken first
    points = correct[shuffled]
    centres = points[:1]
    while len(centres) < size:
        distance = _distances(points, centres).min(axis=1)
        total = distance.sum()
        pick = generator.choice(n, p=distance / total) if total > 0 else generator.integers(n)
        centres = np.vstack([centres, points[pick]])
    for _ in range(_ROUNDS):
        member = _distances(points, centres).argmin(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, member, points)
        sizes = np.bincount(member, minlength=size)
        moved = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        if np.allclose(moved, centres):
            break
        centres = moved
    chosen, weights = [], []
    distances = _distances(points, centres)
    for cluster in np.flatnonzero(sizes):
        inside = np.flatnonzero(member == cluster)
        chosen.append(int(shuffled[inside[distances[inside, cluster].argmin()]]))
        weights.append(float(len(inside)))
    return _filled(chosen, weights, member, shuffled, size, generator)


def drawn(n: int, size: int, seed: int) -> Chosen:
    """`size` of `n` rows at random, each standing for as many."""
    size = min(size, n)
    chosen = np.random.default_rng(seed).choice(n, size, replace=False)
    return sorted(map(int, chosen)), np.full(size, n / size)


def shares(sizes: Sequence[int], total: int) -> list[int]:
    """How many of `total` rows each stratum gets: in proportion (largest remainders), at least one where there are
    enough, and never more than it has."""
    total = min(total, sum(sizes))
    least = [min(1, size) if total >= len(sizes) else 0 for size in sizes]
    wanted = [total * size / max(1, sum(sizes)) for size in sizes]
    given = [min(size, max(low, int(want))) for size, low, want in zip(sizes, least, wanted, strict=True)]
    order = sorted(range(len(sizes)), key=lambda place: given[place] - wanted[place])
    while sum(given) < total:
        for place in order:
            if given[place] < sizes[place] and sum(given) < total:
                given[place] += 1
    while sum(given) > total:
        for place in reversed(order):
            if given[place] > least[place] and sum(given) > total:
                given[place] -= 1
    return given


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's correlation, ties at their mean rank; None where one of the two is constant or has one value."""
    if len(first) < 2 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    ranks = []
    for values in (first, second):
        ordered = sorted(values)
        ranks.append([(ordered.index(value) + len(ordered) - 1 - ordered[::-1].index(value)) / 2 for value in values])
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _distances(points: Floats, centres: Floats) -> Floats:
    """Squared distances, shape [points, centres]."""
    return np.asarray(
        np.maximum((points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1), 0.0)
    )


def _filled(
    chosen: list[int],
    weights: list[float],
    member: npt.NDArray[np.int64],
    shuffled: npt.NDArray[np.int64],
    size: int,
    generator: np.random.Generator,
) -> Chosen:
    """Where clusters were empty, further rows of the largest clusters, which then share their weight."""
    by_cluster = dict(zip(np.unique(member).tolist(), range(len(chosen)), strict=True))
    holders: dict[int, list[int]] = {cluster: [place] for cluster, place in by_cluster.items()}
    sizes = {cluster: weights[place] for cluster, place in by_cluster.items()}
    taken = set(chosen)
    while len(chosen) < size:
        cluster = max(sizes, key=lambda name: sizes[name] / len(holders[name]))
        left = [int(shuffled[row]) for row in np.flatnonzero(member == cluster) if int(shuffled[row]) not in taken]
        if not left:
            sizes[cluster] = 0.0
            if not any(sizes.values()):
                break
            continue
        row = left[int(generator.integers(len(left)))]
        taken.add(row)
        holders[cluster].append(len(chosen))
        chosen.append(row)
        weights.append(0.0)
    for cluster, places in holders.items():
        whole = float((member == cluster).sum())
        for place in places:
            weights[place] = whole / len(places)
    return chosen, np.array(weights)
