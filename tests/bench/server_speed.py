"""`harness bench` beside vLLM's own client against the same server, whose pace is set: the ratio of each number.

    python tests/bench/server_speed.py --peer-python VENV/bin/python [--rate 4 8 --requests 240]

The peer's environment has vllm and pandas. Both ask the server of `streaming_server.py` for the same number of tokens
with the same prompts, one after the other; nothing else should run meanwhile. With --rate both send at random moments
(a Poisson process). vLLM's client stretches the pauses that it drew until all are sent within requests / rate seconds;
of our seeds that one is taken whose pauses come nearest to this by themselves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from harness.run.bench import Load
from harness.run.load import poisson_pauses

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
    parser.add_argument("--rate", type=float, nargs="+", help="requests a second, in the place of --concurrency")
    parser.add_argument("--first", type=float, default=0.1, help="seconds of the server until the first token")
    parser.add_argument("--each", type=float, default=0.02, help="and for every other one: longer on a busy machine")
    args = parser.parse_args()
    loads = [Load(rate=rate) for rate in args.rate] if args.rate else [Load(at_once=n) for n in args.concurrency]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        texts = [f"{number} + {number} 是多少？" for number in range(args.requests)]
        Path("sums.yaml").write_text(TASK, encoding="utf-8")
        Path("sums.jsonl").write_text("".join(json.dumps({"q": text}) + "\n" for text in texts), encoding="utf-8")
        prompts = [json.dumps({"prompt": text, "output_tokens": TOKENS}) + "\n" for text in texts]
        Path("prompts.jsonl").write_text("".join(prompts), encoding="utf-8")
        _write_tokenizer()
        script = Path(__file__).with_name("streaming_server.py")
        pace = ["--first", str(args.first), "--each", str(args.each)]
        server = subprocess.Popen([sys.executable, str(script), "--port", str(PORT), "--places", "8", *pace])
        try:
            _wait()
            print("| load | number | vllm bench serve | harness bench | ratio |")
            print("|---|---|---:|---:|---:|")
            for load in loads:
                ours = _ours(load, args.requests, args.first)
                theirs = _theirs(args.peer_python, load, args.requests, args.first)
                for name, value in theirs.items():
                    ratio = f"{ours[name] / value:.3f}" if value else "-"
                    print(f"| {load.text} | {name} | {value:.3f} | {ours[name]:.3f} | {ratio} |", flush=True)
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


def _nearest_seed(rate: float, requests: int) -> int:
    """The seed whose pauses end nearest to requests / rate seconds."""

    def apart(seed: int) -> float:
        pauses = poisson_pauses(rate, f"bench {seed} 0")
        return abs(sum(itertools.islice(pauses, requests)) - requests / rate)

    return min(range(200), key=apart)


def _ours(load: Load, requests: int, first: float) -> dict[str, float]:
    args = f"model=paced,base_url={ADDRESS}/v1,api=chat"
    if load.rate is None:
        sent = ["--concurrency", str(load.at_once)]
    else:
        sent = ["--rate", str(load.rate), "--seed", str(_nearest_seed(load.rate, requests))]
    flags = [*sent, "--requests", str(requests), "--goodput", f"ttft={3 * first:g}", "--to", "ours.json"]
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


def _theirs(python: str, load: Load, requests: int, first: float) -> dict[str, float]:
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
        **({"max-concurrency": load.at_once} if load.rate is None else {"request-rate": load.rate}),
        "num-warmups": 1,
        "goodput": f"ttft:{3000 * first:g}",
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
