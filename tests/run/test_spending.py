"""What runs cost, how they keep to a budget, and what sweeps and repeats come to."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import ScriptedServer, chat

from harness import Prompt, Request, Response
from harness.errors import UsageError
from harness.record.cost import Prices
from harness.record.usage import Usage
from harness.run.budget import Budget, BudgetReached
from harness.run.spec import RunSpec
from harness.run.sweep import swept
from harness.testing import run_harness


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def run(server: ScriptedServer, tmp_path: Path, *flags: str) -> Any:
    return run_harness(
        "--tasks", "demo_arithmetic", "--num_fewshot", "0", "--model", "openai",
        "-a", f"model=small,base_url={server.url},num_concurrent=4,api=chat", "--output", tmp_path, *flags,
    )  # fmt: skip


def test_prices_make_a_cost(server: ScriptedServer, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("in: 1000000\nout: 2000000\n")
    done = run(server, tmp_path / "runs", "--limit", "3", "--prices", str(prices))
    assert "tokens: 21 of prompts, 9 of answers; cost 39.0000" in done.stdout
    usage = Usage(prompt_tokens=100, cached_tokens=40, completion_tokens=10)
    assert Prices.of({"in": 1, "out": 2, "cached": 0.5}).cost(usage) == pytest.approx((60 + 20 + 20) / 1e6)
    for given, message in (({"in": 1}, "'out' is missing"), ({"inn": 1, "out": 1}, "did you mean 'in'")):
        with pytest.raises(UsageError, match=message):
            Prices.of(given)


def test_a_budget_stops_a_run_that_the_same_command_goes_on_with(server: ScriptedServer, tmp_path: Path) -> None:
    """An answer takes 10 tokens: 300 are 30 answers, and no more is asked."""
    flags = ("--limit", "50", "--budget_tokens", "300")
    first = run(server, tmp_path, *flags)
    assert first.exit_code == 2 and "the budget is spent" in first.stderr and "go on with" in first.stderr
    assert len(server.asked) == 30
    second = run(server, tmp_path, *flags)
    assert second.exit_code == 0 and len(server.asked) == 50


@pytest.mark.slow
def test_a_budget_of_few_answers_is_not_spent_by_those_under_way(server: ScriptedServer, tmp_path: Path) -> None:
    done = run(server, tmp_path, "--budget_tokens", "35", "-a", "num_concurrent=32")
    assert done.exit_code == 2 and len(server.asked) == 3


@pytest.mark.slow
def test_a_cost_that_nobody_counted_is_unknown(server: ScriptedServer, tmp_path: Path) -> None:
    def reply(asked: Any) -> Any:
        given = chat("7")
        if asked.number < uncounted:
            del given.body["usage"]
        return given

    server.answer = reply
    uncounted = 9
    done = run(server, tmp_path, "--limit", "2", "--prices", "in=1,out=2")
    assert "; cost ?; 2 answers came without" in " ".join(done.stdout.split())
    uncounted = 3
    done = run(server, tmp_path, "--limit", "4", "--prices", "in=1,out=2")
    assert "; cost at least 0.0000; " in " ".join(done.stdout.split())


def test_a_budget_holds_for_requests_that_are_under_way_together(server: ScriptedServer, tmp_path: Path) -> None:
    """What is under way is taken to cost as much as the dearest answer so far, and is waited for."""
    sizes = [3, 300, 40, 7, 150]

    def reply(asked: Any) -> Any:
        given = chat("7")
        given.body["usage"] = {"prompt_tokens": 7, "completion_tokens": sizes[asked.number % len(sizes)]}
        return given

    server.answer = reply
    done = run(server, tmp_path, "--budget_tokens", "4000", "-a", "num_concurrent=32")
    spent = sum(7 + sizes[asked.number % len(sizes)] for asked in server.asked)
    assert done.exit_code == 2 and 3500 <= spent <= 4000
    (folder,) = tmp_path.iterdir()
    kept = [json.loads(line) for line in (folder / "demo_arithmetic.jsonl").read_text().splitlines()]
    assert len(kept) == len(server.asked) and not any(record["error"] for record in kept)
    assert f"{200 - len(kept)} requests are left" in done.stderr


def test_a_model_that_is_asked_in_parts_keeps_to_a_budget() -> None:
    budget = Budget(None, 1000).account()
    requests, asked = [Request("generate", Prompt(str(n))) for n in range(100)], 0
    with pytest.raises(BudgetReached, match="80 requests are left"):
        for start, part in budget.parts(requests):
            assert start == asked
            asked += len(part)
            for _ in part:
                budget.count(Response(text="x", prompt_tokens=40, completion_tokens=10))
    assert asked == 20 and not budget.admits()


def test_a_budget_needs_prices_and_counts(server: ScriptedServer, tmp_path: Path) -> None:
    done = run(server, tmp_path, "--budget", "1")
    assert done.exit_code == 4 and "--prices" in done.stderr and not server.asked
    reply = chat("4")
    del reply.body["usage"]
    server.script(reply)
    done = run(server, tmp_path, "--budget_tokens", "100")
    assert "no budget can be kept" in done.stderr


def test_a_sweep_draws_one_table(server: ScriptedServer, tmp_path: Path) -> None:
    done = run(server, tmp_path, "--limit", "2", "--sweep", "reasoning_effort=low,high")
    assert {asked.body["reasoning_effort"] for asked in server.asked} == {"low", "high"}
    table = done.stdout[done.stdout.rindex("setting") :]
    assert "reasoning_effort=low" in table and "reasoning_effort=high" in table and "3.0" in table
    said = " ".join(table.split())
    assert "no answer shows or counts any reasoning, whatever reasoning_effort says" in said
    assert (
        "tokens of the answers do not differ by reasoning_effort beyond chance (p = 1.00, permutation test on 2" in said
    )
    assert "0.0000 - 2 3.0" in said  # two that score alike: no error is known, as in the table of each run
    labels = swept(RunSpec(("t",)), "temperature", [0, 0.6])
    assert [run.gen_kwargs for run in labels.values()] == [{"temperature": 0}, {"temperature": 0.6}]
    for name, values, message in (
        ("temperature", [0], "two different values"),
        ("temperature", [0, "warm"], "temperature: should be a valid number"),
        ("temperatur", [0, 1], "did you mean 'temperature'"),
        ("thinking", ["on", "maybe"], "--thinking maybe: not known"),
        ("repeats", [1, "two"], "two is not a whole number"),
    ):
        with pytest.raises(UsageError, match=message):
            swept(RunSpec(("t",)), name, values)


@pytest.mark.parametrize("heeds", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_server_that_ignores_the_effort_while_sampling_is_named(
    server: ScriptedServer, tmp_path: Path, heeds: bool
) -> None:
    """No two answers take as many tokens; their lengths follow the effort, or chance alone."""
    draw = random.Random(7)

    def reply(asked: Any) -> Any:
        given, times = chat("7"), 2 if heeds and asked.body["reasoning_effort"] == "high" else 1
        thought = int(times * draw.lognormvariate(5, 0.7))
        details = {"completion_tokens_details": {"reasoning_tokens": thought}}
        given.body["usage"] = {"prompt_tokens": 7, "completion_tokens": thought + 3, **details}
        return given

    server.answer = reply
    done = run(server, tmp_path, "--limit", "40", "--sweep", "reasoning_effort=low,high")
    said = " ".join(done.stdout.split())
    assert ("tokens of reasoning do not differ by reasoning_effort beyond chance (p = 0." in said) is not heeds
    assert "no answer shows or counts any reasoning" not in said and "too few to tell" not in said


def test_one_set_of_answers_has_a_mean_a_majority_and_passes(server: ScriptedServer, tmp_path: Path) -> None:
    """Eight answers to two questions, of which three metrics and the task's own make one value a question."""
    seen: dict[str, int] = {}

    def reply(asked: Any) -> Any:
        text = asked.body["messages"][-1]["content"]
        seen[text] = seen.get(text, 0) + 1
        return chat("none" if seen[text] == 1 else "7")

    server.answer = reply
    done = run(
        server, tmp_path, "--limit", "2", "--repeats", "4", "--gen_kwargs", "temperature=0.7",
        "--metrics", "avg_at_k,majority_at_k(k=2),pass_at_k(k=2)",
    )  # fmt: skip
    assert done.exit_code == 0 and len(server.asked) == 8
    (folder,) = tmp_path.iterdir()
    (task,) = json.loads((folder / "report.json").read_text())["tasks"]
    assert {metric["metric"] for metric in task["metrics"]} >= {"avg_at_k", "majority_at_k", "pass_at_k"}
    assert all(metric["n"] == 2 for metric in task["metrics"])
