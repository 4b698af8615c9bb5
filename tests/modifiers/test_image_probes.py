"""Probes of images: what a model that sees and a model that does not see score, side by side and paired."""

from __future__ import annotations

import base64
import io
import json
import types
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness import HarnessError, Media, Model, Record, Request, Response, UsageError, hookimpl
from harness.record.run import RunFolder
from harness.registry import Registry, load_plugins
from harness.run.gain import multimodal_gains
from harness.run.prepare import prepare_run
from harness.run.rescore import score_run
from harness.run.runner import run
from harness.run.spec import RunSpec

TASK = """\
task: shades
dataset_path: rows.jsonl
test_split: test
doc_to_text: "{{q}}\\nA. dark\\nB. bright\\nAnswer:"
doc_to_target: y
doc_to_image: image
doc_to_choice: ["A", "B"]
output_type: generate_until
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
filter_list: [{name: letter, filter: [{function: choice_letter}, {function: take_first}]}]
metric_list: [{metric: exact_match}]
options: {columns: [A, B], answer: y, question: q}
"""


class Looks(Model):
    """Says whether the first image is dark (A) or bright (B), or A without looking."""

    name = "looks"
    supports = frozenset({"generate"})
    modalities = frozenset({"text", "image"})
    shown: list[list[Media]] = []  # noqa: RUF012

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"blind": self.blind}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            images = list(request.prompt.shown_media)
            type(self).shown.append(images)
            if images and images[0].problem:
                yield index, Response(error=images[0].problem)
                continue
            shade = 0 if self.blind or not images else _pixel(images[0])
            yield index, Response(text="B" if shade > 128 else "A", finish_reason="stop")


def _pixel(media: Media) -> int:
    with Image.open(io.BytesIO(media.read())) as image:
        value = image.convert("L").getpixel((0, 0))
    assert isinstance(value, int)
    return value


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.chdir(tmp_path)
    Looks.shown = []
    module = types.ModuleType("looks_plugin")
    module.harness_models = hookimpl(lambda: [Looks])  # type: ignore[attr-defined]
    registry = load_plugins()
    registry.register(module, package="test-package", name="looks_plugin")
    return registry


def uri(shade: int, size: tuple[int, int] = (6, 4)) -> str:
    stream = io.BytesIO()
    Image.new("L", size, shade).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def row(number: int, *images: str | None) -> dict[str, Any]:
    return {"q": f"q{number}?", "A": "dark", "B": "bright", "y": "AB"[number % 2], "image": list(images)}


ROWS = [row(n, uri(200 + n if n % 2 else n)) for n in range(20)]


def measured(
    registry: Registry, *modify: str, rows: Sequence[Mapping[str, Any]] = ROWS, blind: bool = False, **more: Any
) -> tuple[dict[str, Any], list[Record], Path]:
    """The metrics of a run by name, its samples in their order, and its folder."""
    text = "".join(json.dumps(each) + "\n" for each in rows)
    file = Path(f"rows{zlib.crc32(text.encode())}.jsonl")  # rows of one file are read once
    file.write_text(text, encoding="utf-8")
    Path("shades.yaml").write_text(TASK.replace("rows.jsonl", file.name), encoding="utf-8")
    spec = RunSpec(tasks=("shades.yaml",), model="looks", model_args={"blind": blind}, modify=modify, **more)
    result = run(spec, registry)
    (task,) = result.report["tasks"]
    samples = sorted(result.samples(), key=lambda record: (record.id, record.view.index if record.view else 0))
    return {metric["metric"]: metric for metric in task["metrics"]}, samples, Path(result.path)


def test_all_probes_stand_beside_the_plain_score_in_one_run(registry: Registry) -> None:
    seen, samples, folder = measured(registry, "image_probes")
    values = {name: metric["value"] for name, metric in seen.items()}
    assert values["vanilla_exact_match"] == 1.0
    assert values["no_image_exact_match"] == 0.5
    assert values["blank_image_exact_match"] == 0.5  # grey is bright, to this model: half the rows
    assert values["gain_over_no_image_exact_match"] == 0.5
    assert values["chance"] == 0.5
    assert values["no_image_above_chance_exact_match"] == 0.0
    assert values["same_answer_no_image"] == 0.5
    low, high = seen["gain_over_no_image_exact_match"]["interval"]
    assert 0.2 < low < 0.5 < high < 0.8
    assert len(samples) == 80
    assert next(iter(seen)) == "vanilla_exact_match"
    again = score_run(folder, registry=registry)
    assert {m["metric"]: m["value"] for m in again.report["tasks"][0]["metrics"]} == values


def test_who_does_not_look_gains_nothing(registry: Registry) -> None:
    seen, _, _ = measured(registry, "image_probes", blind=True)
    assert seen["gain_over_wrong_image_exact_match"]["value"] == 0.0
    assert seen["same_answer_wrong_image"]["value"] == 1.0


def test_one_probe_alone(registry: Registry) -> None:
    seen, samples, _ = measured(registry, "image_probes=wrong_image")
    assert list(seen) == [
        "vanilla_exact_match",
        "wrong_image_exact_match",
        "gain_over_wrong_image_exact_match",
        "same_answer_wrong_image",
    ]
    assert {record.task for record in samples} == {"shades+image_probes=wrong_image"}
    with pytest.raises(UsageError, match="'wrong' is no probe \\(one of no_image, blank_image"):
        measured(registry, "image_probes=wrong")


def test_a_wrong_image_is_another_rows_and_the_same_under_any_limit(registry: Registry) -> None:
    _, samples, folder = measured(registry, "wrong_image")
    hashes = [row["sha256"] for record in samples for row in record.doc["image"]]
    _, plain, _ = measured(registry)
    own = [row["sha256"] for record in plain for row in record.doc["image"]]
    for record, other in zip(samples, hashes, strict=True):
        assert record.view is not None
        assert record.view.image_rows != (record.id,)
        assert own[record.view.image_rows[0]] == other
    assert [shown[0].sha256 for shown in Looks.shown[:20]] == hashes
    assert len(set(hashes)) > 8
    _, few, _ = measured(registry, "wrong_image", limit=3)
    assert [record.view for record in few] == [record.view for record in samples[:3]]
    assert {record.view for record in RunFolder.read(folder).records("shades+wrong_image")} == {r.view for r in samples}


def test_rows_that_share_an_image_are_shown_one_that_is_not_theirs(registry: Registry) -> None:
    rows = [row(n, uri(10)) for n in range(5)] + [row(5, uri(200))]
    _, samples, _ = measured(registry, "wrong_image", rows=rows)
    assert [record.view.image_rows for record in samples if record.view and record.id < 5] == [(5,)] * 5
    rows[5] = row(5, uri(10))
    with pytest.raises(HarnessError, match="wrong_image: no other row of these has another image"):
        measured(registry, "wrong_image", rows=rows)


def test_a_blank_image_has_the_size_of_its_own(registry: Registry) -> None:
    measured(registry, "blank_image", rows=[row(0, uri(0, (7, 3))), row(1, uri(250, (64, 20)))])
    sizes = []
    for (media,) in Looks.shown:
        with Image.open(io.BytesIO(media.read())) as image:
            sizes.append(image.size)
            assert image.getpixel((0, 0)) == (128, 128, 128)
    assert sizes == [(7, 3), (64, 20)]


def test_images_change_places_within_their_question(registry: Registry) -> None:
    rows = [row(n, uri(n), uri(100 + n), uri(200 + n)) for n in range(8)] + [row(8, uri(8)), row(9, uri(9), uri(9))]
    seen, samples, _ = measured(registry, "shuffle_images", rows=rows)
    assert seen["kept_images"]["value"] == 0.2
    orders = [record.view.image_order for record in samples if record.view]
    assert all(sorted(order) == [0, 1, 2] and order != (0, 1, 2) for order in orders[:8])
    assert len(set(orders[:8])) > 2
    assert orders[8:] == [(0,), (0, 1)]
    assert _pixel(Looks.shown[0][0]) == (0, 100, 200)[orders[0][0]]


def test_it_is_said_where_no_images_can_change_places(registry: Registry) -> None:
    def said(rows: list[dict[str, Any]]) -> list[str]:
        file = Path(f"rows{zlib.crc32(json.dumps(rows).encode())}.jsonl")
        file.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        Path("shades.yaml").write_text(TASK.replace("rows.jsonl", file.name), encoding="utf-8")
        spec = RunSpec(tasks=("shades.yaml",), model="looks", model_args={"blind": False}, modify=("shuffle_images",))
        with prepare_run(spec, [spec.model_args], registry) as prepared:
            return [text for text in prepared.remarks if "change places" in text]

    (every,) = said([row(0, uri(0)), row(1, uri(1))])
    assert "all 2 rows have no two images that differ" in every and "ask without the modifier" in every
    (some,) = said([row(0, uri(0)), row(1, uri(1), uri(2))])
    assert "1 of 2 rows have no two images that differ" in some and "ask without" not in some
    assert said([row(1, uri(1), uri(2))]) == []


def test_a_picture_that_cannot_be_shown_is_the_error_of_its_sample(registry: Registry) -> None:
    broken = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n broken").decode()
    rows = [*ROWS[:4], row(4, broken)]
    seen, samples, _ = measured(registry, "blank_image", rows=rows)
    assert seen["exact_match"]["n"] == 4
    assert "cannot be shown" in (samples[4].error or "")


def test_rows_without_images_are_in_no_difference(registry: Registry) -> None:
    seen, samples, _ = measured(registry, "image_probes", rows=[*ROWS[:4], row(4, None)])
    assert seen["vanilla_exact_match"]["n"] == 5
    assert seen["gain_over_no_image_exact_match"]["n"] == 4
    assert len(samples) == 17


def test_two_changes_of_the_same_images_are_refused(registry: Registry) -> None:
    with pytest.raises(HarnessError, match="changes what another one has changed: the images"):
        measured(registry, "no_image", "wrong_image")


def test_a_run_of_probes_holds_all_that_the_gain_needs(registry: Registry) -> None:
    _, _, folder = measured(registry, "image_probes=no_image")
    _, _, base = measured(registry, "no_image", blind=True, output="base")
    (found,) = multimodal_gains(folder, None, base, registry)
    assert (found.gain.second, found.gain.first, found.gain.difference) == (1.0, 0.5, 0.5)
    assert (found.leakage, found.leakage_interval) == (0.0, pytest.approx((0.0, 0.1), abs=0.1))
