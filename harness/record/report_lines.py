"""What a report says in words, below its table and on its page: how tasks were asked, what is in doubt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from harness.record.coverage import and_more, bad_row_lines, setting_words
from harness.record.report_fields import Report
from harness.record.result_rows import name_of, number
from harness.record.seen_rows import is_found, overlap_sentences, probe_sentence
from harness.words import Translate, english

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


def settings(report: Report, t: Translate = english) -> Iterator[str]:
    """How the tasks were asked: shots, split and limit, a line for all that were asked alike."""
    alike: dict[str, list[str]] = {}
    for task in report["tasks"]:
        if "covers" in task:
            alike.setdefault(setting_words(task, t), []).append(name_of(task, t))
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
    yield from unscored(report, t)
    yield from contamination_lines(report, t, found=True)


def of_parts(report: Report, t: Translate = english) -> Iterator[str]:
    """What rows that were drawn or chosen say of all, what dates say, and what the model was not found to have seen."""
    yield from drawn_lines(report, t)
    yield from lite_lines(report, t)
    yield from dated_lines(report, t)
    yield from contamination_lines(report, t, found=False)


def partial(report: Report, t: Translate = english) -> Iterator[str]:
    """That the report is of one shard of a run, where it is."""
    if shard := report.get("shard"):
        yield t("partial: shard {n} of {of}; `harness merge` makes one run of all", n=shard["part"], of=shard["of"])


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
                task=name_of(task, t),
                of=f"{drawn['of_rows']:,}",
                metric=task["metrics"][0]["metric"],
                low=low,
                high=high,
                n=f"{drawn['rows']:,}",
                saved=f"{100 * (1 - drawn['rows'] / drawn['of_rows']):.0f}",
            )
        else:
            yield t("{task}: all {n} rows had to be asked", task=name_of(task, t), n=f"{drawn['of_rows']:,}")
        if against := drawn.get("against"):
            low, high = map(number, against["difference"])
            yield t(
                "{task}: {verdict} than {run}: over all rows the difference is between {low} and {high}",
                task=name_of(task, t),
                verdict=t(_VERDICTS[against["verdict"]]),
                run=against["run"],
                low=low,
                high=high,
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
            task=name_of(task, t),
            metric=lite["metric"],
            of=f"{lite['of_rows']:,}",
            whole=lite["task"],
            value=number(lite["value"]),
            n=f"{lite['rows']:,}",
            between=between,
            how=t("by its errors on {n} other models", n=lite["models"]) if lite["models"] else t(unchecked),
        )


def dated_lines(report: Report, t: Translate = english) -> Iterator[str]:
    """Of each task with dated rows: its score before and after the model's cut-off."""
    for task in report["tasks"]:
        if (dated := task.get("dated")) is None:
            continue
        before, after, interval = dated["before"], dated["after"], dated["interval"]
        name, metric = name_of(task, t), task["metrics"][0]["metric"]
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


def contamination_lines(report: Report, t: Translate = english, *, found: bool) -> Iterator[str]:
    """Of each task, what says that the model has seen its rows; or else what was looked for and not found."""
    for task in report["tasks"]:
        known = task.get("contamination", {})
        for probe in known.get("probes", ()):
            if is_found(probe) == found:
                yield probe_sentence(name_of(task, t), probe, t)
        overlap = known.get("corpus")
        if overlap is not None and bool(overlap["found"] or overlap["alike"]) == found:
            yield from overlap_sentences(name_of(task, t), overlap, t)


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


def unscored(report: Report, t: Translate = english) -> Iterator[str]:
    """One line for each task whose first metric says nothing of some samples that were answered."""
    for task in report["tasks"]:
        metric, counts = next(iter(task["metrics"]), None), task["counts"]
        answered = counts["n"] - counts["failed"]
        # Another n is that of views of a row, of texts that are scored together, or of another kind of mean.
        is_of_samples = task.get("covers", {}).get("rows") == counts["n"]
        if metric and metric["aggregation"] == "mean" and is_of_samples and metric["n"] < answered:
            yield t(
                "{task}: {n} of {of} answered samples have no {metric}: their gold is hidden, or it is not about them",
                task=task["task"], n=answered - metric["n"], of=answered, metric=metric["metric"],
            )  # fmt: skip


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
