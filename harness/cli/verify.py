"""`harness verify`: is a served model the model that it claims to be?"""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from harness.cli.completion import complete_runs
from harness.cli.console import line, notice, show_in_parts
from harness.cli.options import finite
from harness.errors import ExitCode
from harness.words import english, locale_language, translator


@click.command("verify")
@click.option(
    "--reference", required=True, metavar="RUN", shell_complete=complete_runs, help="A run of the model itself."
)
@click.option("--served", required=True, metavar="RUN", shell_complete=complete_runs, help="The run of the server.")
@click.option(
    "--margin",
    type=click.FloatRange(min=0, max=1),
    callback=finite,
    default=0.05,
    show_default=True,
    metavar="X",
    help="How far a mean may be from that of the same model.",
)
@click.option("--json", "as_json", is_flag=True, help="All numbers, as JSON.")
def command(reference: str, served: str, margin: float, as_json: bool) -> int:
    """Compare the answers of two runs to the same prompts, and say whether one model can have given both.

    \b
    harness verify --reference runs/local --served runs/provider

    Choices, their probabilities, scores, lengths, how often functions are called and whether the calls fit their JSON
    Schema, and whether JSON can be read must lie within the margin, with their whole interval: then the verdict is
    `same`. Where one lies beyond, it is `differs`, and the exit code is 1; else it is `unclear`: answers that are all
    alike show so from 72 prompts on, with a margin of 0.05. Texts that are equal, and calls at the same
    prompts, are told and decide nothing: two servers of one model part at ties of rounding.
    """  # fmt: skip
    from harness.run.verify import verify_runs

    t = english if as_json else translator(locale_language(None))
    found = verify_runs(reference, served, margin, t, notice)
    if as_json:
        agreements = [{**asdict(each), "verdict": each.verdict} for each in found.agreements]
        told = {"verdict": found.verdict, "pairs": found.pairs, "left_out": found.left_out, "agreements": agreements}
        line(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        rows = []
        for each in found.agreements:
            ends = f"{each.interval[0]:.4f} .. {each.interval[1]:.4f}" if each.interval else "-"
            verdict = t(each.verdict) if each.counts else ""
            sides = ("-" if side is None else f"{side:.4f}" for side in (each.reference, each.served))
            rows.append((each.name, *sides, f"{each.value:.4f}", ends, f"{each.expected:g}", str(each.n), verdict))
        columns = ("", t("reference"), t("served"), t("value"), t("95% interval"), t("expected"), "n", t("verdict"))
        show_in_parts(columns, rows, columns[:1])
        for reason, count in found.left_out.items():
            samples = t("1 sample") if count == 1 else t("{n} samples", n=count)
            line(t("{samples} left out: {what}", samples=samples, what=t(reason)))
        if found.verdict == "unclear" and found.pairs < found.fewest:
            line(
                t(
                    "within this margin no fewer than {n} pairs, all alike, show that two models are the same",
                    n=found.fewest,
                )
            )
        pairs = t("1 pair") if found.pairs == 1 else t("{n} pairs", n=found.pairs)
        line(
            t(
                "verdict: {verdict} ({pairs} of answers, margin {margin:g})",
                verdict=t(found.verdict), pairs=pairs, margin=margin,
            )
        )  # fmt: skip
    return ExitCode.SAMPLES_FAILED if found.verdict == "differs" else ExitCode.OK
