"""Write the rows of the demo tasks with pictures: a few hundred questions on pictures that training never meets.

python -m harness_plugins.models.demo_vision.task_rows --out tasks/demo/vision
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

from . import drawings
from .drawings import PictureQuestion

SEED = 12
ROWS = 20
Row = dict[str, object]


def all_rows() -> dict[str, list[Row]]:
    """File name -> its rows."""
    files: dict[str, list[Row]] = {}
    for language in drawings.LANGUAGES:
        rng = Random(f"rows {SEED} {language}")
        for subject in drawings.SUBJECTS:
            files[f"choice_{language}/{subject}/test"] = [
                _row(drawings.ask(rng, language, subject)) for _ in range(ROWS)
            ]
        files[f"order/{language}/test"] = [_row(drawings.compare(rng, language)) for _ in range(2 * ROWS)]
        files[f"pairs/{language}/test"] = [row for number in range(ROWS) for row in _pair(rng, language, number)]
    return files


def _row(question: PictureQuestion) -> Row:
    shown = [drawings.data_uri(picture) for picture in question.pictures]
    return {
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.answer,
        "image": shown[0] if len(shown) == 1 else shown,
    }


def _pair(rng: Random, language: drawings.Language, number: int) -> list[Row]:
    """Two questions on one picture, as MME has them."""
    questions = drawings.ask_twice(rng, language)
    shown = drawings.data_uri(questions[0].pictures[0])
    return [
        {
            "question": question.text,
            "answer": question.right,
            "question_id": f"{language}/{number}",
            "category": question.subject,
            "image": shown,
        }
        for question in questions
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the demo tasks with pictures")
    out = parser.parse_args().out
    for name, rows in all_rows().items():
        path = out / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
