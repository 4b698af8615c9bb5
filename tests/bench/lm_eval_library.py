"""Compare this harness with lm-evaluation-harness (lm-eval) on lm-eval's own task files, Python and all.

    python tests/bench/lm_eval_library.py --peer-python PYTHON [--peer-path SITE_PACKAGES] [--only hellaswag,gpqa]

PYTHON is one that can import lm-eval (0.4.13); its task folder is the library that both run. Rows are made up in the
schema of each data set (lm_eval_rows.py); the model is a small random Qwen2. Compared are what was asked,
log-probabilities, generated texts, scores and standard errors. Exits 1 when anything differs.

What is known to differ: `gpqa_*_n_shot`, whose `process_docs` draws from a generator of its own that goes on from call
to call. lm-eval calls it three times and asks the last result, this harness calls it once.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lm_eval_rows

import harness
from harness.errors import HarnessError
from harness.testing import tiny_causal_lm

TOLERANCE = 2e-4
LIMIT, NEW_TOKENS = 6, 12
PEER = """\
import json, pathlib, sys, time
import datasets
work, model, limit, tokens = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def load_dataset(path, name=None, *args, **options):
    folder = work / "rows" / path / (name or "")
    found = {file.stem: str(file) for file in sorted(folder.glob("*.jsonl"))}
    if not found:
        raise FileNotFoundError(folder)
    return load("json", data_files=found)  # in files, so that a split that was processed is found again
load, datasets.load_dataset = datasets.load_dataset, load_dataset
import importlib.util
import evaluate
import lm_eval, lm_eval.tasks
spec = importlib.util.spec_from_file_location("_package_names", sys.argv[5])
names = importlib.util.module_from_spec(spec); spec.loader.exec_module(names)
sys.modules["_lm_eval_names"] = type(sys)("_lm_eval_names")
evaluate.load = names._load
sys.meta_path.append(names._Finder(["transformers.data.metrics", "transformers.data.metrics.squad_metrics"]))
from lm_eval.models.huggingface import HFLM
lm = HFLM(pretrained=model, dtype="float32", batch_size=4, device="cpu")
manager = lm_eval.tasks.TaskManager()
out = {}
for name in json.loads((work / "names.json").read_text()):
    began = time.time()
    try:
        done = lm_eval.simple_evaluate(model=lm, tasks=[name], limit=limit, log_samples=True, task_manager=manager,
            gen_kwargs={"max_gen_toks": tokens}, bootstrap_iters=2, confirm_run_unsafe_code=True)
        out[name] = {"samples": done["samples"], "results": done["results"], "seconds": time.time() - began}
    except Exception as error:
        out[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
    (work / "peer.json").write_text(json.dumps(out, default=str))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that can import lm_eval")
    parser.add_argument("--peer-path", default="", help="a folder to put before its modules")
    parser.add_argument("--only", default="", help="names of tasks, separated by commas")
    arguments = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": arguments.peer_path, "HF_HUB_OFFLINE": "1", "HF_ALLOW_CODE_EVAL": "1"}
    asked = "import importlib.util; print(importlib.util.find_spec('lm_eval').submodule_search_locations[0])"
    where = subprocess.run(
        [arguments.peer_python, "-c", asked], env=environment, capture_output=True, text=True, check=True
    )
    library = Path(where.stdout.strip()) / "tasks"
    names = [name for name in lm_eval_rows.TASKS if not arguments.only or name in arguments.only.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        work.chmod(0o755)
        tiny_causal_lm(work / "model", architecture="qwen2", vocab_size=2048, hidden=48)
        lm_eval_rows.write(work / "rows")
        (work / "names.json").write_text(json.dumps(names))
        (work / "peer.py").write_text(PEER)
        given = [work / "peer.py", work, work / "model", LIMIT, NEW_TOKENS, _package_names()]
        environment["HF_HOME"] = str(work / "hf")
        subprocess.run([arguments.peer_python, *map(str, given)], env=environment, check=True)
        peer = json.loads((work / "peer.json").read_text())
        found = {name: compared(name, peer[name], library, work) for name in names}
    for name, differences in found.items():
        print(f"{name:40} {'equal' if not differences else differences[0]}")
        for difference in differences[1:4]:
            print(f"{'':40} {difference}")
    equal = sum(not differences for differences in found.values())
    print(f"{equal} of {len(found)} tasks equal")
    return 0 if equal == len(found) else 1


def _package_names() -> Path:
    return Path(harness.__file__).parent / "task_code" / "package_names.py"


def compared(name: str, peer: dict[str, Any], library: Path, work: Path) -> list[str]:
    """What differs between the two on one task, in words."""
    if "error" in peer:
        return [f"lm-eval itself: {peer['error']}"]
    try:
        harness.evaluate(
            "hf",
            {"pretrained": str(work / "model"), "dtype": "float32"},
            name,
            include_path=str(library),
            trust_task_code=str(library),
            data=str(work / "rows"),
            output=str(work / "runs" / name.replace("/", "_")),
            output_path=str(work / "out" / name),
            log_samples=True,
            limit=LIMIT,
            gen_kwargs={"max_gen_toks": NEW_TOKENS},
            fewshot_sampler="lm_eval",
            batch_size=4,
            device="cpu",
        )
    except HarnessError as error:
        return [f"harness: {error}"]
    (file,) = (work / "out" / name).rglob("results_*.json")
    ours = json.loads(file.read_text())["results"]
    differences = []
    for task, values in peer["results"].items():
        for key, value in values.items():
            if "," in key and not same(value, ours.get(task, {}).get(key), "stderr" in key):
                differences.append(f"{task} {key}: {value} there, {ours.get(task, {}).get(key)} here")
    for task, samples in peer["samples"].items():
        files = list(file.parent.glob(f"samples_{task}_*.jsonl"))
        logged = [json.loads(line) for line in files[0].read_text().splitlines()] if files else []
        differences += sample_differences(task, samples, logged)
    return differences


def same(one: Any, other: Any, is_stderr: bool = False) -> bool:
    """Equal numbers; standard errors that lm-eval draws are not compared."""
    if isinstance(one, str) or isinstance(other, str) or one is None or other is None:
        return is_stderr or one == other
    if math.isnan(float(one)) and math.isnan(float(other)):
        return True
    return math.isclose(float(one), float(other), rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def sample_differences(task: str, theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    known = {(line["doc_id"], line["filter"]): line for line in ours}
    found = []
    for sample in theirs:
        line = known.get((sample["doc_id"], sample["filter"]))
        if line is None:
            return [f"{task}: sample {sample['doc_id']} ({sample['filter']}) is not logged here"]
        where = f"{task} sample {sample['doc_id']}"
        for index, pair in enumerate(sample["arguments"]):
            here = line["arguments"].get(f"gen_args_{index}", {})
            for place, text in enumerate(pair):
                if isinstance(text, str) and here.get(f"arg_{place}") != text:
                    other = str(here.get(f"arg_{place}"))
                    found.append(f"{where}: argument {place} is {text[-60:]!r} there, {other[-60:]!r} here")
        for one, other in zip(flat(sample["resps"]), flat(line["resps"]), strict=False):
            if not close(one, other):
                found.append(f"{where}: reply {str(one)[:50]!r} there, {str(other)[:50]!r} here")
    return found


def flat(value: Any) -> list[Any]:
    return [leaf for item in value for leaf in flat(item)] if isinstance(value, list | tuple) else [value]


def close(one: Any, other: Any) -> bool:
    try:
        return math.isclose(float(one), float(other), rel_tol=TOLERANCE, abs_tol=5e-3)
    except (TypeError, ValueError):
        return str(one) == str(other)


if __name__ == "__main__":
    sys.exit(main())
