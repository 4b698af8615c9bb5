"""Every task file that ships: it loads, its example holds, and its prompts on real rows are those of its protocol."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.data.open import open_dataset
from harness.errors import MachineError, UsageError
from harness.metrics import MetricOptions
from harness.registry import load_plugins
from harness.scoring import Scorer
from harness.tasks.abilities import ABILITIES
from harness.tasks.build import build_samples
from harness.tasks.build_options import BuildOptions
from harness.tasks.examples import check_examples
from harness.tasks.library import TaskLibrary

ROOT = Path(__file__).parents[2]
MIRROR = ROOT.parent / "shared" / "mirror"
ORACLES = ROOT.parent / "shared" / "oracles"
REGISTRY = load_plugins()
LIBRARY = TaskLibrary([("harness-eval", ROOT / "tasks")], [("harness-eval", ROOT / "templates")])
# Compilers and a Java machine take seconds for each answer of an example. Variants of LiveCodeBench share its example.
COMPILED = ("humaneval_x_cpp", "humaneval_x_java", "naturalcodebench_zh", "fullstackbench_zh_cpp")
MONTH = re.compile(r"20\d\d-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if entry.name in COMPILED or name.startswith("livecodebench:") else name
    for entry in LIBRARY.entries()
    for name in (entry.name, *(f"{entry.name}:{variant}" for variant in entry.variants))
]
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason="the mirror of real rows is not here")

# What lm-evaluation-harness 0.4.13 shows a model for rows 0, 1 and 7 of a subject with five shots (ACLUE and XCOPA with
# none, GSM8K with its `first_n` sampler): the first 16 digits of the SHA-256 of the context that its own prompt builder
# makes.
LM_EVAL = {
    "ceval:lm_eval/law": ("8beea5c77a657deb", "a604fed3084cbeea", "0d4d1112852732cf"),
    "ceval:lm_eval/computer_network": ("a3a131323630bb72", "c925b3ad0787dac5", "e34fc8ca059de4ee"),
    "ceval:lm_eval/high_school_chemistry": ("80e9b403a94536b9", "983fc73df0114f6f", "150dd58ee156f156"),
    "cmmlu:lm_eval/agronomy": ("2ae61360fcab4d41", "85713d4664959649", "80b71c55f5e50f31"),
    "cmmlu:lm_eval/college_law": ("09f1bb1ada328994", "7303c1c308908b85", "eeb7fda795cf5725"),
    "cmmlu:lm_eval/chinese_literature": ("773a09a5d878ec2a", "d18097cc3bc3c072", "fef96d2c7c92b170"),
    "aclue:lm_eval/couplet_prediction": ("515c5c179fae0286", "aa957517c446cbef", "6b7552f0cf9dee61"),
    "xcopa_zh": ("1ca71f6b95b99938", "52a0c59d33633915", "7de8ac58af3eaafb"),
    "gsm8k:lm_eval": ("ea821015b5b035b5", "5debaf75e0a61aec", "2773939c6cf1894f"),
}


def load(expression, **overrides):
    (ref,) = LIBRARY.select([expression])
    return LIBRARY.load(ref, overrides)


def rows_of(expression, limit=8, **overrides):
    task = load(expression, **overrides)
    options = BuildOptions(limit=limit, mirrors=(str(MIRROR),), offline=True)

    def open_split(spec, split):
        return open_dataset(spec, split, REGISTRY.hook)

    for subset in task.subsets:
        yield from build_samples(task, subset, open_split, options)


def events(text: str, loader: Any) -> list[tuple[str, Any]]:
    return [(type(each).__name__, getattr(each, "value", None)) for each in yaml.parse(text, loader)]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(yaml, "CSafeLoader"), reason="runs where PyYAML has libyaml to compare with")
def test_task_files_are_the_same_where_yaml_has_no_libyaml() -> None:
    """PyYAML's own parser is the stricter one: it takes no question mark in what stands unquoted between braces."""
    for file in sorted((ROOT / "tasks").rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        assert events(text, yaml.SafeLoader) == events(text, yaml.CSafeLoader), file


def test_the_abilities_of_tasks_are_those_of_the_list():
    unknown = {entry.name: entry.ability for entry in LIBRARY.entries() if not set(entry.ability) <= set(ABILITIES)}
    assert not unknown, f"harness/tasks/abilities.py has: {', '.join(ABILITIES)}"


def test_every_task_says_when_its_benchmark_was_published():
    undated = {entry.name: entry.date for entry in LIBRARY.entries() if not MONTH.fullmatch(entry.date)}
    assert not undated, 'metadata: {date: "2024-05"}, the month, or the day, of the first publication'


def test_every_alias_names_a_task_and_no_two_tasks_share_one():
    entries = [*LIBRARY.entries(), *LIBRARY.groups()]
    taken = {entry.name.casefold(): entry.name for entry in entries}
    for entry in entries:
        for alias, target in entry.aliases.items():
            assert LIBRARY.select([target]) and LIBRARY.select([alias]) == LIBRARY.select([target]), alias
            assert taken.setdefault(alias.casefold(), entry.name) == entry.name, alias


THOUGHT = "<think>\nOkay, A: maybe 5, yes or no, 对. The answer is 7, 选B.\n```\nx\n```\n</think>\n\n"
# lm-eval's protocols read all of a reply, as lm-eval does; what was extracted for MathVista is no reply.
READS_THOUGHTS = re.compile(r".*:lm_eval|gsm8k|mathvista:(extracted|results_2023)")


def test_no_task_reads_its_answers_out_of_what_a_model_thought_before():
    def unlike(task):
        """The pipelines that read something else where a model has thought aloud first."""
        scorer = Scorer(task.scoring, REGISTRY.metric, REGISTRY.filter)
        # A judge is shown the answer alone.
        read = {key.pipeline for key in scorer.keys if not getattr(key.metric, "is_filled_later", False)}
        found = set()

        def score(sample, responses):
            plain = scorer.score(sample, responses)
            thought = scorer.score(sample, [replace(each, text=f"{THOUGHT}{each.text}") for each in responses])
            found.update(name for name in read if stripped(thought.answers[name]) != stripped(plain.answers[name]))
            return plain.scores

        check_examples(task, score)
        return found

    def stripped(answers):
        return [answer and answer.strip() for answer in answers]

    names = [
        name
        for entry in LIBRARY.entries()
        if "code" not in entry.ability
        for name in (entry.name, *(f"{entry.name}:{variant}" for variant in entry.variants))
        if not READS_THOUGHTS.fullmatch(name)
    ]
    tasks = {name: task for name in names if (task := load(name)).config.output_type == "generate_until"}
    assert {name: found for name, task in tasks.items() if (found := unlike(task))} == {}, "strip_reasoning is missing"


@pytest.mark.parametrize("name", NAMES)
def test_the_example_gives_its_prompt_and_its_scores(name):
    task = load(name)
    try:
        scorer = Scorer(task.scoring, REGISTRY.metric, REGISTRY.filter)
    except UsageError as error:
        if "cannot be run safely" not in str(error):
            raise
        pytest.skip("runs where programs can be run in a sandbox")
    with contextlib.suppress(UsageError):  # a metric may want files that only a user has
        try:
            scorer.prepare(MetricOptions(offline=True))
        except MachineError as error:
            pytest.skip(str(error))
    assert task.config.example
    assert check_examples(task, lambda *seen: scorer.score(*seen).scores, scorer.needs_unconditional) == []


def test_a_benchmark_says_what_it_is():
    for entry in LIBRARY.entries():
        config = load(entry.name).config
        for key in ("title", "ability", "language", "modality", "version"):
            assert getattr(config, key), f"{entry.name} has no '{key}'"
        assert "demo" in entry.tags or config.paper or config.license, entry.name


@needs_mirror
@pytest.mark.parametrize("name", LM_EVAL)
def test_prompts_are_those_of_lm_eval_byte_for_byte(name):
    fewshot = {"fewshot_config": {"sampler": "first_n"}} if name.startswith("gsm8k") else {}
    samples = list(rows_of(name, **fewshot))
    texts = [samples[index].requests[0].prompt.text for index in (0, 1, 7)]
    assert tuple(hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts) == LM_EVAL[name]
    if ":lm_eval" in name and not name.startswith("gsm8k"):
        assert samples[0].requests[0].continuations == (" A", " B", " C", " D")


@needs_mirror
@pytest.mark.parametrize(("name", "count", "per_subset"), [("ceval", 52, 5), ("cmmlu", 67, 5), ("gaokao_bench", 14, 5)])
def test_every_subset_has_its_rows(name, count, per_subset):
    task = load(name)
    assert len(task.subsets) == count
    samples = list(rows_of(name, limit=per_subset))
    assert len(samples) == count * per_subset
    assert all(sample.target is not None for sample in samples)


def test_ceval_groups_are_those_of_the_authors():
    groups = [group for subset in load("ceval").subsets for group in subset.groups]
    sizes = {name: groups.count(name) for name in groups}
    assert sizes == {"STEM": 20, "Social Science": 10, "Humanities": 11, "Other": 11, "C-Eval Hard": 8}


def test_cmmlu_groups_are_those_of_the_authors():
    groups = [group for subset in load("cmmlu").subsets for group in subset.groups]
    sizes = {name: groups.count(name) for name in groups}
    assert sizes == {"STEM": 17, "Humanities": 13, "Social Science": 22, "Other": 15, "China-specific": 15}


@needs_mirror
def test_official_prompts_glue_the_letter_to_the_colon():
    (sample, *_) = rows_of("ceval/law", limit=1)
    text = sample.requests[0].prompt.text
    assert text.startswith("以下是中国关于法学考试的单项选择题，请选出其中的正确答案。\n\n")
    assert text.count("答案：") == 6 and text.endswith("\n答案：") and "答案： " not in text
    assert sample.requests[0].continuations == ("A", "B", "C", "D")


@pytest.mark.skipif(
    not (ORACLES.is_dir() and MIRROR.is_dir()), reason="runs where recorded runs lie beside the project"
)
def test_gaokao_gives_the_points_that_the_authors_gave_to_gpt_4():
    folder = ORACLES / "gaokao" / "gpt-4-0314"
    official = json.loads((folder / "result" / "correction_score.json").read_text(encoding="utf-8"))
    points = {name: row for subject in official["subject"].values() for name, row in subject["type"].items()}
    task = load("gaokao_bench")
    scorer = Scorer(task.scoring, REGISTRY.metric, REGISTRY.filter)
    earned = {}
    for subset in task.subsets:
        earned[subset.name] = _points(task, subset, scorer, folder)
    assert earned == {name: (row["correct_score"], row["total_score"]) for name, row in points.items()}
    assert sum(first for first, _ in earned.values()) == official["correct_score"]


def _points(task, subset, scorer, folder):
    from harness import Response

    recorded = json.loads((folder / f"gpt-4-0314_{subset.name}.json").read_text(encoding="utf-8"))["example"]
    replies = {row["index"]: row["model_output"] for row in recorded}
    options = BuildOptions(mirrors=(str(MIRROR),), offline=True)
    totals = (0.0, 0.0)
    for sample in build_samples(task, subset, lambda spec, split: open_dataset(spec, split, REGISTRY.hook), options):
        scored = scorer.score(sample, [Response(text=replies[sample.doc["index"]])])
        got, possible = scored.scores["gaokao_points"]
        totals = (totals[0] + got, totals[1] + possible)
    return totals
