"""Plugins: found by entry point, never silent when broken, never guessed when two claim one name."""

from __future__ import annotations

import json
import sys
import types
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from harness import Metric, PluginError, hookimpl
from harness.registry import BUILT_IN, NAMES_FILE, Registry, load_plugins
from harness.run.jobs import load_job
from harness.run.spec import RunSpec
from harness.tasks.library import TaskLibrary


class FakeDistribution:
    def __init__(self, name: str, version: str = "1.0") -> None:
        self.name, self.version = name, version


class FakeEntryPoint:
    """Stands for an entry point whose module was made by the test."""

    def __init__(self, name: str, module: object) -> None:
        self.name, self.value, self._module = name, f"{name}.module", module

    def load(self) -> object:
        if isinstance(self._module, Exception):
            raise self._module
        return self._module


def metric_plugin(metric_name: str) -> types.ModuleType:
    class Constant(Metric):
        name = metric_name

        def score(self, seen: object) -> float:
            return 1.0

    module = types.ModuleType(f"plugin_{metric_name}")
    module.harness_metrics = hookimpl(lambda: [Constant])  # type: ignore[attr-defined]
    return module


def registry_of(**plugins: object) -> Registry:
    sources = [(FakeEntryPoint(name, module), FakeDistribution(f"{name}-dist")) for name, module in plugins.items()]
    return load_plugins(sources)  # type: ignore[arg-type]


KIT = {"kit.one": {"metric": ["one"]}, "kit.two": {"metric": ["two"]}}
ONE_METRIC = """
from harness import Metric, hookimpl

class Constant(Metric):
    name = "{name}"

    def score(self, seen):
        return 1.0

@hookimpl
def harness_metrics():
    return [Constant]
"""


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two plugins with a metric each, which says their names as the built-in plugins do."""
    (tmp_path / "kit").mkdir()
    for name in ("one", "two"):
        (tmp_path / "kit" / f"{name}.py").write_text(ONE_METRIC.format(name=name))
    (tmp_path / "kit" / "__init__.py").touch()
    (tmp_path / "kit" / NAMES_FILE).write_text(json.dumps(KIT))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("kit", "kit.one", "kit.two"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path / "kit"


def registry_of_kit(**others: object) -> Registry:
    sources: list[Any] = [(EntryPoint(name, name, "harness"), FakeDistribution(BUILT_IN)) for name in KIT]
    return load_plugins(sources + [(FakeEntryPoint(name, it), FakeDistribution(name)) for name, it in others.items()])


def imported() -> list[str]:
    return [name for name in KIT if name in sys.modules]


def test_a_built_in_plugin_is_imported_when_one_of_its_names_is_asked_for(kit: Path) -> None:
    registry = registry_of_kit()
    assert ([plugin.name for plugin in registry.plugins], imported()) == (["kit.one", "kit.two"], [])
    assert (registry.metric("one").name, imported()) == ("one", ["kit.one"])
    assert (registry.metric(f"{BUILT_IN}/two").name, imported()) == ("two", ["kit.one", "kit.two"])


@pytest.mark.parametrize("said", ["{}", "not JSON", json.dumps({"kit.two": {"metric": ["too"]}})])
def test_a_name_that_was_not_written_down_is_found(kit: Path, said: str) -> None:
    (kit / NAMES_FILE).write_text(said)
    assert registry_of_kit().metric("two").name == "two"
    (kit / NAMES_FILE).unlink()
    assert registry_of_kit().metric("two").name == "two"


def test_a_name_that_was_written_down_and_is_gone_is_unknown(kit: Path) -> None:
    (kit / NAMES_FILE).write_text(
        json.dumps({**KIT, "kit.two": {"metric": ["two", "three"]}, "gone": {"metric": ["x"]}})
    )
    for name in ("three", "x"):
        with pytest.raises(PluginError, match=f"unknown metric '{name}'"):
            registry_of_kit().metric(name)


def test_the_error_for_an_unknown_name_knows_the_names_of_plugins_that_wait(kit: Path) -> None:
    with pytest.raises(PluginError, match=r"unknown metric 'tvo'; did you mean 'two'\?"):
        registry_of_kit().metric("tvo")
    assert registry_of_kit().names("metric") == ["one", "two"]
    assert [item.name for item in registry_of_kit().provided] == ["one", "two"]


@pytest.mark.parametrize("line", ["raise ImportError('no quantum')", "import quantum_kit", "import sys; sys.exit(3)"])
def test_a_built_in_plugin_that_is_broken_is_told_when_it_is_asked_for(kit: Path, line: str) -> None:
    (kit / "two.py").write_text(line)
    registry = registry_of_kit()
    assert (registry.metric("one").name, registry.broken) == ("one", [])
    with pytest.raises(PluginError, match=r"kit\.two of harness-eval: (ImportError|ModuleNotFoundError|SystemExit): "):
        registry.metric("two")
    assert [plugin.name for plugin in registry.broken] == ["kit.two"]


def test_two_packages_may_not_claim_the_name_of_a_plugin_or_metric_that_waits(kit: Path) -> None:
    registry = registry_of_kit(other=metric_plugin("two"), **{"kit.one": metric_plugin("mine")})
    assert [(plugin.package, plugin.error) for plugin in registry.broken] == [
        ("kit.one", "the plugin name 'kit.one' is taken by another package")
    ]
    assert registry.metric("two").__module__ == "kit.two"  # a task of the harness, or of nobody, means the built-in one
    assert registry.metric("two", of="other") is registry.metric("other/two") is not registry.metric("two")


def test_a_metric_is_found_by_its_name_and_by_its_full_name() -> None:
    registry = registry_of(first=metric_plugin("constant"))
    assert registry.metric("constant") is registry.metric("first-dist/constant")


def test_an_unknown_name_suggests_the_near_one() -> None:
    registry = registry_of(first=metric_plugin("constant"))
    with pytest.raises(PluginError, match=r"unknown metric 'constnat'; did you mean 'constant'\?"):
        registry.metric("constnat")


def test_two_plugins_that_claim_one_name_are_an_error_that_names_both() -> None:
    registry = registry_of(first=metric_plugin("constant"), second=metric_plugin("constant"))
    with pytest.raises(PluginError, match="first-dist/constant and second-dist/constant"):
        registry.metric("constant")
    assert registry.metric("second-dist/constant").name == "constant"


def test_a_task_means_the_metric_of_its_own_package_and_then_the_built_in_one() -> None:
    registry = load_plugins()
    built_in = registry.metric("acc")
    for package in ("first", "second"):
        registry.register(metric_plugin("acc"), package=package, name=package)
        registry.register(metric_plugin(f"new_{package}"), package=package, name=f"new_{package}")
    own = {package: registry.metric(f"{package}/acc") for package in ("first", "second")}

    assert len({built_in, *own.values()}) == 3
    assert registry.metric("acc") is registry.metric("acc", of="harness-eval") is registry.metric("acc", of="third")
    assert registry.metric("acc") is built_in
    assert {package: registry.metric("acc", of=package) for package in own} == own
    assert registry.metric("exact_match", of="first").name == "exact_match"
    assert registry.metric("new_second", of="first").name == "new_second"


def test_a_package_with_a_metric_of_a_known_name_changes_its_own_tasks_alone(tmp_path: Path) -> None:
    registry = load_plugins()
    registry.register(metric_plugin("acc"), package="mine", name="mine")
    text = (
        "task: {0}\ndataset_path: x\ntest_split: test\noutput_type: multiple_choice\ndoc_to_text: q\n"
        "doc_to_choice: [a, b]\ndoc_to_target: a\nmetric_list: [{{metric: acc}}]\n"
    )
    for package in ("mine", "harness-eval", "local"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "t.yaml").write_text(text.format(f"t_{package}".replace("-", "_")))
    folders = [
        (package if package != "local" else "", tmp_path / package) for package in ("mine", "harness-eval", "local")
    ]
    library = TaskLibrary(folders, [], cache_dir=tmp_path / "cache")
    refs = library.select(["t_mine", "t_harness_eval", "t_local"])
    metrics = [load_job(library, ref, RunSpec(()), registry).scorer.keys[0].metric for ref in refs]
    assert [type(metric).__name__ for metric in metrics] == [
        "Constant",
        type(metrics[1]).__name__,
        type(metrics[1]).__name__,
    ]
    assert type(metrics[1]) is not type(metrics[0])


def test_a_broken_plugin_is_listed_with_its_cause_and_named_where_it_is_missed() -> None:
    registry = registry_of(bad=ImportError("no module named 'quantum'"), good=metric_plugin("constant"))
    assert [(plugin.name, plugin.error) for plugin in registry.broken] == [
        ("bad", "ImportError: no module named 'quantum'")
    ]
    assert registry.metric("constant").name == "constant"
    with pytest.raises(PluginError, match="bad of bad-dist: ImportError: no module named 'quantum'"):
        registry.metric("quantum_metric")


def test_a_misspelt_hook_is_an_error() -> None:
    module = types.ModuleType("misspelt")

    @hookimpl
    def harness_metricks() -> list[type[Metric]]:
        return []

    module.harness_metricks = harness_metricks  # type: ignore[attr-defined]
    (plugin,) = registry_of(misspelt=module).broken
    assert "harness_metricks" in str(plugin.error)


def test_a_plugin_that_raises_while_registering_does_not_hide_the_others() -> None:
    def explode() -> list[type[Metric]]:
        raise RuntimeError("boom")

    module = types.ModuleType("explosive")
    module.harness_metrics = hookimpl(explode)  # type: ignore[attr-defined]
    registry = registry_of(explosive=module, good=metric_plugin("constant"))
    assert registry.metric("constant").name == "constant"
    assert [plugin.error for plugin in registry.broken] == ["RuntimeError: boom"]


def test_plugins_load_in_the_order_of_their_names() -> None:
    registry = registry_of(zeta=metric_plugin("z"), alpha=metric_plugin("a"))
    assert [plugin.name for plugin in registry.plugins] == ["alpha", "zeta"]


def test_our_own_plugins_come_through_entry_points() -> None:
    registry = load_plugins()
    registry.load_all()
    assert registry.broken == []
    assert {plugin.package for plugin in registry.plugins} >= {"harness-eval"}
    assert isinstance(EntryPoint("library", "harness_plugins.library", "harness").load(), types.ModuleType)
