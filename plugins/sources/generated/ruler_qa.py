"""RULER's two tasks of question answering: a question of SQuAD 2.0 or HotpotQA whose documents stand among others.

By the recipe of NVIDIA/RULER, scripts/data/synthetic/qa.py. `documents: DIR` holds the two sets under the names that
RULER gives them: squad.json (SQuAD's dev-v2.0.json) and hotpotqa.json (hotpot_dev_distractor_v1.json). Questions that
have an answer are asked in their order. The other documents, and the order of all, hang on the seed and the question's
number.
"""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import DataError

from .sizes import greatest_size

FILES = {"qa_1": "squad.json", "qa_2": "hotpotqa.json"}
WHERE = {
    "qa_1": "https://rajpurkar.github.io/SQuAD-explorer/dataset/dev-v2.0.json",
    "qa_2": "http://curtis.ml.cmu.edu/datasets/hotpot/hotpot_dev_distractor_v1.json",
}
ASK = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words."
    "\n\nThe following are given documents.\n\n{context}\n\n"
    "Answer the question based on the given documents. Only give me the answer and do not output any other words."
    "\n\nQuestion: {query}"
)
ANSWER = " Answer:"
ANSWER_TOKENS = 32


@dataclass(frozen=True)
class _Question:
    text: str
    answers: list[str]
    documents: list[int]  # those that hold the answer
    near: list[int]  # others of the same article, which come first


def recipe(
    task: str, length: int, seed: str, count: Callable[[str], int], documents: str = ""
) -> Callable[[int], dict[str, Any]]:
    """How row number `index` is made. There are as many documents as fit, by the tokens of the first row."""
    if task not in FILES:
        raise DataError(f"sources: generated: ruler_qa has no task '{task}' (it has: {', '.join(FILES)})")
    questions, texts = _read(task, documents)
    room = length - ANSWER_TOKENS

    def tokens(size: int, index: int) -> tuple[int, str]:
        question = questions[index % len(questions)]
        text = _text(question, texts, size, random.Random(f"{seed}\0{task}\0{length}\0{index}"))
        return count(text + ANSWER), text

    @functools.cache
    def fitting() -> int:
        return greatest_size(lambda size: tokens(size, 0)[0] <= room, length, f"ruler's '{task}'")

    def make(index: int) -> dict[str, Any]:
        size = fitting()
        used, text = tokens(size, index)
        while used > room and size > 1:
            size -= 1
            used, text = tokens(size, index)
        answers = questions[index % len(questions)].answers
        return {
            "index": index,
            "input": text,
            "answer_prefix": ANSWER,
            "outputs": answers,
            "length": used + ANSWER_TOKENS,
        }

    return make


def _text(question: _Question, texts: Sequence[str], size: int, rng: random.Random) -> str:
    """The question with `size` documents, its own always among them."""
    chosen = list(question.documents)
    if (missing := size - len(chosen)) > 0:
        if missing <= len(question.near):
            chosen += rng.sample(question.near, missing)
        else:
            chosen += question.near
            others = [number for number in range(len(texts)) if number not in {*chosen}]
            chosen += rng.sample(others, min(len(others), size - len(chosen)))
    repeated = [*chosen, *(number % len(texts) for number in range(size - len(chosen)))]
    rng.shuffle(repeated)
    context = "\n\n".join(f"Document {place}:\n{texts[number]}" for place, number in enumerate(repeated, 1))
    return ASK.format(context=context, query=question.text)


@functools.cache
def _read(task: str, documents: str) -> tuple[list[_Question], list[str]]:
    file = Path(documents).expanduser() / FILES[task]
    if not documents or not file.is_file():
        where = f"there is no {file}" if documents else "no folder of documents is named"
        raise DataError(
            f"dataset_kwargs: documents: {where}; get {FILES[task]} from {WHERE[task]} and name its folder "
            "(--set ruler_qa.dataset_kwargs.documents=DIR)"
        )
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return _squad(data) if task == "qa_1" else _hotpot(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is not the file of {WHERE[task]} ({type(error).__name__}: {error})") from None


def _squad(data: Any) -> tuple[list[_Question], list[str]]:
    texts = sorted({paragraph["context"] for article in data["data"] for paragraph in article["paragraphs"]})
    numbers = {text: number for number, text in enumerate(texts)}
    questions = []
    for article in data["data"]:
        all_of_it = [numbers[paragraph["context"]] for paragraph in article["paragraphs"]]
        for paragraph in article["paragraphs"]:
            own = numbers[paragraph["context"]]
            near = [number for number in all_of_it if number != own]
            questions += [
                _Question(asked["question"], [answer["text"] for answer in asked["answers"]], [own], near)
                for asked in paragraph["qas"]
                if not asked["is_impossible"]
            ]
    return questions, texts


def _hotpot(data: Any) -> tuple[list[_Question], list[str]]:
    def documents(row: Any) -> list[str]:
        return [f"{title}\n{''.join(sentences)}" for title, sentences in row["context"]]

    texts = sorted({text for row in data for text in documents(row)})
    numbers = {text: number for number, text in enumerate(texts)}
    return [
        _Question(row["question"], [row["answer"]], [numbers[text] for text in documents(row)], []) for row in data
    ], texts
