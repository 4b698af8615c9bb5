"""`harness bench` beside vLLM's own client against the same server, whose pace is set: the ratio of each number.

    python tests/bench/server_speed.py --peer-python VENV/bin/python

The peer's environment has vllm and pandas. Both ask the server of `streaming_server.py` for the same number of tokens
with the same prompts, one after the other; nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

PORT = 8123
ADDRESS = f"http://127.0.0.1:{PORT}"
TOKENS = 32
TASK = """\
task: sums
dataset_path: sums.jsonl
test_split: test
output_type: generate_until
doc_to_text: "{{ q }}"
doc_to_target: "{{ q }}"
generation_kwargs: {max_gen_toks: 32, until: []}
metric_list: [{metric: exact_match}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", required=True, help="of an environment with vllm and pandas")
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[4, 16])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        texts = [f"{number} + {number} 是多少？" for number in range(args.requests)]
        Path("sums.yaml").write_text(TASK, encoding="utf-8")
        Path("sums.jsonl").write_text("".join(json.dumps({"q": text}) + "\n" for text in texts), encoding="utf-8")
        prompts = [json.dumps({"prompt": text, "output_tokens": TOKENS}) + "\n" for text in texts]
        Path("prompts.jsonl").write_text("".join(prompts), encoding="utf-8")
        _write_tokenizer()
        script = Path(__file__).with_name("streaming_server.py")
        server = subprocess.Popen([sys.executable, str(script), "--port", str(PORT), "--places", "8"])
        try:
            _wait()
            print("| at once | number | vllm bench serve | harness bench | ratio |")
            print("|---:|---|---:|---:|---:|")
            for at_once in args.concurrency:
                ours, theirs = _ours(at_once, args.requests), _theirs(args.peer_python, at_once, args.requests)
                for name, value in theirs.items():
                    print(
                        f"| {at_once} | {name} | {value:.3f} | {ours[name]:.3f} | {ours[name] / value:.3f} |",
                        flush=True,
                    )
        finally:
            server.terminate()
            server.wait()


def _write_tokenizer() -> None:
    """vLLM's client reports latencies only where it has a tokenizer; tokens are counted by the server all the same."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="[UNK]").save_pretrained("tokenizer")


def _wait() -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{ADDRESS}/v1/models"):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def _ours(at_once: int, requests: int) -> dict[str, float]:
    args = f"model=paced,base_url={ADDRESS}/v1,api=chat"
    flags = ["--concurrency", str(at_once), "--requests", str(requests), "--goodput", "ttft=0.3", "--to", "ours.json"]
    command = [sys.executable, "-m", "harness", "bench", "--tasks", "sums.yaml", "--model", "openai"]
    subprocess.run([*command, "--model_args", args, *flags], check=True, capture_output=True)
    (found,) = json.loads(Path("ours.json").read_text("utf-8"))["loads"]
    return {
        "requests/s": found["requests_per_second"]["value"],
        "tokens/s": found["tokens_per_second"]["value"],
        "goodput/s": found["goodput"],
        **{
            f"{name}, {which} ms": 1000 * found[field][which]
            for name, field in (("first token", "first_token"), ("per token", "per_token"), ("whole", "whole"))
            for which in ("mean", "median", "p99")
        },
    }


def _theirs(python: str, at_once: int, requests: int) -> dict[str, float]:
    flags: dict[str, object] = {
        "backend": "openai-chat",
        "base-url": ADDRESS,
        "endpoint": "/v1/chat/completions",
        "model": "paced",
        "tokenizer": "tokenizer",
        "dataset-name": "custom",
        "dataset-path": "prompts.jsonl",
        "custom-output-len": TOKENS,
        "num-prompts": requests,
        "max-concurrency": at_once,
        "num-warmups": 1,
        "goodput": "ttft:300",
        "percentile-metrics": "ttft,tpot,e2el",
        "result-filename": "theirs.json",
    }
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    switches = ["--skip-chat-template", "--save-result", "--disable-tqdm"]
    command = [python, "-m", "vllm.entrypoints.cli.main", "bench", "serve", *words, *switches]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if ran.returncode:
        raise SystemExit(f"vllm bench serve ended with {ran.returncode}: {ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(Path("theirs.json").read_text("utf-8"))
    return {
        "requests/s": found["request_throughput"],
        "tokens/s": found["output_throughput"],
        "goodput/s": found["request_goodput"],
        **{
            f"{name}, {which} ms": found[f"{which}_{field}_ms"]
            for name, field in (("first token", "ttft"), ("per token", "tpot"), ("whole", "e2el"))
            for which in ("mean", "median", "p99")
        },
    }


if __name__ == "__main__":
    main()
