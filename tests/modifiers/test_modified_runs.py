"""`--modify` from specification to report: what models of known habits score, and that nothing is lost or mixed up."""

from __future__ import annotations

import json
import re
import types
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import DataError, Model, Record, Request, Response, UsageError, hookimpl
from harness.errors import Interrupted
from harness.registry import Registry, load_plugins
from harness.run.compare import compare_runs
from harness.run.gate import check_gate
from harness.run.rescore import score_run
from harness.run.result import load_run
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec

TASK = """\
task: quiz
dataset_path: rows.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{q}}\\nA. {{A}}\\nB. {{B}}\\nC. {{C}}\\nD. {{D}}\\nAnswer:"
doc_to_target: y
generation_kwargs: {until: ["\\n"]}
filter_list: [{name: letter, filter: [{function: choice_letter}, {function: take_first}]}]
metric_list: [{metric: exact_match}]
options: {columns: [A, B, C, D], answer: y, question: q}
paraphrases:
  - "Please: {{q}} A. {{A}} B. {{B}} C. {{C}} D. {{D}}"
  - "{{q | upper}}\\nA. {{A}}\\nB. {{B}}\\nC. {{C}}\\nD. {{D}}"
variants:
  scored: {output_type: multiple_choice, doc_to_choice: [A, B, C, D], filter_list: null, metric_list: [{metric: acc}]}
"""
SHOWN = re.compile(r"([A-D])\. (\w+)")


class Habit(Model):
    """Answers by `habit`: what it says of a row does not depend on what is right unless the habit is `knows`."""

    name = "habit"
    supports = frozenset({"generate", "loglikelihood"})
    asked: list[Request] = []  # noqa: RUF012
    stop_after: int | None = None

    def __init__(self, habit: str = "knows") -> None:
        self.habit = habit

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"habit": self.habit}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            if type(self).stop_after == len(type(self).asked):
                raise KeyboardInterrupt
            type(self).asked.append(request)
            letter = self.letter(request.prompt.text, request)
            if request.kind == "generate":
                yield index, Response(text=letter, finish_reason="stop")
            else:
                values = tuple(-1.0 if choice.strip() == letter else -5.0 for choice in request.continuations)
                yield index, Response(logprobs=values, is_greedy=(False,) * 4, token_counts=(1,) * 4)

    def letter(self, prompt: str, request: Request) -> str:
        shown = {text: letter for letter, text in SHOWN.findall(prompt)}
        if self.habit == "knows":
            return next(letter for text, letter in shown.items() if text.startswith("right"))
        if self.habit == "likes one option":  # the same one, wherever it stands
            return shown[sorted(shown)[0]]
        if self.habit == "minds the wording":
            return shown[sorted(shown)[0 if prompt.startswith("Please") else -1]]
        if self.habit == "often right":
            return "A" if request.repeat in (0, 3) else "B"
        if self.habit == "random":
            return "ABCD"[zlib.crc32(prompt.encode()) % 4]
        if self.habit == "silent":
            return "..."
        return self.habit


@pytest.fixture
def registry() -> Registry:
    Habit.asked, Habit.stop_after = [], None
    module = types.ModuleType("habit_plugin")
    module.harness_models = hookimpl(lambda: [Habit])  # type: ignore[attr-defined]
    registry = load_plugins()
    registry.register(module, package="test-package", name="habit_plugin")
    return registry


ROWS = [
    {"q": f"q{n}?", **{"ABCD"[k]: f"right{n}" if k == n % 4 else f"wrong{n}{k}" for k in range(4)}, "y": "ABCD"[n % 4]}
    for n in range(8)
]


def spec_of(folder: Path, *modify: str, habit: str = "knows", task: str = "quiz", **changes: Any) -> RunSpec:
    rows = changes.pop("rows", ROWS)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "quiz.yaml").write_text(changes.pop("text", TASK), encoding="utf-8")
    variant = task.removeprefix("quiz")
    return RunSpec(
        tasks=(f"{folder}/quiz.yaml{variant}",),
        model="habit",
        model_args={"habit": habit},
        modify=modify,
        output=str(folder / "runs"),
        **changes,
    )


def numbers(report: Mapping[str, Any]) -> dict[str, float | None]:
    (task,) = report["tasks"]
    return {metric["metric"]: metric["value"] for metric in task["metrics"]}


@pytest.mark.parametrize(("task", "metric"), [("quiz", "exact_match"), ("quiz:scored", "acc")])
def test_always_the_same_letter_is_a_quarter_right_and_never_in_all_rotations(
    registry: Registry, tmp_path: Path, task: str, metric: str
) -> None:
    report = run(spec_of(tmp_path, "circular", habit="A", task=task), registry).report
    assert report["tasks"][0]["task"] == f"{task}+circular"
    found = numbers(report)
    assert next(iter(found)) == f"circular_{metric}"
    assert found == {
        f"circular_{metric}": 0.0,
        f"vanilla_{metric}": 0.25,
        f"mean_{metric}": 0.25,
        "consistency": 0.0,
        "position_bias": 0.75,
        "chose_A": 1.0,
        "chose_B": 0.0,
        "chose_C": 0.0,
        "chose_D": 0.0,
        "kept_order": 0.0,
    }
    assert {m["n"] for m in report["tasks"][0]["metrics"]} == {8}  # rows, not rotations


@pytest.mark.parametrize("task", ["quiz", "quiz:scored"])
def test_who_knows_the_content_is_right_in_all_rotations(registry: Registry, tmp_path: Path, task: str) -> None:
    found = numbers(run(spec_of(tmp_path, "circular", task=task), registry).report)
    metric = next(iter(found))
    assert (found[metric], found["consistency"], found["position_bias"]) == (1.0, 1.0, 0.0)
    assert len(Habit.asked) == 32


def test_always_the_same_option_is_consistent_whether_right_or_not(registry: Registry, tmp_path: Path) -> None:
    found = numbers(run(spec_of(tmp_path, "circular", habit="likes one option"), registry).report)
    assert (found["consistency"], found["position_bias"]) == (1.0, 0.0)
    assert found["circular_exact_match"] == found["vanilla_exact_match"] == 1.0  # "right" sorts before "wrong"


def test_replies_that_cannot_be_read_are_counted_and_have_no_place(registry: Registry, tmp_path: Path) -> None:
    report = run(spec_of(tmp_path, "circular", habit="silent"), registry).report
    found = numbers(report)
    assert (found["circular_exact_match"], found["consistency"], found["position_bias"]) == (0.0, None, None)
    assert report["tasks"][0]["counts"]["unparsed"] == 8


def test_a_row_that_cannot_be_turned_is_asked_once_and_counted(registry: Registry, tmp_path: Path) -> None:
    class Listener(Progress):
        lines: list[str] = []  # noqa: RUF012

        def message(self, text: str) -> None:
            self.lines.append(text)

    rows = [*ROWS, {**ROWS[0], "D": "以上都不对"}]
    report = run(spec_of(tmp_path, "circular", habit="A", rows=rows), registry, Listener()).report
    assert len(Habit.asked) == 33
    found = numbers(report)
    assert found["kept_order"] == pytest.approx(1 / 9)
    assert found["circular_exact_match"] == pytest.approx(1 / 9)
    assert found["position_bias"] == 0.75  # of the rows that were turned
    assert Listener.lines == [
        "quiz+circular: 1 of 9 rows keep the order of their options; the first is 8: "
        "option D refers to others: 以上都不对"
    ]


def test_wordings_that_are_answered_differently_contradict_each_other(registry: Registry, tmp_path: Path) -> None:
    found = numbers(run(spec_of(tmp_path, "paraphrase", habit="minds the wording"), registry).report)
    assert found == {
        "mean_exact_match": pytest.approx(1 / 3),
        "worst_exact_match": 0.0,
        "vanilla_exact_match": 0.0,
        "spread_exact_match": 1.0,
        "contradiction": 1.0,
    }
    calm = numbers(run(spec_of(tmp_path, "paraphrase"), registry).report)
    assert (calm["mean_exact_match"], calm["spread_exact_match"], calm["contradiction"]) == (1.0, 0.0, 0.0)


def test_options_without_their_question_are_held_against_chance(registry: Registry, tmp_path: Path) -> None:
    text = TASK.replace('"{{q}}\\nA.', '"{{q}}\\n\\nA.')
    for habit, expected in (("knows", 1.0), ("A", 0.25)):
        result = run(spec_of(tmp_path, "no_question", habit=habit, text=text), registry)
        assert numbers(result.report) == {
            "exact_match": expected,
            "above_chance_exact_match": expected - 0.25,
            "chance": 0.25,
        }
    above = result.report["tasks"][0]["metrics"][1]
    assert above["interval"][0] < 0 < above["interval"][1]
    assert all("?" not in request.prompt.text for request in Habit.asked)


def test_the_answer_that_most_replies_give_is_scored(registry: Registry, tmp_path: Path) -> None:
    rows = [{**ROWS[0], "y": "A"}, {**ROWS[1], "y": "B"}]
    spec = spec_of(
        tmp_path, "repeats=5", habit="often right", rows=rows, gen_kwargs={"temperature": 0.7, "do_sample": True}
    )
    result = run(spec, registry)
    assert numbers(result.report) == {"exact_match@majority": 0.5, "exact_match@letter": pytest.approx(0.5)}
    first, second = result.samples()
    assert first.answers == {"majority": ("B",), "letter": ("A", "B", "B", "A", "B")}
    assert [
        (record.scores["exact_match@majority"], record.scores["exact_match@letter"]) for record in (first, second)
    ] == [
        (0.0, 0.4),
        (1.0, 0.6),
    ]
    seeds = {request.generation.seed for request in Habit.asked if request.generation}
    assert len(seeds) == 10


def test_greedy_repeats_are_remarked_upon(registry: Registry, tmp_path: Path) -> None:
    class Listener(Progress):
        lines: list[str] = []  # noqa: RUF012

        def message(self, text: str) -> None:
            self.lines.append(text)

    run(spec_of(tmp_path, "repeats=2"), registry, Listener())
    (line,) = Listener.lines
    assert line.startswith("quiz+repeats=2: each question is asked 2 times, but greedily")


def test_a_modifier_can_be_repeated_and_voted_upon_too(registry: Registry, tmp_path: Path) -> None:
    found = numbers(run(spec_of(tmp_path, "circular", "repeats=3", gen_kwargs={"temperature": 1.0}), registry).report)
    assert found["circular_exact_match@majority"] == found["circular_exact_match@letter"] == 1.0
    assert len(Habit.asked) == 96


def test_a_plain_and_a_modified_run_have_folders_of_their_own_and_share_their_keys(
    registry: Registry, tmp_path: Path
) -> None:
    plain = run(spec_of(tmp_path), registry)
    turned = run(spec_of(tmp_path, "circular"), registry)
    assert plain.path != turned.path
    assert (turned.path / "quiz+circular.jsonl").is_file()
    assert json.loads((turned.path / "manifest.json").read_text())["tasks"]["quiz+circular"]["modifiers"] == [
        "circular"
    ]
    own = [record.request_keys for record in plain.samples()]
    assert [record.request_keys for record in views(turned, 0)] == own
    assert not {key for keys in own for key in keys} & {key for r in views(turned, 1) for key in r.request_keys}


def views(result: Any, index: int) -> list[Record]:
    return [record for record in result.samples() if record.view is not None and record.view.index == index]


def test_an_interrupted_run_goes_on_with_the_rotation_where_it_stopped(registry: Registry, tmp_path: Path) -> None:
    expected = run(spec_of(tmp_path, "circular", habit="B", output_path=None), registry)
    lines = (expected.path / "quiz+circular.jsonl").read_text(encoding="utf-8")
    other = tmp_path / "other"
    other.mkdir()
    Habit.asked, Habit.stop_after = [], 5
    with pytest.raises(Interrupted):
        run(spec_of(other, "circular", habit="B"), registry)
    Habit.asked, Habit.stop_after = [], None
    result = run(spec_of(other, "circular", habit="B"), registry)
    assert len(Habit.asked) == 32 - 5
    assert (result.path / "quiz+circular.jsonl").read_text(encoding="utf-8").replace(str(other), "") == lines
    assert numbers(result.report) == numbers(expected.report)


def test_scoring_again_gives_the_same_report_without_model_and_rows(registry: Registry, tmp_path: Path) -> None:
    for modify in (("circular",), ("shuffle_options", "no_question"), ("paraphrase",), ("repeats=2",)):
        first = run(spec_of(tmp_path, *modify, habit="B", text=TASK.replace('"{{q}}\\nA', '"{{q}}\\n\\nA')), registry)
        lines = next(first.path.glob("quiz*.jsonl")).read_text(encoding="utf-8")
        (tmp_path / "rows.jsonl").unlink()
        again = score_run(first.path, registry)
        assert again.report["tasks"] == first.report["tasks"]
        assert next(first.path.glob("quiz*.jsonl")).read_text(encoding="utf-8") == lines


def test_a_failed_view_leaves_its_row_unscored_and_is_asked_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = Habit.letter

    def flaky(self: Habit, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            yield index, Response(text=letter(self, request.prompt.text, request)) if index else Response(error="500")

    with monkeypatch.context() as patch:
        patch.setattr(Habit, "respond", flaky)
        first = run(spec_of(tmp_path, "circular"), registry)
    (task,) = first.report["tasks"]
    assert task["counts"]["failed"] == 1
    assert (task["metrics"][0]["n"], task["metrics"][0]["value"]) == (7, 1.0)
    again = run(spec_of(tmp_path, "circular"), registry)
    assert len(Habit.asked) == 1
    assert again.report["tasks"][0]["metrics"][0]["n"] == 8


def test_runs_of_a_modified_task_are_compared_row_by_row(registry: Registry, tmp_path: Path) -> None:
    first = run(spec_of(tmp_path, "circular", habit="A"), registry)
    second = run(spec_of(tmp_path, "circular"), registry)
    (found,) = compare_runs(first.path, second.path, registry)
    assert (found.name, found.n, found.first, found.second) == ("quiz+circular: circular_exact_match", 8, 0.0, 1.0)
    assert found.p_value == pytest.approx(2**-7)
    assert [check.outcome for check in check_gate([found])] == ["passed"]


def test_a_task_is_compared_with_its_modified_form_only_on_request(registry: Registry, tmp_path: Path) -> None:
    plain = run(spec_of(tmp_path, habit="A"), registry)
    for modify, expected in (("circular", 0.0), ("shuffle_options", None)):
        other = run(spec_of(tmp_path, modify, habit="A"), registry)
        with pytest.raises(UsageError, match=rf"share no task: .* has quiz; .* has quiz\+{modify}"):
            compare_runs(plain.path, other.path, registry)
        (found,) = compare_runs(plain.path, other.path, registry, across=True)
        assert (found.n, found.first, dict(found.notes)) == (8, 0.25, {})
        assert expected is None or (found.second, len(found.losses)) == (expected, 2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    fewer = run(spec_of(elsewhere, "circular", habit="A", rows=ROWS[:4]), registry)
    with pytest.raises(UsageError, match="asked rows of different data"):
        compare_runs(plain.path, fewer.path, registry, across=True)


def test_answers_to_rows_as_they_are_never_answer_rows_that_were_changed(registry: Registry, tmp_path: Path) -> None:
    published = tmp_path / "outputs.jsonl"
    published.write_text("".join(json.dumps({"id": n, "text": "A"}) + "\n" for n in range(8)), encoding="utf-8")
    spec = replace(
        spec_of(tmp_path, "circular"), model="replay", model_args={"path": str(published)}, output=str(tmp_path / "r")
    )
    report = run(spec, registry).report
    assert report["tasks"][0]["counts"]["failed"] == 8  # three of four rotations of each row have no answer
    assert [record.text for record in load_run(next((tmp_path / "r").iterdir())).records()].count("A") == 8
    turned = run(spec_of(tmp_path, "circular", habit="B"), registry)
    again = replace(spec, model_args={"path": str(turned.path)})
    assert run(again, registry).report["tasks"][0]["metrics"] == turned.report["tasks"][0]["metrics"]


def test_a_group_of_modified_tasks_is_a_modified_group(registry: Registry, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "circular", habit="A")
    (tmp_path / "pair.yaml").write_text(
        "group: pair\ntitle: A pair\ntask: [quiz, 'quiz:scored']\n"
        "aggregate_metric_list: [{metric: exact_match}, {metric: acc}]\n",
        encoding="utf-8",
    )
    report = run(replace(spec, tasks=("pair",), include_path=(str(tmp_path),)), registry).report
    (group,) = report["groups"]
    assert (group["group"], group["title"]) == ("pair+circular", "A pair+circular")
    assert [metric["metric"] for metric in group["metrics"]] == ["circular_exact_match", "circular_acc"]
    assert group["members"] == ["quiz+circular", "quiz:scored+circular"]


def test_reported_numbers_are_what_the_records_say(registry: Registry, tmp_path: Path) -> None:
    rows = [{**row, "q": f"{row['q']} {copy}", "note": str(copy // 2)} for copy in range(6) for row in ROWS]
    result = run(spec_of(tmp_path, "circular", habit="random", rows=rows, text=TASK + "cluster_key: note\n"), registry)
    by_row: dict[int, list[Record]] = {}
    for record in result.samples():
        by_row.setdefault(record.id, []).append(record)
    assert {len(views) for views in by_row.values()} == {4}
    scores = [[record.scores["exact_match"] for record in views] for views in by_row.values()]
    letters = [[record.answers["letter"][0] for record in views] for views in by_row.values()]
    texts = [[record.doc[record.answers["letter"][0]] for record in views] for views in by_row.values()]
    found = numbers(result.report)
    assert found["circular_exact_match"] == pytest.approx(sum(map(min, scores)) / 48)
    assert found["vanilla_exact_match"] == pytest.approx(sum(row[0] for row in scores) / 48)
    assert found["mean_exact_match"] == pytest.approx(sum(map(sum, scores)) / 192)
    assert found["consistency"] == pytest.approx(sum(len(set(row)) == 1 for row in texts) / 48)
    shares = [sum(row.count(letter) for row in letters) / 192 for letter in "ABCD"]
    assert [found[f"chose_{letter}"] for letter in "ABCD"] == pytest.approx(shares)
    assert found["position_bias"] == pytest.approx(sum(abs(share - 0.25) for share in shares) / 2)
    mean = result.report["tasks"][0]["metrics"][2]
    means = [sum(row) / 4 for row in scores]
    sums = [sum(means[i] - mean["value"] for i in range(48) if i // 16 == cluster) for cluster in range(3)]
    assert mean["stderr"] == pytest.approx((3 / 2 * sum(value**2 for value in sums)) ** 0.5 / 48)


def test_a_wording_that_is_gone_is_an_error_when_a_run_is_scored_again(registry: Registry, tmp_path: Path) -> None:
    first = run(spec_of(tmp_path, "paraphrase"), registry)
    text = TASK.replace(TASK[TASK.index('  - "{{q | upper}}') : TASK.index("variants")], "")
    (tmp_path / "quiz.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="paraphrases: wording 2 was asked, but the task has 1 paraphrases now"):
        score_run(first.path, registry)


def test_samples_of_every_view_are_in_the_files_for_others(registry: Registry, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "circular", output_path=str(tmp_path / "out"), log_samples=True)
    run(spec, registry)
    (samples,) = (tmp_path / "out").rglob("samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    assert [(line["doc_id"], line["view"]) for line in lines[:5]] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    page = next((tmp_path / "runs").iterdir()) / "report.html"
    assert "0 (2 of 4)" in page.read_text(encoding="utf-8")
