"""Compare this harness with lm-evaluation-harness (lm-eval) on lm-eval's own task files, Python and all.

    python tests/bench/lm_eval_library.py --peer-python PYTHON [--only hellaswag,gpqa] [--shots N] [--groups]

PYTHON is one that can import lm-eval (0.4.13); its task folder is the library that both run. Rows are made up in the
schema of each data set (lm_eval_datasets_*.py); the model is a small random Qwen2. Compared are what was asked,
log-probabilities, generated texts, scores, standard errors and the values of groups. --shots gives every task so many
examples, drawn as lm-eval draws them. Exits 1 when anything differs that DIFFERS does not explain.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import harness
from harness.errors import HarnessError
from harness.testing import tiny_causal_lm

TOLERANCE = 2e-4
LIMIT, GROUP_LIMIT = 6, 0.1
GENERATION = {"max_gen_toks": 12, "do_sample": False, "temperature": 0.0}
"""Greedy: where a task samples, the two draw from generators of their own."""
CLASSES = ("squadv2", "swde", "squad_completion", "fda")
"""Tasks that are classes and say themselves how to generate: lm-eval gives them no --gen_kwargs, so none are given."""
CHUNK = 16
"""Tasks that this harness runs in one command."""
TASKS = Path(__file__).with_name("lm_eval_tasks.txt").read_text().split()
"""In the order of their folders."""
GROUPS = [
    "arabicmmlu_language",
    "cabbq",
    "csatqa",
    "darija_sentiment",
    "evalita-mp_at",
    "haerae",
    "hendrycks_math",
    "kobest",
    "kormedmcqa",
    "leaderboard_gpqa",
    "leaderboard_musr",
    "minerva_math",
    "mmlu_pro",
    "pawsx",
    "sciknoweval_mcqa",
    "xwinograd",
]
"""Those whose members have different numbers of rows, most of them."""
METADATA = {"max_seq_lengths": [1024]}
MAKE_ROWS = {"niah_single_1", "ruler_fwe"}
"""Tasks that make their own rows, as long as METADATA says."""
DRAWN = {"perplexity", "f1", "mcc", "bleu", "chrf", "chrf++", "ter"}
"""Metrics whose standard error lm-eval estimates from random draws."""
DIFFERS: dict[str, str] = {
    "code2text_go": "asks for beam search, which is not done here",
    "leaderboard_gpqa": "draws from Python's own generator, which goes on from task to task there and is set anew here",
    **dict.fromkeys(
        MAKE_ROWS,
        "asked for 1,024 tokens, which metric_list does not have: there, a value of such a name is reported too",
    ),
    "polemo2_in": "reads its F1 from the hub, which has to be reached",
    "gpqa_main_n_shot": "its process_docs shuffles with a generator that goes on from call to call; lm-eval calls "
    "it once for what is asked and once more for what is scored, so that its golds are those of other orders",
}
"""Task -> why it is known to differ."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that can import lm_eval")
    parser.add_argument("--only", default="", help="names of tasks, separated by commas")
    parser.add_argument("--shots", type=int, help="few-shot examples, in place of each task's own number")
    parser.add_argument("--groups", action="store_true", help="compare groups in place of tasks")
    parser.add_argument("--work", help="a folder to keep everything in; lm-eval is not asked again for what is there")
    arguments = parser.parse_args()
    known = GROUPS if arguments.groups else TASKS
    names = [name for name in known if not arguments.only or name in arguments.only.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(arguments.work or folder)
        work.mkdir(exist_ok=True)
        work.chmod(0o755)
        bench = Bench(work, arguments.peer_python, GROUP_LIMIT if arguments.groups else LIMIT, arguments.shots)
        peer = bench.ask_peer(names)
        found = dict(bench.compared(names, peer))
    return report(found, bench.library)


def report(found: dict[str, list[str]], library: Path) -> int:
    for name, differences in found.items():
        print(f"{name:58} {'equal' if not differences else differences[0]}")
        for difference in differences[1:4]:
            print(f"{'':58} {difference}")
        if differences and name in DIFFERS:
            print(f"{'':58} known: {DIFFERS[name]}")
    equal = sum(not differences for differences in found.values())
    print(f"{equal} of {len(found)} equal")
    return 0 if all(name in DIFFERS for name, differences in found.items() if differences) else 1


class Bench:
    """Both sides on the same rows and the same model, in one folder."""

    def __init__(self, work: Path, peer_python: str, limit: float, shots: int | None) -> None:
        self.work, self.peer_python, self.limit, self.shots = work, peer_python, limit, shots
        asked = "import importlib.util; print(importlib.util.find_spec('lm_eval').submodule_search_locations[0])"
        where = subprocess.run([peer_python, "-c", asked], capture_output=True, text=True, check=True)
        self.library = Path(where.stdout.strip()) / "tasks"
        tiny_causal_lm(work / "model", architecture="qwen2", vocab_size=2048, hidden=48, max_length=2048)

    def ask_peer(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What lm-eval makes of the tasks, by name."""
        answers = self.work / "peer.jsonl"
        done = {json.loads(line)["name"] for line in answers.read_text().splitlines()} if answers.exists() else set()
        left = [
            [name, self.limit, {"gen_kwargs": generation(name), "num_fewshot": self.shots}]
            for name in names
            if name not in done
        ]
        (self.work / "names.json").write_text(json.dumps(left))
        offline = {"HF_HUB_OFFLINE": "1", "HF_ALLOW_CODE_EVAL": "1", "HF_HOME": str(self.work / "hf")}
        package_names = Path(harness.__file__).parent / "task_code" / "package_names.py"
        given = [
            Path(__file__).parent / "lm_eval_peer.py",
            "each",
            self.work,
            package_names,
            self.work / "model",
            json.dumps(METADATA),
        ]
        subprocess.run([self.peer_python, *map(str, given)], env={**os.environ, **offline}, check=False)
        return {line["name"]: line for line in map(json.loads, answers.read_text().splitlines())}

    def compared(self, names: Sequence[str], peer: dict[str, dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
        """The differences of each task, in words."""
        peer = {name: peer.get(name, {"error": "it ended before"}) for name in names}
        asked = [name for name in names if "error" not in peer[name]]
        errors = {name: [f"lm-eval itself: {peer[name]['error']}"] for name in names if name not in asked}
        for kind in ([name for name in asked if (name in CLASSES) is own] for own in (False, True)):
            for start in range(0, len(kind), CHUNK):
                for part, refused in self.parts(kind[start : start + CHUNK]):
                    errors |= {name: refused or self.differences(peer[name], part[0]) for name in part}
        for name in names:
            yield name, errors[name]

    def parts(self, names: Sequence[str]) -> Iterator[tuple[Sequence[str], list[str]]]:
        """Run tasks in one command, or in as many as it takes to tell those apart that are refused, and why."""
        refused = self.run(names, names[0])
        if not refused or len(names) == 1:
            yield names, refused
            return
        yield from self.parts(names[: len(names) // 2])
        yield from self.parts(names[len(names) // 2 :])

    def run(self, names: Sequence[str], place: str) -> list[str]:
        """Run tasks here; what refuses them, in words."""
        try:
            harness.evaluate(
                "hf",
                {"pretrained": str(self.work / "model"), "dtype": "float32"},
                names,
                include_path=str(self.library),
                trust_task_code=str(self.library),
                data=str(self.work / "rows"),
                output=str(self.work / "runs" / place),
                output_path=str(self.work / "out" / place),
                log_samples=True,
                overrides={name: {"metadata": METADATA} for name in names if name in MAKE_ROWS},
                limit=self.limit,
                num_fewshot=self.shots,
                gen_kwargs=generation(names[0]),
                fewshot_sampler="lm_eval",
                batch_size=8,
                device="cpu",
            )
        except HarnessError as error:
            return [f"harness: {error}"]
        return []

    def differences(self, theirs: dict[str, Any], place: str) -> list[str]:
        (file,) = (self.work / "out" / place).rglob("results_*.json")
        ours = json.loads(file.read_text())
        found = []
        for part in ("results", "groups"):
            for task, values in (theirs[part] or {}).items():
                here = ours.get(part, {}).get(task, {})
                for key, value in values.items():
                    if "," not in key or key.split("_stderr,")[0] in DRAWN:
                        continue
                    if not same(value, here.get(key)):
                        found.append(f"{task} {key}: {value} there, {here.get(key)} here")
        for task, samples in theirs["samples"].items():
            files = list(file.parent.glob(f"samples_{task}_[0-9][0-9][0-9][0-9]-*.jsonl"))
            logged = [json.loads(line) for line in files[0].read_text().splitlines()] if files else []
            found += sample_differences(task, samples, logged)
        return found


def generation(name: str) -> dict[str, Any]:
    return {} if name in CLASSES else dict(GENERATION)


def same(one: Any, other: Any) -> bool:
    """Equal numbers. What is no number is null in files here; lm-eval writes N/A for no standard error."""
    if one == "N/A" or (other is None and isinstance(one, float) and math.isnan(one)):
        return True
    if isinstance(one, str) or isinstance(other, str) or one is None or other is None:
        return bool(one == other)
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
