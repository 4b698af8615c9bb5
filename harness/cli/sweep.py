"""The table of a sweep, and its chart: what each value of a setting scores, and how many tokens it takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import line, notice_path, show_in_parts
from harness.words import Translate, locale_language, translator

if TYPE_CHECKING:
    from harness.run.result import RunResult
    from harness.run.sweep import DialEffect, SweepPoint

_CHANCE = 0.05
_FEW = 30


def print_sweep(name: str, results: Mapping[str, RunResult], output: Path) -> None:
    """Print one row for each task and value, and write a chart of score against tokens, where tokens are known."""
    from harness.record.result_rows import number
    from harness.run.sweep import DIALS, dial_effects, sweep_points

    t = translator(locale_language(None))
    columns = (
        t("task, metric"), t("setting"), t("value"), t("stderr"), "n", t("tokens an answer"), t("of reasoning"),
        t("cut"),
    )  # fmt: skip
    points = sorted(
        sweep_points({label: result.report for label, result in results.items()}), key=lambda point: point.task
    )
    rows = []
    for point in points:
        tokens, reasoning = ("-" if each is None else f"{each:,.1f}" for each in (point.tokens, point.reasoning))
        first = (f"{point.task}, {point.metric}", point.label, number(point.value), number(point.stderr), str(point.n))
        rows.append([*first, tokens, reasoning, str(point.cut or "")])
    line()
    show_in_parts(columns, rows, columns[:2], kept=2)
    for effect in dial_effects(results) if name in DIALS else ():
        for text in _doubts(name, effect, t):
            line(text)
    _write_charts(name, points, output, t)


def _doubts(name: str, effect: DialEffect, t: Translate) -> Iterator[str]:
    """Why a setting may have done nothing, in words."""
    if not effect.reasoned:
        yield t("{task}: no answer shows or counts any reasoning, whatever {name} says", task=effect.task, name=name)
    if effect.p is None:
        yield t("{task}: nobody counts the tokens of the same questions with each {name}", task=effect.task, name=name)
    elif effect.p > _CHANCE:
        what = t("tokens of reasoning") if effect.of_reasoning else t("tokens of the answers")
        questions = t("1 question") if effect.questions == 1 else t("{n} questions", n=effect.questions)
        told = t(
            "{task}: {what} do not differ by {name} beyond chance (p = {p:.2f}, permutation test on {questions}): the "
            "model or its server may ignore it",
            task=effect.task, what=what, name=name, p=effect.p, questions=questions,
        )  # fmt: skip
        yield told + (t(", or these are too few to tell") if effect.questions < _FEW else "")


def _write_charts(name: str, points: Sequence[SweepPoint], output: Path, t: Translate) -> None:
    if find_spec("matplotlib") is None:
        return
    from harness.view.charts import scatter, svg

    for task in dict.fromkeys(point.task for point in points):
        drawn = [
            (point.label, point.tokens, point.value)
            for point in points
            if point.task == task and point.tokens is not None and point.value is not None
        ]
        if len(drawn) > 1:
            path = output / f"sweep_{re.sub(r'[^A-Za-z0-9_-]+', '_', f'{name}_{task}')}.svg"
            path.write_bytes(svg(scatter(drawn, t("tokens an answer"), task), ground="white"))
            notice_path(t("Chart"), path)
