"""Lite sets: few rows in the place of all, an estimate of the whole score, and how far it can be trusted."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exam_task import write_exam

from harness import DataError, TaskError, UsageError, evaluate
from harness.run.lite import checked, estimated, make_lite_sets
from harness.run.spec import RunSpec
from harness.scoring.statistics.item_response import item_curves
from harness.scoring.statistics.representative import (
    anchors,
    character_tfidf,
    k_center,
    rank_correlation,
    shares,
)
from harness.tasks.lite_files import LiteRow, LiteSet, read_lite, write_lite
from harness.testing import run_harness

SIZES = {"law": 60, "art": 30}


@pytest.fixture(autouse=True)
def _a_task_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_exam(SIZES, every=3)


def measured(tasks: str = "exam.yaml", mode: str = "mode=random", **more: Any) -> Any:
    return evaluate("dummy", mode, tasks, **more)


def made(size: int = 30, method: str = "kcenter", runs: Any = (), to: str = "exam.lite.json") -> LiteSet:
    (lite,) = make_lite_sets(RunSpec(tasks=("exam.yaml",)), size, method, runs)
    write_lite(lite, Path(to))
    return lite


def test_rows_that_are_far_apart_are_chosen() -> None:
    texts = ["长江是最长的河流", "长江是最长的河", "黄河在中国北方", "黄河在北方", "water boils at 100 degrees"]
    rows, weights = k_center(character_tfidf(texts), 3)
    assert {row // 2 for row in rows} == {0, 1, 2}
    assert list(weights) == [5 / 3] * 3
    same_rows, same_weights = k_center(character_tfidf(["one text"] * 4), 3)
    assert len(set(same_rows)) == 3
    assert same_weights.sum() == 4


def test_vectors_of_many_texts_are_held_once() -> None:
    texts = [f"{n * 7919} {n * n}" for n in range(12_000)]
    tracemalloc.start()
    try:
        vectors = character_tfidf(texts)
        rows, _ = k_center(vectors, 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * vectors.nbytes
    far = ((vectors[:, None] - vectors[rows[:2]]) ** 2).sum(axis=2).min(axis=1)
    assert rows[2] == int(np.argmax(far))


def test_anchors_stand_for_rows_that_models_answer_alike() -> None:
    correct = np.array([[1, 1, 0]] * 6 + [[0, 0, 1]] * 3 + [[1, 0, 1]], dtype=float)
    rows, weights = anchors(correct, 3, seed=0)
    assert dict(zip((min(row // 6 + (row == 9), 2) for row in rows), weights, strict=True)) == {0: 6, 1: 3, 2: 1}
    rows, weights = anchors(np.ones((10, 2)), 4, seed=0)  # all alike: still four rows, for all ten
    assert len(set(rows)) == 4
    assert weights.sum() == 10


def test_slopes_and_intercepts_of_item_response_theory_are_found_again() -> None:
    generator = np.random.default_rng(3)
    slopes, intercepts = generator.lognormal(0, 0.4, 300), generator.normal(0, 1.2, 300)
    abilities = generator.normal(0, 1, 200)
    likely = 1 / (1 + np.exp(-(slopes[:, None] * abilities + intercepts[:, None])))
    curves = item_curves((generator.random(likely.shape) < likely).astype(float))
    assert np.corrcoef(curves[:, 1], intercepts)[0, 1] > 0.97
    assert np.corrcoef(curves[:, 0], slopes)[0, 1] > 0.75
    few = item_curves(np.array([[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=float))
    assert few[0, 1] > few[3, 1] > few[2, 1] > few[1, 1]
    with pytest.raises(ValueError, match="scores from 0 to 1"):
        item_curves(np.array([[1.5]]))


def text_model(folder: Path) -> Path:
    """A BERT of one layer over characters, that pools its first token as BGE does."""
    pytest.importorskip("torch")
    from transformers import BertConfig, BertModel, BertTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast({word: number for number, word in enumerate(vocabulary)}).save_pretrained(folder)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=64, **small)
    BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    return folder


@pytest.mark.slow
def test_rows_are_told_apart_by_the_vectors_of_a_model(tmp_path: Path) -> None:
    from harness.engine.embeddings import EmbeddingModel

    folder = text_model(tmp_path / "bge")
    model = EmbeddingModel(folder, "cpu")
    assert model.pooling == "cls" and not model.sees
    alone = model.vectors(["art 1"], [[]])
    among = model.vectors(["a longer text than the other one", "art 1", "", "x " * 500], [[]] * 4)
    assert np.allclose(np.linalg.norm(among, axis=1), 1)
    assert np.allclose(alone[0], among[1], atol=1e-5)  # padding and batches change nothing
    done = run_harness("lite", "exam.yaml", "--size", "30", "--embedding", str(folder))
    assert done.exit_code == 0, done.output
    assert "greedy k-center on embeddings of bge (" in done.output
    assert read_lite(Path("exam.lite.json")).size == 30
    done = run_harness("lite", "exam.yaml", "--size", "30", "--embedding", "nowhere")
    assert "--embedding nowhere: is no folder of a model of transformers" in done.output
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    done = run_harness("lite", "exam.yaml", "--size", "30", "--embedding", str(folder))
    assert "pools in a way that is not known here" in done.output


@pytest.mark.slow
def test_pictures_are_part_of_the_vectors_of_a_model_that_sees(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    import io

    from PIL import Image
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from harness.engine.embeddings import EmbeddingModel

    folder = text_model(tmp_path / "clip")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 100, "eos_token_id": 3, "max_position_embeddings": 32}
    vision = {**small, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)

    def coloured(colour: str) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (40, 40), colour).save(stream, "PNG")
        return stream.getvalue()

    model = EmbeddingModel(folder, "cpu")
    vectors = model.vectors(["a", "a", "a"], [[coloured("red")], [coloured("blue"), coloured("green")], []])
    assert vectors.shape == (3, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors[0, 8:], vectors[1, 8:], atol=1e-3)
    assert not vectors[2, 8:].any()


@pytest.mark.parametrize(
    ("sizes", "total", "given"),
    [
        ([100, 50, 3, 0], 20, [13, 6, 1, 0]),
        ([5, 5], 20, [5, 5]),
        ([1000] * 3, 2, [1, 1, 0]),
        ([1, 1, 98], 10, [1, 1, 8]),
    ],
)
def test_every_subset_gets_its_share(sizes: list[int], total: int, given: list[int]) -> None:
    assert shares(sizes, total) == given


def test_rank_correlation_takes_ties_at_their_mean() -> None:
    assert rank_correlation([1, 2, 3], [10, 20, 30]) == pytest.approx(1)
    assert rank_correlation([1, 2, 2], [3, 2, 1]) == pytest.approx(-math.sqrt(3) / 2)
    assert rank_correlation([1, 1], [1, 2]) is None


def test_a_set_is_a_task_of_its_own_with_an_estimate_of_the_whole() -> None:
    lite = made()
    result = measured("exam.lite.json")
    task = result.report["tasks"][0]

    assert task["task"] == "exam:lite"
    assert {(record.subset, record.id) for record in result.samples()} == {
        (subset, number) for subset, rows in lite.rows.items() for number in rows
    }
    assert [task["covers"]["by_subset"][name] for name in SIZES] == [[20, 60], [10, 30]]
    right = {(record.subset, record.id): record.scores["acc"] for record in result.samples()}
    weighted = sum(row.weight * right[name, n] for name, rows in lite.rows.items() for n, row in rows.items()) / 90
    assert task["lite"]["value"] == pytest.approx(weighted)
    assert task["lite"]["interval"][0] < weighted < task["lite"]["interval"][1]
    assert "its error was not measured on other models" in " ".join(result.summary().split())


@pytest.mark.slow
@pytest.mark.parametrize("expression", ["exam:lite", "sets/exam.lite.json"])
def test_a_set_is_found_by_name_and_by_file(expression: str) -> None:
    Path("sets").mkdir()
    for file in [*Path().glob("rows_*"), Path("exam.yaml")]:
        (Path("sets") / file.name).write_text(file.read_text())
    made(to="sets/exam.lite.json")
    result = measured(expression, include_path="sets")
    assert [task["task"] for task in result.report["tasks"]] == ["exam:lite"]
    assert result.report["tasks"][0]["counts"]["n"] == 30
    part = measured("exam:lite/law", include_path="sets").report["tasks"][0]
    assert part["counts"]["n"] == 20
    assert "lite" not in part  # of one subset, nothing is estimated of the whole


@pytest.mark.slow
def test_the_error_on_other_models_is_the_interval_of_the_estimate() -> None:
    made()
    runs = [measured(mode=f"seed={seed}", name=f"m{seed}").path for seed in range(4)]
    given = [word for run in runs for word in ("--runs", str(run))]
    done = run_harness("lite", "check", "exam.lite.json", *given)
    assert done.exit_code == 0, done.output
    check = read_lite(Path("exam.lite.json")).check
    assert check is not None
    assert check.runs == ("m0", "m1", "m2", "m3")
    assert f"mean absolute error {check.mean_absolute:.4f}" in done.output
    low, high = measured("exam.lite.json", "seed=9").report["tasks"][0]["lite"]["interval"]
    assert high - low == pytest.approx(min(1, 2 * check.half_width), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["anchors", "irt"])
def test_anchors_are_checked_on_models_that_did_not_choose_them(method: str) -> None:
    runs = [str(measured(mode=f"seed={seed}", name=f"m{seed}").path) for seed in range(3)]
    lite = made(method=method, runs=runs)
    assert lite.size == 30
    assert lite.chosen_by == ("m0", "m1", "m2")
    assert lite.check is not None
    done = run_harness("lite", "check", "exam.lite.json", *(word for run in runs for word in ("--runs", run)))
    assert "'m0' had a part in the choice of the rows" in done.output


def test_a_macro_mean_is_estimated_as_one() -> None:
    rows = {"law": {0: LiteRow(50, ""), 1: LiteRow(10, "")}, "art": {0: LiteRow(30, "")}}
    lite = LiteSet("exam", "by hand", 1, rows, SIZES)
    scores = {("law", 0): 1.0, ("law", 1): 0.0, ("art", 0): 0.0}
    assert estimated(lite, scores, macro=False).value == pytest.approx(50 / 90)
    assert estimated(lite, scores, macro=True).value == pytest.approx((50 / 60 + 0) / 2)


def test_what_a_check_says_of_errors() -> None:
    check = checked(["a", "b", "c"], "acc", [(0.52, 0.5), (0.58, 0.6), (0.71, 0.7)])
    assert check.mean_error == pytest.approx(0.01 / 3)
    assert check.mean_absolute == pytest.approx(0.05 / 3)
    assert check.rank_correlation == pytest.approx(1)
    assert check.half_width == pytest.approx(3.182446 * math.sqrt(0.0009 / 3), rel=1e-5)
    assert check.held == 3
    with pytest.raises(UsageError, match="at least two"):
        checked(["a"], "acc", [(0.5, 0.5)])


@pytest.mark.slow
def test_changed_data_and_damaged_files_are_named() -> None:
    lite = made()
    number = min(lite.rows["law"])
    lines = Path("rows_law.jsonl").read_text().splitlines(keepends=True)
    lines[number] = lines[number].replace("law", "lore")
    Path("rows_law.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match=rf"exam\.lite\.json: row {number} of law is another row"):
        measured("exam.lite.json")
    Path("rows_law.jsonl").write_text(lines[0])
    with pytest.raises(DataError, match="which has 1 rows: the data have changed"):
        measured("exam.lite.json")
    for text, problem in [
        ("{", "is no lite set"),
        ("[]", "says no 'format'"),
        ('{"format": "harness lite set 1"}', "lacks"),
    ]:
        Path("exam.lite.json").write_text(text)
        with pytest.raises(TaskError, match=problem):
            measured("exam.lite.json")
    told = {"format": "harness lite set 1", "task": "exam", "method": "", "seed": 1, "of_rows": {}}
    Path("exam.lite.json").write_text(json.dumps({**told, "rows": [["law", 1, 0, "x"]]}))
    with pytest.raises(TaskError, match=r"rows\[0\] should be \[subset, number, weight above 0, hash\]"):
        measured("exam.lite.json")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"rows": [["law", 1, 40, "x"], ["law", 1, 20, "x"]]}, r"rows\[1\] names row 1 of 'law' a second time"),
        ({"rows": [["law", 1, 600, "x"]]}, "its weights stand for 600 rows, and 'of_rows' counts 60"),
        ({"rows": [["law", True, 60, "x"]]}, r"rows\[0\] should be"),
        ({"check": {"half_width": "wide"}}, r"check\.half_width should be a number of 0 or more, found 'wide'"),
        ({"check": {"half_width": float("nan")}}, r"check\.half_width should be .* found nan"),
    ],
)
def test_a_set_that_was_edited_by_hand_is_refused(change: dict[str, Any], problem: str) -> None:
    write_lite(
        LiteSet(
            "exam", "by hand", 1, {"law": {1: LiteRow(60, "x")}}, {"law": 60}, check=checked("ab", "acc", [(1, 1)] * 2)
        ),
        Path("exam.lite.json"),
    )
    told = json.loads(Path("exam.lite.json").read_text())
    read_lite(Path("exam.lite.json"))
    change = {name: {**told["check"], **value} if name == "check" else value for name, value in change.items()}
    Path("exam.lite.json").write_text(json.dumps({**told, **change}))
    with pytest.raises(TaskError, match=rf"exam\.lite\.json: is no lite set: {problem}"):
        read_lite(Path("exam.lite.json"))


def test_what_is_nested_too_deeply_is_no_lite_set() -> None:
    Path("exam.lite.json").write_text("[" * 100_000)
    with pytest.raises(TaskError, match=r"exam\.lite\.json: is no lite set"):
        read_lite(Path("exam.lite.json"))


@pytest.mark.slow
def test_what_cannot_be_chosen_is_one_line() -> None:
    with pytest.raises(UsageError, match="has 90 rows with a gold answer: nothing to choose"):
        made(size=90)
    with pytest.raises(UsageError, match="at least two --runs"):
        made(method="anchors")
    with pytest.raises(UsageError, match=r"'exam\.lite\.json' lies neither beside"):
        measured("exam.yaml:lite")


def test_a_run_that_says_nothing_of_the_error_has_no_part_in_it() -> None:
    one, perfect = measured().path, measured(mode="mode=gold").path
    with pytest.raises(UsageError, match="is named twice"):
        made(runs=[str(one), str(one)])
    with pytest.raises(UsageError, match="all its scores of 'exam' are the same, and any rows would estimate them"):
        made(runs=[str(one), str(perfect)])
