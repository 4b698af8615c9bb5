"""Slips that lm-eval takes: the file is read as it is meant there, and every bent value is told with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from task_files import CHOICE, REPLY, library, write

from harness import TaskError, UsageError
from harness.tasks.library import TaskLibrary
from harness.tasks.task import Task


def loaded(folder: Path, text: str, name: str = "exam") -> Task:
    write(folder, "task.yaml", text)
    books = library(folder)
    (ref,) = books.select([name])
    return books.load(ref)


def test_of_a_key_twice_the_last_counts_and_both_lines_are_named(tmp_path: Path) -> None:
    task = loaded(tmp_path, CHOICE + "doc_to_choice: [ja, nein]\nmetadata: {version: 1, version: 2}\n")
    assert task.config.doc_to_choice == ["ja", "nein"]
    assert task.config.metadata == {"version": 2}
    first, second = task.document.warnings
    assert "task.yaml:11: key 'doc_to_choice' is given twice; line 11 counts, line 8 does not" in first
    assert "task.yaml:12: key 'version' is given twice" in second


def test_of_a_metric_twice_the_last_entry_counts(tmp_path: Path) -> None:
    entries = "[{metric: acc, higher_is_better: false}, {metric: acc_norm}, {metric: acc, higher_is_better: true}]"
    task = loaded(tmp_path, CHOICE.replace("[{metric: acc}]", entries))
    assert [(metric.metric, metric.higher_is_better) for metric in task.scoring.metrics] == [
        ("acc", True),
        ("acc_norm", None),
    ]
    assert any("metric 'acc' is listed more than once" in text for text in task.document.warnings)


def test_a_boolean_a_letter_away_is_what_is_meant_and_another_text_is_refused(tmp_path: Path) -> None:
    task = loaded(tmp_path, CHOICE.replace("{metric: acc}", "{metric: acc, higher_is_better: flase}"))
    assert task.scoring.metrics[0].higher_is_better is False
    assert ["higher_is_better: 'flase' is taken for false" in text for text in task.document.warnings] == [True]
    with pytest.raises(TaskError, match="higher_is_better"):
        loaded(tmp_path, CHOICE.replace("{metric: acc}", "{metric: acc, higher_is_better: maybe}"))


def test_a_task_that_a_group_defines_in_place(tmp_path: Path) -> None:
    keys = "{task: small, dataset_path: org/x, test_split: test, doc_to_text: '{{q}}', doc_to_target: '{{a}}'}"
    write(tmp_path, "group.yaml", f"group: pair\ntask: [talk, {keys}]\n")
    write(tmp_path, "talk.yaml", REPLY)
    books = library(tmp_path)
    refs = books.select(["pair"])
    assert [ref.full_name for ref in refs] == ["talk", "pair::small"]
    task = books.load(refs[1])
    assert (task.name, task.config.dataset_path) == ("pair::small", "org/x")
    assert books.entry(refs[1]).name == "pair::small"


def test_a_folder_that_is_included_wins_over_a_package_and_that_is_said(tmp_path: Path) -> None:
    write(tmp_path / "pack", "talk.yaml", REPLY)
    mine = write(tmp_path / "mine", "talk.yaml", REPLY.replace("org/talk", "org/mine"))
    books = TaskLibrary([("pack", tmp_path / "pack")], [], [tmp_path / "mine"], tmp_path / "cache")
    (ref,) = books.select(["talk"])
    assert ref.path == mine
    assert "one is pack/talk" in books.shadowed["talk"]
    assert books.select(["pack/talk"])[0].path == tmp_path / "pack" / "talk.yaml"


def test_a_group_whose_file_is_broken_is_told_of_its_own_file(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "task: [broken\n")
    write(tmp_path, "zz.yaml", "group: family\ntask: [broken\n")
    with pytest.raises((TaskError, UsageError), match=r"zz\.yaml:"):
        library(tmp_path).select(["family"])


def test_the_tasks_of_an_installed_lm_eval_are_named_by_its_package_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "site" / "lm_eval", "__init__.py", "raise SystemExit('nothing imports this')\n")
    write(tmp_path / "site" / "lm_eval" / "tasks", "talk.yaml", REPLY)
    write(tmp_path / "site" / "lm_eval" / "tasks", "family.yaml", "group: family\ntask: [talk]\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    write(tmp_path / "own", "talk.yaml", REPLY)
    books = library(tmp_path / "own")
    assert books.select(["talk"])[0].package == "pack"
    (ref,) = books.select(["lm_eval/family"])
    assert (ref.package, ref.path.parent.name, books.entry(ref).name) == ("lm_eval", "tasks", "talk")
    assert [entry.name for entry in books.lm_eval_entries()] == ["talk"]
    with pytest.raises(UsageError, match="unknown task 'family'"):
        books.select(["family"])
