"""The suites: what their names promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tasks.library import TaskLibrary

ROOT = Path(__file__).parents[2]
LIBRARY = TaskLibrary([("harness-eval", ROOT / "tasks")], [("harness-eval", ROOT / "templates")])


def entries(suite):
    return [LIBRARY.entry(ref) for ref in LIBRARY.select([suite])]


@pytest.mark.parametrize(
    "suite",
    [
        "release_zh",
        "release_zh_judged",
        "reported_2026",
        "reported_video_2026",
        "reported_vision_2026",
        "zh_audio",
        "zh_core",
        "zh_full",
        "zh_vision",
    ],
)
def test_a_suite_names_each_of_its_tasks_once(suite):
    names = [entry.name for entry in entries(suite)]
    assert names and len(set(names)) == len(names)


def test_the_core_has_ten_tasks_for_ten_abilities():
    chosen = entries("zh_core")
    assert len(chosen) == 10 == len({entry.ability[:1] for entry in chosen})
    assert all("zh" in entry.language for entry in chosen)


def test_all_that_is_chinese_is_in_the_full_suites_of_text_of_images_and_of_sounds():
    full, vision, audio = ({entry.name for entry in entries(suite)} for suite in ("zh_full", "zh_vision", "zh_audio"))
    chinese = [
        entry for entry in LIBRARY.entries() if list(entry.language) == ["zh"] and not entry.name.startswith("demo")
    ]
    images = {entry.name for entry in chinese if "image" in entry.modality}
    sounds = {entry.name for entry in chinese if "audio" in entry.modality}
    assert not {entry.name for entry in chinese} - images - sounds - full
    assert not images - vision and not images & full
    assert not sounds - audio and not sounds & full


def metrics(suite):
    loaded = [LIBRARY.load(ref, {}) for ref in LIBRARY.select([suite])]
    assert all(task.config.ability and "safety" in task.config.ability for task in loaded)
    return {task.name: {metric.metric for metric in task.scoring.metrics} for task in loaded}


def test_before_a_release_one_suite_needs_no_judge_and_the_other_has_nothing_else():
    assert not [name for name, asked in metrics("release_zh").items() if "judge" in asked]
    assert set(map(frozenset, metrics("release_zh_judged").values())) == {frozenset({"judge"})}
