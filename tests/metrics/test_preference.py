"""Preferences by log-likelihood: the formulas of DPO, SimPO and KTO, and the formats that trainers read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import Response, UsageError
from harness.testing import observation
from harness_plugins.metrics.preference import RewardAccuracy, RewardGap, RewardMargin

PAIRS = [
    {"prompt": "1 + 2 =", "chosen": " 3", "rejected": " 4 and more"},
    {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 7"},
    {"prompt": "3 + 2 =", "chosen": " 9 9", "rejected": " 5"},
]


def seen(gold: int | None, logprobs: tuple[float, ...], counts: tuple[int, ...]) -> Any:
    choices = ("good", "bad", "worse")[: len(logprobs)]
    plain = observation(gold, choices=choices, logprobs=logprobs)
    counted = Response(logprobs=logprobs, is_greedy=(False,) * len(logprobs), token_counts=counts)
    return type(plain)(plain.sample, (counted,))


def test_the_reward_is_beta_times_the_log_likelihood_and_of_a_token_where_asked() -> None:
    pair = seen(0, (-6.0, -4.0), (6, 2))
    assert RewardAccuracy().score(pair) == 0.0
    assert RewardMargin(beta=0.5).score(pair) == -1.0
    assert RewardAccuracy(per_token=True).score(pair) == 1.0
    assert RewardMargin(beta=2.0, per_token=True).score(pair) == pytest.approx(2.0 * (-6 / 6 + 4 / 2))
    assert RewardMargin(beta=1).score(seen(1, (-6.0, -4.0), (6, 2))) == 2.0
    assert RewardAccuracy().score(seen(0, (-4.0, -4.0), (2, 2))) == 0.0


def test_what_is_no_pair_has_no_score() -> None:
    assert RewardMargin().score(seen(None, (-6.0, -4.0), (6, 2))) is None
    with pytest.raises(ValueError, match="of two answers, of which one is chosen; found 3"):
        RewardMargin().score(seen(0, (-6.0, -4.0, -1.0), (6, 2, 1)))
    with pytest.raises(ValueError, match="does not say how many tokens"):
        RewardMargin(per_token=True).score(seen(0, (-6.0, -4.0), ()))
    with pytest.raises(ValueError, match="beta: should be a number above 0, found 0"):
        RewardMargin(beta=0)


def test_a_gap_is_between_the_means_of_both_labels_and_unknown_without_one() -> None:
    metric = RewardGap(beta=0.5)
    good, bad = (0.5 * -2.0, 1.0, 0.0, 0.0), (0.0, 0.0, 0.5 * -5.0, 1.0)
    assert metric.aggregate([good, bad, (0.0, 0.0, 0.5 * -7.0, 1.0)]) == pytest.approx(-1.0 + 3.0)
    assert math.isnan(metric.aggregate([good]))


def written(folder: Path, rows: list[dict[str, Any]], asks: str, metrics: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    head = "task: pairs\ndataset_path: rows.jsonl\ntest_split: test\ntarget_delimiter: ''\n"
    (folder / "pairs.yaml").write_text(f"{head}{asks}metric_list: [{metrics}]\n", encoding="utf-8")
    return str(folder / "pairs.yaml")


PLAIN = (
    'output_type: multiple_choice\ndoc_to_text: prompt\ndoc_to_choice: "{{ [chosen, rejected] }}"\ndoc_to_target: 0\n'
)


def value(result: Any, metric: str) -> Any:
    return next(each for each in result.report["tasks"][0]["metrics"] if each["metric"] == metric)


@pytest.mark.slow
def test_the_reference_is_a_run_of_the_same_task(tmp_path: Path) -> None:
    own = written(tmp_path / "a", PAIRS, PLAIN, "{metric: reward_margin}")
    base = harness.evaluate("dummy", {"mode": "random"}, own, output=tmp_path / "runs")
    metrics = f"{{metric: reward_margin, beta: 0.3, reference: {base.path}}}, {{metric: reward_accuracy}}"
    task = written(tmp_path / "b", PAIRS, PLAIN, metrics)
    result = harness.evaluate("demo", tasks=task, output=tmp_path / "runs")
    expected = [
        0.3 * ((mine.logprobs[0] - mine.logprobs[1]) - (theirs.logprobs[0] - theirs.logprobs[1]))
        for mine, theirs in zip(result.samples(), base.samples(), strict=True)
    ]
    assert value(result, "reward_margin")["value"] == pytest.approx(sum(expected) / 3)
    again = harness.evaluate("dummy", {"mode": "random"}, task, output=tmp_path / "runs")
    assert value(again, "reward_margin")["value"] == 0.0


@pytest.mark.slow
def test_a_reference_that_was_asked_otherwise_is_no_score_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    base = harness.evaluate(
        "dummy",
        tasks=written(tmp_path / "a", [*PAIRS[:1], {**PAIRS[1], "rejected": " 8"}], PLAIN, "{metric: reward_margin}"),
        output=tmp_path / "runs",
    )
    task = written(tmp_path / "b", PAIRS, PLAIN, f"{{metric: reward_margin, reference: {base.path}}}")
    result = harness.evaluate("demo", tasks=task, output=tmp_path / "runs")
    errors = [record.error for record in result.samples()]
    assert errors[0] is None
    assert "was asked something else" in str(errors[1]) and "has no answer to this sample" in str(errors[2])
    assert value(result, "reward_margin")["n"] == 1
    missing = written(tmp_path / "c", PAIRS, PLAIN, f"{{metric: reward_margin, reference: {tmp_path / 'none'}}}")
    with pytest.raises(UsageError, match="none"):
        harness.evaluate("demo", tasks=missing, output=tmp_path / "runs")


def turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


FORMATS = {
    "conversations with their prompt": (
        {
            "prompt": turns(("user", "1 + 2 =")),
            "chosen": turns(("assistant", "3")),
            "rejected": turns(("assistant", "4")),
        },
        'doc_to_messages: "{{ prompt }}"\ndoc_to_choice: "{{ [chosen[-1].content, rejected[-1].content] }}"\n',
    ),
    "conversations without one": (
        {
            "chosen": turns(("user", "1 + 2 ="), ("assistant", "3")),
            "rejected": turns(("user", "1 + 2 ="), ("assistant", "4")),
        },
        'doc_to_messages: "{{ chosen[:-1] }}"\ndoc_to_choice: "{{ [chosen[-1].content, rejected[-1].content] }}"\n',
    ),
    "messages and a rejected response": (
        {"messages": turns(("user", "1 + 2 ="), ("assistant", "3")), "rejected_response": "4"},
        'doc_to_messages: "{{ messages[:-1] }}"\ndoc_to_choice: "{{ [messages[-1].content, rejected_response] }}"\n',
    ),
    "messages and rejected messages": (
        {
            "messages": turns(("user", "1 + 2 ="), ("assistant", "3")),
            "rejected_messages": turns(("user", "1 + 2 ="), ("assistant", "4")),
        },
        'doc_to_messages: "{{ messages[:-1] }}"\n'
        'doc_to_choice: "{{ [messages[-1].content, rejected_messages[-1].content] }}"\n',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_rows_of_trainers_are_asked_as_they_are(name: str, tmp_path: Path) -> None:
    row, asks = FORMATS[name]
    asks = "output_type: multiple_choice\ndoc_to_target: 0\n" + asks
    task = written(tmp_path / "t", [row], asks, "{metric: reward_accuracy}")
    result = harness.evaluate("dummy", {"mode": "gold"}, task, output=tmp_path / "runs", apply_chat_template=True)
    (record,) = result.samples()
    assert [(message.role, message.text) for message in record.prompt.messages] == [("user", "1 + 2 =")]
    assert record.choices == ("3", "4") and record.scores["reward_accuracy"] == 1.0


@pytest.mark.slow
def test_answers_with_labels_are_a_gap(tmp_path: Path) -> None:
    rows = [
        {"prompt": pair["prompt"], "completion": pair[name], "label": name == "chosen"}
        for pair in 10 * PAIRS
        for name in ("chosen", "rejected")
    ]
    asks = "output_type: loglikelihood\ndoc_to_text: prompt\ndoc_to_target: completion\n"
    task = written(tmp_path / "t", rows, asks, "{metric: reward_gap, beta: 1}")
    result = harness.evaluate("demo", tasks=task, output=tmp_path / "runs")
    found = [record.logprobs[0] for record in result.samples()]
    gap = value(result, "reward_gap")
    assert gap["value"] == pytest.approx(sum(found[0::2]) / 30 - sum(found[1::2]) / 30)
    assert gap["n"] == 60 and gap["stderr"] > 0
