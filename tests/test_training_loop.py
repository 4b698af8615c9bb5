"""The scaffold of a training loop: each step leaves a measured difference, and the gate stops a ruined model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.run.compare import compare_runs
from harness.testing import run_harness

SUMS, PAIRS = "our_loop_sums", "our_loop_pairs"


def run_of(folder: Path, name: str) -> Path:
    (found,) = (folder / "out" / "runs").glob(f"*-{name}-????????")
    return found


def better(before: Path, after: Path, task: str) -> bool:
    """Whether the first metric of a task is better beyond chance."""
    (found,) = [each for each in compare_runs(before, after) if each.name.startswith(task)]
    assert found.difference is not None and found.p_value is not None
    return found.difference > 0 and found.p_value < 0.001


def rounded(model: Path, to: Path, bits: int) -> Path:
    """A copy of a model whose weights have so few bits that it must be worse."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    family: Any = AutoModelForCausalLM
    copy = family.from_pretrained(model, dtype=torch.float32)
    with torch.no_grad():
        for name, weight in copy.named_parameters():
            if "_proj.weight" in name:
                step = weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 0.5)
                weight.copy_((weight / step).round() * step)
    copy.save_pretrained(to)
    AutoTokenizer.from_pretrained(model).save_pretrained(to)
    return to


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_loop_teaches_prefers_and_exports_and_the_gate_stops_a_ruined_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_harness("new", "training_loop", "our_loop").exit_code == 0
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "our_loop.py"]
    done = subprocess.run(words, env=environment, text=True, capture_output=True)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    assert (done.returncode == 1) == ("gate failed" in done.stdout + done.stderr)
    assert "our_loop_sums: 200 of 200 samples scored" in done.stdout  # by the judge

    base, sft, dpo, merged = (run_of(tmp_path, name) for name in ("base", "sft", "dpo", "merged"))
    assert better(base, sft, SUMS)
    assert better(sft, dpo, PAIRS)
    implicit = harness.load_run(run_of(tmp_path, "dpo-implicit")).report["tasks"][0]["metrics"][0]
    assert implicit["metric"] == "reward_accuracy" and implicit["n"] == 200
    assert implicit["interval"][0] > 0.5
    for before, after in zip(
        harness.load_run(dpo).report["tasks"], harness.load_run(merged).report["tasks"], strict=True
    ):
        assert after["metrics"][0]["value"] == pytest.approx(before["metrics"][0]["value"], abs=0.01)

    ruined = {"pretrained": str(rounded(tmp_path / "out" / "dpo" / "merged", tmp_path / "ruined", bits=2))}
    worse = harness.evaluate("hf", ruined, [tmp_path / "our_loop_sums.yaml", tmp_path / "our_loop_pairs.yaml"],
                             output=tmp_path / "ruined_runs", device="cpu")  # fmt: skip
    gate = ["gate", "--baseline", str(merged), "--policy", "our_loop_policy.yaml", "--current"]
    assert run_harness(*gate, str(worse.path)).exit_code == 1
    assert run_harness(*gate, str(merged)).exit_code == 0
