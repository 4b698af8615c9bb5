"""`harness gate`: may this run take the place of that one?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from harness import files
from harness.cli.console import counted, line, notice
from harness.errors import ExitCode, SaveError, UsageError

if TYPE_CHECKING:
    from harness.record.junit import GateCheck


def _finite(context: click.Context, parameter: click.Parameter, value: float) -> float:
    if not math.isfinite(value):  # of which click's ranges know nothing
        raise UsageError(f"--{parameter.name}: {value} is no number to compare with")
    return value


@click.command("gate")
@click.option("--baseline", required=True, metavar="RUN", help="The run that sets the standard.")
@click.option("--current", required=True, metavar="RUN", help="The run that is judged.")
@click.option(
    "--max_drop",
    type=click.FloatRange(min=0),
    default=0.0,
    callback=_finite,
    help="How much worse is allowed. [default: 0]",
)
@click.option(
    "--alpha", type=click.FloatRange(0, 1), default=0.05, callback=_finite, help="Level of the test. [default: 0.05]"
)
@click.option("--allow_missing", is_flag=True, help="Pass although samples of the baseline are missing or unscored.")
@click.option(
    "--min_samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="The least number of samples that both runs scored. [default: 30 where a task came out worse]",
)
@click.option(
    "--detect",
    type=click.FloatRange(min=0, min_open=True),
    metavar="DROP",
    help="Fail where so large a drop might not have shown (at a power of 80 %).",
)
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write a JUnit file for a CI.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write a summary for people.")
@click.option("--webhook", metavar="URL", help="Post the findings there as JSON.")
def command(
    baseline: str,
    current: str,
    max_drop: float,
    alpha: float,
    allow_missing: bool,
    min_samples: int | None,
    detect: float | None,
    junit: Path | None,
    markdown: Path | None,
    webhook: str | None,
) -> int:
    """Exit with 1 when a task of CURRENT is worse than in BASELINE by more than --max_drop, beyond chance.

    A task also fails that CURRENT lacks, wholly or in part, and one that is too small to show what is asked. Each line
    says what drop would have shown.

    \b
    harness gate --baseline runs/released --current runs/candidate --max_drop 0.01 --junit gate.xml
    """
    from harness.record import junit as writers
    from harness.run.gate import GatePolicy, gate_runs

    policy = GatePolicy(max_drop, alpha, allow_missing, min_samples, detect)
    checks = gate_runs(baseline, current, policy, notice)
    summary = writers.markdown(checks, baseline, current)
    if junit:
        _write(junit, writers.junit_xml(checks))
    if markdown:
        _write(markdown, summary)
    failed = [check for check in checks if check.outcome != "passed"]
    for check in checks:
        line(f"{check.outcome}: {check.task}: {check.metric}: {check.reason}")
    line(f"gate {'failed' if failed else 'passed'}: {len(failed)} of {counted(len(checks), 'task')} failed")
    if webhook:
        _post(webhook, checks, summary)
    return ExitCode.SAMPLES_FAILED if failed else ExitCode.OK


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace(path, [text.encode("utf-8", "replace")])
    except OSError as error:
        raise SaveError(f"{path}: could not be written: {error.strerror}") from error


def _post(url: str, checks: Sequence[GateCheck], summary: str) -> None:
    """Tell a server. That it cannot be told changes nothing of the verdict."""
    import requests

    passed = all(check.outcome == "passed" for check in checks)
    body: dict[str, Any] = {"passed": passed, "checks": [asdict(check) for check in checks], "text": summary}
    try:
        # The reply's body is not waited for: a server that never ends it does not hold up a CI.
        with requests.post(url, json=body, timeout=10, stream=True) as response:
            response.raise_for_status()
    except requests.RequestException as error:
        # The address may be its own password (Slack's and Feishu's are), and stands in the error.
        host = urlsplit(url).hostname or "the address"
        status = error.response.status_code if error.response is not None else ""
        notice(f"--webhook: {host} could not be told: {type(error).__name__} {status}".rstrip())
