"""Recipes: a model measured as its makers did, and their values beside the run's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.errors import TaskError, UsageError
from harness.record.published import compared, protocol_lines, read_eval_results, render_published
from harness.registry import load_plugins
from harness.run.recipes import card_scale, recipe_problems, with_recipe
from harness.run.spec import RunSpec
from harness.run.sweep import swept
from harness.tasks.library import TaskLibrary
from harness.tasks.recipe_files import find_recipe, load_recipe, recipe_files
from harness.testing import run_harness
from harness.words import translator

REGISTRY = load_plugins()
ORACLES = Path(__file__).parents[2].parent / "shared" / "oracles"
MADE_UP = """\
recipe: made_up
title: A model that is none
source: https://example.org/card
date: 2026-01
gen_kwargs: {temperature: 0.6, max_gen_toks: 8}
tasks:
  demo_arithmetic: {published: PUBLISHED, repeats: 2, num_fewshot: 0}
"""


def made_up(folder: Path, published: float = 100, **changes: str) -> Path:
    text = MADE_UP.replace("PUBLISHED", str(published))
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / "recipes" / "made_up.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_recipe_names_tasks_variants_and_scores_that_there_are() -> None:
    library = TaskLibrary(REGISTRY.task_folders(), REGISTRY.template_folders())
    recipes = [load_recipe(path) for _, path in recipe_files(REGISTRY.task_folders())]

    assert len({recipe["model"] for recipe in recipes}) >= 24
    checked: set[str] = set()
    for recipe in recipes:
        asked = {
            name: json.dumps([name, entry.get("variant"), entry.get("metric")])
            for name, entry in recipe["tasks"].items()
        }
        new = {name: entry for name, entry in recipe["tasks"].items() if asked[name] not in checked}
        assert list(recipe_problems({**recipe, "tasks": new}, library, REGISTRY)) == []
        checked.update(asked.values())
        assert recipe["source"].startswith("https://") and recipe["read"]
        assert all(0 <= entry["published"] <= entry["scale"] for entry in recipe["tasks"].values())


def run(tmp_path: Path, *flags: str, mode: str = "gold") -> tuple[Any, dict[str, Any], dict[str, Any]]:
    done = run_harness(
        "--recipe", "made-up", "--include_path", tmp_path, "--model", "dummy", "-a", f"mode={mode}", "--limit", "20",
        "--output", tmp_path / "runs", *flags,
    )  # fmt: skip
    folder = max((tmp_path / "runs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    (task,) = json.loads((folder / "report.json").read_text())["tasks"]
    return done, task["published"], json.loads((folder / "manifest.json").read_text())


def test_a_run_agrees_with_its_recipe_and_holds_it_whole(tmp_path: Path) -> None:
    path = made_up(tmp_path)
    done, published, manifest = run(tmp_path)

    assert published["verdict"] == "agrees" and published["source"] == "https://example.org/card"
    assert published["differs"] == ["20 of 200 rows"]
    assert "agrees" in done.stdout and "published: https://example.org/card (2026-01)" in done.stdout
    assert manifest["spec"]["recipe"] == load_recipe(path)
    assert manifest["spec"]["gen_kwargs"] == {"max_gen_toks": 8, "temperature": 0.6}
    assert manifest["tasks"]["demo_arithmetic"]["config"]["repeats"] == 2


def test_flags_win_over_what_a_recipe_says_of_one_task_and_that_over_what_it_says_of_all(tmp_path: Path) -> None:
    made_up(tmp_path, **{"num_fewshot: 0": "num_fewshot: 0, gen_kwargs: {max_new_tokens: 99, top_p: 0.5}"})

    def asked(**flags: Any) -> RunSpec:
        return RunSpec(**with_recipe("made_up", {"include_path": (str(tmp_path),), **flags}, REGISTRY))

    spec = asked()
    assert spec.generation_of("demo_arithmetic") == {"max_gen_toks": 99, "temperature": 0.6, "top_p": 0.5}
    assert spec.generation_of("another") == {"max_gen_toks": 8, "temperature": 0.6}
    told = asked(gen_kwargs={"max_tokens": 3})
    assert told.generation_of("demo_arithmetic") == {"max_gen_toks": 3, "temperature": 0.6, "top_p": 0.5}
    runs = swept(spec, "top_p", [0.1, 0.2])
    assert [run.generation_of("demo_arithmetic")["top_p"] for run in runs.values()] == [0.1, 0.2]


@pytest.mark.slow
def test_flags_of_shots_and_repeats_win_over_a_recipe(tmp_path: Path) -> None:
    made_up(tmp_path)
    _, _, manifest = run(tmp_path, "--num_fewshot", "1", "--repeats", "1")
    config = manifest["tasks"]["demo_arithmetic"]["config"]
    assert (config["num_fewshot"], config["repeats"]) == (1, 1)


@pytest.mark.parametrize(("mode", "published", "verdict"), [("fixed", 90, "below"), ("gold", 10, "above")])
def test_a_difference_is_named_with_what_differs_in_protocol(
    tmp_path: Path, mode: str, published: float, verdict: str
) -> None:
    made_up(tmp_path, published)
    flags = ("--gen_kwargs", "temperature=0", "--thinking", "auto", "--set", "demo_arithmetic.repeats=1")
    done, told, _ = run(tmp_path, *flags, mode=mode)

    assert told["verdict"] == verdict
    assert "temperature 0, published with 0.6" in told["differs"] and "repeats 1, published with 2" in told["differs"]
    assert "demo_arithmetic: not as published: temperature 0" in " ".join(done.stdout.split())
    (folder,) = (tmp_path / "runs").iterdir()
    (line,) = protocol_lines(json.loads((folder / "report.json").read_text()), translator("zh"))
    assert line.startswith(
        "demo_arithmetic：与公布的方式不同：temperature 为 0，公布时为 0.6；repeats 为 1，公布时为 2；"
    )
    assert not re.search("[a-z]{3,}", re.sub("demo_arithmetic|temperature|repeats", "", line)), line


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gen_kwargs", "gen_kwarg", "made_up.yaml:5: unknown key 'gen_kwarg'; did you mean 'gen_kwargs'"),
        ("date: 2026-01", "date: soon", "made_up.yaml:4: date: should be"),
        ("demo_arithmetic", "demo_arithmetik", "did you mean 'demo_arithmetic'"),
        ("repeats: 2", "variant: cot", "demo_arithmetic"),
        ("repeats: 2", "metric: bleu", "demo_arithmetic"),
        ("PUBLISHED", ".nan", "made_up.yaml:7: tasks.demo_arithmetic.published: should be"),
        ("PUBLISHED", "50, scale: 0", "made_up.yaml:7: tasks.demo_arithmetic.scale: should be greater than 0"),
        ("PUBLISHED", "50, scale: 1", "published 50 of 1 is not within 0 to 1: say its `scale`"),
        ("date: 2026-01", "date: 2026-13", "made_up.yaml:4: date: should be"),
        ("date: 2026-01", "date: 2026-01\ntitle: Another", "made_up.yaml:5: key 'title' is given twice"),
        ("tasks:", "thinking: off\nthinking_budget: 9\ntasks:", "made_up.yaml:6: thinking_budget: with thinking off"),
        (
            "tasks:",
            "thinking: on\nchat_template_args: {enable_thinking: false}\ntasks:",
            "made_up.yaml:7: enable_thinking: is False, which `thinking` makes True",
        ),
        ("tasks:", "judge: nobody\ntasks:", "'nobody'"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = made_up(tmp_path)
    path.write_text(MADE_UP.replace(old, new).replace("PUBLISHED", "100"), encoding="utf-8")
    done = run_harness("check", path)
    assert done.exit_code == 4 and message in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("demo_arithmetic", "demo_arithmetik", "recipe 'made_up': unknown task 'demo_arithmetik'; did you mean"),
        ("demo_arithmetic", "demo", "recipe 'made_up': 'demo' is a group of tasks; a value is of one"),
        ("repeats: 2", "metric: bleu", "recipe 'made_up': task 'demo_arithmetic' has no score 'bleu'"),
        ("tasks:", "judge: model=x\ntasks:", "recipe 'made_up': judge: 'model=x' does not begin with"),
        (
            "tasks:",
            "include: made_up.yaml\ntasks:",
            "include 'made_up.yaml' leads back to a file that is being included",
        ),
        ("source: https://example.org/card\n", "", "made_up.yaml:1: missing key 'source'"),
        ("PUBLISHED", "many", "published: should be a valid number"),
    ],
)
def test_a_bad_recipe_is_refused_in_one_line_before_anything_is_asked(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = made_up(tmp_path)
    path.write_text(MADE_UP.replace(old, new).replace("PUBLISHED", "50"), encoding="utf-8")
    done = run_harness("--recipe", path, "--model", "dummy", "--output", tmp_path / "runs")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and message in errors[0] and done.exit_code == 4
    assert not (tmp_path / "runs").exists()


def test_a_recipe_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'deepseek_r1'"):
        find_recipe("deepseek_rl", REGISTRY.task_folders())
    done = run_harness("--recipe", tmp_path / "none.yaml", "--model", "dummy", "--output", tmp_path)
    assert "there is no such file" in done.stderr and done.exit_code == 4
    made_up(tmp_path, **{"recipe: made_up": "recipe: other"})
    with pytest.raises(TaskError, match="the file is named 'made_up'"):
        find_recipe("made_up", [("", tmp_path)])


def test_recipes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first, second = made_up(tmp_path / "a"), made_up(tmp_path / "b")
    folders = [("mine", first.parents[1]), ("", second.parents[1])]
    with pytest.raises(UsageError, match=f"2 recipes have this name: say mine/made_up or {second}$"):
        find_recipe("made-up", folders)
    assert find_recipe("mine/made-up", folders) == find_recipe(str(second), folders) == load_recipe(first)


def test_rounding_and_intervals_decide() -> None:
    def verdict(value: float | None, interval: list[float] | None, published: float) -> str:
        metric = {"metric": "acc", "value": value, "interval": interval}
        task: Any = {"task": "t", "metrics": [metric]}
        return compared(task, {"published": published}, {}, [])["verdict"]

    assert verdict(0.75, [0.70, 0.7996], 80.0) == "agrees"  # 80.0 may be 79.95
    assert verdict(0.75, [0.70, 0.7994], 80.0) == "below"
    assert verdict(0.85, [0.806, 0.90], 80) == "above" and verdict(0.85, [0.804, 0.90], 80) == "agrees"
    assert verdict(0.8, None, 80) == "unclear" and verdict(None, None, 80) == "no value"


def test_a_narrow_terminal_shows_the_verdict_whole() -> None:
    metric = {"metric": "acc", "value": 0.25, "interval": [0.2, 0.3]}
    told = compared({"task": "t", "metrics": [metric]}, {"published": 36.4}, {}, [])  # type: ignore[typeddict-item]
    report: Any = {"tasks": [{"task": "a_task_of:variant", "metrics": [metric], "published": told}]}
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(render_published(report))
    assert "below" in console.export_text()


def test_a_published_value_of_other_questions_has_an_error_of_its_own() -> None:
    """45 of 100 against 50.0: of 100 other questions that is a half of hypot(9.8, 9.8) percent, and so agrees."""

    def told(n: int | None, bounds: list[int] | None) -> Any:
        metric = {"metric": "acc", "value": 0.38, "interval": [0.29, 0.478], "bounds": bounds}
        return compared({"task": "t", "metrics": [metric]}, {"published": 50.0, "n": n}, {}, [])  # type: ignore[typeddict-item]

    assert told(None, [0, 1])["verdict"] == "below" == told(100, None)["verdict"]
    other = told(100, [0, 1])
    assert other["verdict"] == "agrees"
    assert other["interval"] == pytest.approx([-0.12 - 0.1331 - 0.0005, -0.12 + 0.1386 + 0.0005], abs=2e-4)
    missing = compared({"task": "t", "metrics": []}, {"published": 50, "metric": "f1"}, {}, [])  # type: ignore[typeddict-item]
    assert (missing["verdict"], missing["metric"]) == ("no value", "f1")


def test_a_models_own_card_is_read(tmp_path: Path) -> None:
    folder = tmp_path / ".eval_results"
    folder.mkdir()
    text = "- dataset: {id: Idavidrein/gpqa, task_id: diamond}\n  value: 71\n  date: '2026-04-07'\n"
    (folder / "gpqa.yaml").write_text(text + "  source: {url: https://example.org, name: Model Card}\n")
    (entry,) = read_eval_results(tmp_path)
    assert (entry["dataset"], entry["task_id"], entry["published"]) == ("Idavidrein/gpqa", "diamond", 71)

    def scale(value: float | None, bounds: list[float] | None, published: float) -> int:
        return card_scale({"metrics": [{"value": value, "bounds": bounds}]}, published)  # type: ignore[typeddict-item]

    # A share of 0.71 or of 71 percent; a score of 2,000 points, and an error rate that has no bounds.
    assert (scale(None, [0.0, 1.0], 71), scale(0.5, [0.0, 1.0], 0.71)) == (100, 1)
    assert (scale(1900.0, None, 2000), scale(0.12, None, 11.5)) == (1, 100)
    (folder / "bad.yaml").write_text("- dataset: gpqa\n")
    with pytest.raises(UsageError, match=r"bad.yaml: entry 1: .*a number `value`"):
        read_eval_results(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not ORACLES.is_dir(), reason="runs where recorded outputs lie beside the project")
def test_recorded_outputs_agree_with_what_was_published(tmp_path: Path) -> None:
    """LLaVA-1.5-13B on MMMU: 36.4; its answers cut to nothing, as by a wrong template, are below, and it says why."""
    for kind, verdict in (("as they are", "agrees"), ("cut", "below")):
        outputs, data = tmp_path / kind, tmp_path / kind / "data"
        for file in (ORACLES / "mmmu" / "llava1.5_13b").glob("*/output.json"):
            rows, replies = [], json.loads(file.read_text(encoding="utf-8"))
            for row in replies:
                form = "multiple-choice" if row["question_type"] == "multiple-choice" else "open"
                gold = row["answer"] if isinstance(row["answer"], str) else repr(row["answer"])
                options = repr(list(row.get("index2ans", {}).values()))
                rows.append(
                    {"id": row["id"], "question": "", "options": options, "answer": gold, "question_type": form}
                )
                row["response"] = row["response"] if kind == "as they are" else "..."
            target = data / "MMMU" / "MMMU" / file.parent.name / "validation.jsonl"
            target.parent.mkdir(parents=True)
            target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            (outputs / "out" / file.parent.name).mkdir(parents=True)
            (outputs / "out" / file.parent.name / "output.json").write_text(json.dumps(replies), encoding="utf-8")
        done = run_harness(
            "--recipe", "llava_1_5_13b", "--model", "replay", "-a", f"path={outputs / 'out'}", "--data", data,
            "--output", tmp_path / "runs" / kind,
        )  # fmt: skip
        table = " ".join(done.stdout.split())
        assert f" {verdict} " in table, done.stdout + done.stderr
        found = re.search(r"not as published: (\d+) of 900 answers unparsed", table)
        assert found and (int(found[1]) > 300) is (verdict == "below")


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own")
def test_the_list_of_recipes_fits_a_narrow_terminal() -> None:
    import pty

    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "harness", "recipes"]
    environment = {**os.environ, "COLUMNS": "60", "NO_COLOR": "1", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=end, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(end)
        written = b""
        with contextlib.suppress(OSError):  # how the end of a terminal reads on Linux
            while part := os.read(terminal, 1 << 16):
                written += part
    os.close(terminal)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", written.decode()).split("\r\n")
    assert process.returncode == 0 and any(line.startswith("deepseek_r1 ") for line in lines)
    assert max(map(len, lines)) <= 60
