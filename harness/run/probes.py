"""What a model betrays of having seen a benchmark: each probe with its null distribution and a p-value.

Order of rows, order of options, and the missing option need nothing but the model: one that never saw the rows has no
reason to like their order. The second half, Min-K%, and the missing option where there are some, compare the rows with
others that the model cannot have seen.
"""

from __future__ import annotations

import itertools
import math
import random
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.data.corpus import row_texts
from harness.errors import DataError, HarnessError, TaskError
from harness.model import Model
from harness.quick import dataclass
from harness.record.report_fields import ProbeFields
from harness.record.seen_rows import HALF, MIN_K, MISSING, OPTIONS, ROWS, probe_sentence
from harness.run.answers import answers
from harness.run.jobs import TaskJob
from harness.tasks.answer_options import find_options, value
from harness.tasks.dates import is_later
from harness.tasks.file_models import words
from harness.tasks.modify import infer_options
from harness.types import Prompt, Request, Sample
from harness.words import Translate, english

if TYPE_CHECKING:
    from harness.scoring.statistics.exchange import TestResult

ROWS_IN_A_SHARD = 5
CHARACTERS_IN_A_SHARD = 2000
"""Rows that are read together; their text has to fit the model's window."""
ORDERS = 8
"""Other orders that each shard is compared with."""
OPTION_ORDERS = 7
LETTERS = string.ascii_uppercase
RAREST = 0.2
"""Which part of a text's words Min-K% takes: 20 %, as its paper (W. Shi et al., arXiv:2310.16789)."""
_FEW, _MOST_DRAWS = 5, 1000
"""Texts of which all orders are listed; of more, so many are drawn at most."""
CHARACTERS_OF_A_TEXT = 400
FEWEST_WORDS = 10
_WORD = re.compile(r"\s*(?:[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]|[^\W\u3040-\uffff]+|.)")

REASONS = (
    "shards longer than the model's window, or without an answer",
    "without an answer, or longer than the model's window",
    "fewer than three options",
    "numbers in their order, which anybody would write so",
    "options that may not be moved",
    "too few words",
)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one probe says of a model and a task. left_out: reason -> rows or shards that could not be used.

    verbatim: how many of the missing options or second halves the model would write word for word (greedily); None for
    a probe that asks for none. unseen: how many unseen rows the rows were compared with.
    """

    task: str
    name: str
    result: TestResult
    left_out: Mapping[str, int]
    verbatim: int | None = None
    unseen: int | None = None

    @property
    def sentence(self) -> str:
        return self.said()

    def said(self, t: Translate = english) -> str:
        """The sentence in a language."""
        return probe_sentence(self.task, self.fields, t)

    @property
    def fields(self) -> ProbeFields:
        """As a run folder keeps it."""
        result = self.result
        return {
            "probe": self.name,
            "n": result.n,
            "effect": result.effect,
            "p": result.p,
            "left_out": dict(self.left_out),
            "verbatim": self.verbatim,
            "unseen": self.unseen,
        }


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row as pages show it. text: all of it. question, options: empty where the task does not say what they are.
    fixed: why its options may not be moved."""

    subset: str
    text: str
    question: str = ""
    options: tuple[str, ...] = ()
    fixed: str = ""

    @classmethod
    def of(cls, sample: Sample, job: TaskJob) -> ShownRow:
        plain = "\n".join(row_texts(sample.doc, job.task.media_names))
        entry = job.task.config.options or infer_options(job.task.config)
        if entry is None:
            return cls(sample.subset, plain)
        try:
            found = find_options(sample.doc, entry)
            names = words(entry.question) if entry.question else ()
            question = "\n".join(str(value(sample.doc, name)) for name in names)
        except (DataError, TaskError, LookupError):
            return cls(sample.subset, plain)
        return cls(sample.subset, lettered(question, found.texts), question, tuple(found.texts), found.fixed)


def lettered(question: str, options: Sequence[str]) -> str:
    """A question as exams are printed."""
    return "\n".join([question, *(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))])


def first_views(job: TaskJob) -> list[Sample]:
    """A sample a row."""
    return list({(sample.subset, sample.id): sample for sample in reversed(job.samples)}.values())[::-1]


def seen_and_later(job: TaskJob, cutoff: str | None) -> tuple[list[ShownRow], list[ShownRow]]:
    """The rows that a model may have seen, and those that are dated later than its cut-off."""
    seen: list[ShownRow] = []
    later: list[ShownRow] = []
    for sample in first_views(job):
        date = None
        if cutoff is not None and job.task.templates.date is not None:
            try:
                date = job.task.date_of(sample.doc, sample.subset)
            except HarnessError:
                continue  # a date that cannot be read is on no side
        row = ShownRow.of(sample, job)
        (later if cutoff is not None and date is not None and is_later(date, cutoff) else seen).append(row)
    return seen, later


class TextAsker:
    """Asks a model how likely texts are, in nats; None for what failed, is no number or was longer than the window."""

    def __init__(self, model: Model, name: str) -> None:
        self._model, self._name = model, name

    def whole(self, texts: Sequence[str]) -> list[float | None]:
        """Log-likelihoods of whole texts."""
        return [found and found[0] for found in self._ask([Request("rolling", Prompt(suffix=text)) for text in texts])]

    def after(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool] | None]:
        """(text, what follows it) -> the log-likelihood of what follows, and whether the model would write it."""
        return self._ask([Request("loglikelihood", Prompt(suffix=text), (more,)) for text, more in pairs])

    def _ask(self, requests: Sequence[Request]) -> list[tuple[float, bool] | None]:
        known: list[tuple[float, bool] | None] = [None] * len(requests)
        for index, response in answers(self._model, self._name, requests):
            finite = bool(response.logprobs) and math.isfinite(response.logprobs[0])
            if response.error is None and finite and not response.truncated:
                known[index] = response.logprobs[0], bool(response.is_greedy and response.is_greedy[0])
        return known


def probes_of(
    task: str, rows: Sequence[ShownRow], others: Iterable[ShownRow], ask: TextAsker, seed: int
) -> Iterator[Probe]:
    """Every probe that can be made of the rows; those that compare with `others`, unseen ones, where there are some."""
    own = {row.text for row in rows}
    unseen = [row for row in others if row.text not in own]
    yield _row_order(task, rows, ask, seed)
    if any(row.options for row in rows):
        yield _option_order(task, rows, ask, seed)
        yield _missing_option(task, rows, unseen, ask, seed)
    if unseen:
        yield _second_half(task, rows, unseen, ask)
        yield _min_k(task, rows, unseen, ask)


def _row_order(task: str, rows: Sequence[ShownRow], ask: TextAsker, seed: int) -> Probe:
    """Shards of rows that follow one another within a subset, in their order and in others."""
    from harness.scoring.statistics.exchange import order_test

    generator = random.Random(seed)
    texts: list[str] = []
    sizes: list[int] = []
    for shard in _shards(rows):
        orders = [shard, *_other_orders(shard, ORDERS, generator)]
        texts += map("\n\n".join, orders)
        sizes.append(len(orders))
    canonical, others, left_out = _compared(ask.whole(texts), sizes)
    reasons = {REASONS[0]: left_out} if left_out else {}
    return Probe(task, ROWS, order_test(canonical, others), reasons)


def _shards(rows: Sequence[ShownRow]) -> Iterator[list[str]]:
    """Texts of rows that follow one another, of one subset, different from one another."""
    shard: list[str] = []
    subset = None
    for row in rows:
        is_full = len(shard) == ROWS_IN_A_SHARD or sum(map(len, shard)) + len(row.text) > CHARACTERS_IN_A_SHARD
        if shard and (row.subset != subset or is_full):
            if len(set(shard)) > 1:
                yield shard
            shard = []
        subset = row.subset
        shard.append(row.text)
    if len(set(shard)) > 1:
        yield shard


def _option_order(task: str, rows: Sequence[ShownRow], ask: TextAsker, seed: int) -> Probe:
    """Questions with their options in their order and in others."""
    from harness.scoring.statistics.exchange import rank_test

    generator = random.Random(seed)
    usable, left_out = _with_options(rows)
    texts: list[str] = []
    sizes: list[int] = []
    for row in usable:
        orders = [list(row.options), *_other_orders(row.options, OPTION_ORDERS, generator)]
        texts += [lettered(row.question, order) for order in orders]
        sizes.append(len(orders))
    canonical, others, silent = _compared(ask.whole(texts), sizes)
    return Probe(task, OPTIONS, rank_test(canonical, others), _with(left_out, REASONS[1], silent))


def _missing_option(
    task: str, rows: Sequence[ShownRow], unseen: Sequence[ShownRow], ask: TextAsker, seed: int
) -> Probe:
    """The last option behind the others (as TS-Guessing hides one: C. Deng et al., arXiv:2311.09783; their rate of
    exact guesses is `verbatim`), by character against the same of unseen rows. Where there are none, against the others
    in other orders: who never saw the row expects it equally, whatever their order."""
    from harness.scoring.statistics.exchange import higher_test, rank_test

    generator = random.Random(seed)
    usable, left_out = _with_options(rows)
    strangers = _with_options(unseen)[0]
    pairs: list[tuple[str, str]] = []
    sizes: list[int] = []
    for row in (*usable, *strangers):
        *others, missing = row.options
        different = list(dict.fromkeys(itertools.permutations(others)))[1:] if not strangers else []
        generator.shuffle(different)
        orders = [tuple(others), *different[:OPTION_ORDERS]]
        pairs += [(f"{lettered(row.question, order)}\n{LETTERS[len(others)]}.", f" {missing}") for order in orders]
        sizes.append(len(orders))
    known = ask.after(pairs)
    firsts = [known[place] for place in itertools.accumulate([0, *sizes[: len(usable) - 1]])] if usable else []
    verbatim = sum(each is not None and each[1] for each in firsts)
    if not strangers:
        canonical, ranked, silent = _compared([each and each[0] for each in known], sizes)
        return Probe(task, MISSING, rank_test(canonical, ranked), _with(left_out, REASONS[1], silent), verbatim)
    values = [each and each[0] / len(more) for each, (_, more) in zip(known, pairs, strict=True)]
    of_rows, of_unseen = _parted(values, len(usable))
    left_out = _with(left_out, REASONS[1], len(usable) - len(of_rows))
    return Probe(task, MISSING, higher_test(of_rows, of_unseen), left_out, verbatim, len(of_unseen))


def _second_half(task: str, rows: Sequence[ShownRow], unseen: Sequence[ShownRow], ask: TextAsker) -> Probe:
    """How likely, by character, the second half of a question is behind its first (as S. Golchin and M. Surdeanu,
    arXiv:2308.08493, have it completed), against the same of unseen rows."""
    from harness.scoring.statistics.exchange import higher_test

    pairs: list[tuple[str, str] | None] = []
    for row in (*rows, *unseen):
        text = (row.question or row.text)[:CHARACTERS_OF_A_TEXT]
        pieces = _WORD.findall(text)
        middle = sum(map(len, pieces[: len(pieces) // 2]))
        pairs.append((text[:middle], text[middle:]) if len(pieces) >= FEWEST_WORDS else None)
    known = iter(ask.after([pair for pair in pairs if pair is not None]))
    found = [next(known) if pair is not None else None for pair in pairs]
    values = [each[0] / len(pair[1]) if each and pair else None for each, pair in zip(found, pairs, strict=True)]
    verbatim = sum(each is not None and each[1] for each in found[: len(rows)])
    of_rows, of_unseen = _parted(values, len(rows))
    short = sum(pair is None for pair in pairs[: len(rows)])
    left_out = _with(_with({}, REASONS[5], short), REASONS[1], len(rows) - short - len(of_rows))
    return Probe(task, HALF, higher_test(of_rows, of_unseen), left_out, verbatim, len(of_unseen))


def _min_k(task: str, rows: Sequence[ShownRow], unseen: Sequence[ShownRow], ask: TextAsker) -> Probe:
    """Min-K% of whole rows (W. Shi et al., arXiv:2310.16789), of words in the place of tokens (a Chinese character is a
    word), so that every model that scores continuations can be asked; against that of unseen rows."""
    from harness.scoring.statistics.exchange import higher_test

    pairs: list[tuple[str, str]] = []
    counts: list[int] = []
    for row in (*rows, *unseen):
        ends = list(itertools.accumulate(map(len, _WORD.findall(row.text[:CHARACTERS_OF_A_TEXT]))))
        if len(ends) <= FEWEST_WORDS:
            ends = ends[:1]
        pairs += [(row.text[:start], row.text[start:end]) for start, end in itertools.pairwise(ends)]
        counts.append(max(0, len(ends) - 1))
    known = iter(ask.after(pairs))
    values: list[float | None] = []
    for count in counts:
        of_words = [next(known) for _ in range(count)]
        scored = sorted(each[0] for each in of_words if each is not None)
        rarest = scored[: max(1, math.ceil(RAREST * len(scored)))]
        values.append(math.fsum(rarest) / len(rarest) if count and len(scored) == count else None)
    of_rows, of_unseen = _parted(values, len(rows))
    short = counts[: len(rows)].count(0)
    left_out = _with(_with({}, REASONS[5], short), REASONS[1], len(rows) - short - len(of_rows))
    return Probe(task, MIN_K, higher_test(of_rows, of_unseen), left_out, unseen=len(of_unseen))


def _with_options(rows: Sequence[ShownRow]) -> tuple[list[ShownRow], dict[str, int]]:
    """The rows whose options stand in an order that says nothing; reason -> how many others."""
    usable: list[ShownRow] = []
    left_out: dict[str, int] = {}
    for row in rows:
        reason = ""
        if len(set(row.options)) < 3:
            reason = REASONS[2]
        elif _is_sorted(row.options):
            reason = REASONS[3]
        elif row.fixed or len(row.options) > len(LETTERS):
            reason = REASONS[4]
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        else:
            usable.append(row)
    return usable, left_out


def _other_orders(texts: Sequence[str], count: int, generator: random.Random) -> list[list[str]]:
    """Up to `count` other orders of texts of which at least two differ, each once: where one came twice, the rank of
    the texts' own order among them would vary more than ranks that are equally likely."""
    if len(texts) <= _FEW:
        different = list(dict.fromkeys(itertools.permutations(texts)))[1:]
        return [list(order) for order in generator.sample(different, min(count, len(different)))]
    orders: dict[tuple[str, ...], None] = {}
    for _ in range(_MOST_DRAWS):
        if len(orders) == count:
            break
        other = tuple(generator.sample(texts, len(texts)))
        if other != tuple(texts):
            orders[other] = None
    return list(map(list, orders))


def _compared(known: Sequence[float | None], sizes: Sequence[int]) -> tuple[list[float], list[list[float]], int]:
    """Of groups of so many values: the first of each, the others of each, and how many groups lack one."""
    canonical: list[float] = []
    others: list[list[float]] = []
    start = 0
    for size in sizes:
        values = [each for each in known[start : start + size] if each is not None]
        start += size
        if len(values) == size:
            canonical.append(values[0])
            others.append(values[1:])
    return canonical, others, len(sizes) - len(canonical)


def _parted(values: Sequence[float | None], count: int) -> tuple[list[float], list[float]]:
    """The known ones of the first `count` values, and those of the others."""
    first, rest = ([each for each in part if each is not None] for part in (values[:count], values[count:]))
    return first, rest


def _with(left_out: Mapping[str, int], reason: str, count: int) -> dict[str, int]:
    return {**left_out, reason: count} if count else dict(left_out)


def _is_sorted(options: Sequence[str]) -> bool:
    """Whether options are different numbers (with whatever else) that rise or fall."""
    numbers = []
    for option in options:
        digits = "".join(character for character in option if character.isdigit() or character in ".-")
        try:
            numbers.append(float(digits))
        except ValueError:
            return False
    return len(set(numbers)) == len(numbers) and numbers in (sorted(numbers), sorted(numbers, reverse=True))
