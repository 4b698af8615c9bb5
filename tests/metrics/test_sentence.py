"""Embedding similarity agrees with the package sentence-transformers, whose folders it reads without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from make_sentence_official import ANSWERS, CASES, PROMPT, REFERENCES
from tiny_encoders import tiny_bert

from harness import MetricOptions, Observation, Response, Sample, UsageError
from harness.testing import check_metric, run_harness
from harness_plugins.metrics.semantic.encoder import TextEncoder
from harness_plugins.metrics.semantic.sentence import EmbeddingSimilarity

OFFICIAL = json.loads((Path(__file__).parent / "sentence_official.json").read_text(encoding="utf-8"))
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain encoder, which says nothing of sentences."""
    return tiny_bert(tmp_path / "tiny-bert")


def as_sentences(folder: Path, pooling: dict[str, Any], modules: Any = MODULES, **more: dict[str, Any]) -> Path:
    """Make the folder one of sentence-transformers."""
    (folder / "1_Pooling").mkdir()
    files = {"modules": modules, "1_Pooling/config": pooling, **more}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def ready(folder: Path, **options: Any) -> EmbeddingSimilarity:
    metric = EmbeddingSimilarity(model=str(folder), **options)
    metric.prepare(MetricOptions())
    return metric


def seen(target: Any, *replies: str | None) -> Observation:
    sample = Sample("t", "", 0, {}, (), target)
    return Observation(sample, tuple(Response(text=reply) for reply in replies), (), replies)


def scores(metric: EmbeddingSimilarity) -> list[Any]:
    pairs = [seen(gold, answer) for answer, gold in zip(ANSWERS, REFERENCES, strict=True)]
    return [outcome.score for outcome in metric.score_batch(pairs)]


@pytest.mark.parametrize("style", ["flags", "name"])
@pytest.mark.parametrize("case", CASES)
def test_a_folder_is_read_as_the_official_package_reads_it(case: str, style: str, folder: Path) -> None:
    mode, include, prompt, window = CASES[case]
    flag = {"mean": "mean_tokens", "cls": "cls_token"}.get(mode, mode)
    old = {f"pooling_mode_{name}": name == flag for name in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")}
    pooling = old if style == "flags" else {"pooling_mode": mode}
    as_sentences(
        folder,
        {**pooling, "include_prompt": include},
        sentence_bert_config={"max_seq_length": window or 32, "do_lower_case": False},
        config_sentence_transformers={"prompts": {"p": prompt, "q": "never"}, "default_prompt_name": "p"},
    )
    assert scores(ready(folder)) == pytest.approx(OFFICIAL[case], abs=1e-5)


def test_options_take_the_place_of_what_the_folder_says(folder: Path) -> None:
    assert scores(ready(folder)) == pytest.approx(OFFICIAL["mean"], abs=1e-5)
    assert scores(ready(folder, pooling="last")) == pytest.approx(OFFICIAL["last"], abs=1e-5)
    assert scores(ready(folder, prompt=PROMPT)) == pytest.approx(OFFICIAL["mean, prompt"], abs=1e-5)


def test_a_transformer_may_lie_one_folder_below(folder: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    folder.rename(outer / "0_Transformer")
    as_sentences(outer, {"pooling_mode": "cls"}, [{**MODULES[0], "path": "0_Transformer"}, MODULES[1]])
    assert scores(ready(outer)) == pytest.approx(OFFICIAL["cls"], abs=1e-5)


def test_of_several_references_the_best_counts_and_of_several_replies_the_mean(folder: Path) -> None:
    metric = ready(folder)
    near, far = metric.score(seen("a cat", "the cat")), metric.score(seen("paris", "the cat"))
    assert metric.score(seen(("paris", "a cat"), "the cat")) == pytest.approx(max(near, far))
    assert metric.score(seen("a cat", "the cat", None)) == pytest.approx(near / 2)
    assert metric.score(seen(None, "the cat")) is None


def test_a_text_is_embedded_once_over_all_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    forward = TextEncoder._forward

    def counted(self: TextEncoder, ids: Any, mask: Any) -> Any:
        rows.append(len(ids))
        return forward(self, ids, mask)

    monkeypatch.setattr(TextEncoder, "_forward", counted)
    metric = ready(folder)
    for _ in range(3):
        metric.score_batch([seen("the cat", "a dog"), seen("the cat", " a dog "), seen("a dog", "")])
    assert rows == [3]


def test_texts_beyond_the_window_are_cut_and_counted(folder: Path) -> None:
    outcomes = ready(folder).score_batch([seen("the cat " * 40, "the dog " * 40), seen("a", "b")])
    assert [outcome.truncated for outcome in outcomes] == [2, 0]


@pytest.mark.parametrize(
    ("pooling", "modules", "message"),
    [
        ({"pooling_mode": "max"}, MODULES, r"pools by max, which is not known here \(known: mean, cls, lasttoken\)"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, MODULES, "pools by mean and cls"),
        ({"pooling_mode": "mean"}, [*MODULES, {"type": "x.models.Dense", "path": "3_Dense"}], "has a module Dense"),
    ],
)
def test_what_would_give_other_embeddings_is_refused(
    pooling: dict[str, Any], modules: Any, message: str, folder: Path
) -> None:
    as_sentences(folder, pooling, modules)
    with pytest.raises(UsageError, match=message):
        ready(folder)


def test_wrong_options_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="pooling is 'max'; it should be one of mean, cls, last"):
        ready(folder, pooling="max")
    (folder / "modules.json").write_text("[", encoding="utf-8")
    with pytest.raises(UsageError, match=r"modules\.json is not JSON"):
        ready(folder)


def test_it_keeps_the_contract_of_metrics(folder: Path) -> None:
    assert check_metric(ready(folder)) == []


def test_a_run_scores_by_it_beside_another_metric(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": "the cat"}\n{"a": "北京大学"}\n', encoding="utf-8")
    lines = [
        "task: near", "dataset_path: rows.jsonl", "test_split: test", "output_type: generate_until",
        "doc_to_text: Say something", "doc_to_target: a", "metric_list:", "- metric: exact_match",
        "- {metric: embedding_similarity, model: tiny-bert}",
    ]  # fmt: skip
    (tmp_path / "near.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model = ["--model", "dummy", "--model_args", "mode=gold", "--output", str(tmp_path / "runs")]
    done = run_harness("--tasks", str(tmp_path / "near.yaml"), *model)
    assert done.exit_code == 0, done.stderr
    assert "exact_match" in done.stdout and "embedding_similarity by model tiny-bert" in done.stdout
