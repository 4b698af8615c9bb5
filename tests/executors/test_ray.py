"""Runs on a Ray cluster of several nodes, of which one dies in the middle and another joins."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import ModelError, Record, UsageError
from harness.registry import load_plugins
from harness.run import cuts, remote
from harness.run.result import RunResult
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.testing import tiny_causal_lm

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

TASK = """\
task: NAME
dataset_path: rows.jsonl
test_split: test
output_type: OUTPUT
doc_to_text: "Question: How many apples are left? Answer: 42\\nQuestion: {{question}} Answer:"
doc_to_target: "{{answer}}"
REST
"""
CHOICE = 'doc_to_choice: [" 1", " 42", " 是正确的选项。"]\nmetric_list: [{metric: acc}]'
GENERATE = "generation_kwargs: {max_gen_toks: 6}\nmetric_list: [{metric: exact_match}]"
ROWS = 150


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    rows = [{"question": f"{n} + {n * n} = ?", "answer": n % 3} for n in range(ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for name, output, rest in (("chosen", "multiple_choice", CHOICE), ("said", "generate_until", GENERATE)):
        text = TASK.replace("NAME", name).replace("OUTPUT", output).replace("REST", rest)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    tiny_causal_lm(folder / "model")
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without processors: the tests add nodes with some."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, configure_logging=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "LEAST", 1000)


def spec(folder: Path, output: str, executor: dict[str, Any] | None) -> RunSpec:
    args = {"pretrained": str(folder / "model"), "dtype": "float32"}
    tasks = (str(folder / "chosen.yaml"), str(folder / "said.yaml"))
    given: Any = None if executor is None else ("ray", executor)
    return RunSpec(tasks=tasks, model="hf", model_args=args, output=str(folder / output), executor=given)


class After(Progress):
    """Does something once so many samples are done."""

    def __init__(self, count: int, does: Callable[[], object]) -> None:
        self.count, self.does, self.said = count, does, list[str]()

    def sample_done(self, record: Record, headline: str) -> None:
        self.count -= 1
        if self.count == 0:
            self.does()

    def message(self, text: str) -> None:
        self.said.append(text)


def assert_like_one_process(result: RunResult, whole: RunResult) -> None:
    assert result.exit_code == 0 and result.path.name == whole.path.name
    for ours, theirs in zip(result.samples(), whole.samples(), strict=True):
        assert (ours.key, ours.request_keys, ours.scores, ours.text) == (
            theirs.key, theirs.request_keys, theirs.scores, theirs.text,
        )  # fmt: skip
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


@pytest.fixture(scope="module")
def whole(folder: Path) -> RunResult:
    return run(spec(folder, "whole", None))


def test_a_node_that_dies_gives_its_work_back_and_another_joins(folder: Path, whole: RunResult, cluster: Any) -> None:
    first = cluster.add_node(num_cpus=1)

    def change() -> None:
        cluster.remove_node(first, allow_graceful=False)
        cluster.add_node(num_cpus=1)

    progress = After(20, change)
    result = run(spec(folder, "node", {}), progress=progress)
    assert_like_one_process(result, whole)
    (incident,) = result.report["incidents"]
    assert "is gone with its machine" in str(incident["text"])
    assert incident["text"] in progress.said


def test_a_worker_that_is_killed_gives_its_work_back(
    folder: Path, whole: RunResult, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness_plugins.executors.ray import Ray

    cluster.add_node(num_cpus=2)
    members: list[Any] = []
    loaded = Ray._loaded
    monkeypatch.setattr(Ray, "_loaded", lambda self, member: (members.append(member), loaded(self, member)))

    def kill() -> None:
        os.kill(next(member.pid for member in members if member.work), signal.SIGKILL)

    result = run(spec(folder, "worker", {"workers": 2}), progress=After(20, kill))
    assert_like_one_process(result, whole)
    (incident,) = result.report["incidents"]
    assert "requests went back" in str(incident["text"]) and "\n" not in str(incident["text"])


def test_workers_with_other_versions_or_another_model_are_named_in_a_line(
    folder: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add_node(num_cpus=1)
    matter = remote.versions_that_matter
    with monkeypatch.context() as patch:
        patch.setattr(remote, "versions_that_matter", lambda registry: {**matter(registry), "harness-eval": "9"})
        with pytest.raises(ModelError, match='other versions: harness-eval is "9" on this machine and "0') as raised:
            run(spec(folder, "versions", {"workers": 1}))
    assert "\n" not in str(raised.value)
    plain = remote.plain
    with monkeypatch.context() as patch:
        patch.setattr(remote, "plain", lambda identity: {**plain(identity), "weights": "0"})
        with pytest.raises(ModelError, match='another model: weights is "0" on this machine and "'):
            run(spec(folder, "model", {"workers": 1}))
    assert not list((folder / "model").glob("*-model-*"))


def test_what_ray_is_told_is_checked_before_anything_starts(folder: Path) -> None:
    registry = load_plugins()
    with pytest.raises(UsageError, match="workers is a whole number of at least 1, not '0'"):
        run(spec(folder, "bad", {"workers": 0}), registry)
    with pytest.raises(UsageError, match="takes no option 'worker'; did you mean 'workers'"):
        run(spec(folder, "bad", {"worker": 2}), registry)
    for option, value in {"tensor_parallel": 0, "gpus_per_worker": -1, "wait": "soon", "cpus_per_worker": 0.5}.items():
        with pytest.raises(UsageError, match=f"{option} is a .*number of at least [01], not '{value}'"):
            run(spec(folder, "bad", {option: value}), registry)


def test_an_address_where_nobody_is_is_a_line_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ModelError, match=r"--executor ray: no Ray cluster at 127\.0\.0\.1:9: .*refused"):
        run(spec(folder, "nobody", {"address": "127.0.0.1:9"}))
