"""Results and samples as frames of pandas or polars, or as tables of Arrow, for notebooks and other tools.

harness.frames(["runs/A", "runs/B"])          # one row a metric
harness.samples_frame(harness.load_run("runs/A").records("ceval"), "polars")   # one row a sample
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from harness.errors import MachineError, UsageError, suggest
from harness.record.coverage import part_words
from harness.record.report_fields import Report, ResultFields
from harness.record.run import RunFolder
from harness.record.score_fields import MetricFields
from harness.record.shown import finite, interval_of, short_title
from harness.types import Record

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]
    import pyarrow  # type: ignore[import-untyped]


Library = Literal["pandas", "polars", "arrow"]


@overload
def frames(runs: str | Path | Sequence[str | Path]) -> pandas.DataFrame: ...
@overload
def frames(runs: str | Path | Sequence[str | Path], library: Library) -> Any: ...
def frames(runs: str | Path | Sequence[str | Path], library: Library = "pandas") -> Any:
    """The values of one run or several, one row a metric of a task, of a group of its subsets, a subset or a category.

    Columns: run, model, task, level, part, metric, average, value, stderr, low, high, n, failed, unparsed. Raises
    UsageError where a folder is no run, or has no report yet. library: pandas, polars or arrow.
    """
    rows: list[Mapping[str, Any]] = []
    for path in [runs] if isinstance(runs, str | Path) else runs:
        folder = RunFolder.read(Path(path))
        if folder.report is None:
            raise UsageError(f"{path}: has no report yet: the run has not ended; its command goes on with it")
        rows += value_rows(folder.path.name, folder.report)
    _require(library)
    if library == "pandas":
        import pandas

        return pandas.DataFrame(rows)
    import pyarrow

    return _as_library(pyarrow.Table.from_pylist([dict(row) for row in rows]), library)


@overload
def samples_frame(records: Iterable[Record]) -> pandas.DataFrame: ...
@overload
def samples_frame(records: Iterable[Record], library: Library) -> Any: ...
def samples_frame(records: Iterable[Record], library: Library = "pandas") -> Any:
    """Records as a frame, one row each: the prompt, the options, what is right, what was answered, read and scored.

    Scores stand in columns `score.NAME`, columns of the row in `doc.NAME` where they are texts or numbers. library:
    pandas, polars or arrow; the latter two have one type a column, and golds of several kinds as texts.
    """
    _require(library)
    if library == "pandas":
        import pandas

        return pandas.DataFrame([sample_row(record) for record in records])
    from harness.run.parquet import samples_table

    return _as_library(samples_table(records), library)


def _require(library: str) -> None:
    known = get_args(Library)
    if library not in known:
        raise UsageError(f"library: there is none '{library}'{suggest(library, known)} (there are: {', '.join(known)})")


def _as_library(table: pyarrow.Table, library: Library) -> Any:
    if library == "arrow":
        return table
    try:
        import polars
    except ModuleNotFoundError:
        raise MachineError("frames of polars need the package polars: pip install 'harness-eval[polars]'") from None
    return polars.from_arrow(table)


def value_rows(run: str, report: Report) -> Iterator[Mapping[str, Any]]:
    """The rows of `frames`, of one run."""
    own = {"run": run, "model": short_title(report)}
    for task in report["tasks"]:
        whole = {**own, "task": task["task"] + part_words(task.get("covers"))}
        yield from _rows({**whole, "level": "task", "part": ""}, task)
        for level, parts in (("group", task["groups"]), ("subset", task["subsets"])):
            for part in parts:
                yield from _rows({**whole, "level": level, "part": part["name"]}, part)
        for category in task.get("categories", ()):
            yield from _rows({**whole, "level": category["breakdown"], "part": category["name"]}, category)


def _rows(own: Mapping[str, Any], found: ResultFields) -> Iterator[Mapping[str, Any]]:
    averages: Mapping[Any, Sequence[MetricFields]] = found.get("by_average") or {found.get("average"): found["metrics"]}
    for average, metrics in averages.items():
        for metric in metrics:
            low, high = interval_of(metric) or (None, None)
            yield {
                **own,
                "metric": metric["metric"],
                "average": average,
                "value": None if metric["value"] is None else float(metric["value"]),
                "stderr": finite(metric["stderr"]),
                "low": low,
                "high": high,
                "n": metric["n"],
                "failed": found["counts"].get("failed", 0),
                "unparsed": found["counts"].get("unparsed", 0),
            }


def sample_row(record: Record) -> Mapping[str, Any]:
    """The row of `samples_frame`, of one record."""
    texts = [response.text for response in record.responses if response.text is not None]
    read = next(iter(record.answers.values()), ())
    golds = record.target if isinstance(record.target, tuple) else (record.target,)
    plain = {f"doc.{name}": value for name, value in record.doc.items() if isinstance(value, str | int | float)}
    return {
        "task": record.task,
        "subset": record.subset,
        "id": record.id,
        "view": record.view.index if record.view else 0,
        "prompt": record.prompt.text,
        "choices": list(record.choices),
        "target": list(golds) if len(golds) != 1 else golds[0],
        "text": texts[0] if texts else None,
        "texts": texts,
        "logprobs": list(record.logprobs),
        "answer": read[0] if read else None,
        "error": record.error,
        "unparsed": record.unparsed,
        "seconds": record.seconds,
        **{
            f"score.{name}": list(value) if isinstance(value, tuple) else value for name, value in record.scores.items()
        },
        **plain,
    }
