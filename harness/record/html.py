"""`report.html`: one file that opens anywhere, without a network, to see the numbers and what is behind them.

It holds a bounded number of samples, the doubtful ones first. Everything that comes from a model, a data set or a
command is escaped by the template.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

import jinja2

from harness.record.calibration import Bin, Calibration
from harness.record.codec import jsonable
from harness.record.coverage import coverage_of, covered, part_words
from harness.record.file_types import MetricFields, Number, PartFields, Report
from harness.record.manifest import model_title
from harness.record.report import DOUBTS, doubts_about_metrics, gaps, interval, number, rows, scorers, settings
from harness.types import Prompt, Record, ScoreName

# How many samples of each kind a task shows, when it is the only one; many tasks share `_MOST_SAMPLES`.
_QUOTAS = {"failed": 12, "unparsed": 12, "wrong": 24, "partial": 8, "right": 8, "unscored": 4}
_MOST_SAMPLES = 400
_LONGEST_TEXT = 3000
KINDS = tuple(_QUOTAS)


@dataclass(slots=True)
class _ShownTask:
    """What the page shows of a task beside its numbers."""

    label: str
    samples: list[_ShownSample] = field(default_factory=list)
    tally: Calibration = field(default_factory=Calibration)

    @property
    def calibration(self) -> Sequence[Bin]:
        return self.tally.bins()


def report_html(report: Report, records: Iterable[Record]) -> str:
    """The page of a report. `records` are read once; few of them are kept."""
    tasks = {task["task"]: _ShownTask(task["task"] + part_words(task.get("covers"))) for task in report["tasks"]}
    is_covered = covered(coverage_of(report))
    headlines = {task["task"]: task["metrics"][0]["metric"] if task["metrics"] else "" for task in report["tasks"]}

    def seen() -> Iterator[Record]:
        for record in filter(is_covered, records):
            if record.task in tasks:
                tasks[record.task].tally.add(record)
            yield record

    for kind, record in pick(seen(), headlines):
        tasks[record.task].samples.append(_sample(kind, record))
    for task in tasks.values():
        task.samples.sort(key=lambda sample: KINDS.index(sample.kind))
    doubts = [doubt for doubt in DOUBTS if any(task["counts"].get(doubt) for task in report["tasks"])]
    return _template().render(
        report=report,
        rows=list(rows(report)),
        gaps=[*settings(report), *gaps(report)],
        charts=[(title, bars) for title, bars in _charts(report) if bars is not None and len(bars.rows) > 1],
        tasks=list(tasks.values()),
        model=model_title(report),
        doubts=doubts,
        kinds=KINDS,
        scorers=list(scorers(report)),
        doubts_about_metrics=list(doubts_about_metrics(report)),
    )


def pick(records: Iterable[Record], headlines: Mapping[str, str]) -> Iterator[tuple[str, Record]]:
    """(kind, record) of the first samples of each kind of each task, within the quotas."""
    share = min(1.0, _MOST_SAMPLES / (sum(_QUOTAS.values()) * max(1, len(headlines))))
    left = {(task, kind): max(1, int(quota * share)) for task in headlines for kind, quota in _QUOTAS.items()}
    for record in records:
        kind = kind_of(record, headlines.get(record.task, ""))
        if left.get((record.task, kind), 0) > 0:
            left[record.task, kind] -= 1
            yield kind, record


def kind_of(record: Record, headline: str) -> str:
    """What a reader wants to know first of a sample."""
    # A view of a row has the task's own scores; the headline is of all views together.
    score = record.scores.get(headline, next(iter(record.scores.values()), None))
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
class _Bar:
    """A bar with the ends of its interval, in percents of the width. known: whether there is an interval."""

    label: str
    name: str
    value: str
    interval: str
    n: int
    width: float
    low: float
    high: float
    known: bool


@dataclass(frozen=True, slots=True)
class _Bars:
    """The first metric of each group or subset as bars, from 0 to `top`."""

    name: str
    metric: str
    top: float
    rows: Sequence[_Bar]

    @classmethod
    def of(cls, name: str, parts: Sequence[tuple[str, str, Sequence[MetricFields]]]) -> _Bars | None:
        """The bars of (name, label, metrics). None where there is nothing that a bar could show."""
        drawn = [(part, label, metrics[0]) for part, label, metrics in parts if metrics]
        drawn = [each for each in drawn if each[2]["value"] is not None]
        ends = [end for _, _, metric in drawn for end in (metric["value"] or 0.0, *(metric["interval"] or ()))]
        if not ends or any(isinstance(end, str) or end < -0.5 for end in ends):
            return None
        top = max(map(float, ends))
        top = 1.0 if top <= 1.2 else top
        return cls(name, drawn[0][2]["metric"], top, [_bar(*each, top) for each in drawn])


def _bar(name: str, label: str, metric: MetricFields, top: float) -> _Bar:
    def place(value: Number | None) -> float:
        return round(100 * min(max(float(value or 0.0) / top, 0.0), 1.0), 2)

    low, high = metric["interval"] or (metric["value"], metric["value"])
    return _Bar(
        label,
        name,
        number(metric["value"]),
        interval(metric),
        metric["n"],
        width=place(metric["value"]),
        low=place(low),
        high=place(high),
        known=metric["interval"] is not None,
    )


def _charts(report: Report) -> Iterator[tuple[str, _Bars | None]]:
    """(title, bars): the tasks of each group of tasks, then the groups, subsets and categories of each task."""
    for group in report.get("groups", ()):
        for first in group["metrics"][:1]:
            wanted = ScoreName.parse(first["metric"]).metric  # the metric that the group is known by
            tasks = [(task["task"], task["metrics"]) for task in report["tasks"] if task["task"] in group["tasks"]]
            of_group = [
                (name, name, [metric for metric in metrics if ScoreName.parse(metric["metric"]).metric == wanted])
                for name, metrics in tasks
            ]
            yield group["title"], _Bars.of("tasks", of_group)
    for task in report["tasks"]:
        charts: dict[str, Sequence[PartFields]] = {"groups": task["groups"], "subsets": task["subsets"]}
        if len(task["groups"]) == len(task["subsets"]):  # each group is a single subset: one chart says it all
            del charts["groups"]
        categories = task.get("categories", ())
        for breakdown in dict.fromkeys(part["breakdown"] for part in categories):
            charts[breakdown] = [part for part in categories if part["breakdown"] == breakdown]
        for name, parts in charts.items():
            bars = _Bars.of(name, [(part["name"], part["title"] or part["name"], part["metrics"]) for part in parts])
            yield task["task"], bars


@dataclass(frozen=True, slots=True)
class _ShownSample:
    """A sample as the page shows it. turns: (who, what, whether other samples share it)."""

    kind: str
    subset: str
    id: str
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
    text: str
    logprob: str
    gold: bool
    chosen: bool


@dataclass(frozen=True, slots=True)
class _ShownReply:
    text: str
    reasoning: str
    error: str | None
    cut: bool


def _sample(kind: str, record: Record) -> _ShownSample:
    if record.target is None:
        target = "kept secret by the benchmark"
    else:
        values = record.target if isinstance(record.target, tuple) else (record.target,)
        named = [record.choices[v] if isinstance(v, int) and 0 <= v < len(record.choices) else str(v) for v in values]
        target = clip(" | ".join(named))
    scores = {name: value if isinstance(value, tuple) else (value,) for name, value in record.scores.items()}
    return _ShownSample(
        kind=kind,
        subset=record.subset,
        id=f"{record.id} ({record.view.index + 1} of {record.view.count})" if record.view else str(record.id),
        turns=list(_turns_of(record)),
        target=target,
        choices=list(_choices(record)),
        replies=[] if record.logprobs and record.choices else list(_replies(record)),
        answers={
            name: ["not readable" if answer is None else answer for answer in answers]
            for name, answers in record.answers.items()
        },
        scores={name: ", ".join(map(number, values)) for name, values in scores.items()},
        error=record.error,
        truncated=max((response.truncated for response in record.responses), default=0),
        doc=clip(json.dumps(jsonable(record.doc), ensure_ascii=False, indent=1)),
    )


def clip(text: str) -> str:
    """The text, cut in the middle where it is very long, with what was cut counted; no lone surrogates."""
    if len(text) > _LONGEST_TEXT:
        half = _LONGEST_TEXT // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half:,} characters not shown ...]\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode()


def _turns_of(record: Record) -> Iterator[tuple[str, str, bool]]:
    """The prompt; where a choice is part of it, the end of each prompt and what followed them all."""
    if not record.contexts:
        yield from _turns(record.prompt)
        return
    yield from (turn for turn in _turns(record.prompt) if turn[2])
    for place, context in enumerate(record.contexts, 1):
        for who, text, shared in _turns(context):
            if not shared:
                yield f"{who} {place}", text, False
    yield "scored behind each", clip(record.continuation), False


def _turns(prompt: Prompt) -> Iterator[tuple[str, str, bool]]:
    """(who speaks, what, whether other samples share it)."""
    for index, message in enumerate(prompt.messages):
        yield message.role, clip(message.outline), index < prompt.shared_messages
    if prompt.prefill:
        yield "prefill", clip(prompt.prefill), False
    if prompt.is_chat:
        return
    if prompt.prefix:
        yield "shared prompt", clip(prompt.prefix), True
    media = "".join(f"[{item.kind} {item.sha256[:12]}]\n" for item in prompt.media)
    yield "prompt", clip(media + prompt.suffix), False


def _choices(record: Record) -> Iterator[_ShownChoice]:
    gold = record.target if isinstance(record.target, tuple) else (record.target,)
    values = record.logprobs
    best = max(values, default=None)
    for index, choice in enumerate(record.choices):
        value = values[index] if index < len(values) else None
        likeliest = value is not None and value == best
        yield _ShownChoice(clip(choice), number(value), gold=index in gold, chosen=likeliest)


def _replies(record: Record) -> Iterator[_ShownReply]:
    for response in record.responses:
        text = response.text if response.text is not None else ", ".join(map(number, response.logprobs))
        cut = response.finish_reason == "length"
        yield _ShownReply(clip(text), clip(response.reasoning or ""), response.error, cut=cut)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, interval=interval)
    return environment.from_string(files("harness.record").joinpath("report.html.j2").read_text(encoding="utf-8"))
