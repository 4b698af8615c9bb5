"""Metrics of Hugging Face's evaluate, from scripts that the test writes: of whole sets and of each sample."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from harness import Metric, MetricOptions, Observation, Response, Sample, UsageError
from harness.errors import PluginError
from harness.registry import load_plugins
from harness.testing import check_metric, run_harness
from harness_plugins.metrics import hf_evaluate

evaluate = pytest.importorskip("evaluate")

SCRIPT = """\
import datasets
import evaluate


class {name}(evaluate.Metric):
    def _info(self):
        features = datasets.Features({features})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, {arguments}):
{body}
"""
LABELS = "{'predictions': datasets.Value('int32'), 'references': datasets.Value('int32')}"
TEXTS = "{'predictions': datasets.Value('string'), 'references': datasets.Value('string')}"
LISTS = "{'predictions': datasets.Value('string'), 'references': datasets.Sequence(datasets.Value('string'))}"
SCRIPTS = {
    "accuracy": (
        LABELS,
        "predictions, references, normalize=True",
        "right = sum(a == b for a, b in zip(predictions, references))\n"
        "return {'accuracy': right / len(references) if normalize else right}",
    ),
    "f1": (
        LABELS,
        "predictions, references, average='macro'",
        "scores = []\n"
        "for label in sorted({*predictions, *references}):\n"
        "    hits = sum(a == b == label for a, b in zip(predictions, references))\n"
        "    scores.append(2 * hits / (predictions.count(label) + references.count(label)))\n"
        "return {'f1': scores if average is None else sum(scores) / len(scores)}",
    ),
    "overlap": (
        LISTS,
        "predictions, references",
        "shared = [max(len(set(p) & set(r)) for r in refs) for p, refs in zip(predictions, references)]\n"
        "return {'shared': sum(shared), 'most': max(shared), 'each': shared, 'by': {'a': 1}}",
    ),
    "lengths": (TEXTS, "predictions, references", "return {'lengths': [len(text) / 10 for text in predictions]}"),
    "squad": (
        "{'predictions': {'id': datasets.Value('string'), 'prediction_text': datasets.Value('string')},"
        " 'references': {'id': datasets.Value('string'), 'answers': datasets.Features("
        "{'text': datasets.Sequence(datasets.Value('string')),"
        " 'answer_start': datasets.Sequence(datasets.Value('int32'))})}}",
        "predictions, references",
        "texts = {p['id']: p['prediction_text'] for p in predictions}\n"
        "right = [texts[r['id']] in r['answers']['text'] for r in references]\n"
        "return {'exact_match': 100 * sum(right) / len(right)}",
    ),
    "simple": (
        "{'sources': datasets.Value('string'), 'predictions': datasets.Value('string')}",
        "sources, predictions",
        "return {'simple': sum(len(p) / len(s) for s, p in zip(sources, predictions))}",
    ),
    "mae": (
        "{'predictions': datasets.Value('float32'), 'references': datasets.Value('float32')}",
        "predictions, references",
        "return {'mae': sum(abs(a - b) for a, b in zip(predictions, references)) / len(references)}",
    ),
    "pictures": (
        "{'predictions': datasets.Image(), 'references': datasets.Image()}",
        "predictions, references",
        "return {}",
    ),
    "broken": (TEXTS, "predictions, references", "raise ZeroDivisionError('no\\nwords')"),
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory, evaluate_caches: None) -> Path:
    """A folder `<name>/<name>.py` for each metric, as `evaluate` wants it."""
    folder = tmp_path_factory.mktemp("metrics", numbered=False)
    for name, (features, arguments, body) in SCRIPTS.items():
        lines = "\n".join(f"        {line}" for line in body.splitlines())
        text = SCRIPT.format(name=name.capitalize(), features=features, arguments=arguments, body=lines)
        (folder / name).mkdir()
        (folder / name / f"{name}.py").write_text(text, encoding="utf-8")
    return folder


def ready(scripts: Path, name: str, aggregation: str | None = None, **options: Any) -> Any:
    cls: Any = hf_evaluate.Evaluate.member(name).for_aggregation(aggregation)
    metric = cls(**{"path": f"metrics/{name}", **options})
    metric.prepare(MetricOptions(scripts.parent))
    return metric


def seen(target: Any, *replies: str | None, **doc: Any) -> Observation:
    sample = Sample("t", "", 0, doc, (), target)
    return Observation(sample, tuple(Response(text=reply) for reply in replies), (), replies)


def chosen(gold: int, best: int) -> Observation:
    sample = Sample("t", "", 0, {}, (), gold, ("no", "yes", "maybe"))
    return Observation(sample, (Response(logprobs=tuple(-1.0 - (place != best) for place in range(3))),))


def measured(metric: Any, *observed: Observation) -> Any:
    return metric.measure([metric.item(each) for each in observed])


def test_labels_of_a_whole_set_score_as_in_scikit_learn(scripts: Path) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    draw = random.Random(0)
    golds, guesses = ([draw.randrange(4) for _ in range(200)] for _ in range(2))
    observed = [seen(str(gold), f" {guess}\n") for gold, guess in zip(golds, guesses, strict=True)]
    assert measured(ready(scripts, "accuracy"), *observed) == {
        "": pytest.approx(sklearn.accuracy_score(golds, guesses))
    }
    macro = sklearn.f1_score(golds, guesses, average="macro")
    assert measured(ready(scripts, "f1"), *observed) == {"": pytest.approx(macro)}


def test_choices_are_labels_by_their_numbers_and_texts_by_their_words(scripts: Path) -> None:
    observed = [chosen(0, 0), chosen(1, 2), chosen(2, 2), chosen(1, 1)]
    assert measured(ready(scripts, "accuracy"), *observed) == {"": 0.75}
    assert measured(ready(scripts, "overlap", key="shared"), *observed) == {"": 2 + 2 + 5 + 3}


def test_options_are_passed_on(scripts: Path) -> None:
    assert measured(ready(scripts, "accuracy", normalize=False), seen("1", "1"), seen("0", "1")) == {"": 1.0}
    with pytest.raises(UsageError, match=r"takes no option 'averge' \(its compute takes: average\)"):
        ready(scripts, "f1", averge="micro")


def test_all_numbers_are_reported_or_those_that_are_asked_for(scripts: Path) -> None:
    observed = [seen(("abc", "d"), "ab"), seen("xyz", None)]
    assert measured(ready(scripts, "overlap"), *observed) == {"shared": 2.0, "most": 2.0}
    assert measured(ready(scripts, "overlap", key=["most", "shared"]), *observed) == {"most": 2.0, "shared": 2.0}
    for key in ("each", "by", "nothing"):
        with pytest.raises(ValueError, match=f"its result '{key}' is .*; numbers among its results: shared, most"):
            measured(ready(scripts, "overlap", key=key), *observed)


def test_a_list_of_labels_is_no_list_of_samples(scripts: Path) -> None:
    # Two samples, two labels: what has the length of the batch is not always about its samples.
    metric = ready(scripts, "f1", "mean", average=None)
    outcomes = metric.score_batch([seen("0", "0"), seen("1", "0")])
    assert outcomes[0].score == 1.0 and "has no number 'f1'" in outcomes[1].error


def test_each_sample_has_a_score_where_an_aggregation_is_named(scripts: Path) -> None:
    metric = ready(scripts, "accuracy", "mean")
    outcomes = metric.score_batch([seen("1", "1"), seen("0", "1"), seen("1", "1", "0"), seen(None, "1"), seen("1")])
    assert [outcome.score for outcome in outcomes] == [1.0, 0.0, 0.5, None, None]
    both = ready(scripts, "overlap", "mean", key=["shared", "most"])
    assert both.values == ("shared", "most") and both.score(seen("ab", "b")) == (1.0, 1.0)
    with pytest.raises(ValueError, match=r"say which to report, `key: NAME` \(it has: shared, most, each\)"):
        ready(scripts, "overlap", "mean").score(seen("ab", "b"))


def test_a_metric_that_scores_many_at_once_is_asked_once(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metric = ready(scripts, "lengths", "mean")
    metric.score_batch([seen("a", "b"), seen("a", "c")])
    calls: list[int] = []
    compute = metric._module._compute

    def counted(predictions: list[str], references: list[str]) -> Any:
        calls.append(len(predictions))
        return compute(predictions, references)

    monkeypatch.setattr(metric._module, "_compute", counted)
    outcomes = metric.score_batch([seen("a", "x" * place) for place in range(50)])
    assert [outcome.score for outcome in outcomes] == [place / 10 for place in range(50)] and calls == [50]


def test_an_answer_that_is_no_label_fails_unless_it_has_one_of_its_own(scripts: Path) -> None:
    metric = ready(scripts, "accuracy")
    for answer in ("one", "", None, "1.5", "inf", "nan"):
        with pytest.raises(ValueError, match="is no whole number; `unparsed: -1` would count it"):
            metric.item(seen("1", answer))
    assert measured(ready(scripts, "accuracy", unparsed=-1), seen("1", "one"), seen("1", "1")) == {"": 0.5}
    with pytest.raises(ValueError, match=r"the reference 'x' is no whole number$"):
        ready(scripts, "accuracy", unparsed=-1).item(seen("x", "1"))
    with pytest.raises(ValueError, match="takes one reference, and the row has 2"):
        metric.item(seen(("1", "2"), "1"))


def test_texts_can_stand_for_labels(scripts: Path) -> None:
    metric = ready(scripts, "accuracy", classes=["negative", "positive"], unparsed=-1)
    observed = [seen("positive", "positive "), seen("negative", "positive"), seen("negative", "中性 🙂")]
    assert measured(metric, *observed) == {"": pytest.approx(1 / 3)}
    with pytest.raises(ValueError, match="the answer '中性' is none of the classes"):
        ready(scripts, "accuracy", classes=["negative", "positive"]).item(seen("positive", "中性"))


def test_records_numbers_and_columns_of_the_row_are_filled_in(scripts: Path) -> None:
    observed = [seen(("a", "b"), "b"), seen("c", "d", "c")]
    assert measured(ready(scripts, "squad"), *observed) == {"": pytest.approx(200 / 3)}
    assert measured(ready(scripts, "mae"), seen("1.5", "2"), seen("3", "3.5")) == {"": pytest.approx(0.5)}
    metric = ready(scripts, "simple", columns={"sources": "text"})
    assert measured(metric, seen(None, "ab", text="abcd")) == {"": 0.5}
    with pytest.raises(ValueError, match=r"the row has no column 'text' \(it has: q\)"):
        metric.item(seen(None, "ab", q="abcd"))


def test_less_may_be_better(scripts: Path) -> None:
    assert not hf_evaluate.Evaluate.member("mae").higher_is_better
    assert not hf_evaluate.Evaluate.member("mae").for_aggregation("mean").higher_is_better
    assert hf_evaluate.Evaluate.member("someone/accuracy").higher_is_better


def test_the_identity_is_that_of_the_code(scripts: Path) -> None:
    first, second = ready(scripts, "accuracy").identity, ready(scripts, "f1").identity
    assert first["code"] != second["code"] and first == ready(scripts, "accuracy").identity
    assert first["evaluate"] == evaluate.__version__


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nowhere", {}, r"path: there is no script 'metrics/nowhere', and no folder with one of its name \(looked in "),
        ("simple", {}, "takes 'sources' too: say which column it is"),
        ("pictures", {}, "which answers of a model cannot be put into"),
        ("accuracy", {"resamples": -1}, "resamples is -1; it should be a whole number"),
        ("offline", {"path": None}, "evaluate cannot load 'offline': .*`path:` names a local folder"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(
    name: str, options: dict[str, Any], message: str, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*arguments: Any, **options: Any) -> None:
        raise FileNotFoundError("Couldn't find a module\nanywhere")

    if options.get("path", "") is None:
        monkeypatch.setattr(evaluate, "load", nothing)
    with pytest.raises(UsageError, match=message) as caught:
        ready(scripts, name, **options)
    assert "\n" not in str(caught.value)


def test_the_network_is_forbidden_where_the_run_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[bool] = []

    def load(*arguments: Any, **options: Any) -> None:
        states.append(evaluate.config.HF_EVALUATE_OFFLINE)
        raise ConnectionError

    monkeypatch.setattr(evaluate, "load", load)
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", False)
    for offline in (True, False):
        with pytest.raises(UsageError):
            hf_evaluate.Evaluate.member("accuracy")().prepare(MetricOptions(offline=offline))
    assert states == [True, False] and evaluate.config.HF_EVALUATE_OFFLINE is False


def test_the_package_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_evaluate, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package evaluate: pip install 'harness-eval\[evaluate\]'"):
        hf_evaluate.Evaluate.member("accuracy")().prepare(MetricOptions())


def test_the_registry_knows_the_family() -> None:
    registry = load_plugins()
    assert registry.metric("evaluate/accuracy").name == "evaluate/accuracy"
    assert registry.metric("evaluate/someone/accuracy").name == "evaluate/someone/accuracy"
    with pytest.raises(PluginError, match="unknown metric 'exact_match/accuracy'"):
        registry.metric("exact_match/accuracy")
    with pytest.raises(UsageError, match="say which metric behind a slash"):
        registry.metric("evaluate")()


def test_it_keeps_the_contract_of_metrics(scripts: Path) -> None:
    metrics: list[Metric] = [ready(scripts, "accuracy", "mean"), ready(scripts, "f1")]
    for metric in metrics:
        assert check_metric(metric, [seen("1", "1"), seen("0", "1"), seen(None, "1")]) == []


def task(folder: Path, scripts: Path, metrics: list[str]) -> list[str]:
    """A task whose answers are all `1`, and the command that runs it."""
    rows = [{"q": f"{place}?", "a": str(gold)} for place, gold in enumerate([1, 0, 1, 2, 1, 0])]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [
        "task: labels", "dataset_path: rows.jsonl", "test_split: test", "output_type: generate_until",
        "doc_to_text: q", "doc_to_target: a", "metric_list:", *(f"- {{{metric}}}" for metric in metrics),
    ]  # fmt: skip
    (folder / "labels.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    answers = ["--model", "dummy", "--model_args", "mode=fixed,text=1", "--output", str(folder / "runs")]
    return ["--tasks", str(folder / "labels.yaml"), *answers]


def metrics_of(folder: Path) -> dict[str, dict[str, Any]]:
    (file,) = (folder / "runs").glob("*/report.json")
    report = json.loads(file.read_text(encoding="utf-8"))
    return {metric["metric"]: metric for metric in report["tasks"][0]["metrics"]}


def test_a_run_reports_whole_sets_and_samples(scripts: Path, tmp_path: Path) -> None:
    command = task(
        tmp_path,
        scripts,
        [
            f"metric: evaluate/accuracy, path: {scripts}/accuracy, aggregation: mean",
            f"metric: evaluate/f1, path: {scripts}/f1, resamples: 20",
            f"metric: evaluate/overlap, path: {scripts}/overlap/overlap.py",
        ],
    )
    done = run_harness(*command)
    assert done.exit_code == 0, done.stderr
    found = metrics_of(tmp_path)
    values = {name: metric["value"] for name, metric in found.items()}
    assert values == {
        "evaluate/accuracy": 0.5,
        "evaluate/f1": pytest.approx((2 * 3 / 9) / 3),
        "evaluate/overlap_shared": 3.0,
        "evaluate/overlap_most": 1.0,
    }
    assert found["evaluate/f1"]["stderr"] > 0 and found["evaluate/overlap_most"]["stderr"] is None
    assert "evaluate 0.4" in done.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert run_harness("score", str(run)).exit_code == 0
    assert {name: metric["value"] for name, metric in metrics_of(tmp_path).items()} == values


def test_code_that_fails_leaves_no_value_and_says_why(scripts: Path, tmp_path: Path) -> None:
    whole = f"metric: evaluate/broken, path: {scripts}/broken"
    done = run_harness(*task(tmp_path, scripts, [whole]))
    assert done.exit_code == 1
    assert metrics_of(tmp_path)["evaluate/broken"]["error"].startswith("ZeroDivisionError: no words (")
    (tmp_path / "each").mkdir()
    done = run_harness(*task(tmp_path / "each", scripts, [f"{whole}, aggregation: mean"]))
    assert done.exit_code == 1 and metrics_of(tmp_path / "each")["evaluate/broken"]["n"] == 0


def test_lm_eval_files_name_such_metrics_by_hf_evaluate(scripts: Path, tmp_path: Path) -> None:
    command = task(tmp_path, scripts, [f"metric: accuracy, hf_evaluate: true, path: {scripts}/accuracy"])
    assert run_harness(*command).exit_code == 0
    metric = metrics_of(tmp_path)["evaluate/accuracy"]
    assert (metric["value"], metric["aggregation"]) == (0.5, "mean")
