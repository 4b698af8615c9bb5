"""`harness score`: new scores from old answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.completion import complete_runs
from harness.cli.options import JUDGE_PRICES, JUDGES, METRICS, without_repetitions
from harness.cli.run import judged_result, judges_of, print_result


@click.command("score")
@click.argument("run", shell_complete=complete_runs)
@METRICS
@JUDGES
@JUDGE_PRICES
@click.option(
    "--gold_fixes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Corrected golds: a table with columns task, id, gold (and subset), or the run's notes.json.",
)
def command(
    run: str,
    metrics: tuple[list[str | dict[str, Any]], ...],
    judges: tuple[tuple[str, dict[str, Any]], ...],
    judge_prices: tuple[dict[str, Any], ...],
    gold_fixes: Path | None,
) -> int:
    """Score the answers in the folder RUN again, by the task files as they are now. Loads no rows, and asks no model
    but the judges that are named. With --gold_fixes the run stays as it is, and a copy below it gets the new scores.

    \b
    harness score runs/2026-08-01-demo-0f3a9c
    harness score runs/2026-08-01-demo-0f3a9c --metrics ece,lucky_guess
    harness score runs/2026-08-01-demo-0f3a9c --gold_fixes runs/2026-08-01-demo-0f3a9c/notes.json
    harness score runs/2026-08-01-demo-0f3a9c --judge openai,model=JUDGE,base_url=URL
    """
    from harness.cli.progress import watch
    from harness.run.rescore import score_run

    added = without_repetitions(entry for entries in metrics for entry in entries)
    models = judges_of({"judges": judges, "judge_prices": judge_prices})
    result, code = judged_result(score_run(run, metrics=added, progress=watch(), gold_fixes=gold_fixes), models)
    print_result(result)
    return code
