"""The openai model against vLLM's server: log-likelihoods over HTTP are those of the hf model, in every dialect.

Runs where vLLM is installed (see `test_vllm.py`).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness import GenerationParams, Model, ModelOptions, Prompt, Request, Response
from harness.testing import tiny_causal_lm
from harness_plugins.models.hf import HuggingFace
from harness_plugins.models.openai import OpenAIModel

pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="runs where vLLM is installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("served") / "model", hidden=128)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), "--dtype", "float32"]
    process = subprocess.Popen(
        [*command, "--enforce-eager", "--gpu-memory-utilization", "0.15", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1500):
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except OSError:
            assert process.poll() is None, "vLLM's server ended before it answered"
            time.sleep(0.2)
    pytest.fail("vLLM's server did not answer within five minutes")


def answers(model: Model, requests: Sequence[Request]) -> list[Response]:
    model.prepare()
    model.load()
    given = dict(model.respond(requests))
    model.close()
    return [given[number] for number in range(len(requests))]


@pytest.mark.parametrize("dialect", ["echo", "prompt_logprobs"])
@pytest.mark.parametrize("with_tokenizer", [False, True])
def test_log_likelihoods_over_http(url: str, folder: Path, dialect: str, with_tokenizer: bool) -> None:
    requests = [
        Request("loglikelihood", Prompt(f"题目：{n}是什么？😀答案："), ("A", "B", " 不知道 at all", "😀🛑"))
        for n in range(6)
    ]
    requests.append(Request("loglikelihood", Prompt("Answer: "), ("42", "7")))
    if with_tokenizer:
        requests.append(Request("loglikelihood", Prompt(""), ("A", " long one"), unconditional=True))
        requests.append(Request("rolling", Prompt("The quick brown fox 以下是")))
    args: dict[str, Any] = {"tokenizer": str(folder)} if with_tokenizer else {}
    served = {"model": str(folder), "base_url": url, "api": "completions", "logprobs": dialect, **args}
    found = answers(OpenAIModel.create(served, ModelOptions(offline=True)), requests)
    local = {"pretrained": str(folder), "dtype": "float32"}
    expected = answers(HuggingFace.create(local, ModelOptions(device="cpu", offline=True)), requests)
    for one, other in zip(expected, found, strict=True):
        assert other.error is None
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-4)
        assert (other.token_counts, other.is_greedy) == (one.token_counts, one.is_greedy)


def test_a_prompt_beyond_the_window_is_called_so(url: str, folder: Path) -> None:
    request = Request("generate", Prompt("0 1 2 3 " * 400), generation=GenerationParams(max_new_tokens=8))
    (whole,) = answers(OpenAIModel.create({"model": str(folder), "base_url": url}, ModelOptions()), [request])
    assert whole.error is not None and whole.error.startswith("the prompt does not fit the model's window")
    cutting = {"model": str(folder), "base_url": url, "tokenizer": str(folder), "max_length": 512}
    (cut,) = answers(OpenAIModel.create(cutting, ModelOptions(offline=True)), [request])
    assert cut.error is None and cut.truncated > 0
