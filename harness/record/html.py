"""`report.html`: one file that opens anywhere, without a network, to see the numbers and what is behind them.

It holds a bounded number of samples, drawn across all subsets, the doubtful ones first. Everything that comes from a
model, a data set or a command is escaped by the template.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from importlib.resources import files
from typing import Any, Self

import jinja2
from markupsafe import Markup

from harness.quick import dataclass
from harness.record.calibration import Bin, Calibration
from harness.record.codec import jsonable
from harness.record.conversation import conversation_in, last_words
from harness.record.cost import cost_lines
from harness.record.coverage import coverage_of, covered
from harness.record.failures import failure_lines
from harness.record.published import protocol_lines, published_rows, source_lines
from harness.record.report_fields import Report
from harness.record.report_lines import doubts_about_metrics, of_parts, remarks_on_asking, scorers, warnings_of
from harness.record.result_rows import interval, number
from harness.record.shown import Card, Part, Shown, card, chips, counted, percent, short_title, value
from harness.types import Prompt, Record, ScoreName
from harness.words import Translate, english, translator

# How many samples of each kind a task shows, when it is the only one; many tasks share `_MOST_SAMPLES`.
_QUOTAS = {"failed": 12, "unparsed": 12, "wrong": 24, "partial": 8, "right": 8, "unscored": 4}
_MOST_SAMPLES = 400
_LONGEST_TEXT = 3000
_SHORT = 12  # characters of answers that are counted by what was right
_LETTERS = 8
_LABEL = 12  # width of a line that may be no question yet: `Question:`, `题目`; a character of Chinese has 2
_OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
KINDS = tuple(_QUOTAS)
Target = int | str | Sequence[int | str] | None
"""What is right, of a record or of its line."""


@dataclass(slots=True)
class Tally:
    """What the records of a task say beside its numbers."""

    kinds: Counter[str] = field(default_factory=Counter)
    chances: dict[str, tuple[float, int]] = field(default_factory=dict)
    letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    new_letters: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Those since `new` was called; they are not in `letters` yet."""
    confidences: Calibration = field(default_factory=Calibration)
    subsets: int = 1
    kept: dict[tuple[str, str | None], list[tuple[int, int, Record]]] = field(default_factory=dict)

    def new(self) -> dict[str, Any]:
        """What came since this was last called, for a file of JSON; of what does not grow, all."""
        new, self.new_letters = self.new_letters, Counter()
        self.letters.update(new)
        kept: dict[str, list[Any]] = {kind: [] for kind in KINDS}
        for (kind, of), some in self.kept.items():
            kept[kind].append([of, [(place, number, record.subset, record.id) for place, number, record in some]])
        return {
            "kinds": self.kinds,
            "chances": self.chances,
            "letters": [(*pair, n) for pair, n in new.items()],
            "confidences": [self.confidences.counts, self.confidences.confidences, self.confidences.hits],
            "kept": kept,
        }

    def extend(self, fields: Mapping[str, Any]) -> None:
        """Take what `new` gave, in its order, but the records: those that the last one names are for `keep`."""
        self.kinds = Counter(fields["kinds"])
        self.chances = {subset: (total, n) for subset, (total, n) in fields["chances"].items()}
        self.confidences = Calibration(*fields["confidences"])
        for answer, gold, n in fields["letters"]:
            self.letters[answer, gold] += n

    def keep(self, fields: Mapping[str, Any], find: Callable[[str, int], Record]) -> None:
        """Keep the records that `new` named. find: reads the one of a subset and id."""
        for kind, parts in fields["kept"].items():
            for of, some in parts:
                self.kept[kind, of] = [(place, number, find(subset, row)) for place, number, subset, row in some]

    def letter_counts(self) -> list[tuple[str, str, int]]:
        """(answer, gold, n) of wrong samples whose answers are short."""
        return [(*pair, n) for pair, n in (self.letters + self.new_letters).items()]

    def add(self, record: Record, kind: str, quota: int) -> None:
        self.kinds[kind] += 1
        self.confidences.add(record)
        if (chance := chance_of(record.target, record.choices)) is not None:
            total, n = self.chances.get(record.subset, (0.0, 0))
            self.chances[record.subset] = (total + chance, n + 1)
        if kind == "wrong":
            answer = answer_of(record)
            if answer and len(answer) <= _SHORT:
                gold = gold_words(record.target, record.choices)
                if len(gold) <= _SHORT:
                    self.new_letters[answer, gold] += 1
        # Of more than there is room for, those whose hashes are smallest: a draw that each run repeats. Some of each
        # subset are kept, too, so that each has its turn.
        view = record.view.index if record.view is not None else 0
        key = f"{record.task}\0{record.subset}\0{record.id}\0{view}".encode("utf-8", "surrogatepass")
        place = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        drawn = (-place, self.kinds[kind], record)
        parts = ((None, quota), (record.subset, -(-quota // self.subsets)))
        for subset, room in parts if self.subsets > 1 else parts[:1]:
            kept = self.kept.setdefault((kind, subset), [])
            if len(kept) < room:
                heapq.heappush(kept, drawn)
            elif drawn > kept[0]:  # of a long run few are
                heapq.heapreplace(kept, drawn)

    def samples(self, quotas: Mapping[str, int]) -> Iterator[tuple[str, Record]]:
        """(kind, record) of what is shown: the first of each subset, then the second; in the order they came."""
        for kind in KINDS:
            kept = {drawn[1]: drawn for (of, _), some in self.kept.items() if of == kind for drawn in some}
            ranks: Counter[str] = Counter()
            turns = []
            for place, line, record in sorted(kept.values(), key=lambda each: -each[0]):
                turns.append((ranks[record.subset], -place, line, record))
                ranks[record.subset] += 1
            chosen = sorted(turns, key=lambda turn: turn[:2])[: quotas[kind]]
            for _, _, _, record in sorted(chosen, key=lambda turn: turn[2]):
                yield kind, record


@dataclass(frozen=True, slots=True)
class _ShownTask:
    card: Card
    samples: Sequence[_ShownSample]
    kinds: Mapping[str, int]
    calibration: Sequence[Bin]
    letters: LetterTable | None


@dataclass(frozen=True, slots=True)
class LetterTable:
    """How often each short answer was given where another was right: rows of (answer, counts by gold, shades 0..10)."""

    golds: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[int, int]]]]


class PageSamples:
    """What the page of a report says of the samples themselves; records pass by once, and few of them are kept.

    headlines: task -> the score that stands for it. subsets: task -> how many it has.
    """

    def __init__(self, headlines: Mapping[str, str], subsets: Mapping[str, int]) -> None:
        self._headlines, self._subsets = headlines, subsets
        self.tallies: dict[str, Tally] = {}
        for task in headlines:
            self.forget(task)
        share = min(1.0, _MOST_SAMPLES / (sum(_QUOTAS.values()) * max(1, len(headlines))))
        self.quotas = {kind: max(1, int(quota * share)) for kind, quota in _QUOTAS.items()}

    @classmethod
    def of(cls, report: Report, records: Iterable[Record]) -> Self:
        """Those of the records that a report is about."""
        headlines = {task["task"]: task["metrics"][0]["metric"] if task["metrics"] else "" for task in report["tasks"]}
        page = cls(headlines, {task["task"]: len(task["subsets"]) for task in report["tasks"]})
        for record in filter(covered(coverage_of(report)), records):
            page.look(record)
        return page

    def forget(self, task: str) -> None:
        """Know nothing of a task's samples."""
        self.tallies[task] = Tally(subsets=max(1, self._subsets[task]))

    def look(self, record: Record) -> None:
        """Look at the next record."""
        if record.task in self.tallies:
            kind = kind_of(record, self._headlines[record.task])
            self.tallies[record.task].add(record, kind, self.quotas[kind])


def report_html(report: Report, records: Iterable[Record], language: str = "en") -> str:
    """The page of a report, in a language. `records` are read once; few of them are kept."""
    return page_html(report, PageSamples.of(report, records), language)


def page_html(report: Report, page: PageSamples, language: str = "en") -> str:
    """The page of a report whose records have passed by already."""
    t = translator(language)
    tasks = [
        _ShownTask(
            card(task, tally.chances, t=t),
            [_sample(kind, record, t) for kind, record in tally.samples(page.quotas)],
            tally.kinds,
            tally.confidences.bins(),
            letter_table(tally.letter_counts(), tally.kinds["wrong"]),
        )
        for task, tally in ((task, page.tallies[task["task"]]) for task in report["tasks"])
    ]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            title=short_title(report),
            chips=list(chips(report)),
            settings=[*remarks_on_asking(report, t), *cost_lines(report, t, every=True)],
            published=list(published_rows(report)),
            protocol=list(protocol_lines(report, t)),
            sources=list(source_lines(report, t)),
            gaps=list(warnings_of(report, t)),
            failures=list(failure_lines(report, t)),
            groups=list(_groups(report)),
            tasks=tasks,
            abilities=[ability for ability in report.get("abilities", ()) if ability["raw"] is not None],
            kinds=[(kind, sum(task.kinds.get(kind, 0) for task in tasks)) for kind in KINDS],
            shown=sum(len(task.samples) for task in tasks),
            remarks=[*of_parts(report, t), *scorers(report, t), *doubts_about_metrics(report, t)],
            style=files("harness.record").joinpath("page.css").read_text(encoding="utf-8"),
            t=t,
            lang="zh-Hans" if language == "zh" else language,
        )
    )


def letter_table(counted: Sequence[tuple[str, str, int]], wrong: int) -> LetterTable | None:
    """(answer, gold, n) of wrong samples as a table; None where most answers are long, or differ.

    wrong: how many wrong samples there are.
    """
    sums: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for answer, gold, n in counted:
        sums[0][answer] += n
        sums[1][gold] += n
    answers, golds = (sorted(name for name, _ in each.most_common(_LETTERS)) for each in sums)
    counts = {(answer, gold): n for answer, gold, n in counted if answer in answers and gold in golds}
    if len(answers) < 2 or 2 * sum(counts.values()) < wrong:
        return None
    most = max(counts.values())
    cells = {answer: [counts.get((answer, gold), 0) for gold in golds] for answer in answers}
    return LetterTable(golds, [(answer, [(n, round(10 * n / most)) for n in row]) for answer, row in cells.items()])


def golds_of(target: Target) -> Sequence[int | str]:
    """The right answers, places of options or texts; none where the benchmark keeps them secret."""
    if target is None:
        return ()
    return (target,) if isinstance(target, int | str) else target


def chance_of(target: Target, choices: Sequence[str]) -> float | None:
    """What a guess among the options would score; None where there are none to guess among."""
    if isinstance(target, int) and choices:
        return 1 / len(choices)
    golds = golds_of(target)
    return len(golds) / len(choices) if choices and golds and all(isinstance(gold, int) for gold in golds) else None


def gold_words(target: Target, choices: Sequence[str]) -> str:
    """The right answers in words; empty where the benchmark keeps them secret."""
    return " | ".join(
        choices[gold] if isinstance(gold, int) and 0 <= gold < len(choices) else str(gold) for gold in golds_of(target)
    )


def option_shares(choices: Sequence[str], logprobs: Sequence[float]) -> Sequence[float]:
    """The probability of each option among the options, in [0, 1]; none where not each has a log-probability."""
    if not choices or len(logprobs) != len(choices) or not all(map(math.isfinite, logprobs)):
        return ()
    best = max(logprobs)
    weights = [math.exp(value - best) for value in logprobs]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def answer_of(record: Record) -> str:
    """What was read from the reply, or the likeliest option; empty where there is neither."""
    for answers in record.answers.values():
        return last_words(str(answers[0])) if answers and answers[0] is not None else ""
    choices, logprobs = record.choices, record.logprobs
    if not choices or len(logprobs) != len(choices) or not all(map(math.isfinite, logprobs)):
        return ""
    return choices[max(range(len(choices)), key=logprobs.__getitem__)]


@dataclass(frozen=True, slots=True)
class _GroupCard:
    """A group of tasks. values: (metric and average, value), first the one that the group is known by, as its tasks."""

    title: str
    values: Sequence[tuple[str, Shown]]
    tasks: Sequence[Part]


def _groups(report: Report) -> Iterator[_GroupCard]:
    for group in report.get("groups", ()):
        asked = [(metric, str(metric.get("average", ""))) for metric in group["metrics"]]
        every = [(metric, name) for name, metrics in group.get("by_average", {}).items() for metric in metrics]
        shown = {f"{metric['metric']}, {average}": value(metric) for metric, average in (*asked, *every)}
        for first in group["metrics"][:1]:
            wanted = ScoreName.parse(first["metric"]).metric
            parts = []
            for task in report["tasks"]:
                metrics = [each for each in task["metrics"] if ScoreName.parse(each["metric"]).metric == wanted]
                if task["task"] in group["tasks"] and metrics:
                    parts.append(Part(task["task"], task["task"], value(metrics[0]), 0.0, counted(task)))
            yield _GroupCard(group["title"], list(shown.items()), parts)


def kind_of(record: Record, headline: str) -> str:
    """What a reader wants to know first of a sample."""
    # A view of a row has the task's own scores; the headline is of all views together.
    scores = record.scores
    score = scores[headline] if headline in scores else next(iter(scores.values()), None)
    return sample_kind(record.error, record.unparsed, score, record.judge.get("scale"))


def sample_kind(error: str | None, unparsed: bool, score: object, scale: Sequence[float] | None = None) -> str:
    """One of `KINDS`. scale: the worst and the best score, (0, 1) where a judge does not say otherwise."""
    if error is not None:
        return "failed"
    if unparsed:
        return "unparsed"
    if not isinstance(score, int | float):
        return "unscored" if score is None else "partial"
    worst, best = scale or (0, 1)
    return "wrong" if score == worst else "right" if score == best else "partial"


@dataclass(frozen=True, slots=True)
class _ShownSample:
    """A sample as the page shows it. turns: (who, what, whether other samples share it)."""

    kind: str
    subset: str
    id: str
    question: str
    answer: str
    gold: str
    confidence: float | None
    turns: Sequence[tuple[str, str, bool]]
    target: str
    choices: Sequence[_ShownChoice]
    replies: Sequence[_ShownReply]
    answers: Mapping[str, Sequence[str]]
    scores: Mapping[str, str]
    error: str | None
    truncated: int
    doc: str


@dataclass(frozen=True, slots=True)
class _ShownChoice:
    """An option. share: its probability among the options, where each has one."""

    text: str
    logprob: str
    share: float | None
    gold: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class _ShownReply:
    text: str
    reasoning: str
    error: str | None
    cut: bool


def _sample(kind: str, record: Record, t: Translate) -> _ShownSample:
    scores = {name: value if isinstance(value, tuple) else (value,) for name, value in record.scores.items()}
    choices = list(_choices(record))
    gold = gold_words(record.target, record.choices)
    question = record.prompt.messages[-1].text if record.prompt.messages else record.prompt.suffix
    talk = conversation_in(record.responses[0].text or "") if record.responses else None
    return _ShownSample(
        kind=kind,
        subset=record.subset,
        id=str(record.id)
        if record.view is None
        else f"{record.id} ({t('{n} of {of}', n=record.view.index + 1, of=record.view.count)})",
        question=clip(first_line((talk and talk.first_words) or question, 120)),
        answer=clip(" ".join(answer_of(record).split())[:60]),
        gold=clip(" ".join(gold.split())[:60]),
        confidence=max((choice.share for choice in choices if choice.share is not None), default=None),
        turns=list(_turns_of(record, t)),
        target=t("kept secret by the benchmark") if record.target is None else clip(gold, t),
        choices=choices,
        replies=[] if record.logprobs and record.choices else list(_replies(record, t)),
        answers={
            name: [t("not readable") if answer is None else last_words(answer) for answer in answers]
            for name, answers in record.answers.items()
        },
        scores={name: ", ".join(map(number, values)) for name, values in scores.items()},
        error=record.error,
        truncated=max((response.truncated for response in record.responses), default=0),
        doc=clip(json.dumps(jsonable(record.doc), ensure_ascii=False, indent=1), t),
    )


def first_line(text: str, most: int) -> str:
    """The first line of a question, at most so many characters of it; the next ones, too, behind a mere label."""
    found = ""
    for line in text[: 4 * most].splitlines():
        found = " ".join([*found.split(), *line.split()])
        if sum(1 + (sign > "\u2e80") for sign in found) >= _LABEL:
            break
    return found[:most]


def clip(text: str, t: Translate = english) -> str:
    """The text, cut in the middle where it is very long, with what was cut counted; made inert."""
    if len(text) > _LONGEST_TEXT:
        half = _LONGEST_TEXT // 2
        left_out = t("[... {n} characters not shown ...]", n=f"{len(text) - 2 * half:,}")
        text = f"{text[:half]}\n{left_out}\n{text[-half:]}"
    return inert(text)


def inert(text: str) -> str:
    """The text without what no page can hold: lone surrogates are replaced, control characters are shown by their
    pictures, and what would turn the direction of text by its number."""

    def written_out(found: re.Match[str]) -> str:
        code = ord(found[0])
        return chr(0x2400 + code) if code < 0x20 else f"\\u{code:04x}"

    return _OBEYED.sub(written_out, text.encode("utf-8", "replace").decode())


def _turns_of(record: Record, t: Translate) -> Iterator[tuple[str, str, bool]]:
    """The prompt; where a choice is part of it, the end of each prompt and what followed them all."""
    if not record.contexts:
        yield from _turns(record.prompt, t)
        return
    yield from (turn for turn in _turns(record.prompt, t) if turn[2])
    for place, context in enumerate(record.contexts, 1):
        for who, text, shared in _turns(context, t):
            if not shared:
                yield f"{who} {place}", text, False
    yield "scored behind each", clip(record.continuation, t), False


def _turns(prompt: Prompt, t: Translate) -> Iterator[tuple[str, str, bool]]:
    """(who speaks, what, whether other samples share it)."""
    for index, message in enumerate(prompt.messages):
        yield message.role, clip(message.outline, t), index < prompt.shared_messages
    if prompt.prefill:
        yield "prefill", clip(prompt.prefill, t), False
    if prompt.is_chat:
        return
    if prompt.prefix:
        yield "shared prompt", clip(prompt.prefix, t), True
    media = "".join(f"[{item.kind} {item.sha256[:12]}]\n" for item in prompt.media)
    yield "prompt", clip(media + prompt.suffix, t), False


def _choices(record: Record) -> Iterator[_ShownChoice]:
    golds, values = golds_of(record.target), record.logprobs
    shares = option_shares(record.choices, values)
    best = max(values, default=None)
    for index, choice in enumerate(record.choices):
        value = values[index] if index < len(values) else None
        share = shares[index] if shares else None
        yield _ShownChoice(
            clip(choice), number(value), share, gold=index in golds, chosen=value is not None and value == best
        )


def _replies(record: Record, t: Translate) -> Iterator[_ShownReply]:
    for response in record.responses:
        text = response.text if response.text is not None else ", ".join(map(number, response.logprobs))
        if talk := conversation_in(text):
            text = talk.text(t)
        cut = response.finish_reason == "length"
        yield _ShownReply(clip(text, t), clip(response.reasoning or "", t), response.error, cut=cut)


def breakable(text: str) -> Markup:
    """A name that may be broken behind its underscores, and so is not broken inside a word."""
    return Markup("_<wbr>").join(text.split("_"))


@functools.cache
def environment() -> jinja2.Environment:
    """The templates of this room; everything that they show is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files("harness.record").joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(number=number, interval=interval, percent=percent, clean=clip, breakable=breakable)
    return made
