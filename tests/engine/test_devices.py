"""What `--device` and `dtype` mean, and that a mistake in them is one line before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import ModelOptions, UsageError
from harness.engine.devices import resolve_devices, resolve_dtype
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace
from harness_plugins.models.hf.spread import Placement


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, as far as torch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing but a processor."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("auto", ("cuda:0",)),
        ("cuda", ("cuda:0",)),
        ("cuda:1", ("cuda:1",)),
        ("cuda:0,1", ("cuda:0", "cuda:1")),
        ("cuda:1, 0", ("cuda:1", "cuda:0")),
        ("cpu", ("cpu",)),
    ],
)
def test_devices_where_there_are_gpus(text: str, found: tuple[str, ...]) -> None:
    assert resolve_devices(text) == found


@pytest.mark.usefixtures("bare")
def test_devices_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_devices("auto") == ("cpu",)
    assert resolve_devices("cpu:0") == ("cpu",)
    assert resolve_devices("cpu:0,1,2") == ("cpu", "cpu", "cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_devices("auto") == resolve_devices("mps") == ("mps",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cuda:2", "cuda:2 names GPUs that are not there or twice; torch finds 2 (from 0 on)"),
        ("cuda:0,0", "not there or twice"),
        ("cuda:-1", "not there or twice"),
        ("cuda:first", "'cuda:first' is not of the form cuda:0,1"),
        ("cpu:x,y", "'cpu:x,y' is not of the form cpu:0,1"),
        ("mps:0", "unknown device 'mps:0'"),
        ("cude", "unknown device 'cude'; did you mean 'cuda'?"),
        ("", "unknown device ''"),
    ],
)
@pytest.mark.usefixtures("gpus")
def test_devices_that_are_not_there(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve_devices(text)
    assert str(error.value).startswith("--device: ")
    assert reason in str(error.value) and "\n" not in str(error.value)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("text", ["mps", "cuda", "cuda:0,1"])
def test_what_this_machine_has_not(text: str) -> None:
    with pytest.raises(UsageError, match="use --device cpu"):
        resolve_devices(text)


@pytest.mark.parametrize(
    ("given", "stored", "device", "chosen"),
    [
        ("auto", torch.bfloat16, "cpu", torch.bfloat16),
        ("auto", "float16", "cuda:0", torch.float16),
        ("auto", "torch.float16", "cpu", torch.float32),
        ("auto", None, "cpu", torch.float32),
        ("float16", torch.bfloat16, "cpu", torch.float16),
    ],
)
def test_dtypes(given: str, stored: Any, device: str, chosen: Any) -> None:
    class Config:
        dtype = stored

    assert resolve_dtype(given, Config, device) == chosen


def test_a_checkpoint_that_does_not_say_its_dtype_is_asked(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    path = tiny_causal_lm(tmp_path / "model")
    AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    assert config.pop("dtype") == "bfloat16"
    (path / "config.json").write_text(json.dumps(config))

    model = HuggingFace.create({"pretrained": str(path)}, ModelOptions(device="cpu", offline=True))
    model.prepare()

    assert model.dtype_name == "bfloat16"


@pytest.mark.usefixtures("gpus")
def test_a_spread_model_keeps_to_the_gpus_that_were_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.utils.get_max_memory", lambda limits: {0: 10, 1: 20, "cpu": 30, **(limits or {})})
    spread = Placement(folder="offload")

    assert spread.options(["cuda:1", "cuda:0"])["max_memory"] == {0: 10, 1: 20, "cpu": 30}
    assert "max_memory" not in spread.options(["cuda:0"])
    assert Placement(per_gpu="1GiB", cpu="2GiB", folder="offload").options(["cuda:0"])["max_memory"] == {
        0: "1GiB",
        1: "1GiB",
        "cpu": "2GiB",
    }
    monkeypatch.setattr("accelerate.utils.get_max_memory", lambda limits: {0: 10, 1: 20, 2: 30, "cpu": 40})
    assert spread.options(["cuda:0", "cuda:2"])["max_memory"] == {0: 10, 2: 30, "cpu": 40}
