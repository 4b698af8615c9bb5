"""One task of two runs, from their indexes: differences of the samples that both scored.

The statistics take long to import, so that only pages that show differences import this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt

from harness.record.report_fields import TaskReport
from harness.scoring.statistics.clusters import cluster_number
from harness.scoring.statistics.paired import Comparison, compare_macro
from harness.scoring.statistics.paired import compare as compare_pairs
from harness.scoring.statistics.pairs import PairedScores
from harness.view.columns import Mask, Places
from harness.view.index import SampleIndex


class _Pairs:
    """The samples of a task that two runs hold, as arrays: there may be a million.

    same: whose row and gold are the same in both; scored: those of them that both runs scored.
    """

    def __init__(self, task: str, old: SampleIndex, new: SampleIndex) -> None:
        self.columns = old.columns
        self.found = old.columns.pairs(new.columns, task)
        first, second = self.found.first, self.found.second
        self.first, self.second = old.columns.at("score", first), new.columns.at("score", second)
        self.same: Mask = old.columns.at("row", first) == new.columns.at("row", second)
        self.scored: Mask = self.same & ~np.isnan(self.first) & ~np.isnan(self.second)
        # The views of a row are one cluster.
        self.clustered = bool(old.columns.at("clustered", first).any())

    def scores(self, subset: str | None = None) -> PairedScores:
        """What is compared, of one subset or of all."""
        found = self.found
        here = np.ones(len(found.first), np.bool_)
        if subset is not None:
            here = found.subset == self.columns.names("subset").get(subset, -1)
        chosen = self.scored & here
        alone = [
            each.get(subset, 0) if subset is not None else sum(each.values())
            for each in (found.only_first, found.only_second)
        ]
        return PairedScores(
            # Samples are counted here, and looked for again where they are shown: their places do for their names.
            cast("tuple[tuple[str, int], ...]", range(int(chosen.sum()))),
            self.first[chosen, None],
            self.second[chosen, None],
            self._clusters(found.first[chosen]) if self.clustered else None,
            changed=int((~self.same & here).sum()),
            only_first=alone[0],
            only_second=alone[1],
            unscored=int((self.same & ~self.scored & here).sum()),
        )

    def _clusters(self, places: Places) -> npt.NDArray[np.int64]:
        numbers = self.columns["cluster"][places]
        names = {code: name for name, code in self.columns.names("subset").items()}
        for place in np.flatnonzero(self.columns["clustered"][places] == 0):
            subset, number = self.columns["subset"][places[place]], self.columns["id"][places[place]]
            numbers[place] = cluster_number(None, names[int(subset)], int(number))
        return numbers

    def subsets(self) -> list[str]:
        """The subsets of which there are pairs."""
        codes = set(np.unique(self.found.subset[self.scored]).tolist())
        return sorted(name for name, code in self.columns.names("subset").items() if code in codes)

    def changed(self, sign: int) -> npt.NDArray[np.intp]:
        """Which of the pairs the second run scores higher (sign 1), or lower (-1)."""
        return np.flatnonzero(self.scored & (sign * (self.second - self.first) > 0))


def paired(task: TaskReport, old: SampleIndex, new: SampleIndex) -> Comparison:
    """One task of two runs, by the tests of `harness compare`; the views of a modified row are one cluster here."""
    name, better = task["task"], task["metrics"][0]["higher_is_better"]
    pairs = _Pairs(name, old, new)
    whole = compare_pairs(name, pairs.scores(), better)
    subsets = pairs.subsets() if task.get("average") == "macro" else []
    if len(subsets) < 2:
        return whole
    macro = compare_macro(name, [compare_pairs(subset, pairs.scores(subset), better) for subset in subsets])
    return replace(macro, wins=whole.wins, losses=whole.losses, ties=whole.ties, notes=whole.notes)


def changed_samples(task: str, old: SampleIndex, new: SampleIndex, sign: int) -> Sequence[tuple[int, int]]:
    """The numbers, in both indexes, of the samples that the second run scores higher (sign 1), or lower (-1)."""
    pairs = _Pairs(task, old, new)
    places = pairs.changed(sign)
    return list(zip((pairs.found.first[places] + 1).tolist(), (pairs.found.second[places] + 1).tolist(), strict=True))
