"""BERTScore agrees with the package bert-score, embeds each text once, and refuses early what cannot work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from make_bertscore_official import ANSWERS, CASES, REFERENCES
from tiny_encoders import tiny_bert

from harness import MetricOptions, Observation, Response, Sample, UsageError
from harness.testing import check_metric, run_harness
from harness_plugins.metrics.semantic.bertscore import BertScore
from harness_plugins.metrics.semantic.encoder import TextEncoder, load_encoder

OFFICIAL = json.loads((Path(__file__).parent / "bertscore_official.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("models") / "tiny-bert")


def ready(folder: Path, **options: Any) -> BertScore:
    metric = BertScore(model=str(folder), **{"layer": 2, **options})
    metric.prepare(MetricOptions(folder.parent))
    return metric


def seen(target: Any, *replies: str | None) -> Observation:
    sample = Sample("t", "", 0, {}, (), target)
    return Observation(sample, tuple(Response(text=reply) for reply in replies), (), replies)


def pairs() -> list[Observation]:
    return [seen(tuple(golds), answer) for answer, golds in zip(ANSWERS, REFERENCES, strict=True)]


@pytest.mark.parametrize("case", CASES)
def test_every_value_is_that_of_the_official_package(case: str, folder: Path) -> None:
    metric = ready(folder, **CASES[case])
    metric.prepare_corpus([each.sample for each in pairs()])
    found = [outcome.score for outcome in metric.score_batch(pairs())]
    for ours, theirs in zip(zip(*found, strict=True), OFFICIAL[case], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_the_official_package_itself_agrees_where_it_is_installed(folder: Path) -> None:
    bert_score = pytest.importorskip("bert_score")
    golds = [gold[0] for gold in REFERENCES]
    theirs = bert_score.score(ANSWERS, golds, model_type=str(folder), num_layers=2, use_fast_tokenizer=True)
    ours = [each.score for each in ready(folder).score_batch([seen(g, a) for a, g in zip(ANSWERS, golds, strict=True)])]
    assert [score[0] for score in ours] == pytest.approx(theirs[2].tolist(), abs=1e-5)


def test_each_distinct_text_is_encoded_once_and_many_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    forward = TextEncoder._forward

    def counted(self: TextEncoder, ids: Any, mask: Any) -> Any:
        batches.append(len(ids))
        return forward(self, ids, mask)

    monkeypatch.setattr(TextEncoder, "_forward", counted)
    texts = [f"{'the cat sat ' * (number % 5)} {'dog ' * (number % 7)}" for number in range(250)]
    ready(folder, batch_size=16).score_batch([seen("the cat", text) for text in texts])
    assert sum(batches) == len({text.strip() for text in texts} | {"the cat"}) == 36
    assert batches == [16, 16, 4]


def test_the_order_of_the_samples_changes_nothing(folder: Path) -> None:
    metric = ready(folder)
    forth = metric.score_batch(pairs())
    back = ready(folder, batch_size=3).score_batch(pairs()[::-1])[::-1]
    for one, other in zip(forth, back, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)


def test_several_replies_score_their_mean_and_an_unread_one_0(folder: Path) -> None:
    metric = ready(folder)
    alone = metric.score(seen("the cat", "a dog"))
    both = metric.score(seen("the cat", "a dog", None))
    assert both == pytest.approx(tuple(value / 2 for value in alone))


def test_hidden_gold_is_unscored(folder: Path) -> None:
    assert ready(folder).score(seen(None, "a dog")) is None


def test_texts_beyond_the_window_are_cut_and_counted(folder: Path) -> None:
    outcomes = ready(folder).score_batch([seen("a dog", "the cat " * 40), seen("a dog", "the cat")])
    assert [outcome.truncated for outcome in outcomes] == [1, 0]


def test_idf_of_one_reference_is_no_number_and_said_so(folder: Path) -> None:
    metric = ready(folder, idf=True)
    metric.prepare_corpus([seen("the cat", "a dog").sample])
    (outcome,) = metric.score_batch([seen("the cat", "a dog")])
    assert outcome.score is None and outcome.error is not None and "no token of the reference" in outcome.error


def test_the_identity_tells_models_layers_and_sets_apart(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "tiny-bert"
    shutil.copytree(folder, moved)
    assert ready(moved).identity == ready(folder).identity
    assert ready(folder, layer=3).identity != ready(folder).identity
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    assert ready(moved).identity != ready(folder).identity
    metric = ready(folder, idf=True)
    metric.prepare_corpus([seen("the cat", "").sample])
    before = metric.identity
    metric.prepare_corpus([seen("the cat", "").sample, seen("a dog", "").sample])
    assert metric.identity != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "nowhere"}, "model: there is no folder 'nowhere' (looked in "),
        ({"layer": 4}, "layer is 4; tiny-bert has layers 1 to 3 (`layer: N`)"),
        ({"layer": None}, "say whose layer's states to match; tiny-bert has layers 1 to 3"),
        ({"layer": 0}, "layer is 0; it should be a whole number of at least 1"),
        ({"dtype": "float8"}, "dtype is 'float8'; it should be one of float32, bfloat16, float16"),
        ({"batch_size": 0}, "batch_size is 0; it should be a whole number of at least 1"),
        ({"device": "cuda:9"}, "device: cuda:9 asks for a GPU but torch finds none"),
        ({"device": "gpu"}, "device: unknown device 'gpu'"),
        ({"baseline": [0.1, 0.2]}, "baseline is [0.1, 0.2]; it should be three numbers below 1"),
        ({"baseline": [0.1, 0.2, 1]}, "it should be three numbers below 1"),
        ({"baseline": "low.tsv"}, "baseline: there is no file 'low.tsv'"),
        ({"baseline": "short.tsv"}, "short.tsv has no row for layer 2 with the columns LAYER, P, R, F"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(options: dict[str, Any], message: str, folder: Path) -> None:
    (folder.parent / "short.tsv").write_text("LAYER,P,R,F\n0,0.1,0.1,0.1\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        BertScore(**{"model": str(folder), "layer": 2, **options}).prepare(MetricOptions(folder.parent))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_is_no_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no weights"):
        ready(tmp_path)
    shutil.copy(folder / "model.safetensors", tmp_path)
    with pytest.raises(UsageError, match=r"has no config\.json"):
        ready(tmp_path)


def test_a_model_that_cannot_be_loaded_scores_nothing(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "tiny-bert"
    shutil.copytree(folder, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    task = write_task(tmp_path, broken)
    done = run_harness("--tasks", task, *dummy(tmp_path))
    assert done.exit_code == 1
    (file,) = (tmp_path / "runs").glob("*/words.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {line["scores"]["bertscore_f1"] for line in lines} == {None}
    assert all(line["error"].startswith("metric bertscore: ModelError: cannot be loaded") for line in lines)


def test_a_folder_without_all_its_weights_is_not_completed_at_random(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "tiny-bert"
    shutil.copytree(folder, broken)
    weights = load_file(broken / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Exception, match="lacks 1 weights of its model"):
        ready(broken).score(seen("the cat", "a dog"))


def test_it_keeps_the_contract_of_metrics(folder: Path) -> None:
    assert check_metric(ready(folder), pairs()) == []


def write_task(folder: Path, model: Path, more: str = "layer: 2") -> str:
    rows = [{"q": "1", "a": "the cat sat"}, {"q": "2", "a": "今天天气很好"}, {"q": "3", "a": "a dog"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    lines = [
        "task: words", "dataset_path: rows.jsonl", "test_split: test", "output_type: generate_until",
        'doc_to_text: "{{q}}"', 'doc_to_target: "{{a}}"', "metric_list:", "- metric: bertscore", f"  model: {model}",
        f"  {more}",
    ]  # fmt: skip
    (folder / "words.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "words.yaml")


def dummy(folder: Path) -> list[str]:
    return ["--model", "dummy", "--model_args", "mode=fixed,text=the cat", "--output", str(folder / "runs")]


def test_a_run_names_the_model_that_scored_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "scorer" / "tiny-bert")
    done = run_harness("--tasks", write_task(tmp_path, Path("scorer/tiny-bert")), *dummy(tmp_path))
    assert done.exit_code == 0, done.stderr
    assert "bertscore_f1" in done.stdout and "bertscore_recall" in done.stdout
    assert "by model tiny-bert, weights" in done.stdout


def test_a_missing_folder_is_refused_before_the_model_answers(tmp_path: Path) -> None:
    task = write_task(tmp_path, Path("nowhere"))
    done = run_harness("--tasks", task, *dummy(tmp_path))
    assert done.exit_code == 4 and not (tmp_path / "runs").exists()
    assert "words.yaml:8: metric 'bertscore': model: there is no folder 'nowhere'" in done.stderr
    assert run_harness("check", task).exit_code == 0  # the task is well, only this machine lacks the model


def test_weights_are_given_back_after_a_run(folder: Path, tmp_path: Path) -> None:
    run_harness("--tasks", write_task(tmp_path, folder), *dummy(tmp_path))
    assert load_encoder.cache_info().currsize == 0
