"""Groups of tasks: their scores are lm-eval's (lm_eval_groups/make_numbers.py asked it); every report shows them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from harness import Model, Response, TaskError, UsageError, evaluate, hookimpl
from harness.registry import load_plugins
from harness.run.rescore import score_run
from harness.run.result import RunResult, load_run
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.testing import run_harness

FOLDER = Path(__file__).parent / "lm_eval_groups"
sys.path.insert(0, str(FOLDER))
import group_cases  # noqa: E402

NUMBERS: dict[str, Any] = json.loads((FOLDER / "numbers.json").read_text(encoding="utf-8"))
NUMBERS.pop("lm_eval")
REGISTRY = load_plugins()


class Hash(Model):
    """Answers as group_cases.py has it."""

    name = "hash"
    supports = frozenset({"loglikelihood", "generate"})
    identity: ClassVar[dict[str, str]] = {"is": "a hash"}  # type: ignore[misc]

    def respond(self, requests: Any) -> Any:
        for index, request in enumerate(requests):
            context = request.prompt.text
            if request.kind == "generate":
                yield index, Response(text=group_cases.reply(context))
                continue
            values = [group_cases.log_probability(context, text) for text in request.continuations]
            greedy = tuple(value == max(values) for value in values)
            yield index, Response(logprobs=tuple(values), is_greedy=greedy, token_counts=(1,) * len(values))


REGISTRY.register(SimpleNamespace(harness_models=hookimpl(lambda: [Hash])), package="here", name="hash")


class Heard(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def measure(folder: Path, *tasks: str, heard: Progress | None = None, **spec: Any) -> RunResult:
    wanted = RunSpec(tasks=tasks, model="hash", output=str(folder / "runs"), include_path=(str(folder),), **spec)
    return run(wanted, REGISTRY, heard)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    group_cases.write(tmp_path)
    return tmp_path


def test_every_number_and_every_key_is_lm_evals(cases: Path) -> None:
    for name, wanted in NUMBERS.items():
        measure(cases, name, output_path=str(cases / name / "out.json"))
        (file,) = (cases / name).glob("out_*.json")
        found = json.loads(file.read_text(encoding="utf-8"))
        assert set(found.get("groups", {})) == set(wanted.get("groups", {}))
        for part in ("groups", "results"):
            for entry, values in wanted.get(part, {}).items():
                assert found[part][entry].keys() == values.keys()
                for key, value in values.items():
                    expected = pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
                    assert found[part][entry][key] == expected, (name, part, entry, key)
        for entry, members in wanted["group_subtasks"].items():
            assert found["group_subtasks"][entry] == members
            if members:
                assert found["versions"][entry] == wanted["versions"][entry]
        assert found["n-shot"] == wanted["n-shot"]


def group(result: RunResult, name: str) -> dict[str, Any]:
    return next(found for found in result.report["groups"] if found["group"] == name)


def test_the_report_has_both_averages_and_the_table_shows_the_group_above_its_tasks(cases: Path) -> None:
    result = measure(cases, "macro")
    found = group(result, "macro")
    (asked,) = found["metrics"]
    assert (asked["metric"], asked["average"], asked["n"], found["counts"]["n"]) == ("acc", "macro", 62, 62)
    assert asked["interval"][0] < asked["value"] < asked["interval"][1]
    assert found["by_average"]["micro"][0]["value"] == pytest.approx(28 / 62)
    lines = [line.split("  ")[0] for line in result.summary().splitlines() if line[:6].strip()]
    assert lines[0] == "task"
    assert lines[1].startswith("Macro mean")
    text = result.summary()
    assert text.index("acc, macro") < text.index("acc, micro") < text.index("\n  one")
    page = (result.path / "report.html").read_text(encoding="utf-8")
    assert "Macro mean" in page
    assert "acc, micro" in page


def test_scoring_again_and_reading_again_give_the_same_groups(cases: Path) -> None:
    result = measure(cases, "nested")
    assert score_run(result.path, REGISTRY).report["groups"] == result.report["groups"]
    assert (load_run(result.path).report or {})["groups"] == result.report["groups"]


def test_a_task_of_two_inner_groups_counts_once(cases: Path) -> None:
    (cases / "twice.yaml").write_text(
        "group: twice\ntask: [micro, {group: again, task: [one, three]}]\naggregate_metric_list: [{metric: acc}]\n"
    )
    found = group(measure(cases, "twice"), "twice")
    assert found["tasks"] == ["one", "two", "three"]
    assert found["metrics"][0]["n"] == 62


def test_a_metric_that_some_tasks_lack_is_named_with_them(cases: Path) -> None:
    result = measure(cases, "nested")
    acc, acc_norm, _ = group(result, "nested")["metrics"]
    assert acc["missing"] == ["sums"]
    assert acc_norm["missing"] == ["three", "sums"]
    text = result.summary()
    assert "acc_norm, micro, not of all tasks" in text
    assert "nested: acc_norm has no value in three, sums; its mean is over the other tasks" in text


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{metric: acc_nrom}", "none of its tasks has metric 'acc_nrom', so that it has no value; did you mean 'acc_"),
        ("{metric: acc, filter_list: stric}", "has metric 'acc' through filter_list stric, so that it has no value"),
    ],
)  # fmt: skip
def test_a_metric_that_no_task_has_is_said_at_the_start(cases: Path, entry: str, said: str) -> None:
    (cases / "odd.yaml").write_text(f"group: odd\ntask: [one, sums]\naggregate_metric_list:\n- {entry}\n")
    heard = Heard()
    result = measure(cases, "odd", heard=heard)
    assert said in heard.lines[0]
    assert f"{cases}/odd.yaml:4: group 'odd'" in heard.lines[0]
    assert group(result, "odd")["metrics"] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("group: g\ntask:\n- one\n- tow\n", r"g.yaml:4: group 'g': unknown task 'tow'; did you mean 'two'"),
        ("group: g\ntask:\n- {group: h, task: [onee]}\n", r"g.yaml:3: group 'g::h': unknown task 'onee'"),
        ("group: g\ntask: [one]\naggregate_metrics_list: []\n", r"g.yaml:3: unknown key 'aggregate_metrics_list'.*mea"),
        ("group: g\ntask: [{task: one, num_fewshots: 2}]\n", r"g.yaml:2: unknown key 'num_fewshots'.*'num_fewshot'"),
        ("group: g\ntask: [one]\nnum_fewshot: x\n", r"g.yaml:3: num_fewshot: should be a valid integer"),
        ("group: g\ntask: [one]\naggregate_metric_list:\n- metric: acc\n  weight_by_siz: true\n",
         r"g.yaml:5: unknown key 'weight_by_siz'.*'weight_by_size'"),
        ("group: g\ntask:\n- group: h\n  task: [one]\n  aggregate_metric_list: [{metrc: acc}]\n",
         r"g.yaml:5: unknown key 'metrc'"),
        ("group: g\ntask: [one]\naggregate_metric_list: [{metric: acc, aggregation: median}]\n",
         r"g.yaml:3: .*should be 'mean'"),
        ("group: g\ntask: [{dataset_path: x}]\n", r"g.yaml:2: a member of a group should be a name"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_group_file_names_its_line(cases: Path, text: str, said: str) -> None:
    (cases / "g.yaml").write_text(text)
    with pytest.raises(TaskError, match=said):
        measure(cases, "g")


def test_a_group_runs_where_it_lies(cases: Path) -> None:
    result = run(RunSpec(tasks=(str(cases / "micro_group.yaml"),), model="hash", output=str(cases / "r")), REGISTRY)
    assert [task["task"] for task in result.report["tasks"]] == ["one", "two"]


def test_what_names_a_group_overrides_its_keys_and_a_member_overrides_both(cases: Path) -> None:
    (cases / "low.yaml").write_text("group: low\ntask: [one, {task: two, description: mine}]\ndescription: low\n")
    (cases / "high.yaml").write_text("group: high\ntask: [{group: low, description: high}]\n")
    result = measure(cases, "high")
    assert {record.task: record.prompt.text.partition(" ")[0][:4] for record in result.samples()} == {
        "one": "high",
        "two": "mine",
    }


def test_a_task_that_two_groups_want_differently_is_refused(cases: Path) -> None:
    (cases / "dull.yaml").write_text("group: dull\ntask: [one]\ndescription: low\n")
    with pytest.raises(
        UsageError, match=r"'one' is asked for in two ways: its 'description' is 'low' by .*dull.yaml:3"
    ):
        measure(cases, "dull", "micro")


def test_a_group_counts_only_the_subsets_that_it_names(tmp_path: Path) -> None:
    for name in ("low", "high"):
        folder = tmp_path / "mirror" / "org" / "parts" / name
        folder.mkdir(parents=True)
        rows = ({"q": f"{name} {n}", "a": n % 3} for n in range(9))
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = group_cases.CHOICE.replace("NAME", "parts").replace("METRICS", "[{metric: acc}]").splitlines()
    kept = [line.replace("path: json", "path: org/parts") for line in lines if "kwargs" not in line]
    (tmp_path / "parts.yaml").write_text("\n".join([*kept, "subsets: [low, high]", "average: macro"]))
    (tmp_path / "half.yaml").write_text("group: half\ntask: [parts/low]\naggregate_metric_list: [{metric: acc}]\n")
    whole = measure(tmp_path, "half", "parts", data=(str(tmp_path / "mirror"),))
    (task_report,) = whole.report["tasks"]
    low = next(part for part in task_report["subsets"] if part["name"] == "low")
    assert task_report["counts"]["n"] == 18
    assert group(whole, "half")["metrics"][0]["value"] == low["metrics"][0]["value"]
    assert group(whole, "half")["counts"]["n"] == 9


def test_a_failed_task_is_left_out_and_named(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Hash.respond

    def fails(self: Hash, requests: Any) -> Any:
        for index, answer in real(self, requests):
            failed = requests[index].prompt.text.startswith("three")
            yield index, Response(error="out of order") if failed else answer

    monkeypatch.setattr(Hash, "respond", fails)
    found = group(measure(cases, "macro"), "macro")
    assert found["metrics"][0]["missing"] == ["three"]
    assert found["counts"]["failed"] == 5
    assert found["metrics"][0]["value"] == pytest.approx((8 / 17 + 17 / 40) / 2)


def test_the_python_interface_has_the_groups(cases: Path) -> None:
    result = evaluate("dummy", {"mode": "gold"}, ["micro"], include_path=cases, output=str(cases / "runs"))
    assert result.to_dict()["groups"][0]["metrics"][0]["value"] == 1.0


def test_python_that_a_group_names_as_its_aggregation_is_not_called_and_that_is_said(cases: Path) -> None:
    own = "aggregate_metric_list: [{metric: acc, aggregation: !function no.such, weight_by_size: 'False'}]"
    (cases / "inner.yaml").write_text(
        f"group: outer\ntask:\n  - group: inner\n    task: [one, two, three]\n    {own}\n"
    )
    heard = Heard()
    result = measure(cases, "outer", heard=heard)
    assert group(result, "outer::inner")["metrics"] == group(measure(cases, "macro"), "macro")["metrics"]
    assert any("inner.yaml:5: " in line and "'!function no.such' is not called" in line for line in heard.lines)
    assert any("inner.yaml:5: weight_by_size: 'False' is taken for false" in line for line in heard.lines)
    assert run_harness("check", str(cases / "inner.yaml")).exit_code == 0


def test_a_group_lists_its_tasks_and_is_checked_with_them(cases: Path) -> None:
    listed = run_harness("tasks", "micro", "--include_path", str(cases)).stdout
    assert [line.split()[0] for line in listed.splitlines()[1:]] == ["one", "two"]
    assert run_harness("check", str(cases)).exit_code == 0
    (cases / "odd.yaml").write_text("group: odd\ntask: [one]\naggregate_metric_list: [{metric: accc}]\n")
    (cases / "gone.yaml").write_text("group: gone\ntask: [nine]\n")
    done = run_harness("check", str(cases))
    assert done.exit_code == 4
    assert "odd.yaml:3: group 'odd': none of its tasks has metric 'accc'" in done.stdout
    assert "gone.yaml:2: group 'gone': unknown task 'nine'" in done.stdout
    assert "none of its tasks has metric 'accc'" in run_harness("check", str(cases / "odd.yaml")).stdout
