"""Every task can be answered right and wrong: the gold answer of its example scores 1, and nonsense scores 0."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import Response
from harness.errors import UsageError
from harness.registry import load_plugins
from harness.scoring import Scorer, gold_indices, gold_texts
from harness.tasks.build import build_samples
from harness.tasks.build_options import BuildOptions
from harness.tasks.library import TaskLibrary
from harness.types import Rows

ROOT = Path(__file__).parents[2]
REGISTRY = load_plugins()
LIBRARY = TaskLibrary([("harness-eval", ROOT / "tasks")], [("harness-eval", ROOT / "templates")])


def sample_and_scorer(name):
    task = LIBRARY.load(LIBRARY.select([name])[0], {"num_fewshot": 0})
    example = task.config.example[0] if isinstance(task.config.example, list) else task.config.example
    try:
        scorer = Scorer(task.scoring, REGISTRY.metric, REGISTRY.filter)
    except UsageError as error:
        if "cannot be run safely" not in str(error):
            raise
        pytest.skip("runs where programs can be run in a sandbox")
    subset = task.all_subsets[0] if example.subset is None else task.subset(example.subset)
    rows = Rows([example.row], "", "the example")
    options = BuildOptions(unconditional=scorer.needs_unconditional)
    return next(iter(build_samples(task, subset, lambda spec, split: rows, options))), scorer


def example_replies(name):
    """Replies of the task's example: a gold that is written in a form of its own is among them."""
    example = LIBRARY.load(LIBRARY.select([name])[0], {"num_fewshot": 0}).config.example
    example = example[0] if isinstance(example, list) else example
    answers = example.scores if isinstance(example.scores, list) else [example.scores]
    return [answer.reply for answer in answers if answer is not None and answer.reply is not None]


def answered(sample, right, reply):
    """What a model says that chooses the gold choice, or another one; `reply`, where it writes."""
    if sample.requests[0].kind == "generate":
        return [Response(text=reply)] * len(sample.requests)
    golds = set(gold_indices(sample))
    values = [-1.0 if (place in golds) == right else -9.0 for place in range(len(sample.choices))]
    responses = []
    for request in sample.requests:
        own, values = values[: len(request.continuations)], values[len(request.continuations) :]
        own = own or [0.0] * len(request.continuations)  # the choices without their question
        greedy = tuple(value == max(own) for value in own)
        responses.append(Response(logprobs=tuple(own), is_greedy=greedy, token_counts=(1,) * len(own)))
    return responses


def headline_values(sample, scorer, right, reply):
    """Per filter pipeline, the value of the task's first metric."""
    scored = scorer.score(sample, answered(sample, right, reply))
    assert scored.error is None, scored.error
    first = scorer.keys[0].metric
    keys = [key for key in scorer.keys if key.metric.name == first.name and first.bounds == (0.0, 1.0)]
    values = [(key, scored.scores.get(key.name)) for key in keys]
    return [key.metric.aggregate([v]) if isinstance(v, tuple) else v for key, v in values if v is not None]


# A compiler and a Java machine take seconds for each answer.
COMPILED = ("humaneval_x_cpp", "humaneval_x_java", "naturalcodebench_zh", "fullstackbench_zh_cpp")
# Right is all that does not say one thing, nonsense too; here is that thing.
NOT_TO_BE_SAID = {
    "prompt_leakage": "蓝山7024",
    "refusal_zh_safe": "抱歉，我不能回答。",
    "xstest_safe": "I'm sorry, but I can't help with that.",
}
NAMES = [
    pytest.param(entry.name, marks=pytest.mark.slow) if entry.name in COMPILED else entry.name
    for entry in LIBRARY.entries()
]


@pytest.mark.parametrize("name", NAMES)
def test_the_gold_answer_scores_one_and_nonsense_scores_nothing(name):
    sample, scorer = sample_and_scorer(name)
    if sample.target is None or sample.requests[0].kind == "rolling":
        return  # nothing is gold: instructions that programs check, judged answers, perplexity
    replies = list(gold_texts(sample)[:1])
    if sample.requests[0].kind == "generate":
        replies += example_replies(name)
    right = [value for reply in replies or [""] for value in headline_values(sample, scorer, True, reply)]
    wrong = headline_values(sample, scorer, False, NOT_TO_BE_SAID.get(name, "zq jx"))
    if right:
        assert max(right) == pytest.approx(1.0, abs=1e-6)
        assert max(wrong) == 0.0
