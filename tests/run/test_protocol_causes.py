"""My score is not the published one: each cause changes a score, and the table names it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Asked, Reply, ScriptedServer, chat

from harness.testing import run_harness

TASK = """\
task: sums
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{ question }}"
doc_to_target: "7"
generation_kwargs: {max_gen_toks: 64}
metric_list: [{metric: exact_match}]
"""
RECIPE = """\
recipe: makers
title: A model that is right three times of four
source: https://example.org/card
date: 2026-01
thinking: "on"
chat_template_args: {style: full}
system_instruction: Think well.
gen_kwargs: {temperature: 0.6, max_gen_toks: 64}
tasks:
  sums: {published: 75.0, repeats: 4}
"""
RUBRIC = """\
rubric: graded
prompt: "{{ question }} {{ answer }} {{ format }}"
reply:
  grade: {type: choice, choices: {right: 1, wrong: 0}}
score: grade
"""
JUDGED = "metric_list: [{metric: judge, rubric: graded.yaml, range: [0, 1]}]"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("sums.yaml").write_text(TASK, encoding="utf-8")
    Path("graded.yaml").write_text(RUBRIC, encoding="utf-8")
    Path("recipes/makers.yaml").write_text(RECIPE, encoding="utf-8")
    rows = [json.dumps({"question": f"Question {number}"}) for number in range(30)]
    Path("rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    scripted = ScriptedServer()
    scripted.answer = model_of_the_makers()
    yield scripted
    scripted.close()


def model_of_the_makers() -> Any:
    """It is right but for the first of its answers to a question, where it is asked as its makers did."""
    seen: Counter[str] = Counter()

    def answer(asked: Asked) -> Reply:
        body, messages = asked.body, asked.body["messages"]
        variables = body.get("chat_template_kwargs", {})
        question = messages[-1]["content"]
        seen[question] += 1
        if (body.get("max_tokens") or body.get("max_completion_tokens")) < 64:
            return chat("", "length", reasoning_content="Let me see")
        well = variables.get("style") == "full" and variables.get("enable_thinking") is True
        told = messages[0] == {"role": "system", "content": "Think well."}
        right = well and told and body.get("temperature") == 0.6 and seen[question] > 1
        return chat("7" if right else "8", reasoning_content="So it is.")

    return answer


def run(server: ScriptedServer, *flags: str, model_args: str = "") -> tuple[dict[str, Any], str]:
    done = run_harness(
        "--recipe", "makers", "--include_path", ".", "--model", "openai", "-a",
        f"model=small,base_url={server.url},num_concurrent=8,api=chat,thinking_dialect=template{model_args}",
        "--output", "runs", *flags,
    )  # fmt: skip
    folder = max(Path("runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    (task,) = json.loads((folder / "report.json").read_text(encoding="utf-8"))["tasks"]
    return task, " ".join(done.stdout.split())


@pytest.mark.slow
def test_as_the_makers_did_it_agrees(server: ScriptedServer) -> None:
    task, table = run(server)
    assert task["metrics"][0]["value"] == 0.75 and task["published"]["verdict"] == "agrees"
    assert task["published"]["differs"] == [] and "not as published" not in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "model_args", "cause"),
    [
        (
            (),
            ',extra_body={"chat_template_kwargs": {"style": "short"}}',
            "style short in the chat template, published with full",
        ),
        (("--system_instruction", "Be brief."), "", "system_instruction Be brief., published with Think well."),
        (("--gen_kwargs", "temperature=0"), "", "temperature 0, published with 0.6"),
        (("--repeats", "1"), "", "repeats 1, published with 4"),
        (("--thinking", "off"), "", "thinking off, published with on"),
        (("--gen_kwargs", "max_gen_toks=32"), "", "max_gen_toks 32, published with 64; 30 of 30 answers cut"),
    ],
)
def test_each_cause_is_below_and_named(
    server: ScriptedServer, flags: tuple[str, ...], model_args: str, cause: str
) -> None:
    task, table = run(server, *flags, model_args=model_args)
    value, verdict = task["metrics"][0]["value"], task["published"]["verdict"]
    # An answer that was cut inside its reasoning is none: such a run has no value, and no 0.
    assert (value, verdict) == ((None, "no value") if "cut" in cause else (0.0, "below"))
    assert f"sums: not as published: {cause}" in table


@pytest.mark.slow
def test_another_judge_is_a_cause(server: ScriptedServer) -> None:
    """The makers' judge finds every answer right; one that finds none is below, and is named."""
    Path("sums.yaml").write_text(TASK.replace("metric_list: [{metric: exact_match}]", JUDGED), encoding="utf-8")
    text = RECIPE.replace("75.0, repeats: 4", "100").replace("tasks:", 'judge: "dummy,mode=gold"\ntasks:')
    Path("recipes/makers.yaml").write_text(text, encoding="utf-8")
    task, _ = run(server)
    assert (task["published"]["verdict"], task["published"]["differs"]) == ("agrees", [])
    named = text.replace("dummy,mode=gold", "openai,model=grader")
    Path("recipes/makers.yaml").write_text(named, encoding="utf-8")
    _, table = run(server, "--judge", "dummy,mode=fixed,index=0", "--name", "strict")
    assert "judge dummy, published with grader" in table and " below" in table


@pytest.mark.slow
def test_reasoning_that_no_filter_takes_off_is_named(server: ScriptedServer) -> None:
    server.answer = lambda asked: chat("So it is.</think>\n\n7")
    task, table = run(server, "--limit", "3", "--repeats", "1")
    assert task["metrics"][0]["value"] == 0 and task["metrics"][0]["reasoned"] == 3
    assert "sums: 3 of 3 samples are scored with the reasoning before their answer" in table
    task, table = run(server, "--limit", "3", "--repeats", "1", model_args=",think_end_token=</think>")
    assert task["metrics"][0]["value"] == 1 and "scored with the reasoning" not in table
