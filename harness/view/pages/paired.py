"""One task of two runs, from their indexes: differences of the samples that both scored.

The statistics take long to import, so that only pages that show differences import this module.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from harness.record.file_types import TaskReport
from harness.scoring.statistics.clusters import cluster_number
from harness.scoring.statistics.paired import Comparison, PairedScores, compare_macro
from harness.scoring.statistics.paired import compare as compare_pairs
from harness.view.index import IndexedPair, SampleIndex


@dataclass(slots=True)
class _Pairs:
    """The scores of the samples of a subset that both runs scored, as arrays: there may be a million."""

    first: array[float] = field(default_factory=lambda: array("d"))
    second: array[float] = field(default_factory=lambda: array("d"))
    clusters: array[int] = field(default_factory=lambda: array("q"))
    n: int = 0
    changed: int = 0
    unscored: int = 0
    only_first: int = 0
    only_second: int = 0

    def add(self, pair: IndexedPair) -> None:
        self.n += 1
        if not pair.is_same:
            self.changed += 1
        elif pair.first is None or pair.second is None:
            self.unscored += 1
        else:
            self.first.append(pair.first)
            self.second.append(pair.second)
            self.clusters.append(cluster_number(pair.cluster, pair.subset, pair.id))

    def scores(self, clustered: bool) -> PairedScores:
        # Samples are counted here, and looked for again where they are shown: their places do for their names.
        places = cast("tuple[tuple[str, int], ...]", range(len(self.first)))
        return PairedScores(
            places,
            np.array(self.first)[:, None],
            np.array(self.second)[:, None],
            np.array(self.clusters, dtype=np.int64) if clustered else None,
            changed=self.changed,
            only_first=self.only_first,
            only_second=self.only_second,
            unscored=self.unscored,
        )


def paired(task: TaskReport, old: SampleIndex, new: SampleIndex) -> Comparison:
    """One task of two runs, by the tests of `harness compare`; the views of a modified row are one cluster here."""
    name, better = task["task"], task["metrics"][0]["higher_is_better"]
    by_subset: dict[str, _Pairs] = {}
    clustered = False
    for each in old.pairs(new, name):
        by_subset.setdefault(each.subset, _Pairs()).add(each)
        clustered = clustered or each.cluster is not None or each.view > 0
    for subset, kinds in old.totals(name).items():
        alone = by_subset.setdefault(subset, _Pairs())
        alone.only_first = sum(kinds.values()) - alone.n
    for subset, kinds in new.totals(name).items():
        alone = by_subset.setdefault(subset, _Pairs())
        alone.only_second = sum(kinds.values()) - alone.n
    parts = [
        compare_pairs(subset, pairs.scores(clustered), better) for subset, pairs in by_subset.items() if pairs.first
    ]
    if task.get("average") == "macro" and len(parts) > 1:
        whole = compare_macro(name, parts)
    else:
        joined = _Pairs()
        for pairs in by_subset.values():
            joined.first += pairs.first
            joined.second += pairs.second
            joined.clusters += pairs.clusters
        whole = compare_pairs(name, joined.scores(clustered), better)
    return _with_samples(whole, parts, by_subset.values())


def _with_samples(whole: Comparison, parts: Sequence[Comparison], pairs: Collection[_Pairs]) -> Comparison:
    notes = {
        "changed": sum(each.changed for each in pairs),
        "only in the first run": sum(each.only_first for each in pairs),
        "only in the second run": sum(each.only_second for each in pairs),
        "unscored": sum(each.unscored for each in pairs),
    }
    return replace(
        whole,
        wins=tuple(itertools.chain.from_iterable(part.wins for part in parts)),
        losses=tuple(itertools.chain.from_iterable(part.losses for part in parts)),
        ties=sum(part.ties for part in parts),
        notes={what: n for what, n in notes.items() if n},
    )
