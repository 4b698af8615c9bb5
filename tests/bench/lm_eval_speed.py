"""Measure this harness against lm-evaluation-harness (lm-eval) on lm-eval's own task files, whole commands.

    python tests/bench/lm_eval_speed.py --peer-python PYTHON [--only hellaswag,drop]

Both sides run the same files of lm-eval's library, their Python included, over made-up rows (lm_eval_rows.py) and a
random Qwen2 of about 20 million parameters in float32, one thread each, from the start of the command to its end;
processor seconds in brackets, of all processes. The words of the rows are drawn from 4,900, so that rows share what
real ones share and nothing else, and passages, contexts and endings are about as long as the real ones. There are as
many questions as keep lm-eval busy for a minute or two of one core: a user's run is the whole split
(10,042 questions of hellaswag, 14,042 of mmlu), where starting counts for less. This harness has its index of task
files made beforehand; lm-eval has none, and reads them anew with every command. Exits 1 when answers differ.
"""

from __future__ import annotations

import argparse
import json
import os
import random
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
    """A task with its data set, examples, questions, and the tokens of a generated answer.

    lengths: words of columns, where the made-up ones are shorter than the real. share: one row in so many is asked.
    passage: a column, the words of the passage that it begins with, and how many rows after one another ask about it.
    """

    task: str
    dataset: str
    config: str
    splits: tuple[str, ...]
    shots: int
    rows: int
    tokens: int = 0
    lengths: tuple[tuple[str, int], ...] = ()
    share: int = 1
    passage: tuple[str, int, int] | None = None


ALL = lm_eval_rows.SPLITS
WORK = (
    Work("truthfulqa_mc2", "truthfulqa/truthful_qa", "multiple_choice", ("validation",), 0, 100),
    Work("gsm8k_cot", "openai/gsm8k", "main", ("train", "test"), 8, 48, 64),
    Work("minerva_math_algebra", "EleutherAI/hendrycks_math", "algebra", ("train", "test"), 4, 96, 64),
    Work("leaderboard_math_algebra_hard", "DigitalLearningGmbH/MATH-lighteval", "algebra", ("train", "test"), 4, 96, 64,
         share=5),
    Work("mmlu_pro_law", "TIGER-Lab/MMLU-Pro", "", ("validation", "test"), 5, 96, 64,
         lengths=(("question", 45), ("cot_content", 60)), share=14),
    Work("leaderboard_mmlu_pro", "TIGER-Lab/MMLU-Pro", "", ("validation", "test"), 5, 240, lengths=(("question", 25),)),
    Work("leaderboard_gpqa_main", "Idavidrein/gpqa", "gpqa_main", ("train",), 0, 192, lengths=(("Question", 40),)),
    Work("leaderboard_musr_murder_mysteries", "TAUR-Lab/MuSR", "", ("murder_mysteries",), 0, 96,
         lengths=(("narrative", 700),)),
    Work("agieval_lsat_rc", "hails/agieval-lsat-rc", "", ("test",), 0, 132, lengths=(("query", 60),),
         passage=("query", 400, 6)),
    Work("agieval_aqua_rat", "hails/agieval-aqua-rat", "", ("test",), 0, 254, lengths=(("query", 40),)),
    Work("hendrycks_math_algebra", "EleutherAI/hendrycks_math", "algebra", ("train", "test"), 0, 384, 64,
         lengths=(("problem", 20),)),
    Work("leaderboard_bbh_boolean_expressions", "SaylorTwift/bbh", "boolean_expressions", ("test",), 3, 600),
    Work("mmlu_anatomy", "cais/mmlu", "anatomy", ("dev", "test"), 5, 400),
    Work("global_mmlu_full_en_anatomy", "CohereForAI/Global-MMLU", "en", ("dev", "test"), 5, 400, share=2),
    Work("race", "EleutherAI/race", "high", ("test",), 0, 80, lengths=(("article", 90),)),
    Work("arc_challenge", "allenai/ai2_arc", "ARC-Challenge", ALL, 5, 100),
    Work("mbpp", "google-research-datasets/mbpp", "full", ALL, 3, 192, 64),
    Work("truthfulqa_gen", "truthfulqa/truthful_qa", "generation", ("validation",), 0, 128, 64),
    Work("bbh_cot_fewshot_boolean_expressions", "SaylorTwift/bbh", "boolean_expressions", ("test",), 3, 64, 64),
    Work("winogrande", "allenai/winogrande", "winogrande_xl", ALL, 5, 300),
    Work("hellaswag", "Rowan/hellaswag", "", ALL, 0, 1200, lengths=(("ctx_a", 11), ("endings", 6))),
    Work("medmcqa", "openlifescienceai/medmcqa", "", ("train", "validation"), 0, 400, lengths=(("question", 10),)),
    Work("humaneval", "openai/openai_humaneval", "", ("test",), 0, 164, 64, lengths=(("prompt", 60),)),
    Work("ifeval", "google/IFEval", "", ("train",), 0, 384, 64, lengths=(("prompt", 25),)),
    Work("drop", "EleutherAI/drop", "", ALL, 3, 128, 32),
)  # fmt: skip
"""Fixed examples, one long prompt before all questions, a passage before its choices, examples drawn anew for each row,
and none."""
UNSAFE = ("humaneval", "mbpp")
"""Tasks whose answers are programs, which lm-eval runs by consent."""
SYLLABLES = [one + other for one in "bdfghklmnprstw" for other in "aeiou"]
WORDS = [one + other for one in SYLLABLES for other in SYLLABLES]


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
    make_rows(work, folder / "rows")
    options = [
        "--model", "hf", "--model_args", f"pretrained={folder / 'model'},dtype=float32", "--tasks", work.task,
        "--num_fewshot", str(work.shots), "--limit", str(work.rows), "--device", "cpu", "--log_samples",
        *(["--gen_kwargs", f"max_gen_toks={work.tokens}"] if work.tokens else []),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    environment |= {"HF_ALLOW_CODE_EVAL": "1"}
    package_names = Path(harness.__file__).parent / "task_code" / "package_names.py"
    script = [str(Path(__file__).parent / "lm_eval_peer.py"), "command", str(folder), str(package_names)]
    out = folder / "theirs" / work.task
    their_options = [*options, "--batch_size", "16", "--output_path", str(out)]
    their_options += ["--confirm_run_unsafe_code"] if work.task in UNSAFE else []
    theirs = timed([peer_python, *script, *their_options], out, environment)
    here = ["--include_path", str(library), "--trust_task_code", str(library), "--data", str(folder / "rows")]
    out = folder / "ours" / work.task
    here += ["--fewshot_sampler", "lm_eval", "--output", str(folder / "runs"), "--output_path", str(out)]
    listing = [sys.executable, "-m", "harness", "tasks", "--include_path", str(library)]
    subprocess.run(listing, check=True, capture_output=True, env=environment)
    ours = timed([sys.executable, "-m", "harness", *options, *here], out, environment)
    return theirs, ours


def make_rows(work: Work, folder: Path) -> None:
    lm_eval_rows.WORDS = tuple(random.Random(1).sample(WORDS, len(WORDS)))
    lm_eval_rows.write(folder, work.dataset, work.config, work.splits, rows=(work.rows + 40) * work.share)
    draw = random.Random(0)
    for file in (folder / work.dataset / work.config).glob("*.jsonl") if work.lengths else ():
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            for column, count in work.lengths:
                texts = [" ".join(draw.choices(WORDS, k=count)) + "." for _ in range(4)]
                row[column] = texts if isinstance(row[column], list) else texts[0]
        if work.passage is not None:
            column, words, questions = work.passage
            for number, row in enumerate(rows):
                if number % questions == 0:
                    passage = " ".join(draw.choices(WORDS, k=words)) + ".\n"
                row[column] = passage + row[column]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
