"""Measure this harness against lm-evaluation-harness (lm-eval) on lm-eval's own task files, whole commands.

    python tests/bench/lm_eval_speed.py --peer-python PYTHON [--only hellaswag,drop]

Both sides run the same files of lm-eval's library, their Python included, over made-up rows (lm_eval_rows.py) and a
random Qwen2 of about 20 million parameters in float32, one thread each, from the start of the command to its end.
This harness has its index of task files made beforehand; lm-eval has none, and reads them anew with every command.
Exits 1 when answers differ.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import lm_eval_rows
from engine import SIZES, Side, compare, timed

import harness
from harness.testing import tiny_causal_lm


@dataclass(frozen=True)
class Work:
    """A task with its data set, examples, questions, and the tokens of a generated answer."""

    task: str
    dataset: str
    config: str
    splits: tuple[str, ...]
    shots: int
    rows: int
    tokens: int = 0


ALL = lm_eval_rows.SPLITS
WORK = (
    Work("mmlu_anatomy", "cais/mmlu", "anatomy", ("dev", "test"), 5, 300),
    Work("truthfulqa_mc2", "truthfulqa/truthful_qa", "multiple_choice", ("validation",), 0, 100),
    Work("gsm8k_cot", "openai/gsm8k", "main", ("train", "test"), 8, 64, 64),
    Work("minerva_math_algebra", "EleutherAI/hendrycks_math", "algebra", ("train", "test"), 4, 64, 64),
    Work("bbh_cot_fewshot_boolean_expressions", "SaylorTwift/bbh", "boolean_expressions", ("test",), 3, 64, 64),
    Work("arc_challenge", "allenai/ai2_arc", "ARC-Challenge", ALL, 5, 100),
    Work("winogrande", "allenai/winogrande", "winogrande_xl", ALL, 5, 200),
    Work("ifeval", "google/IFEval", "", ("train",), 0, 64, 64),
    Work("hellaswag", "Rowan/hellaswag", "", ALL, 0, 400),
    Work("drop", "EleutherAI/drop", "", ALL, 3, 128, 32),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="a Python that can import lm_eval")
    parser.add_argument("--only", default="", help="names of tasks, separated by commas")
    parser.add_argument("--size", choices=SIZES, default="20m")
    arguments = parser.parse_args()
    asked = "import importlib.util; print(importlib.util.find_spec('lm_eval').submodule_search_locations[0])"
    where = subprocess.run([arguments.peer_python, "-c", asked], capture_output=True, text=True, check=True)
    library = Path(where.stdout.strip()) / "tasks"
    wrong = 0
    print(f"| task | questions | lm-eval | harness | faster | differences |\n|---|{'---:|' * 5}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        work.chmod(0o755)
        tiny_causal_lm(
            work / "model", architecture="qwen2", max_length=4096, head_dim=64, gain=1.2, **SIZES[arguments.size]
        )
        for each in WORK:
            if not arguments.only or each.task in arguments.only.split(","):
                theirs, ours = measure(each, work, arguments.peer_python, library)
                difference, count = compare(theirs.samples, ours.samples, work / "model")
                wrong += count
                print(line(each, theirs, ours, difference), flush=True)
    return int(wrong > 0)


def line(work: Work, theirs: Side, ours: Side, difference: str) -> str:
    faster, less = theirs.seconds / ours.seconds, theirs.busy / ours.busy
    return (
        f"| {work.task}, {work.shots}-shot | {work.rows} | {theirs.seconds:.0f} s ({theirs.busy:.0f} s) | "
        f"{ours.seconds:.0f} s ({ours.busy:.0f} s) | {faster:.1f} ({less:.1f}) | {difference} |"
    )


def measure(work: Work, folder: Path, peer_python: str, library: Path) -> tuple[Side, Side]:
    lm_eval_rows.write(folder / "rows", work.dataset, work.config, work.splits, rows=work.rows + 40)
    options = [
        "--model", "hf", "--model_args", f"pretrained={folder / 'model'},dtype=float32", "--tasks", work.task,
        "--num_fewshot", str(work.shots), "--limit", str(work.rows), "--device", "cpu", "--log_samples",
        *(["--gen_kwargs", f"max_gen_toks={work.tokens}"] if work.tokens else []),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    package_names = Path(harness.__file__).parent / "task_code" / "package_names.py"
    script = [str(Path(__file__).parent / "lm_eval_peer.py"), "command", str(folder), str(package_names)]
    out = folder / "theirs" / work.task
    their_options = [*options, "--batch_size", "16", "--output_path", str(out)]
    theirs = timed([peer_python, *script, *their_options], out, environment)
    here = ["--include_path", str(library), "--trust_task_code", str(library), "--data", str(folder / "rows")]
    out = folder / "ours" / work.task
    here += ["--fewshot_sampler", "lm_eval", "--output", str(folder / "runs"), "--output_path", str(out)]
    listing = [sys.executable, "-m", "harness", "tasks", "--include_path", str(library)]
    subprocess.run(listing, check=True, capture_output=True, env=environment)
    ours = timed([sys.executable, "-m", "harness", *options, *here], out, environment)
    return theirs, ours


if __name__ == "__main__":
    raise SystemExit(main())
