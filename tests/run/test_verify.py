"""`harness verify`: one model served twice is the same, another one differs, and few samples say nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness import Model, Request, Response, evaluate
from harness.errors import UsageError
from harness.run.verify import Compared, Verification, _mean, verify_runs
from harness.testing import run_harness


def made(tmp_path: Path, name: str, *flags: str, task: str = "demo_arithmetic", limit: int = 80) -> Path:
    done = run_harness(
        "--tasks", task, "--model", "dummy", "-a", *flags, "--limit", str(limit), "--output", tmp_path / name,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    (folder,) = (tmp_path / name).iterdir()
    return folder


@pytest.mark.parametrize(
    ("served", "verdict", "code"),
    [("mode=gold,seed=1", "same", 0), ("mode=fixed,text=I cannot say.", "differs", 1)],
)
def test_a_verdict_for_texts(tmp_path: Path, served: str, verdict: str, code: int) -> None:
    reference = made(tmp_path, "reference", "mode=gold")
    done = run_harness("verify", "--reference", reference, "--served", made(tmp_path, "served", served))
    assert f"verdict: {verdict} (80 pairs" in done.stdout and done.exit_code == code, done.stdout + done.stderr


def test_a_verdict_and_what_was_left_out_are_chinese_where_the_locale_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, served = made(tmp_path, "reference", "mode=gold", limit=9), made(tmp_path, "few", "mode=gold", limit=5)
    for name, language in (("LC_ALL", ""), ("LC_MESSAGES", ""), ("LANG", "zh_CN.UTF-8")):
        monkeypatch.setenv(name, language)
    told = run_harness("verify", "--reference", reference, "--served", served).stdout
    assert "4 个样本未计入：服务端的评测中没有" in told and "判定：无法判断（5 对回答，界限 0.05）" in told
    assert not re.search("[a-z]{3,} [a-z]{2,}", told), told
    as_json = json.loads(run_harness("verify", "--reference", reference, "--served", served, "--json").stdout)
    assert as_json["verdict"] == "unclear" and as_json["left_out"] == {"not in the served run": 4}
    assert as_json["agreements"][0]["name"] == "texts that are equal"


def test_samples_of_one_side_alone_are_counted_and_lines_that_cannot_be_read_told(tmp_path: Path) -> None:
    reference, served = (
        made(tmp_path, "reference", "mode=gold", limit=9),
        made(tmp_path, "served", "mode=gold", limit=9),
    )
    records = (reference / "demo_arithmetic.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (reference / "demo_arithmetic.jsonl").write_text("".join([*records[:5], "torn\n", *records[7:]]), encoding="utf-8")
    result = run_harness("verify", "--reference", reference, "--served", served)
    assert "2 samples left out: not in the reference run" in result.stdout and "(7 pairs of answers" in result.stdout
    assert "demo_arithmetic.jsonl:6: not a readable record" in result.stderr
    assert "the report is of 9 samples, of which 2 are not there" in result.stderr


def test_choices_and_their_probabilities(tmp_path: Path) -> None:
    reference = made(tmp_path, "reference", "mode=gold", task="demo_choice_en", limit=20)
    other = made(tmp_path, "other", "mode=random,seed=3", task="demo_choice_en", limit=20)
    same = run_harness("verify", "--reference", reference, "--served", reference)
    differs = run_harness("verify", "--reference", reference, "--served", other)
    assert "verdict: same (100 pairs" in same.stdout
    assert "distance of choice probabilities" in differs.stdout and "verdict: differs" in differs.stdout


def test_few_samples_and_other_prompts_say_nothing(tmp_path: Path) -> None:
    few = made(tmp_path, "few", "mode=gold", limit=5)
    done = run_harness("verify", "--reference", few, "--served", few)
    assert (
        "verdict: unclear (5 pairs" in done.stdout and "no fewer than 72 pairs" in done.stdout and done.exit_code == 0
    )
    done = run_harness(
        "verify", "--reference", few, "--served", made(tmp_path, "c", "mode=gold", task="demo_choice_en")
    )
    assert "nothing can be compared" in done.stderr and done.exit_code == 4
    done = run_harness("verify", "--reference", few, "--served", few, "--margin", "nan")
    assert "--margin: nan is not a finite number" in done.stderr and done.exit_code == 4
    with pytest.raises(UsageError, match="from 0 to 1, not nan"):
        verify_runs(few, few, float("nan"))


@pytest.mark.parametrize(("n", "verdict"), [(30, "unclear"), (71, "unclear"), (72, "same")])
def test_no_difference_in_few_pairs_shows_little(n: int, verdict: str) -> None:
    """Of models that part at one prompt in twenty, 60 prompts show no trace once in twenty times."""
    same = _mean("x", [0.0] * n, range(n), 0.0, 0.05)
    assert same.interval == (pytest.approx(-(1 - 0.025 ** (1 / n))), pytest.approx(1 - 0.025 ** (1 / n)))
    assert same.verdict == verdict
    nearly = _mean("x", [1e-9 * place for place in range(n)], range(n), 0.0, 0.05)
    assert nearly.interval == (pytest.approx(same.interval[0], abs=1e-6), pytest.approx(same.interval[1], abs=1e-6))


def test_repeated_answers_to_a_question_are_no_more_prompts() -> None:
    one, four = ([place // times for place in range(50 * times)] for times in (1, 4))
    assert _mean("x", [0.0] * 200, four, 0.0, 0.05).interval == _mean("x", [0.0] * 50, one, 0.0, 0.05).interval


def test_an_interval_decides() -> None:
    def verdict(low: float, high: float, n: int = 100) -> str:
        return Compared("x", 1.0, (low, high), n, 1.0, 0.05).verdict

    assert [verdict(0.96, 1.0), verdict(0.8, 0.94), verdict(0.9, 0.99), verdict(0.96, 1.0, 20)] == [
        "same", "differs", "unclear", "unclear",
    ]  # fmt: skip


CITIES = """\
task: cities
dataset_path: cities.jsonl
test_split: test
output_type: generate_until
doc_to_messages: "{{ [{'role': 'user', 'content': question}] }}"
doc_to_tools: "{{ [tool] }}"
doc_to_target: ""
metric_list: [{metric: exact_match}]
"""
TOOL = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "maximum": 7}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
FITS = '<tool_call>{"name": "weather", "arguments": {"city": "Lima", "days": 2}}</tool_call>'


def verified(
    tmp_path: Path, served: Callable[[int], str], reference: Callable[[int], str] = lambda at: FITS
) -> Verification:
    """Two runs of ninety prompts that offer a function, with the replies of both by the place of the prompt."""
    rows = [json.dumps({"question": f"{at}?", "tool": TOOL}) for at in range(90)]
    (tmp_path / "cities.jsonl").write_text("\n".join(rows))
    (tmp_path / "cities.yaml").write_text(CITIES)

    class Caller(Model):
        name = "caller"
        supports = frozenset({"generate"})
        takes_tools = True
        replies: ClassVar[Callable[[int], str]]

        def __init__(self, side: str) -> None:
            self.side = side

        @property
        def identity(self) -> dict[str, Any]:
            return {"side": self.side}

        def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
            for index, request in enumerate(requests):
                at = int(str(request.prompt.messages[-1].content).rstrip("?"))
                yield (
                    index,
                    Response(text={"reference": reference, "served": served}[self.side](at), finish_reason="stop"),
                )

    paths = [
        evaluate(
            Caller, {"side": side}, tmp_path / "cities.yaml", output=tmp_path / side, apply_chat_template=True
        ).path
        for side in ("reference", "served")
    ]
    return verify_runs(*paths)


def only(found: Verification, name: str) -> Compared:
    return next(each for each in found.agreements if each.name.startswith(name))


@pytest.mark.slow
def test_calls_that_fit_on_both_sides_are_the_same(tmp_path: Path) -> None:
    found = verified(tmp_path, lambda at: FITS.replace("Lima", "Quito"))
    fit = only(found, "calls that fit")
    assert (fit.reference, fit.served, fit.value, fit.verdict, fit.n) == (1, 1, 0, "same", 90)
    assert only(found, "calls at the same prompts").value == 1 and found.verdict == "same"


def test_calls_that_do_not_fit_are_another_model(tmp_path: Path) -> None:
    broken = '<tool_call>{"name": "weather", "arguments": {"city": 5}}</tool_call>'
    found = verified(tmp_path, lambda at: broken if at % 3 == 0 else FITS)
    fit = only(found, "calls that fit")
    assert (fit.reference, fit.value) == (1, pytest.approx(-1 / 3)) and fit.verdict == found.verdict == "differs"
    assert fit.interval and fit.interval[0] < -1 / 3 < fit.interval[1] < -0.2
    assert only(found, "replies that call").verdict == "same"


@pytest.mark.slow
def test_where_functions_are_called_is_told_and_how_often_decides(tmp_path: Path) -> None:
    """Half of the prompts each, of which a third at the same ones; then none at all."""
    found = verified(tmp_path, lambda at: FITS if 20 <= at < 50 else "No.", lambda at: FITS if at < 30 else "No.")
    same = only(found, "calls at the same prompts")
    assert same.value == pytest.approx(2 * 10 / 60) and not same.counts
    assert (only(found, "replies that call").value, only(found, "calls that fit").value) == (0, 0)
    (tmp_path / "never").mkdir()
    never = verified(tmp_path / "never", lambda at: "No.")
    rate = only(never, "replies that call")
    assert (rate.reference, rate.served, rate.verdict, never.verdict) == (1, 0, "differs", "differs")
    assert not any(each.name.startswith("calls that fit") for each in never.agreements)
