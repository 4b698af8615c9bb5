"""Questions about images with options: the letter as the benchmarks' scripts find it, and MMBench's circular accuracy.

filter_list: [{name: official, filter: [{function: official_letter, rule: vlmevalkit, columns: [A, B, C, D]}]}]
metric_list: [{metric: circular_acc, index: index}]
"""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from harness import CorpusMetric, Filter, Metric, Observation, Sample, SetValue, hookimpl
from harness.scoring import all_right, choice_letter, gold_texts, mean_over_predictions
from harness.scoring.official import (
    all_capitals,
    blink_letter,
    first_capital,
    last_capital,
    lvbench_letter,
    mmmu_choice,
    mmstar_correct,
    mvbench_letter,
    scienceqa_letter,
    seed_bench_letter,
    simple_evals_letter,
    supergpqa_letter,
    video_mme_letter,
    vlmevalkit_option,
    words_only,
)

_BY_REPLY = {
    "all_capitals": all_capitals,
    "first_capital": first_capital,
    "last_capital": last_capital,
    "lvbench": lvbench_letter,
    "scienceqa": scienceqa_letter,
    "seed_bench": seed_bench_letter,
    "simple_evals": simple_evals_letter,
    "video_mme": video_mme_letter,
}
RULES = ("vlmevalkit", "blink", "mmmu", "mvbench", "supergpqa", *_BY_REPLY)
ROTATION = 1_000_000
"""What VLMEvalKit adds to a row's index for each rotation of its options."""


class OfficialLetter(Filter):
    """The letter of the option that a reply chooses, by the rule of a benchmark's script. None where it finds none.

    rule: `vlmevalkit` (MMBench, CCBench, BLINK and others: what is matched before a judge is asked; a refusal is none),
    `seed_bench` (the first character), `scienceqa` (a letter alone, or followed by a full stop), `video_mme` (the first
    capital from A to D), `lvbench` (what stands in the first brackets), `mvbench` (the first word), `blink` (the reply
    itself, or the only letter in brackets between blanks; where the script asks a model, this project's `choice_letter`
    is asked), `supergpqa` (what the last line or the reply states), `simple_evals` (MMLU and MMMLU: the letter behind
    "Answer:", in many languages), `mmmu` (MMMU's, which MuirBench uses; what they draw at random is none),
    `first_capital`, `last_capital` or `all_capitals` (OpenCompass's, each once and sorted; a capital of any script).
    columns: a column for each option, or the one that holds them all; `vlmevalkit`, `mmmu` and `supergpqa` look for
    their texts, too.
    """

    name = "official_letter"

    def __init__(self, rule: str, columns: Sequence[str] | str = ("A", "B", "C", "D")) -> None:
        if rule not in RULES:
            raise ValueError(f"rule is '{rule}'; it can be one of {', '.join(RULES)}")
        self._rule, self._columns = rule, columns

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        return [None if reply is None else self._read(reply, sample.doc) for reply in replies]

    def _read(self, reply: str, doc: Mapping[str, Any]) -> str | None:
        if self._rule in _BY_REPLY:
            return _BY_REPLY[self._rule](reply)
        if self._rule == "mvbench":
            return mvbench_letter(reply, "".join(self._options(doc)))
        if self._rule == "supergpqa":
            return supergpqa_letter(reply, list(self._options(doc).values()))
        if self._rule == "mmmu":
            return mmmu_choice(reply, self._options(doc))
        if self._rule == "blink":
            letters = "".join(self._options(doc))
            return blink_letter(reply, letters) or choice_letter(reply, letters)
        found = vlmevalkit_option(reply, self._options(doc))
        return found if found and found != "Z" else None

    def _options(self, doc: Mapping[str, Any]) -> dict[str, str]:
        if isinstance(self._columns, str):
            return {string.ascii_uppercase[index]: str(text) for index, text in enumerate(doc[self._columns])}
        return _given(doc, self._columns)


def _given(doc: Mapping[str, Any], columns: Sequence[str]) -> dict[str, str]:
    """Letter -> text of the options that a row has; what it lacks is empty, or pandas' nan."""
    texts = {string.ascii_uppercase[index]: doc.get(column) for index, column in enumerate(columns)}
    return {letter: str(text) for letter, text in texts.items() if text is not None and str(text) not in ("", "nan")}


class LetterOrText(Filter):
    """The letter that a reply chooses, where the gold is a letter from A to D, and the reply as it is elsewhere."""

    name = "letter_or_text"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        golds = gold_texts(sample) or ()
        if not golds or golds[0].strip() not in ("A", "B", "C", "D"):
            return list(replies)
        return [None if reply is None else choice_letter(reply, "ABCD") for reply in replies]


_GRIDS = (r"\{(\d+)\}\s*\{(\d+)\}", r"\((\d+)\s*,\s*(\d+)\)", r"rows=\{(\d+)\}\s*columns=\{(\d+)\}")


class BlindAnswer(Filter):
    """What a reply to a question of "VLMs are blind" says, by the row's `task`: yes or no, a letter, a number, or rows
    and columns as `4,3`. As lmms-eval reads them (`tasks/vlmsareblind/utils.py` at 75571cf), yes and no also in a
    sentence.
    """

    name = "blind_answer"

    def apply(self, replies: Sequence[str | None], sample: Sample) -> list[str | None]:
        task = str(sample.doc["task"]).lower()
        return [None if reply is None else self._read(reply.strip().lower(), task) for reply in replies]

    def _read(self, reply: str, task: str) -> str | None:
        if task.startswith("counting grid"):
            found = next(filter(None, (re.search(pattern, reply) for pattern in _GRIDS)), None)
            return f"{found[1]},{found[2]}" if found else None
        if task == "touching circles":
            return words_only(reply)
        found = re.search(r"\{?([a-z])\}?" if task == "circled letter" else r"\{?(\d+)\}?", reply)
        return found[1] if found else None


class MMStarAccuracy(Metric):
    """1 where the reply begins with the right letter, as MMStar's script wants it; it reads nothing else.

    The script divides by 250 a core capability and by 1,500 in all, which a whole run has.
    """

    name = "mmstar_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)

    def score(self, seen: Observation) -> float | None:
        return mean_over_predictions(
            seen, lambda reply, golds: any(mmstar_correct(reply, gold) for gold in golds), unread=""
        )


class CircularAccuracy(CorpusMetric):
    """The share of questions of which every rotation of the options is answered right (MMBench, Liu et al. 2023).

    index: the column that numbers the rows; rotation k of a question has its number plus k million. options: a column
    for each option; a question has as many rotations as options. Where a row has none of them, it has those that were
    asked. vanilla: the share of right answers to questions as they stand. A question of which a rotation failed or was
    not asked and no other is wrong does not count: nobody knows whether it would be right.
    """

    name = "circular_acc"
    output_types = frozenset({"generate_until"})
    bounds = (0.0, 1.0)
    resamples = 200

    def __init__(self, index: str = "index", options: Sequence[str] = ("A", "B", "C", "D", "E")) -> None:
        self._index, self._options = index, tuple(options)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"rotation": ROTATION}

    def item(self, seen: Observation) -> tuple[int, int, bool] | None:
        golds = gold_texts(seen.sample)
        if golds is None or not seen.predictions:
            return None
        return (*self._place(seen.sample), seen.predictions[0] in golds)

    def unanswered(self, sample: Sample) -> tuple[int, int, None]:
        return (*self._place(sample), None)

    def _place(self, sample: Sample) -> tuple[int, int]:
        """The number of the row, and how many rotations its question has."""
        return int(sample.doc[self._index]), len(_given(sample.doc, self._options))

    def measure(self, items: Sequence[Any]) -> Mapping[str, SetValue]:
        questions: dict[int, list[tuple[int, int, bool | None]]] = defaultdict(list)
        for index, rotations, right in items:
            questions[index % ROTATION].append((index, rotations, right))
        every: list[bool] = []
        first: list[bool] = []
        unknown = 0
        for number, rows in questions.items():
            unturned = [right for index, _, right in rows if index == number]
            first += [right for right in unturned if right is not None]
            missing = max(rotations for _, rotations, _ in rows) > len({index for index, _, _ in rows})
            right = all_right([right for *_, right in rows] + [None] * missing)
            # A resample may hold a question several times, which is then worth as much.
            every += [right] * len(unturned) if right is not None else []
            unknown += right is None or not unturned
        return {
            self.name: SetValue(sum(every) / len(every) if every else None, unknown),
            "vanilla": SetValue(sum(first) / len(first) if first else None),
        }


@hookimpl
def harness_filters() -> list[type[Filter]]:
    return [BlindAnswer, LetterOrText, OfficialLetter]


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CircularAccuracy, MMStarAccuracy]
