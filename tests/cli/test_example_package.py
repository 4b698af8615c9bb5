"""The example package keeps every contract. `wheel_check.py` installs it for real; this is the quick look."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from harness.registry import Registry, load_plugins
from harness.run.check import check_task
from harness.run.jobs import open_library
from harness.run.runner import run
from harness.run.spec import RunSpec
from harness.testing import check_metric, check_model, observation

PACKAGE = Path(__file__).parents[1] / "example_package"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.syspath_prepend(str(PACKAGE))
    registry = load_plugins()
    module = importlib.import_module("harness_example.plugin")
    registry.register(module, package="harness-example", name="example", version="0.1.0")
    return registry


def test_its_metric_and_model_keep_their_contracts(registry: Registry) -> None:
    similarity, echo = registry.metric("harness-example/similarity"), registry.model("echo")
    assert check_metric(similarity()) == []
    assert check_model(echo(line=-1)) == []
    assert similarity(ignore_case=True).score(observation(("IRON", "steel"), "iron")) == 1.0
    assert similarity().score(observation(None, "iron")) is None


def test_its_task_its_template_and_its_model_work_together(registry: Registry, tmp_path: Path) -> None:
    spec = RunSpec(tasks=("harness-example/example_reading",), model="echo", output=str(tmp_path))
    library = open_library(spec, registry)
    (ref,) = library.select(spec.tasks)
    assert check_task(library, ref, registry) == []
    result = run(spec, registry)
    first = next(iter(result.samples("example_reading")))
    assert first.text == "The heron stands in shallow water."
    assert first.prompt.text.endswith(
        "It waits for fish, and it waits alone.\n\nQuestion: Where does the heron stand?\nAnswer:"
    )
    assert 0.5 < first.scores["similarity"] < 1.0  # type: ignore[operator]
    assert first.scores["exact_match"] == 0.0
