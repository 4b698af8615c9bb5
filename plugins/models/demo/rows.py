"""Write the rows of the demo tasks: a few hundred questions that training never meets.

python -m harness_plugins.models.demo.rows --out tasks/demo
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from . import world

SEED = 7
Row = dict[str, object]


def all_rows() -> dict[str, list[Row]]:
    """File name -> its rows. No two rows of a task ask the same; those of `dev` are for few-shot examples."""
    files: dict[str, list[Row]] = {}
    for language in world.LANGUAGES:
        rng = Random(SEED)
        for subject in world.SUBJECTS:
            rows = _unique(lambda: _question(rng, language, subject), 25)  # noqa: B023
            files[f"choice_{language}/{subject}/dev"] = rows[:5]
            files[f"choice_{language}/{subject}/test"] = rows[5:]
    rng = Random(SEED)
    sums = _unique(lambda: _sum(rng), 205)
    files["arithmetic/dev"], files["arithmetic/test"] = sums[:5], sums[5:]
    files["perplexity/test"] = _unique(lambda: _story(rng), 100)
    return files


def _unique(make: Callable[[], Row], count: int) -> list[Row]:
    rows: dict[str, Row] = {}
    while len(rows) < count:
        row = make()
        rows.setdefault(str(row.get("question") or row), row)
    return list(rows.values())


def _question(rng: Random, language: world.Language, subject: str) -> Row:
    question = world.draw(rng, language, test=True, subject=subject)
    return {"question": question.text, "choices": list(question.choices), "answer": question.answer}


def _sum(rng: Random) -> Row:
    a, sign, b, result = world.draw_sum(rng, test=True)
    return {"a": a, "sign": sign, "b": b, "answer": result}


def _story(rng: Random) -> Row:
    language = rng.choice(world.LANGUAGES)
    return {"language": language, "text": world.draw_story(rng, language, test=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the demo tasks")
    out = parser.parse_args().out
    for name, rows in all_rows().items():
        path = out / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
