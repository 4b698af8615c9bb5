"""Metrics that run programs: what passes, what does not, and the estimate from several replies."""

from __future__ import annotations

import itertools
import json
from math import comb
from pathlib import Path

import pytest
from sandboxed import needs_sandbox

from harness import MetricOptions, Observation, Response, Sample, load_run
from harness.errors import MachineError, UsageError
from harness.registry import load_plugins
from harness.scoring import sandbox
from harness.testing import run_harness
from harness_plugins.filters.code import CodeBlock, SanitizedCode
from harness_plugins.metrics.code import PassAt10, PassAtK, PassHatK, pass_at_k, pass_hat_k

MIRROR = Path(__file__).parents[2].parent / "shared" / "mirror"
PROGRAM = "{{reply}}\nassert f({{given}}) == {{wanted}}"
RIGHT, WRONG = "def f(x): return x + 1", "def f(x): return x"


def seen(*replies, **doc):
    sample = Sample("t", "", 0, {"given": 1, "wanted": 2, **doc}, (), "")
    return Observation(sample, tuple(Response(text=reply) for reply in replies), (), replies)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_the_estimate_is_the_share_of_draws_with_a_pass(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        draws = list(itertools.combinations(range(n), k))
        share = sum(any(index < c for index in draw) for draw in draws) / len(draws)
        assert pass_at_k(n, c, k) == pytest.approx(share)
        assert pass_at_k(n, c, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k))
        every = sum(all(index < c for index in draw) for draw in draws) / len(draws)
        assert pass_hat_k(n, c, k) == pytest.approx(every)
        assert pass_hat_k(n, c, k) == pytest.approx(comb(c, k) / comb(n, k))


def test_the_estimate_is_exact_where_binomials_are_huge():
    assert pass_at_k(2000, 1, 1000) == pytest.approx(0.5)
    assert pass_hat_k(2000, 1999, 1000) == pytest.approx(0.5)


@needs_sandbox
def test_programs_pass_or_fail():
    metric = PassAtK(PROGRAM)
    assert metric.score(seen(RIGHT)) == 1.0
    assert metric.score(seen(WRONG)) == 0.0
    assert metric.score(seen("def f(x) return x")) == 0.0
    assert metric.score(seen("import os; os._exit(0)")) == 0.0
    assert metric.score(seen("raise SystemExit")) == 0.0
    assert metric.score(seen(None)) == 0.0
    assert metric.score(seen()) is None


@needs_sandbox
def test_several_replies_make_an_estimate():
    replies = [RIGHT, WRONG, None, WRONG]
    assert PassAtK(PROGRAM).score(seen(*replies)) == pytest.approx(1 / 4)
    assert PassAtK(PROGRAM, k=2).score(seen(*replies)) == pytest.approx(1 / 2)
    assert PassAt10(PROGRAM).score(seen(*[WRONG] * 9, RIGHT)) == 1.0
    assert PassHatK(PROGRAM, k=2).score(seen(RIGHT, WRONG, RIGHT)) == pytest.approx(1 / 3)
    assert PassAtK(PROGRAM, k=[1, 2, 4]).score(seen(*replies)) == pytest.approx((1 / 4, 1 / 2, 1.0))
    with pytest.raises(ValueError, match="repeats"):
        PassAt10(PROGRAM).score(seen(*replies))


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="k is 0"):
        PassAtK(PROGRAM, k=0)
    with pytest.raises(ValueError, match="k is True"):
        PassAtK(PROGRAM, k=True)
    with pytest.raises(ValueError, match=r"k is \[2, 2\]"):
        PassHatK(PROGRAM, k=[2, 2])
    with pytest.raises(ValueError, match=r"k is \[\]"):
        PassHatK(PROGRAM, k=[])
    with pytest.raises(ValueError, match="line 1"):
        PassAtK("{{reply")
    with pytest.raises(ValueError, match="positive"):
        PassAtK(PROGRAM, timeout=0)
    with pytest.raises(ValueError, match="both say which replies pass"):
        PassAtK(PROGRAM, of="exact_match")


def test_no_sandbox_no_metric(monkeypatch):
    monkeypatch.setenv("HARNESS_SANDBOX", "doker")
    with pytest.raises(UsageError, match="did you mean 'docker'"):
        PassAtK(PROGRAM).prepare(MetricOptions())


def test_without_a_sandbox_a_task_can_be_looked_at_and_not_run(monkeypatch, tmp_path):
    task = tmp_path / "inc.yaml"
    task.write_text(
        "task: inc\ndataset_path: rows.jsonl\ntest_split: test\ndoc_to_text: '{{ask}}'\ndoc_to_target: '{{solution}}'\n"
        f"metric_list: [{{metric: pass_at_k, program: {json.dumps(PROGRAM)}}}]\n"
        "example: {row: {ask: f, solution: s, given: 1, wanted: 2}, prompt: f, scores: [{reply: x, pass_at_k: 0}]}\n"
    )
    (tmp_path / "rows.jsonl").write_text(json.dumps({"ask": "f", "solution": "s", "given": 1, "wanted": 2}) + "\n")
    monkeypatch.setattr(sandbox, "usable", lambda mode="auto": (_ for _ in ()).throw(MachineError("nothing safe here")))

    assert run_harness("show", task, "--model", "dummy").exit_code == 0
    checked = run_harness("check", task)
    refused = run_harness("--tasks", task, "--model", "dummy", "--output", tmp_path / "runs")

    assert (checked.exit_code, "the scores of its example were not checked" in checked.stderr) == (0, True)
    assert refused.exit_code == 4
    assert "metric 'pass_at_k': nothing safe here" in refused.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        ("Here:\n```python\ndef f(): 1\n```\nDone.", "def f(): 1\n"),
        ("```\ndef f(): 1\n", "def f(): 1\n"),
        ("```sh\npip install g\n```\n```py\ndef f(): 1\n```", "def f(): 1\n"),
        ("<think>```python\nf = 0\n```</think>```python\ndef f(): 1\n```", "def f(): 1\n"),
        ("def f(): 1", "def f(): 1"),
        ("```python\n```", None),
        (None, None),
    ],
)
def test_the_code_of_a_reply(reply, program):
    sample = Sample("t", "", 0, {"name": "f"}, (), "")
    assert CodeBlock(naming="name").apply([reply], sample) == [program]


def test_the_choice_of_a_sandbox_is_in_the_manifest(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"ask": "f", "solution": RIGHT, "given": 1, "wanted": 2}) + "\n")
    (tmp_path / "inc.yaml").write_text(
        "task: inc\ndataset_path: rows.jsonl\ntest_split: test\noutput_type: generate_until\n"
        "doc_to_text: '{{ask}}'\ndoc_to_target: '{{solution}}'\n"
        f"metric_list: [{{metric: pass_at_k, program: {json.dumps(PROGRAM)}}}]\n"
    )
    model = ("--model", "dummy", "--model_args", "mode=gold")
    done = run_harness("--tasks", tmp_path / "inc.yaml", *model, "--sandbox", "none", "--output", tmp_path / "runs")
    assert done.exit_code == 0, done.output
    (manifest,) = (tmp_path / "runs").glob("*/manifest.json")
    assert json.loads(manifest.read_text())["spec"]["sandbox"] == "none"
    assert [record.scores["pass_at_k"] for record in load_run(manifest.parent).records()] == [1.0]


@needs_sandbox
@pytest.mark.skipif(not MIRROR.is_dir(), reason="runs where a mirror of real rows lies beside the project")
@pytest.mark.parametrize(
    "name", ["openai/openai_humaneval/test.jsonl", "github/FloatAI/humaneval-xl/data/python/Chinese.jsonl"]
)
def test_the_benchmarks_own_solutions_pass_and_broken_ones_fail(name):
    rows = [json.loads(line) for line in (MIRROR / name).read_text("utf-8").splitlines()][::10]
    for reply, passes in ((None, True), ("    return NotImplemented\n", False)):
        programs = [
            f"{row['prompt']}{reply or row['canonical_solution']}\n{row['test']}\ncheck({row['entry_point']})"
            for row in rows
        ]
        assert [outcome.passed for outcome in sandbox.run_programs(programs)] == [passes] * len(rows)


def test_plugins_are_found():
    registry = load_plugins()
    assert registry.metric("pass_at_k") is PassAtK
    assert registry.filter("code_block") is CodeBlock


@needs_sandbox
def test_a_row_whose_packages_are_not_here_is_an_error_and_no_failure():
    metric = PassAtK(program="{{reply}}", packages="libs")

    def score(libs):
        sample = Sample("t", "", 0, {"libs": libs}, (), "x")
        return metric.score(Observation(sample, (Response(text="pass"),), (), ("pass",)))

    assert score("['json', 'os.path']") == score(["json"]) == 1.0
    with pytest.raises(ValueError, match="no_such_package"):
        score("['json', 'no_such_package.part']")


def test_the_first_code_block_counts_or_the_last():
    reply = "Draft:\n```python\na = 1\n```\nFinal:\n```\na = 2\n```"
    sample = Sample("t", "", 0, {}, (), "x")
    assert CodeBlock(take="first").apply([reply], sample) == ["a = 1\n"]
    assert CodeBlock(take="last").apply([reply], sample) == ["a = 2\n"]


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        ("Draft:\n```python\na = 1\n```\nFinal:\n```\na = 2\n```\nBye.", "a = 2"),
        ("Here: ```python\na = 1\n``` done", "a = 1"),
        ("```python\na = 1\n```\nIt prints\n```\n1\n```", "1"),
        ("```python\n# no ``` in here\na = 1\n```", "a = 1"),
        ("<think>\n```\na = 1\n```\n</think>\n```\na = 2\n```", "a = 2"),
        ("a = 1", None),
        ("```python\na = 1", None),
        ("```python\n```", None),
    ],
)
def test_livecodebench_runs_what_stands_between_the_last_two_fences(reply, program):
    # What `extract_code` of the authors' script gives for these replies, behind their reasoning.
    assert CodeBlock(take="between_last_fences").apply([reply], Sample("t", "", 0, {}, (), "x")) == [program]


def test_what_is_run_of_a_reply_is_imports_and_what_the_function_reaches():
    # What evalplus/sanitize.py (with tree-sitter) gives for these replies.
    reply = (
        "Here is it:\n```python\nimport os\nLIMIT = 3\nTEXT = 'not used'\n\ndef helper(a):\n    return a + LIMIT\n\n"
        "def talk(b):\n    print(b)\n\ndef solve(x):\n    return helper(x)\n\nprint(solve(1))\n```\nBye."
    )
    sample = Sample("t", "", 0, {"entry_point": "solve"}, (), "x")
    kept = "import os\nLIMIT = 3\ndef helper(a):\n    return a + LIMIT\ndef solve(x):\n    return helper(x)"
    assert SanitizedCode(naming="entry_point").apply([reply], sample) == [kept]
    assert "TEXT" in SanitizedCode().apply([reply], sample)[0]
    # Nothing that it would keep: the longest part that is Python, as it stands; no code: what the program fails at.
    assert SanitizedCode(naming="entry_point").apply(["I say:\nx += 1\nprint(x)\nNo, it is not."], sample) == [
        "x += 1\nprint(x)"
    ]
    assert SanitizedCode(naming="entry_point").apply(["I cannot do that.", "", None], sample) == [
        "I cannot do that.",
        None,
        None,
    ]
