"""Compares `cmrc_em` and `cmrc_f1` with CMRC 2018's official script, question by question.

    python tests/bench/cmrc2018.py --data cmrc2018_dev.json --script cmrc2018_evaluate.py --python OTHER/bin/python

Predictions are made from the gold answers: kept, cut, mixed with the passage, given other punctuation, other case and
English words. `--python` is an interpreter that has nltk and its data (`punkt_tab`), which the official script needs.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import Observation, Sample
from harness_plugins.metrics.cmrc import CmrcExactMatch, CmrcF1

_WORDS = (
    "St. Louis",
    "J. K. Rowling",
    "don't",
    "U.S.",
    "No. 5",
    '"Ph.D." (1992.)',
    "3.14%",
    "e.g. this. That",
    "——",
    "…",
)

_ASK_OFFICIAL = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("official", sys.argv[1])
official = importlib.util.module_from_spec(spec)
spec.loader.exec_module(official)
rows = json.load(open(sys.argv[2], encoding="utf-8"))
print(json.dumps([[official.calc_em_score(g, p), official.calc_f1_score(g, p)] for g, p in rows]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = corrupted(json.loads(arguments.data.read_text(encoding="utf-8")), random.Random(arguments.seed))
    official = ask_official(arguments.python, arguments.script, rows)
    ours = [our_scores(golds, prediction) for golds, prediction in rows]
    differing = [(row, a, b) for row, a, b in zip(rows, ours, official, strict=True) if max_difference(a, b) > 1e-9]
    for row, our, their in differing[:20]:
        print(json.dumps(row, ensure_ascii=False), "ours", our, "official", their)
    for place, name in enumerate(("EM", "F1")):
        means = [100 * sum(scores[place] for scores in side) / len(rows) for side in (ours, official)]
        print(f"{name}: ours {means[0]:.3f}, official {means[1]:.3f}")
    print(f"{len(rows)} questions, {len(differing)} differ")
    return int(bool(differing))


def corrupted(data: dict, generator: random.Random) -> list[tuple[list[str], str]]:
    """(gold answers, prediction) of each question."""
    return [
        ([answer["text"] for answer in question["answers"]], corrupt(question, paragraph["context"], generator))
        for article in data["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def corrupt(question: dict, context: str, generator: random.Random) -> str:
    text = generator.choice(question["answers"])["text"]
    start = generator.randrange(len(context))
    return generator.choice(
        [
            text,
            f" {text}。",
            f"《{text.upper()}》",
            text[: max(1, len(text) // 2)],
            text + context[start : start + 12],
            context[start : start + generator.randrange(1, 40)],
            text.replace("，", ",").replace("。", ". "),
            f"{generator.choice(_WORDS)} {text} {generator.choice(_WORDS)}",
            "".join(generator.sample(text, len(text))),
            "",
        ]
    )


def ask_official(python: str, script: Path, rows: list[tuple[list[str], str]]) -> list[tuple[float, float]]:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(rows, file, ensure_ascii=False)
        file.flush()
        done = subprocess.run(
            [python, "-c", _ASK_OFFICIAL, str(script), file.name], check=True, capture_output=True, text=True
        )
    return [(em, f1) for em, f1 in json.loads(done.stdout)]


def our_scores(golds: list[str], prediction: str) -> tuple[float, float]:
    seen = Observation(Sample("cmrc2018", "", 0, {}, (), tuple(golds)), (), (), (prediction,))
    return CmrcExactMatch().score(seen), CmrcF1().score(seen)


def max_difference(ours: tuple[float, float], theirs: tuple[float, float]) -> float:
    return max(abs(our - their) for our, their in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    sys.exit(main())
