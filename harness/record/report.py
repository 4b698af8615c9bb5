"""What a run found, as data (`report.json`) and as one table.

Values stand as their metrics give them (an accuracy is 0.6132, not 61.32), with four decimals, as in lm-eval and so
that a perplexity and an accuracy need no different reading.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Literal, cast

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.quick import dataclass
from harness.record.coverage import NAMED, and_more, bad_row_lines, part_words, setting_words
from harness.record.file_types import FORMAT, Number
from harness.record.manifest import seconds_of
from harness.record.manifest_fields import Manifest
from harness.record.report_fields import CategoryFields, GroupReport, PartFields, Report, ResultFields, TaskReport
from harness.record.score_fields import MetricFields
from harness.record.seen_rows import is_found, overlap_sentences, probe_sentence
from harness.record.usage import Usage
from harness.terminal import visible
from harness.types import (
    JSON,
    Counts,
    GroupResult,
    GroupScore,
    MetricResult,
    Result,
    SampleKey,
    ScoreName,
)
from harness.words import Translate, english

_SHOWN_SUBSETS = 12
EXTREMES = 3
"""How many of the best, and of the worst, categories of a breakdown a table shows."""
DOUBTS = ("failed", "refused", "unparsed", "truncated", "empty", "cut")
_OTHER_FIXES: Sequence[tuple[Literal["as_before", "unknown"], str]] = (
    ("as_before", "{n} stood so already"),
    ("unknown", "{n} of samples that the run does not have"),
)
_VERDICTS = {
    "better": "better",
    "worse": "worse",
    "equal": "neither better nor worse",
    "open": "not known to be better",
}
_FROM_MANIFEST = ("command", "model", "plugins", "versions", "environment", "started", "spec", "data", "corrected")
_FROM_TASK = ("title", "date", "version", "num_fewshot", "split")


@dataclass(frozen=True, slots=True)
class Missing:
    """Samples that were asked and cannot be read back: how many, and the names of the first of them, where known."""

    n: int
    first: tuple[str, ...] = ()


def missing_of(asked: Iterable[SampleKey], on_disk: Collection[SampleKey]) -> Missing | None:
    """What of the samples that were asked is not on disk, if anything."""
    lost = [key for key in asked if key not in on_disk]
    named = [(key.subset, str(key.id), f"view {key.view}" if key.view else "") for key in lost[:NAMED]]
    return Missing(len(lost), tuple(" ".join(filter(None, parts)) for parts in named)) if lost else None


def build_report(
    manifest: Manifest,
    results: Sequence[Result],
    usage: Mapping[str, Usage] | None = None,
    groups: Sequence[GroupResult] = (),
    missing: Mapping[str, Missing] | None = None,
) -> Report:
    """What `report.json` holds.

    `tasks` is a list in the order of the results; a task holds `counts`, `metrics` (each with value, n, stderr,
    interval, and where there are such: the `scorer` behind it, `truncated`, how many samples it cut a text of, the
    `error` in the place of a value, and the `setting` that a table shows beside its name), the same `by_average` (micro
    and macro) where it has subsets, its `groups` and `subsets`, and `categories`, the values of its `breakdown`, where
    it has one. `groups` beside them are groups of tasks: `members` (tasks and groups), `tasks` (all that they come to),
    and `metrics`, each with the `average` that the group asks for, the `filter` pipeline, and the tasks where it is
    `missing`. `missing` of a task are samples that cannot be read back; see `losses`. `incidents` is what was survived
    on the way, in whichever session, each with a line `text`. usage: what each task cost, see `watch`.
    """
    by_task: dict[str, list[Result]] = {}
    for result in results:
        by_task.setdefault(result.task, []).append(result)
    tasks = []
    for name, of_task in by_task.items():
        task = _task_report(name, of_task, manifest.get("tasks", {}).get(name, {}))
        task["usage"] = (usage or {}).get(name, Usage()).to_json()
        if missing and name in missing:
            task["missing"] = {"n": missing[name].n, "first": list(missing[name].first)}
        tasks.append(task)
    told: Mapping[str, object] = manifest
    return {
        "format": FORMAT,
        "kind": manifest.get("kind", "run"),
        **cast(Report, {name: told[name] for name in _FROM_MANIFEST if name in told}),
        "seconds": seconds_of(manifest),
        "incidents": [each for session in manifest.get("sessions", ()) for each in session.get("incidents", ())],
        "tasks": tasks,
        "groups": [_group_report(group) for group in groups],
    }


def _task_report(name: str, results: Sequence[Result], known: Mapping[str, object]) -> TaskReport:
    """A task with its parts. known: what the manifest says of it."""
    whole = [result for result in results if result.level == "task"]
    groups, subsets, categories = (
        _parts([result for result in results if result.level == level]) for level in ("group", "subset", "category")
    )
    task: TaskReport = {
        "task": name,
        **cast(TaskReport, {field: known[field] for field in _FROM_TASK if field in known}),
        **(_numbers(whole) if whole else ResultFields(counts=asdict(Counts()), metrics=[])),
        "groups": [cast(PartFields, {"name": of, "title": title, **numbers}) for title, of, numbers in groups],
        "subsets": [cast(PartFields, {"name": of, "title": title, **numbers}) for title, of, numbers in subsets],
    }
    if named := [
        cast(CategoryFields, {"breakdown": breakdown, "name": of, "title": of, **numbers})
        for breakdown, of, numbers in categories
    ]:
        task["categories"] = named
    members = {result.name: list(result.members) for result in results if result.members}
    for part in task["groups"]:
        if part["name"] in members:
            part["members"] = members[part["name"]]
    return task


def _parts(results: Sequence[Result]) -> list[tuple[str, str, ResultFields]]:
    """(title, name, numbers) of each part of a task; the title of a category is its breakdown."""
    by_name: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        by_name.setdefault((result.title, result.name), []).append(result)
    return [(title, name, _numbers(of_part)) for (title, name), of_part in by_name.items()]


def _numbers(results: Sequence[Result]) -> ResultFields:
    """The results of one name: the first is its own average, and each stands under its average."""
    metrics = [[_metric(metric) for metric in result.metrics] for result in results]
    numbers = ResultFields(average=results[0].average, counts=asdict(results[0].counts), metrics=metrics[0])
    by_average = {str(result.average): own for result, own in zip(results, metrics, strict=True) if result.average}
    if by_average:
        numbers["by_average"] = by_average
    return numbers


def _group_report(result: GroupResult) -> GroupReport:
    group, members = result.members.group, result.members
    by_average: dict[str, list[MetricFields]] = {}
    for asked, other in zip(result.scores, result.others, strict=True):
        for score in sorted((asked, other), key=lambda score: score.average != "micro"):
            by_average.setdefault(score.average, []).append(_group_metric(score))
    return {
        "group": group.name,
        "title": group.title or group.name,
        "version": group.version,
        "members": list(members.children),
        "tasks": [name for name, _ in members.tasks],
        "counts": asdict(result.counts),
        "metrics": [_group_metric(score) for score in result.scores],
        "by_average": by_average,
    }


def _group_metric(score: GroupScore) -> MetricFields:
    of_group = {"average": score.average, "filter": score.pipeline, "missing": list(score.missing)}
    return cast(MetricFields, {**_metric(score.result), **of_group})


def _metric(metric: MetricResult) -> MetricFields:
    fields: dict[str, JSON] = asdict(metric)
    fields["interval"] = list(metric.interval) if metric.interval else None
    fields["bounds"] = list(metric.bounds) if metric.bounds else None
    for name in ("bounds", "scorer", "truncated", "reasoned", "unknown", "error", "setting"):
        if not fields[name]:
            del fields[name]
    return cast(MetricFields, fields)


def render(report: Report, width: int = 80, *, subsets: bool = False, t: Translate = english) -> RenderableType:
    """The result table, for a console of `width` columns: a task's rows, then its groups, then (if asked) its subsets.

    A group of tasks stands above its tasks, which are indented. What does not fit is left out from the right of this
    list: the interval, the columns of doubt (which then stand below, in words). A single sample of doubt is enough for
    its column.
    """
    shown = list(rows(report, subsets=subsets, t=t))
    doubts = [name for name in DOUBTS if any(row.counts.get(name) for row in shown)]
    columns = ["metric", "value", "stderr", "95% interval", "n", *doubts]
    words: list[Text] = []
    if _width(shown, columns, t) > width:
        columns.remove("95% interval")
    if _width(shown, columns, t) > width and doubts:
        columns = columns[: -len(doubts)]
        for task in report["tasks"]:
            if counts := [f"{task['counts'][name]} {t(name)}" for name in doubts if task["counts"].get(name)]:
                words.append(Text(visible(f"{task['task']}: {', '.join(counts)}"), style="yellow"))
    words += [Text(visible(line), style="yellow") for line in (*partial(report, t), *corrections(report, t))]
    words += [Text(visible(line), style="dim") for line in settings(report, t)]
    words += [Text(visible(line), style="dim") for line in of_parts(report, t)]
    seen = contamination_lines(report, t, found=True)
    doubtful = (*bad_row_lines(report, t), *losses(report, t), *gaps(report, t), *seen)
    words += [Text(visible(line), style="yellow") for line in doubtful]
    words += [Text(visible(str(incident["text"])), style="yellow") for incident in report.get("incidents", ())]
    words += [Text(visible(text), style="dim") for text in scorers(report, t)]
    words += [Text(visible(text), style="yellow") for text in doubts_about_metrics(report, t)]
    return Group(_table(shown, columns, t), *words)


def ordered(report: Report) -> Iterator[tuple[int, TaskReport | GroupReport]]:
    """(depth, entry) of all tasks and groups of tasks, each task below the first group that holds it.

    A group without values takes no row.
    """
    groups = {group["group"]: group for group in report.get("groups", ())}
    tasks = {task["task"]: task for task in report["tasks"]}
    inner = {name for group in groups.values() for name in group["members"]}
    shown: set[str] = set()

    def below(name: str, depth: int) -> Iterator[tuple[int, TaskReport | GroupReport]]:
        if name in shown:
            return
        shown.add(name)
        if name not in groups:
            yield depth, tasks[name]
            return
        if groups[name]["metrics"]:
            yield depth, groups[name]
        for member in groups[name]["members"]:
            yield from below(member, depth + bool(groups[name]["metrics"]))

    for task in tasks:
        for name, group in groups.items():
            if name not in inner and task in group["tasks"]:
                yield from below(name, 0)
        yield from below(task, 0)


def settings(report: Report, t: Translate = english) -> Iterator[str]:
    """How the tasks were asked: shots, split and limit, a line for all that were asked alike."""
    alike: dict[str, list[str]] = {}
    for task in report["tasks"]:
        if "covers" in task:
            alike.setdefault(setting_words(task, t), []).append(_name_of(task, t))
    for words, names in alike.items():
        yield words if len(alike) == 1 else f"{and_more(names, t)}: {words}"


def remarks_on_asking(report: Report, t: Translate = english) -> Iterator[str]:
    """How the tasks were asked, and what rows drawn at random say of all."""
    yield from settings(report, t)
    yield from drawn_lines(report, t)


def warnings_of(report: Report, t: Translate = english) -> Iterator[str]:
    """What the reader of the numbers has to know of the samples behind them."""
    yield from partial(report, t)
    yield from corrections(report, t)
    yield from bad_row_lines(report, t)
    yield from losses(report, t)
    yield from gaps(report, t)
    yield from contamination_lines(report, t, found=True)


def contamination_lines(report: Report, t: Translate = english, *, found: bool) -> Iterator[str]:
    """Of each task, what says that the model has seen its rows; or else what was looked for and not found."""
    for task in report["tasks"]:
        known = task.get("contamination", {})
        for probe in known.get("probes", ()):
            if is_found(probe) == found:
                yield probe_sentence(_name_of(task, t), probe, t)
        overlap = known.get("corpus")
        if overlap is not None and bool(overlap["found"] or overlap["alike"]) == found:
            yield from overlap_sentences(_name_of(task, t), overlap, t)


def partial(report: Report, t: Translate = english) -> Iterator[str]:
    """That the report is of one shard of a run, where it is."""
    if shard := report.get("shard"):
        yield t("partial: shard {n} of {of}; `harness merge` makes one run of all", n=shard["part"], of=shard["of"])


def drawn_lines(report: Report, t: Translate = english) -> Iterator[str]:
    """Of each task whose rows were drawn: what they say of all of them, and what was saved."""
    for task in report["tasks"]:
        if (drawn := task.get("drawn")) is None:
            continue
        low, high = map(number, drawn["interval"])
        if drawn["rows"] < drawn["of_rows"]:
            yield t(
                "{task}: over all {of} rows {metric} is between {low} and {high} (95 %, however often it was looked "
                "at); {n} rows drawn in random order were asked, {saved} % saved",
                task=_name_of(task, t),
                of=f"{drawn['of_rows']:,}",
                metric=task["metrics"][0]["metric"],
                low=low,
                high=high,
                n=f"{drawn['rows']:,}",
                saved=f"{100 * (1 - drawn['rows'] / drawn['of_rows']):.0f}",
            )
        else:
            yield t("{task}: all {n} rows had to be asked", task=_name_of(task, t), n=f"{drawn['of_rows']:,}")
        if against := drawn.get("against"):
            low, high = map(number, against["difference"])
            yield t(
                "{task}: {verdict} than {run}: over all rows the difference is between {low} and {high}",
                task=_name_of(task, t),
                verdict=t(_VERDICTS[against["verdict"]]),
                run=against["run"],
                low=low,
                high=high,
            )


def of_parts(report: Report, t: Translate = english) -> Iterator[str]:
    """What rows that were drawn or chosen say of all, what dates say, and what the model was not found to have seen."""
    yield from drawn_lines(report, t)
    yield from lite_lines(report, t)
    yield from dated_lines(report, t)
    yield from contamination_lines(report, t, found=False)


def dated_lines(report: Report, t: Translate = english) -> Iterator[str]:
    """Of each task with dated rows: its score before and after the model's cut-off."""
    for task in report["tasks"]:
        if (dated := task.get("dated")) is None:
            continue
        before, after, interval = dated["before"], dated["after"], dated["interval"]
        name, metric = _name_of(task, t), task["metrics"][0]["metric"]
        if dated["difference"] is None:
            yield t(
                "{task}: {n} scored rows are dated up to the cut-off {date} and {m} later: nothing to compare",
                task=name,
                n=f"{before['n']:,}",
                m=f"{after['n']:,}",
                date=dated["cutoff"],
            )
            continue
        between = t("between {low} and {high}", low=number(interval[0]), high=number(interval[1])) if interval else "?"
        yield t(
            "{task}: {metric} {value} of {m} rows later than the cut-off {date}, {earlier} of {n} rows up to it: a "
            "difference of {difference}, {between} (95 %)",
            task=name,
            metric=metric,
            value=number(after["value"]),
            m=f"{after['n']:,}",
            date=dated["cutoff"],
            earlier=number(before["value"]),
            n=f"{before['n']:,}",
            difference=f"{dated['difference']:+.4f}",
            between=between,
        )


def lite_lines(report: Report, t: Translate = english) -> Iterator[str]:
    """Of each task of which a lite set was asked: what the whole one would score."""
    for task in report["tasks"]:
        if (lite := task.get("lite")) is None:
            continue
        interval = lite["interval"]
        between = t("between {low} and {high}", low=number(interval[0]), high=number(interval[1])) if interval else "?"
        unchecked = "as if its rows were drawn at random: its error was not measured on other models"
        yield t(
            "{task}: {metric} of all {of} rows of {whole} is estimated as {value} from {n} weighted rows, {between} "
            "(95 %, {how})",
            task=_name_of(task, t),
            metric=lite["metric"],
            of=f"{lite['of_rows']:,}",
            whole=lite["task"],
            value=number(lite["value"]),
            n=f"{lite['rows']:,}",
            between=between,
            how=t("by its errors on {n} other models", n=lite["models"]) if lite["models"] else t(unchecked),
        )


def corrections(report: Report, t: Translate = english) -> Iterator[str]:
    """Of a run with corrected golds: how many changed, and what each task had before them."""
    told = report.get("corrected")
    if told is None:
        return
    others = [t(words, n=f"{told[name]:,}") for name, words in _OTHER_FIXES if told[name]]
    file = told["file"] + (f" ({'; '.join(others)})" if others else "")
    golds = "1 gold" if told["changed"] == 1 else "{n} golds"
    words = f"{golds} corrected by {{file}}; the run as it was: {{run}}"
    yield t(words, n=f"{told['changed']:,}", file=file, run=told["of"])
    now = {task["task"]: {metric["metric"]: metric for metric in task["metrics"]} for task in report["tasks"]}
    for task, metrics in told["before"].items():
        for before in metrics:
            metric = now.get(task, {}).get(before["metric"])
            if metric is not None and (metric["value"], metric["n"]) != (before["value"], before["n"]):
                change = f"{number(before['value'])} -> {number(metric['value'])}"
                yield f"{task}: {before['metric']} {change}" + (
                    "" if metric["n"] == before["n"] else f" (n {before['n']:,} -> {metric['n']:,})"
                )


def gaps(report: Report, t: Translate = english) -> Iterator[str]:
    """One line for each group of which not every task has every metric, for the reader of a mean over the others."""
    for group in report.get("groups", ()):
        lacking: dict[tuple[str, ...], list[str]] = {}
        for metric in group["metrics"]:
            if metric["missing"]:
                lacking.setdefault(tuple(metric["missing"]), []).append(metric["metric"])
        for missing, metrics in lacking.items():
            yield t(
                "{group}: {metrics} has no value in {where}; its mean is over the other tasks",
                group=group["title"],
                metrics=", ".join(metrics),
                where=and_more(missing, t),
            )


def losses(report: Report, t: Translate = english) -> Iterator[str]:
    """One line for each task of which samples were asked that cannot be read back."""
    for task in report["tasks"]:
        if lost := task.get("missing"):
            n = lost["n"]
            yield t(
                "{task}: {n} of {of} samples cannot be read back{which} and are in no number; the command of the run "
                "asks them again",
                task=task["task"],
                n=n,
                of=n + task["counts"]["n"],
                which=f" ({and_more(lost['first'], t, n)})" if lost["first"] else "",
            )


def render_together(reports: Mapping[str, Report], t: Translate = english) -> RenderableType:
    """One table of several runs, a metric of a task at a time: what each run got, under its name."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(t("task, metric, model"), overflow="fold")
    for name in ("value", "stderr", "n"):
        table.add_column(t(name), justify="right", no_wrap=True, style=_style(name))
    lines: dict[str, dict[str, MetricFields]] = {}
    for name, report in reports.items():
        for _, entry in ordered(report):
            for metric in entry["metrics"]:
                title = f"{_name_of(entry, t)}, {_metric_label(metric, metric.get('average', entry.get('average')), t)}"
                lines.setdefault(title, {})[name] = metric
    for title, by_run in lines.items():
        table.add_row(Text(visible(title)), style="dim")
        for name, metric in by_run.items():
            cells = (f"  {name}", number(metric["value"]), number(metric["stderr"]), str(metric["n"]))
            table.add_row(*(Text(visible(cell)) for cell in cells))
    return table


def scorers(report: Report, t: Translate = english) -> Iterator[str]:
    """One line for each model (or other people's code) that scored answers: a task, its metrics, and what it was."""
    for task in report["tasks"]:
        by_scorer: dict[str, list[str]] = {}
        for metric in task["metrics"]:
            if scorer := metric.get("scorer"):
                words = ", ".join(f"{name} {value}" for name, value in scorer.items() if value is not None)
                by_scorer.setdefault(words, []).append(metric["metric"])
        for words, metrics in by_scorer.items():
            yield t("{task}: {metrics} by {scorer}", task=task["task"], metrics=", ".join(metrics), scorer=words)


def doubts_about_metrics(report: Report, t: Translate = english) -> Iterator[str]:
    """One line for each metric that has no value for its set, scored reasoning, cut texts longer than its window, or
    leaves out groups of samples that lack an answer."""
    for task in report["tasks"]:
        cut: dict[int, list[str]] = {}
        unknown: dict[int, list[str]] = {}
        if most := max((metric.get("reasoned", 0) for metric in task["metrics"]), default=0):
            yield t(
                "{task}: {n} of {of} samples are scored with the reasoning before their answer, as no filter takes "
                "it off: the filter strip_reasoning does, or --model_args think_end_token={mark}",
                task=task["task"], n=most, of=task["counts"]["n"], mark="</think>",
            )  # fmt: skip
        for metric in task["metrics"]:
            if metric.get("truncated"):
                cut.setdefault(metric["truncated"], []).append(metric["metric"])
            if metric.get("unknown"):
                unknown.setdefault(metric["unknown"], []).append(metric["metric"])
            if metric.get("error"):
                told = {"task": task["task"], "metric": metric["metric"], "error": metric["error"]}
                yield t("{task}: {metric} has no value: {error}", **told)
        for count, metrics in cut.items():
            words = "{task}: {n} samples have a text longer than the window of {metrics}, which was cut"
            if count == 1:
                words = "{task}: {n} sample has a text longer than the window of {metrics}, which was cut"
            yield t(words, task=task["task"], n=count, metrics=", ".join(metrics))
        for count, metrics in unknown.items():
            yield t(
                "{task}: {metrics}: {n} left out of the questions, images or dialogues that several answers decide, as "
                "an answer is missing and none is wrong",
                task=task["task"], metrics=", ".join(metrics), n=count,
            )  # fmt: skip


def summary_text(report: Report, width: int = 100) -> str:
    """The result table as plain text, without colour or line ends at odd places."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False).print(render(report, width))
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines()).strip("\n")


def number(value: Number | None) -> str:
    """A value as it is shown everywhere: four decimals, or six digits where it is large; `-` where there is none."""
    if value is None:
        return "-"
    value = float(value)
    if not math.isfinite(value):
        return "inf" if value > 0 else "-inf" if value < 0 else "nan"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.6g}"


def interval(metric: MetricFields) -> str:
    """`0.5861-0.6403`, or `-` where it is not known."""
    bounds = metric["interval"]
    return f"{number(bounds[0])} .. {number(bounds[1])}" if bounds else "-"


@dataclass(frozen=True, slots=True)
class TableRow:
    """A line of the result table. `part`: a part of a task, and not a task or a group of tasks."""

    label: str
    depth: int
    metric: str
    result: MetricFields
    counts: Mapping[str, int]
    part: bool = False

    def cells(self, columns: Sequence[str]) -> list[str]:
        ends, stderr = self.result["interval"], self.result["stderr"]
        # Where all samples score alike, what is 0 is the spread that was seen, not the doubt.
        unknown = stderr == 0 and ends and float(ends[0]) < float(ends[1])
        known = {
            "metric": self.metric,
            "value": number(self.result["value"]),
            "stderr": number(None if unknown else stderr),
            "95% interval": interval(self.result),
            "n": str(self.result["n"]),
        }
        doubts = {name: str(self.counts[name]) if self.counts.get(name) else "" for name in DOUBTS}
        return ["  " * self.depth + self.label, *({**known, **doubts}[name] for name in columns)]


def rows(report: Report, *, subsets: bool = False, t: Translate = english) -> Iterator[TableRow]:
    """The result table: all metrics of each task and group, its other average, then the first metric of its parts."""
    for depth, entry in ordered(report):
        name = _name_of(entry, t)
        for index, (label, metric) in enumerate(_labelled(entry, t)):
            yield TableRow("" if index else name, depth, label, metric, {} if index else entry["counts"])
        if "group" in entry:
            continue
        # Of a task that is not asked as a whole, its subsets say more than groups of which some are left out.
        shown = subsets or (bool(part_words(entry.get("covers"))) and len(entry["subsets"]) <= _SHOWN_SUBSETS)
        groups = [part for part in entry["groups"] if not (shown and part_words(part.get("covers")))]
        for part in [*groups, *(entry["subsets"] if shown else ())]:
            # What a part is called, and the name by which `--tasks TASK/NAME` takes it.
            name, title = part["name"], part["title"] or part["name"]
            called = title if title == name or not name.isascii() else f"{title} ({name})"
            for metric in part["metrics"][:1]:
                label = _metric_label(metric, part.get("average"), t)
                words = called + part_words(part.get("covers"), t)
                yield TableRow(words, depth + 1, label, metric, part["counts"], part=True)
        for category, place in shown_categories(entry.get("categories", ()), every=subsets):
            for metric in category["metrics"][:1]:
                label = _metric_label(metric, None, t)
                words = f"{t(f'{{breakdown}}{place}', breakdown=category['breakdown'])}: {category['name']}"
                yield TableRow(words, depth + 1, label, metric, category["counts"], part=True)


def shown_categories(
    categories: Sequence[CategoryFields], *, every: bool = False
) -> Iterator[tuple[CategoryFields, str]]:
    """The categories of each breakdown that a table has room for: of many, the three best and the three worst, with
    the words that say which."""
    for breakdown in dict.fromkeys(part["breakdown"] for part in categories):
        parts = [part for part in categories if part["breakdown"] == breakdown]
        known = [part for part in parts if part["metrics"] and part["metrics"][0]["value"] is not None]
        if not every and len(known) > 2 * EXTREMES:
            best_first = known[0]["metrics"][0]["higher_is_better"]
            known.sort(key=lambda part: float(part["metrics"][0]["value"] or 0.0), reverse=best_first)
            yield from ((part, ", best") for part in known[:EXTREMES])
            yield from ((part, ", worst") for part in known[-EXTREMES:])
        else:
            yield from ((part, "") for part in parts)


def _name_of(entry: TaskReport | GroupReport, t: Translate = english) -> str:
    return entry["title"] if "group" in entry else entry["task"] + part_words(entry.get("covers"), t)


def _labelled(entry: TaskReport | GroupReport, t: Translate = english) -> Iterator[tuple[str, MetricFields]]:
    named: dict[str, MetricFields] = {}
    for metric in entry["metrics"]:
        # How many rows a modifier left alone is worth a line where there are any.
        if metric["value"] != 0 or ScoreName.parse(metric["metric"]).metric != "kept_order":
            named[_metric_label(metric, metric.get("average", entry.get("average")), t)] = metric
    if "task" in entry or len(entry["tasks"]) != 1:  # a group of one: its averages are one
        for average, metrics in entry.get("by_average", {}).items():
            for metric in metrics[:1]:
                named.setdefault(_metric_label(metric, average, t), metric)
    yield from named.items()


def _metric_label(metric: MetricFields, average: str | None, t: Translate = english) -> str:
    arrow = "" if metric["higher_is_better"] else f" ({t('less is better')})"
    gap = f", {t('not of all tasks')}" if metric.get("missing") else ""
    words = filter(None, (str(metric["metric"]), metric.get("setting"), average and t(average)))
    return f"{', '.join(words)}{gap}{arrow}"


def _table(rows: Sequence[TableRow], columns: Sequence[str], t: Translate) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(t("task"), overflow="fold")
    for name in columns:
        right = name != "metric"
        table.add_column(t(name), justify="right" if right else "left", no_wrap=right, style=_style(name))
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row.cells(columns)), style="dim" if row.part else "")
    return table


def _style(column: str) -> str:
    return "bold" if column == "value" else "yellow" if column in DOUBTS else ""


def _width(rows: Sequence[TableRow], columns: Sequence[str], t: Translate) -> int:
    """Columns of a terminal that the table takes; a Chinese character takes two."""
    cells = [tuple(map(t, ("task", *columns))), *(row.cells(columns) for row in rows)]
    return sum(max(map(cell_len, column)) for column in zip(*cells, strict=True)) + len(columns)
