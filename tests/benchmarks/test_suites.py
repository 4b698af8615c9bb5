"""The suites: what their names promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tasks.library import TaskLibrary

ROOT = Path(__file__).parents[2]
LIBRARY = TaskLibrary([("harness-eval", ROOT / "tasks")], [("harness-eval", ROOT / "templates")])


def entries(suite):
    return [LIBRARY.entry(ref) for ref in LIBRARY.select([suite])]


@pytest.mark.parametrize("suite", ["reported_2026", "zh_core", "zh_full"])
def test_a_suite_names_each_of_its_tasks_once(suite):
    names = [entry.name for entry in entries(suite)]
    assert names and len(set(names)) == len(names)


def test_the_core_has_ten_tasks_for_ten_abilities():
    chosen = entries("zh_core")
    assert len(chosen) == 10 == len({entry.ability[:1] for entry in chosen})
    assert all("zh" in entry.language for entry in chosen)


def test_all_that_is_chinese_is_in_the_full_suite():
    full = {entry.name for entry in entries("zh_full")}
    chinese = {e.name for e in LIBRARY.entries() if list(e.language) == ["zh"] and "demo" not in e.tags}
    assert not chinese - full
