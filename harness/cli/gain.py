"""`harness gain`: what a model owes to the images, and what it knew without them."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from harness.cli.completion import complete_runs
from harness.cli.console import line, notice, show, table
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.run.gain import MultimodalGain

COLUMNS = ("task", "images", "none", "base", "gain", "leakage", "n")


@click.command("gain")
@click.argument("runs", nargs=-1, required=True, metavar="RUN [RUN]", shell_complete=complete_runs)
@click.option("--base", metavar="RUN", help="The language model that the model was made from, on the text alone.")
@click.option("--json", "as_json", is_flag=True, help="All numbers, as JSON.")
def command(runs: tuple[str, ...], base: str | None, as_json: bool) -> None:
    """What images gain: the score with them less the score without, row by row; and with --base the leakage: the score
    without images less that of the language model, where that is above 0 (MMStar's multi-modal gain and leakage).

    The runs are one of the tasks as they are and one with --modify no_image, or a single one with --modify
    image_probes. The base is a run with --modify no_image.

    \b
    harness gain runs/SEES runs/BLIND --base runs/TEXT
    harness gain runs/PROBED --base runs/TEXT
    """
    if len(runs) > 2:
        raise UsageError("name one run or two: with images, and without; the language model's is --base RUN")
    from harness.run.gain import multimodal_gains

    gains = multimodal_gains(runs[0], runs[1] if len(runs) == 2 else None, base, message=notice)
    if as_json:
        fields = [
            {**asdict(each), "leakage": each.leakage, "leakage_interval": each.leakage_interval} for each in gains
        ]
        line(json.dumps(fields, ensure_ascii=False, default=list))
        return
    show(table(COLUMNS, [_row(each) for each in gains], ["task"]))
    for each in gains:
        _explain(each)


def _row(each: MultimodalGain) -> tuple[str, ...]:
    base = each.leaked.first if each.leaked else None
    values = (each.gain.second, each.gain.first, base)
    shown = ["-" if value is None else f"{value:.4f}" for value in values]
    gain = "-" if each.gain.difference is None else f"{each.gain.difference:+.4f}"
    leakage = "-" if each.leakage is None else f"{each.leakage:.4f}"
    return (each.task, *shown, gain, leakage, str(each.gain.n))


def _explain(each: MultimodalGain) -> None:
    """What the table has no room for."""
    facts = []
    if each.gain.interval is not None:
        facts.append(f"gain, 95% interval {each.gain.interval[0]:+.4f} .. {each.gain.interval[1]:+.4f}")
    if each.leakage_interval is not None:
        facts.append(f"leakage, 95% interval {each.leakage_interval[0]:.4f} .. {each.leakage_interval[1]:.4f}")
    for what, comparison in (("gain", each.gain), ("leakage", each.leaked)):
        for note, count in (comparison.notes if comparison else {}).items():
            facts.append(f"{what}: left out, {note}: {count}")
    line(f"{each.task}: {'; '.join(facts) or 'nothing can be said of so few samples'}")
