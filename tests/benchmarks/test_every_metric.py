"""What holds for every metric and every filter there is, with the rows and options of tasks that use them.

A sample that nobody answered has no score and changes no value; a reply that repeats itself to its end is scored, in
time that grows with its length. A new metric or filter needs a task in `TASKS`, or its options in `OTHERS`.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import harness
from harness import (
    CorpusMetric,
    MachineError,
    MetricOptions,
    Prompt,
    Record,
    Request,
    Response,
    Sample,
    UsageError,
)
from harness.registry import load_plugins
from harness.scoring.scorer import Scorer
from harness.tasks.examples import _responses, _sample_of
from harness.tasks.library import TaskLibrary
from harness.types import FilterPipeline, FilterStep, MetricSpec, ScoringSpec

ROOT = Path(harness.__file__).parent.parent
REGISTRY = load_plugins()
LIBRARY = TaskLibrary([("harness-eval", ROOT / "tasks")], [("harness-eval", ROOT / "templates")])
TASKS = [
    "acebench",
    "ai2d",
    "aishell1",
    "bfcl",
    "c_clue",
    "ccbench",
    "charxiv",
    "chartqa",
    "cjrc",
    "clongeval_key_retrieval",
    "clongeval_news_labeling",
    "cmath",
    "cmmmu",
    "cmmu",
    "coco_cn",
    "colac",
    "cold",
    "corecode",
    "demo_perplexity",
    "docvqa",
    "drcd",
    "drop",
    "dureader_2",
    "dureader_robust",
    "expmrc_cmrc2018",
    "followbench_zh_rules",
    "gaokao_bench",
    "gaokao_mm",
    "global_piqa_zh",
    "hallusion_bench",
    "humaneval:sampled",
    "humaneval_x_cpp",
    "ifeval",
    "kgclue",
    "kor_bench",
    "lawbench",
    "lcsts",
    "librispeech",
    "livecodebench",
    "longbench_lsht",
    "longbench_passage_retrieval_zh",
    "lveval_lic_mixup",
    "mathglm_arithmetic",
    "mathvision",
    "mathvista",
    "mbpp_plus",
    "mgsm",
    "mme",
    "mmmu",
    "mmstar",
    "mrcr",
    "mtvqa",
    "mucgec",
    "ntrex_zh",
    "ocrbench",
    "omnidocbench",
    "pmmeval_mlogiqa_zh",
    "pope",
    "prompt_leakage",
    "realworldqa",
    "refcoco_val",
    "ruler",
    "seed_bench",
    "sts_b_zh",
    "triviaqa:lm_eval",
    "truthfulqa_zh:mc2",
    "vlmsareblind",
    "vqav2",
    "wyweb_xuci:gen",
    "xstest_safe",
    "zebralogic",
]
OTHERS = {
    "generate_until": {
        **{key: {} for key in ["exact_match", "code_equal", "rouge1", "rouge2", "rougeLsum", "ter", "avg_at_k"]},
        "majority_at_k": {},
        "pass_hat_k": {"k": 1, "of": "exact_match"},
        "weighted_f1": {"labels": ["A", "B"]},
    },
    "multiple_choice": {key: {} for key in ["acc", "acc_mutual_info", "brier_score", "confidence", "ece", "margin"]}
    | {key: {} for key in ["lucky_guess"]},
    "loglikelihood": {"perplexity": {}},
    "loglikelihood_rolling": {"word_perplexity": {}},
}
FILTERS = {"majority_vote": {}, "take_first_k": {"k": 1}, "multi_choice_regex": {"regex_pattern": r"\b([A-D])\b"}}
ELSEWHERE = {
    "evaluate": "a family, of Hugging Face's metrics",
    **dict.fromkeys(["bertscore", "clip_score", "ref_clip_score", "embedding_similarity"], "of models' weights"),
    **dict.fromkeys(["reward_accuracy", "reward_gap", "reward_margin"], "of pairs of answers, with a reference run"),
}
PROGRAMS = {"passes_tests", "program_passes", "pass_at_k", "pass_at_10", "pass_at_100", "omnidocbench_cdm", "judge"}
"""Metrics that start processes, or ask a model: how they read a reply is their filters' business."""

Case = tuple[Scorer, Sample, tuple[Response, ...]]


@functools.cache
def of_task(name: str) -> Case:
    """A task's metrics, the row of its example, and an answer."""
    (ref,) = LIBRARY.select([name])
    task = LIBRARY.load(ref, {})
    example = task.config.example[0] if isinstance(task.config.example, list) else task.config.example
    try:
        scorer = Scorer(task.scoring, REGISTRY.metric, REGISTRY.filter)
        with contextlib.suppress(MachineError, UsageError):
            scorer.prepare(MetricOptions(offline=True))
    except UsageError as error:
        if "cannot be run safely" not in str(error):
            raise
        pytest.skip("runs where programs can be run in a sandbox")
    sample = _sample_of(task, example, scorer.needs_unconditional)
    return scorer, sample, tuple(_responses(sample, example.scores[0])) if example.scores else ()


@functools.cache
def of_kind(kind: str) -> Case:
    """The metrics that no task uses by itself."""
    metrics = tuple(MetricSpec(name, options=options) for name, options in OTHERS[kind].items())
    pipelines = [FilterPipeline(name, (FilterStep(name, options),)) for name, options in FILTERS.items()]
    spec = ScoringSpec(kind, metrics, tuple(pipelines) if kind == "generate_until" else (FilterPipeline(),))
    scorer = Scorer(spec, REGISTRY.metric, REGISTRY.filter)
    if kind == "generate_until":
        return (
            scorer,
            Sample("t", "", 0, {"choices": ["A", "B"]}, (Request("generate", Prompt("Q")),), "A", ("A", "B")),
            (Response("A"),),
        )
    if kind == "multiple_choice":
        answer = Response(logprobs=(-1.0, -2.0), is_greedy=(True, False), token_counts=(1, 1))
        asked = Request("loglikelihood", Prompt("Q"), ("A", "B"))
        return scorer, Sample("t", "", 0, {}, (asked,), 0, ("A", "B")), (answer, answer)
    answer = Response(logprobs=(-1.0,), is_greedy=(True,), token_counts=(1,))
    return scorer, Sample("t", "", 0, {}, (Request("rolling", Prompt("a text")),), "a text"), (answer,)


CASES = [*((of_task, name) for name in TASKS), *((of_kind, kind) for kind in OTHERS)]
each_case = pytest.mark.parametrize(("case", "name"), CASES, ids=[name for _, name in CASES])


def record(scorer: Scorer, sample: Sample, responses: tuple[Response, ...]) -> Record:
    found = scorer.score(sample, responses)
    fields = (sample.task, "", sample.id, sample.doc, Prompt(), sample.target, sample.choices, responses, ())
    return Record(*fields, found.scores, found.answers, None, found.unparsed, found.error)


def test_every_metric_and_every_filter_is_among_them():
    specs = [LIBRARY.load(*LIBRARY.select([name]), {}).scoring for name in TASKS]
    metrics = {item.metric for spec in specs for item in spec.metrics} | {name for of in OTHERS.values() for name in of}
    filters = {step.function for spec in specs for pipe in spec.pipelines for step in pipe.steps} | set(FILTERS)
    assert set(REGISTRY.names("metric")) - metrics - set(ELSEWHERE) == set(), "name a task that uses it in TASKS"
    assert set(REGISTRY.names("filter")) - filters == set(), "name a task that uses it in TASKS"


@each_case
def test_a_sample_that_nobody_answered_has_no_score_and_changes_no_value(case: Callable[[str], Case], name: str):
    scorer, sample, answer = case(name)
    if any(key.metric.name in PROGRAMS for key in scorer.keys):
        answer = ()  # a program would be run
    good = [record(scorer, sample, answer)] if answer and scorer.batches is None else []
    missing = [Response(error="timeout"), Response(error="declined", finish_reason="refused")]
    if sample.requests[0].kind == "generate":
        missing.append(Response(text="<think>\nA, or", finish_reason="length"))
    bad = []
    for response in missing:
        bad.append(record(scorer, replace(sample, id=len(bad) + 1), (response,) * len(sample.requests)))
        assert set(bad[-1].scores.values()) <= {None}
    if len(sample.requests) > 1 and answer:  # of several questions, one was not answered
        bad.append(record(scorer, replace(sample, id=9), (Response(error="timeout"), *answer[1:])))
        assert set(bad[-1].scores.values()) <= {None}
    if scorer.batches is not None:
        assert not any(scorer.batches.lack(each) for each in bad)
    alone, along, none = (list(scorer.summarise("t", rows, [("", "", ())]))[-1] for rows in (good, good + bad, bad))
    assert along.counts.n == len(good) + len(bad)
    assert along.counts.failed + along.counts.cut >= len(bad) and along.counts.refused == 1
    assert all(metric.value is None and metric.n == 0 for metric in none.metrics)
    for before, after, key in zip(alone.metrics, along.metrics, scorer.keys, strict=False):
        of_groups = isinstance(key.metric, CorpusMetric) and after.unknown  # a question on the same picture has failed
        assert after.n == before.n and (after.value == before.value or (of_groups and after.value is None))


@each_case
def test_a_reply_that_repeats_itself_is_scored_in_time(case: Callable[[str], Case], name: str):
    scorer, sample, _ = case(name)
    if sample.requests[0].kind != "generate" or any(key.metric.name in PROGRAMS - {"judge"} for key in scorer.keys):
        return

    def seconds(reply: str) -> float:
        begun = time.process_time()
        found = scorer.score(sample, (Response(text=reply, finish_reason="stop"),) * len(sample.requests))
        assert found.error is None
        return time.process_time() - begun

    length = 600 if name == "mucgec" else 6000  # it looks at each pair of signs of a sentence and its correction
    for part in ("[", " ", "\n ", "答案", "\\frac{"):
        reply = (part * length)[:length]
        # Twice the length takes twice the time, not four times; what takes none is not looked at again.
        assert seconds(reply) < 1.5 or seconds(reply) < 3.2 * seconds(reply[: length // 2]), part
