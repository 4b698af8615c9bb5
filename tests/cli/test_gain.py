"""`harness gain`: multi-modal gain and leakage from runs whose answers the test chooses."""

from __future__ import annotations

import base64
import json
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness import Model, Request, Response, hookimpl
from harness.cli.main import main
from harness.registry import load_plugins
from harness.run.runner import run
from harness.run.spec import RunSpec

TASK = """\
task: see
dataset_path: rows.jsonl
test_split: test
doc_to_text: "{{q}}"
doc_to_target: A
doc_to_image: image
metric_list: [{metric: exact_match}]
"""
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
N = 100


class Knows(Model):
    """Is right about the first rows."""

    name = "knows"
    supports = frozenset({"generate"})
    modalities = frozenset({"text", "image"})

    def __init__(self, right: int) -> None:
        self.right = right

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"right": self.right}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            text = request.prompt.text or request.prompt.messages[-1].text
            yield index, Response(text="A" if int(text.removeprefix("q")) < self.right else "B", finish_reason="stop")


def runs_of(folder: Path, rows: int, more: str = "") -> Callable[..., Path]:
    """Measures a model that is right about so many of the rows."""
    image = "data:image/png;base64," + base64.b64encode(PNG).decode()
    text = "".join(json.dumps({"q": f"q{number}", "image": image}) + "\n" for number in range(rows))
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    (folder / "see.yaml").write_text(TASK + more, encoding="utf-8")

    module = types.ModuleType("knows_plugin")
    module.harness_models = hookimpl(lambda: [Knows])  # type: ignore[attr-defined]
    registry = load_plugins()
    registry.register(module, package="test-package", name="knows_plugin")

    def measured(right: int, *modify: str) -> Path:
        spec = RunSpec(
            tasks=(str(folder / "see.yaml"),),
            model="knows",
            model_args={"right": right},
            modify=modify,
            output=str(folder / "runs"),
        )
        return Path(run(spec, registry).path)

    return measured


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of 100 rows: 70 right with the image, 45 without, and 30, or 50, by the text model."""
    measured = runs_of(tmp_path_factory.mktemp("gain"), N)
    return {
        "seen": measured(70),
        "blind": measured(45, "no_image"),
        "base": measured(30, "no_image"),
        "better_base": measured(50, "no_image"),
    }


def harness(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_gain_and_leakage_are_paired_differences_with_intervals(runs: dict[str, Path]) -> None:
    done = harness("gain", runs["seen"], runs["blind"], "--base", runs["base"])
    assert done.exit_code == 0, done.output
    header, row, facts = done.output.splitlines()
    assert header.split() == ["task", "images", "none", "base", "gain", "leakage", "n"]
    assert row.split() == ["see", "0.7000", "0.4500", "0.3000", "+0.2500", "0.1500", "100"]
    assert "gain, 95% interval +0.1" in facts and "leakage, 95% interval 0.0" in facts


def test_no_gain_can_be_above_one_nor_can_its_interval(tmp_path: Path) -> None:
    measured = runs_of(tmp_path, 4, "cluster_key: q\n")  # Student's t of four clusters is wide
    done = harness("gain", measured(3), measured(0, "no_image"), "--json")
    (found,) = json.loads(done.output)
    low, high = found["gain"]["interval"]
    assert (found["gain"]["difference"], high) == (0.75, 1.0) and low < 0.75


def test_a_base_that_knows_more_leaves_no_leakage(runs: dict[str, Path]) -> None:
    done = harness("gain", runs["seen"], runs["blind"], "--base", runs["better_base"], "--json")
    (found,) = json.loads(done.output)
    assert found["leakage"] == 0.0
    assert found["leakage_interval"] == [0.0, pytest.approx(0.0, abs=0.01)]
    assert found["gain"]["difference"] == pytest.approx(0.25)
    assert found["leaked"]["difference"] == pytest.approx(-0.05)


def test_without_a_base_the_gain_alone(runs: dict[str, Path]) -> None:
    row = harness("gain", runs["seen"], runs["blind"]).output.splitlines()[1]
    assert row.split() == ["see", "0.7000", "0.4500", "-", "+0.2500", "-", "100"]


def test_what_cannot_be_combined_is_one_line(runs: dict[str, Path]) -> None:
    for arguments, said in (
        ((runs["seen"],), "has no score of a task without its images (with --modify no_image"),
        ((runs["blind"], runs["seen"]), "has no score of a task with its images (without --modify"),
        ((runs["seen"], runs["blind"], "--base", runs["seen"]), "has no score of a task without its images"),
        ((runs["seen"], runs["blind"], runs["base"]), "the language model's is --base RUN"),
    ):
        done = harness("gain", *arguments)
        assert done.exit_code == 4
        assert said in done.output
        assert len(done.output.splitlines()) == 1
