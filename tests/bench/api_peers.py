"""The same prompts by several harnesses and one server of the API: `python tests/bench/api_peers.py [NAME=PYTHON ...]`.

    python tests/bench/api_peers.py lm-eval=/venvs/lmeval/bin/python inspect=/venvs/inspect/bin/python

A name is `lm-eval`, `inspect` or `evalscope`, and what follows it the interpreter that has its package. `--number` says
how many prompts, `--scene` which scenes of `api.py`, by default four. Each harness is run as a whole command, one after
another. Printed are the seconds from the first request to the last answer, as the server saw them, the part of these
that is the limit, requests that were sent, prompts without answer, and the processor seconds of the command, in all and
for each prompt beyond those of a command of ten.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from api import SCENES
from api_servers import LATENCY, started

TASK = """
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{train: {rows}}}}}
test_split: train
output_type: generate_until
doc_to_text: "{{{{ question }}}}"
doc_to_target: "42"
generation_kwargs: {{until: ["Question:"], do_sample: false, max_gen_toks: 64}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
INSPECT = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample, json_dataset
from inspect_ai.scorer import exact
from inspect_ai.solver import generate


@task
def sums():
    rows = json_dataset({rows!r}, lambda row: Sample(input=row["question"], target="42"))
    return Task(dataset=rows, solver=generate(), scorer=exact())
"""
USUAL = (
    "plain, 64 at once",
    "plain, 1,024 at once, 20,000",
    "5 % refused, Retry-After 1",
    "5 % refused, Retry-After 5",
)
USUAL += ("100 a second (bucket of 10), Retry-After 1",)


def command(name: str, python: str, url: str, at_once: int, folder: Path) -> list[str]:
    """What to run in `folder`, which holds the rows."""
    rows = str(folder / "sums.jsonl")
    if name == "inspect":
        (folder / "sums.py").write_text(INSPECT.format(rows=rows))
        inspect = [str(Path(python).parent / "inspect"), "eval", "sums.py", "--model", "openai-api/bench/m"]
        inspect += ["--max-connections", str(at_once), "--max-samples", str(at_once), "--max-tokens", "64"]
        return [*inspect, "--display", "none", "--temperature", "0"]
    if name == "evalscope":
        (folder / "rows").mkdir()
        lines = (json.loads(line)["question"] for line in Path(rows).read_text().splitlines())
        pairs = "".join(json.dumps({"query": question, "response": "42"}) + "\n" for question in lines)
        (folder / "rows" / "sums.jsonl").write_text(pairs)
        exact = {"metric_list": ["exact_match"], "primary_metric": "exact_match"}
        data = {"general_qa": {"local_path": "rows", "subset_list": ["sums"], **exact}}
        evalscope = [str(Path(python).parent / "evalscope"), "eval", "--model", "m", "--api-url", url]
        evalscope += ["--api-key", "none", "--eval-type", "openai_api", "--datasets", "general_qa"]
        evalscope += ["--dataset-args", json.dumps(data), "--eval-batch-size", str(at_once)]
        return [*evalscope, "--generation-config", json.dumps({"temperature": 0, "max_tokens": 64})]
    (folder / "sums.yaml").write_text(TASK.format(rows=rows))
    if name == "lm-eval":
        args = f"model=m,base_url={url}/chat/completions,num_concurrent={at_once},max_retries=10,tokenizer_backend=None"
        lm_eval = [
            python,
            "-m",
            "lm_eval",
            "--model",
            "local-chat-completions",
            "--model_args",
            args,
            "--tasks",
            "sums",
        ]
        return [*lm_eval, "--include_path", ".", "--apply_chat_template", "--output_path", "out", "--log_samples"]
    args = f"model=m,base_url={url},api=chat,num_concurrent={at_once}"
    return [
        python,
        "-m",
        "harness",
        "--tasks",
        "sums.yaml",
        "--model",
        "openai",
        "-a",
        args,
        "--apply_chat_template",
        "-q",
    ]


def measured(name: str, python: str, how: dict[str, Any], at_once: int, number: int) -> tuple[float, int, int, float]:
    """(seconds as the server saw them, requests, prompts without answer, processor seconds) of one command."""
    server = started(how)
    url = server.url
    environment = {**os.environ, "OPENAI_API_KEY": "none", "BENCH_API_KEY": "none", "BENCH_BASE_URL": url}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    try:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            rows = ({"question": f"What is {n} + {n}?"} for n in range(number))
            (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            ended = subprocess.run(
                command(name, python, url, at_once, folder),
                cwd=folder,
                env=environment | {"HF_HOME": place, "HOME": place},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        seen = server.end()
    if ended.returncode:
        print(f"    {name} ended with {ended.returncode}: {' '.join(ended.stdout[-600:].split())}", flush=True)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seen.seconds, seen.requests, number - seen.answers, used


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peers", nargs="*", metavar="NAME=PYTHON")
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--scene", action="append", help="a part of a scene's name")
    args = parser.parse_args()
    harnesses = {"harness": sys.executable, **dict(peer.split("=", 1) for peer in args.peers)}
    starts = {name: min(measured(name, python, {}, 1, 10)[3] for _ in range(3)) for name, python in harnesses.items()}
    print(f"{'':56}       s   limit  ratio    sent failed  cpu s  ms each")
    for scene, (how, at_once) in SCENES.items():
        if scene not in USUAL if args.scene is None else not any(part in scene for part in args.scene):
            continue
        number = how.get("number", args.number)
        rate = min(at_once / how.get("latency", LATENCY), how.get("rate", float("inf")))
        limit = (number - how.get("burst", 0)) / rate
        for name, python in harnesses.items():
            took, sent, failed, used = measured(name, python, how, at_once, number)
            each = (used - starts[name]) / number * 1000
            ratio = limit / took if took > 0 else 0.0
            figures = f"{took:7.1f} {limit:7.1f} {ratio:6.2f} {sent:7} {failed:6} {used:6.1f} {each:8.2f}"
            print(f"{scene + ': ' + name:56} {figures}", flush=True)


if __name__ == "__main__":
    main()
