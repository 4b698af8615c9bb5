"""Of a large run nothing is looked at twice, once it has ended or was noted before a kill, while nothing changes."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.record.codec import decode_record
from harness.record.html import KINDS
from harness.record.run import RunFolder
from harness.registry import load_plugins
from harness.run.runner import run
from harness.run.spec import RunSpec
from harness.tasks.build import _Builder
from harness.tasks.templates import templates_of
from harness.testing import run_harness
from harness.types import Response
from harness_plugins.models.dummy import DummyModel

TASK = """\
task: many
dataset_path: rows.jsonl
test_split: test
output_type: multiple_choice
description: "Choose.\\n"
doc_to_text: "{{question}}"
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""


def row(number: int, answer: int = 1) -> dict[str, Any]:
    return {"question": f"{number}?", "choices": ["a", "b"], "answer": answer}


class Run:
    """A run of ten rows, of which more than four are many. `looked` says whether a command read its records."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.looked = folder, False
        (folder / "many.yaml").write_text(TASK, encoding="utf-8")
        self.rows([row(number) for number in range(10)])

    def rows(self, rows: list[dict[str, Any]]) -> None:
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")

    def again(self, *flags: str) -> Any:
        self.looked = False
        return run_harness("--tasks", "many.yaml", "--model", "dummy", "--output", "runs", *flags)

    @property
    def path(self) -> Path:
        (path,) = (self.folder / "runs").iterdir()
        return path


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.spool.FEW", 4)
    run, recover = Run(tmp_path), RunFolder._recover

    def looking(folder: RunFolder, **options: Any) -> None:
        run.looked = True
        recover(folder, **options)

    monkeypatch.setattr(RunFolder, "_recover", looking)
    assert run.again().exit_code == 0
    return run


def test_the_same_command_reads_no_record_and_tells_the_same(ended: Run) -> None:
    files = {file.name: file.read_bytes() for file in ended.path.iterdir() if file.name != "manifest.json"}
    first = ended.again("--seed", "1234")
    assert not ended.looked
    assert {file.name: file.read_bytes() for file in ended.path.iterdir() if file.name != "manifest.json"} == files
    assert "10 samples, 10 of them on disk already" in first.stderr
    assert "acc" in first.stdout
    sessions = json.loads((ended.path / "manifest.json").read_text())["sessions"]
    assert [(each["status"], each["samples"]) for each in sessions] == [("finished", 10), ("finished", 0)]


def changed_row(run: Run) -> None:
    run.rows([row(number, answer=0 if number == 3 else 1) for number in range(10)])


def another_row(run: Run) -> None:
    run.rows([row(number) for number in range(11)])


def lost_record(run: Run) -> None:
    lines = (run.path / "many.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "many.jsonl").write_bytes(b"".join([*lines[:-2], lines[-1][:50]]))


def lost_report(run: Run) -> None:
    (run.path / "report.json").unlink()


def killed(run: Run) -> None:
    manifest = json.loads((run.path / "manifest.json").read_text())
    (run.path / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))


@pytest.mark.parametrize("change", [changed_row, another_row, lost_record, lost_report, killed])
def test_whatever_has_changed_is_looked_at_and_made_good(ended: Run, change: Callable[[Run], None]) -> None:
    change(ended)
    done = ended.again()
    assert (ended.looked, done.exit_code) == (True, 0)
    n = 11 if change is another_row else 10
    report = json.loads((ended.path / "report.json").read_text())["tasks"][0]
    assert (report["counts"]["n"], report["counts"]["failed"], "missing" in report) == (n, 0, False)
    records = [json.loads(line) for line in (ended.path / "many.jsonl").read_text().splitlines()]
    assert [(each["id"], each["target"]) for each in records] == [
        (number, 0 if change is changed_row and number == 3 else 1) for number in range(n)
    ]
    ended.again()
    assert not ended.looked


def test_another_question_is_no_ended_run(ended: Run) -> None:
    done = ended.again("--limit", "3")
    assert ended.looked
    assert "3 samples, 3 of them on disk already" in done.stderr
    ended.again()
    assert not ended.looked  # the folder kept the larger report


def test_samples_that_failed_are_asked_again(ended: Run) -> None:
    (ended.folder / "many.yaml").write_text(TASK.replace("answer\n", "gold\n", 1), encoding="utf-8")
    rows = [{**row(number), "gold": None if number == 2 else 1} for number in range(10)]
    ended.rows(rows)
    done = run_harness("--tasks", "many.yaml", "--model", "dummy", "--model_args", "mode=gold", "--output", "gold")
    assert done.exit_code == 1
    ended.looked = False
    again = run_harness("--tasks", "many.yaml", "--model", "dummy", "--model_args", "mode=gold", "--output", "gold")
    assert (again.exit_code, ended.looked) == (1, True)


class Plugin:
    """A plugin in a package of the user's own, which does `meanwhile` when the first record is written."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.package = folder / "code" / "own_package"
        (self.package / "parts").mkdir(parents=True)
        (self.package / "__init__.py").touch()
        (self.package / "parts" / "__init__.py").touch()
        (self.package / "words.json").write_text('["a"]')
        (self.package / "parts" / "plugin.py").write_text(
            "from harness import hookimpl\n\nmeanwhile = []\n\n\n@hookimpl\ndef harness_record_written(record):\n"
            "    if meanwhile:\n        meanwhile.pop()()\n"
        )
        monkeypatch.syspath_prepend(self.package.parent)
        for name in ("own_package", "own_package.parts", "own_package.parts.plugin"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        self.module = importlib.import_module("own_package.parts.plugin")

    def run(self, module: Any = None) -> None:
        registry = load_plugins()
        registry.register(module or self.module, package="own", name="own")
        assert run(RunSpec(tasks=("many.yaml",), model="dummy", output="of_plugin"), registry).exit_code == 0


@pytest.fixture
def plugin(ended: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    return Plugin(tmp_path, monkeypatch)


def looked_again(ended: Run, plugin: Plugin) -> bool:
    ended.looked = False
    plugin.run()
    return ended.looked


def test_any_file_of_a_plugins_package_decides_what_a_run_comes_to(ended: Run, plugin: Plugin) -> None:
    plugin.run()
    assert not looked_again(ended, plugin)
    (plugin.package / "words.json").write_text('["b"]')  # beside the folder of the plugin itself
    assert looked_again(ended, plugin)
    assert not looked_again(ended, plugin)


def test_a_source_that_cannot_be_read_ends_no_run(ended: Run, plugin: Plugin) -> None:
    (plugin.package / ".#words.py").symlink_to("nothing")  # as an editor leaves it
    plugin.run()
    assert looked_again(ended, plugin)


def test_code_of_a_session_is_in_no_file(ended: Run, plugin: Plugin) -> None:
    plugin.run(sys.modules["__main__"])
    ended.looked = False
    plugin.run(sys.modules["__main__"])
    assert ended.looked


def test_templates_that_only_the_rows_name_are_rendered_anew(ended: Run) -> None:
    (ended.folder / "many.yaml").write_text(TASK.replace('"{{question}}"', "\"{% include style ~ '.jinja' %}\""))
    ended.rows([{**row(number), "style": f"style{number % 2}"} for number in range(10)])
    for number in range(2):
        (ended.folder / f"style{number}.jinja").write_text("{{question}}")
    assert ended.again("--output", "styled").exit_code == 0
    (ended.folder / "style1.jinja").write_text("What is {{question}}")
    templates_of.cache_clear()  # another process has read no template yet
    assert "of 5 samples the question has changed" in ended.again("--output", "styled").stderr


def test_a_file_that_changes_during_a_run_is_not_the_one_it_was_made_from(ended: Run, plugin: Plugin) -> None:
    plugin.module.meanwhile.append(lambda: (plugin.package / "words.json").write_text('["b"]'))
    plugin.run()
    assert looked_again(ended, plugin)


def test_what_a_smaller_command_noted_before_a_kill_does_not_stay(ended: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {file.name for file in ended.path.iterdir()}
    with monkeypatch.context() as kill:
        kill.setattr(RunFolder, "forget_begun", lambda folder: None)
        kill.setattr("harness.record.begun.AT_ONCE", 2)
        ended.again("--limit", "6")
    assert ended.again().exit_code == 0
    assert not ended.looked
    assert {file.name for file in ended.path.iterdir()} == files


class BegunRun(Run):
    """A run of ten rows that is killed after eight records, of which six were noted. `rendered`: rows, by command."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self.rendered: list[int] = []
        sample, forget = _Builder.sample, RunFolder.forget_begun

        def rendering(builder: Any, number: int, row: Any) -> Any:
            self.rendered.append(number)
            return sample(builder, number, row)

        monkeypatch.setattr(_Builder, "sample", rendering)
        monkeypatch.setattr("harness.run.runner.NOTED", 6)
        monkeypatch.setattr(RunFolder, "forget_begun", lambda folder: None)
        self.again()
        monkeypatch.setattr(RunFolder, "forget_begun", forget)
        self.whole = self.file.read_bytes()
        self.file.write_bytes(b"".join(self.whole.splitlines(keepends=True)[:8]) + self.whole[:40])
        killed(self)

    @property
    def file(self) -> Path:
        return self.path / "many.jsonl"

    def again(self, *flags: str) -> Any:
        self.rendered.clear()
        return super().again(*flags)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BegunRun:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.spool.FEW", 4)
    return BegunRun(tmp_path, monkeypatch)


def test_of_a_run_that_was_killed_the_noted_records_are_not_rendered_again(begun: BegunRun) -> None:
    report = json.loads((begun.path / "report.json").read_text())["tasks"]
    done = begun.again()
    assert (done.exit_code, begun.rendered) == (0, [6, 7, 8, 9])
    assert "10 samples, 8 of them on disk already" in done.stderr
    assert begun.file.read_bytes() == begun.whole
    assert json.loads((begun.path / "report.json").read_text())["tasks"] == report
    assert json.loads((begun.path / "manifest.json").read_text())["tasks"]["many"]["samples"] == 10
    assert not (begun.path / ".begun.json").exists()
    assert "10 samples, 10 of them on disk already" in begun.again().stderr
    assert begun.rendered == []


def test_of_a_run_that_was_killed_the_noted_records_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.spool.FEW", 4)
    monkeypatch.setattr("harness.record.html._QUOTAS", dict.fromkeys(KINDS, 1))
    begun = BegunRun(tmp_path, monkeypatch)
    report = json.loads((begun.path / "report.json").read_text())["tasks"]
    with (begun.path / ".begun.index").open("ab") as index:
        index.write(b'{"sums": {"many": null')  # written, but not noted, when the kill came
    read: list[int] = []

    def reading(fields: Any, resolve: Any) -> Any:
        read.append(fields["id"])
        return decode_record(fields, resolve)

    monkeypatch.setattr("harness.record.run.decode_record", reading)
    assert begun.again().exit_code == 0
    assert len({number for number in read if number < 6}) <= 2  # a right one and a wrong one, which the page shows
    assert json.loads((begun.path / "report.json").read_text())["tasks"] == report


def altered_record(run: Run) -> None:
    data = (run.path / "many.jsonl").read_bytes()
    (run.path / "many.jsonl").write_bytes(data.replace(b'"question": "3?"', b'"question": "4?"'))


def torn_note(run: Run) -> None:
    (run.path / ".begun.json").write_bytes((run.path / ".begun.json").read_bytes()[:50])


def torn_index(run: Run) -> None:
    (run.path / ".begun.index").write_bytes((run.path / ".begun.index").read_bytes()[:-20])


def lost_index(run: Run) -> None:
    (run.path / ".begun.index").unlink()


def lost_prompts(run: Run) -> None:
    (run.path / "prompts.jsonl").unlink()


def altered_index(run: Run) -> None:
    data = (run.path / ".begun.index").read_bytes()
    assert data.count(b'"n":6,') == 1
    (run.path / ".begun.index").write_bytes(data.replace(b'"n":6,', b'"n":5,'))


@pytest.mark.parametrize(
    "change",
    [changed_row, another_row, altered_record, torn_note, torn_index, lost_index, altered_index, lost_prompts],
)
def test_where_anything_has_changed_all_of_a_killed_run_is_rendered(
    begun: BegunRun, change: Callable[[Run], None]
) -> None:
    change(begun)
    n = 11 if change is another_row else 10
    assert begun.again().exit_code == 0
    assert begun.rendered == list(range(n))
    records = [json.loads(line) for line in begun.file.read_text().splitlines()]
    assert [(each["doc"]["question"], each["target"]) for each in records] == [
        (f"{number}?", 0 if change is changed_row and number == 3 else 1) for number in range(n)
    ]


def test_a_sample_that_failed_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness.spool.FEW", 4)
    answer = DummyModel._answer

    def failing(model: Any, request: Any) -> Response:
        return Response(error="lost") if request.prompt.suffix == "2?" else answer(model, request)

    monkeypatch.setattr(DummyModel, "_answer", failing)
    run = BegunRun(tmp_path, monkeypatch)
    monkeypatch.setattr(DummyModel, "_answer", answer)
    assert run.again().exit_code == 0
    assert run.rendered == [2, 6, 7, 8, 9]
    records = [json.loads(line) for line in run.file.read_text().splitlines()]
    assert [(each["id"], each["error"]) for each in records] == [(number, None) for number in range(10)]
