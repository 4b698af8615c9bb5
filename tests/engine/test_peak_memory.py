"""A vocabulary of 150,000 and prompts of 4,000 tokens, 64 at a time, do not multiply the peak of memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# In a process of its own: a peak is of the whole life of a process.
SCRIPT = """
import json, resource, sys
from pathlib import Path
from harness import GenerationParams, ModelOptions, Prompt, Request
from harness.registry import load_plugins
from harness.testing import tiny_causal_lm

path = tiny_causal_lm(Path(sys.argv[1]), hidden=16, layers=1, max_length=4096)
options = ModelOptions(device="cpu", batch_size=64, offline=True)
model = load_plugins().model("hf").create({"pretrained": str(path), "dtype": "float32"}, options)
model.prepare()
model.load()
model.module.resize_token_embeddings(150_000, mean_resizing=False)
model.executor = model._make_executor()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

# All prompts differ from their first token on: nothing is shared.
prompts = [Prompt(" ".join(str((i * 7919 + j * 31) % 997) for j in range(1600))) for i in range(16)]
params = GenerationParams(max_new_tokens=8)
growth, tokens = {}, []
for name, requests in {
    "scoring": [Request("loglikelihood", prompt, (" A", " 42 is it")) for prompt in prompts],
    "generation": [Request("generate", prompt, generation=params) for prompt in prompts],
}.items():
    before = peak()
    found = dict(model.respond(requests))
    assert not [response.error for response in found.values() if response.error]
    tokens += [response.prompt_tokens for response in found.values()]
    growth[name] = peak() - before
print(json.dumps({"growth": growth, "tokens": min(tokens)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="runs on Linux: ru_maxrss is in other units elsewhere")
def test_the_peak_stays_low(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("peak") / "model")
    done = subprocess.run([sys.executable, "-c", SCRIPT, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    assert found["tokens"] >= 4000
    # Logits of one prompt alone would be 2,400 MB.
    assert max(found["growth"].values()) < 256, found
