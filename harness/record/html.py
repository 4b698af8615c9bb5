"""`report.html`: one file that opens anywhere, without a network, to see the numbers and what is behind them.

It holds a bounded number of samples, the doubtful ones first. Everything that comes from a model, a data set or a
command is escaped by the template.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2

from harness.record.calibration import Calibration
from harness.record.codec import jsonable
from harness.record.coverage import coverage_of, covered, part_words
from harness.record.manifest import model_title
from harness.record.report import DOUBTS, doubts_about_metrics, gaps, interval, number, rows, scorers, settings
from harness.types import JSON, Prompt, Record, ScoreName

# How many samples of each kind a task shows, when it is the only one; many tasks share `_MOST_SAMPLES`.
_QUOTAS = {"failed": 12, "unparsed": 12, "wrong": 24, "partial": 8, "right": 8, "unscored": 4}
_MOST_SAMPLES = 400
_LONGEST_TEXT = 3000
KINDS = tuple(_QUOTAS)


def report_html(report: Mapping[str, JSON], records: Iterable[Record]) -> str:
    """The page of a report. `records` are read once; few of them are kept."""
    tasks = [{**task, "label": task["task"] + part_words(task), "samples": []} for task in report["tasks"]]
    is_covered = covered(coverage_of(report))
    shown = {task["task"]: task["samples"] for task in tasks}
    headlines = {task["task"]: task["metrics"][0]["metric"] if task["metrics"] else "" for task in tasks}
    calibrations = {name: Calibration() for name in shown}

    def seen() -> Iterator[Record]:
        for record in filter(is_covered, records):
            if record.task in calibrations:
                calibrations[record.task].add(record)
            yield record

    for kind, record in pick(seen(), headlines):
        shown[record.task].append(_sample(kind, record))
    for samples in shown.values():
        samples.sort(key=lambda sample: KINDS.index(sample["kind"]))
    for task in tasks:
        task["calibration"] = calibrations[task["task"]].bins()
    doubts = [doubt for doubt in DOUBTS if any(task["counts"].get(doubt) for task in tasks)]
    return _template().render(
        report=report,
        rows=list(rows(report)),
        gaps=[*settings(report), *gaps(report)],
        charts=[(title, bars) for title, bars in _charts(report) if bars is not None and len(bars.rows) > 1],
        tasks=tasks,
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
    if record.error is not None:
        return "failed"
    if record.unparsed:
        return "unparsed"
    # A view of a row has the task's own scores; the headline is of all views together.
    score = record.scores.get(headline, next(iter(record.scores.values()), None))
    if not isinstance(score, int | float):
        return "unscored" if score is None else "partial"
    worst, best = record.judge.get("scale", (0, 1))
    return "wrong" if score == worst else "right" if score == best else "partial"


@dataclass(frozen=True, slots=True)
class _Bars:
    """The first metric of each group or subset as bars. Positions are percents of the width."""

    name: str
    metric: str
    top: float
    rows: Sequence[Mapping[str, JSON]]

    @classmethod
    def of(cls, name: str, parts: Sequence[Mapping[str, JSON]]) -> _Bars | None:
        """None where there is nothing that a bar could show."""
        parts = [part for part in parts if part["metrics"] and part["metrics"][0]["value"] is not None]
        metrics = [part["metrics"][0] for part in parts]
        ends = [bound for metric in metrics for bound in (metric["value"], *(metric["interval"] or ()))]
        if not ends or any(isinstance(end, str) or end < -0.5 for end in ends):
            return None
        top = 1.0 if max(ends) <= 1.2 else max(ends)
        rows = [_bar(part, metric, top) for part, metric in zip(parts, metrics, strict=True)]
        return cls(name, metrics[0]["metric"], top, rows)


def _charts(report: Mapping[str, JSON]) -> Iterator[tuple[str, _Bars | None]]:
    """(title, bars): the tasks of each group of tasks, then the groups, subsets and categories of each task."""
    for group in report.get("groups", ()):
        for first in group["metrics"][:1]:
            metric = ScoreName.parse(first["metric"]).metric
            yield group["title"], _Bars.of("tasks", [_part(task, metric) for task in _tasks_of(group, report)])
    for task in report["tasks"]:
        # Where each group is a single subset, one chart says it all.
        alike = len(task["groups"]) == len(task["subsets"])
        for name in ("subsets",) if alike else ("groups", "subsets"):
            yield task["task"], _Bars.of(name, task[name])
        categories = task.get("categories", ())
        for breakdown in dict.fromkeys(part["breakdown"] for part in categories):
            parts = [part for part in categories if part["breakdown"] == breakdown]
            yield task["task"], _Bars.of(breakdown, parts)


def _tasks_of(group: Mapping[str, JSON], report: Mapping[str, JSON]) -> list[Mapping[str, JSON]]:
    return [task for task in report["tasks"] if task["task"] in group["tasks"]]


def _part(task: Mapping[str, JSON], metric: str) -> dict[str, JSON]:
    """A task as a part of a group, with the metric that the group is known by."""
    metrics = [found for found in task["metrics"] if ScoreName.parse(found["metric"]).metric == metric]
    return {"name": task["task"], "title": task["task"], "metrics": metrics}


def _bar(part: Mapping[str, JSON], metric: Mapping[str, JSON], top: float) -> dict[str, JSON]:
    def place(value: float) -> float:
        return round(100 * min(max(value / top, 0.0), 1.0), 2)

    low, high = metric["interval"] or (metric["value"], metric["value"])
    return {
        "label": part["title"] or part["name"],
        "name": part["name"],
        "value": number(metric["value"]),
        "interval": interval(metric),
        "n": metric["n"],
        "width": place(metric["value"]),
        "low": place(low),
        "high": place(high),
        "known": metric["interval"] is not None,
    }


def _sample(kind: str, record: Record) -> dict[str, Any]:
    return {
        "kind": kind,
        "subset": record.subset,
        "id": f"{record.id} ({record.view.index + 1} of {record.view.count})" if record.view else record.id,
        "turns": list(_turns_of(record)),
        "target": _target(record),
        "choices": list(_choices(record)),
        "replies": [] if record.logprobs and record.choices else list(_replies(record)),
        "answers": {
            name: ["not readable" if a is None else a for a in found] for name, found in record.answers.items()
        },
        "scores": {name: _score(value) for name, value in record.scores.items()},
        "error": record.error,
        "truncated": max((response.truncated for response in record.responses), default=0),
        "doc": clip(json.dumps(jsonable(record.doc), ensure_ascii=False, indent=1)),
    }


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


def _target(record: Record) -> str:
    if record.target is None:
        return "kept secret by the benchmark"
    values = record.target if isinstance(record.target, tuple) else (record.target,)
    named = [record.choices[v] if isinstance(v, int) and v < len(record.choices) else str(v) for v in values]
    return clip(" | ".join(named))


def _choices(record: Record) -> Iterator[dict[str, Any]]:
    gold = record.target if isinstance(record.target, tuple) else (record.target,)
    values = record.logprobs
    best = max(values, default=None)
    for index, choice in enumerate(record.choices):
        value = values[index] if index < len(values) else None
        likeliest = value is not None and value == best
        yield {"text": clip(choice), "logprob": number(value), "gold": index in gold, "chosen": likeliest}


def _replies(record: Record) -> Iterator[dict[str, Any]]:
    for response in record.responses:
        text = response.text if response.text is not None else ", ".join(map(number, response.logprobs))
        yield {
            "text": clip(text),
            "reasoning": clip(response.reasoning or ""),
            "error": response.error,
            "cut": response.finish_reason == "length",
        }


def _score(value: float | tuple[float, ...] | None) -> str:
    return ", ".join(map(number, value)) if isinstance(value, tuple) else number(value)


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, interval=interval)
    return environment.from_string(files("harness.record").joinpath("report.html.j2").read_text(encoding="utf-8"))
