"""Made-up rows in the schema of the data sets that lm-eval's task files name, for lm_eval_library.py.

A schema is written as the row itself (lm_eval_datasets_*.py): a function in it is called with the number of the row,
all else stands as it is. Imports nothing of this project: lm-eval's own process makes the rows of a data set that it
is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROWS = 96
SPLITS = ("train", "validation", "test")
WORDS = ("river", "stone", "lamp", "garden", "clock", "window", "bridge", "apple", "paper", "cloud", "horse", "music")
CATEGORIES = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health", "history", "law",
    "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip
Value = Callable[[int], Any]


def number(i: int) -> int:
    return i


def name(i: int) -> str:
    return f"n{i}"


def word(i: int) -> str:
    return WORDS[i % len(WORDS)]


def sentence(i: int) -> str:
    return f"The {word(i)} stands near the {word(i + 3)} and the {word(i + 5)}."


def sentences(i: int) -> list[str]:
    return [sentence(i), sentence(i + 1)]


def question(i: int) -> str:
    return f"Which thing is number {i}, the {word(i)} or the {word(i + 1)}?"


def options(count: int) -> Value:
    return lambda i: [f"the {word(i + place)}" for place in range(count)]


def option(place: int) -> Value:
    return lambda i: f"the {word(i + place)}"


def after(value: Value, step: int) -> Value:
    """The value of a later row."""
    return lambda i: value(i + step)


def pick(*values: Any) -> Value:
    """Each of `values` in turn."""
    return lambda i: made(values[i % len(values)], i)


def text(template: str) -> Value:
    return lambda i: template.format(i=i, double=2 * i, word=word(i), other=word(i + 1), sentence=sentence(i))


def index(count: int) -> Value:
    return pick(*range(count))


def letter(count: int) -> Value:
    return pick(*"ABCDEFGHIJ"[:count])


def shown(shape: Any) -> Value:
    """A value as Python writes it."""
    return lambda i: repr(made(shape, i))


def as_json(shape: Any) -> Value:
    return lambda i: json.dumps(made(shape, i))


def numbered(template: str, count: int, shape: Any, start: int = 1) -> dict[str, Any]:
    """Columns that differ by a number: `option1`, `option2`."""
    made_of = {True: lambda place: after(shape, place), False: lambda place: shape}[callable(shape)]
    return {template.format(place): made_of(place) for place in range(start, start + count)}


ABCD = {letter: option(place) for place, letter in enumerate("ABCD")}
ABCDE = {**ABCD, "E": option(4)}
ARC = {"id": name, "question": question, "choices": {"text": options(4), "label": list("ABCD")}, "answerKey": letter(4)}
MMLU = {"question": question, "subject": "anatomy", "choices": options(4), "answer": index(4)}
NLI = {"premise": sentence, "hypothesis": after(sentence, 1), "label": index(3)}
MINIMAL_PAIR = {"sentence_good": sentence, "sentence_bad": text("The stands {word} near {other}.")}
COPA = {
    "premise": sentence,
    "choice1": after(sentence, 1),
    "choice2": after(sentence, 2),
    "question": pick("effect", "cause"),
    "label": index(2),
    "idx": number,
    "changed": False,
}
GSM8K = {
    "question": text("{word}: what is {i}+{i}?"),
    "answer": text("It is <<{i}+{i}={double}>>{double}.\n#### {double}"),
}
MGSM = {
    "question": text("{word}: what is {i}+{i}?"),
    "answer": pick(None, text("Step-by-Step: It is {double}.")),
    "answer_number": lambda i: 2 * i,
    "equation_solution": None,
}
SQUAD = {
    "id": name,
    "title": word,
    "context": sentence,
    "question": question,
    "answers": {"text": lambda i: [word(i), f"the {word(i)}"], "answer_start": [4, 0]},
}
BELEBELE = {
    "flores_passage": sentence,
    "question": question,
    **numbered("mc_answer{}", 4, word),
    "correct_answer_num": pick("1", "2", "3", "4"),
}
WINOGRANDE = {
    "sentence": text("The {word} hit the {other} because _ was big."),
    "option1": option(0),
    "option2": option(1),
    "answer": pick("1", "2"),
}
STORY = {
    "story_id": name,
    **numbered("input_sentence_{}", 4, sentence),
    **numbered("sentence_quiz{}", 2, sentence),
    "answer_right_ending": pick(1, 2),
}
HELLASWAG = {
    "ind": number,
    "source_id": name,
    "activity_label": text("Doing {word}"),
    "ctx_a": sentence,
    "ctx_b": "then it",
    "ctx": text("{sentence} then it"),
    "endings": lambda i: [f"{ending} [title] falls." for ending in options(4)(i)],
    "label": pick("0", "1", "2", "3"),
}
TRUTHFUL = {
    "question": question,
    "type": "Adversarial",
    "category": "Misconceptions",
    "best_answer": sentence,
    "correct_answers": sentences,
    "incorrect_answers": after(sentences, 2),
    "mc1_targets": {"choices": options(4), "labels": [1, 0, 0, 0]},
    "mc2_targets": {"choices": options(5), "labels": [1, 1, 0, 0, 0]},
    "source": "x",
}
MMLU_PRO = {
    "question_id": number,
    "question": question,
    "options": options(10),
    "answer": letter(10),
    "answer_index": index(10),
    "cot_content": pick(*(f"A: Let's think step by step. The answer is ({one})." for one in "ABCDEFGHIJ")),
    "category": pick(*CATEGORIES),
    "src": "x",
}
GPQA = {
    "Question": question,
    "Correct Answer": option(0),
    **numbered("Incorrect Answer {}", 3, text(" the {word} [title] x")),
    "Subdomain": "physics",
    "High-level domain": "Physics",
}
MATH = {
    "problem": text("What is ${i}+{i}$?"),
    "solution": text("We get $\\boxed{{{double}}}$."),
    "answer": text("{double}"),
    "level": pick("Level 1", "Level 5"),
    "type": "Algebra",
    "subject": "Algebra",
    "unique_id": name,
}
IFEVAL = {
    "key": number,
    "prompt": text("Write of the {word} without a comma, in at most 50 words."),
    "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
    "kwargs": [{"num_words": None, "relation": None}, {"num_words": 50, "relation": "less than"}],
}


def made(shape: Any, i: int) -> Any:
    """Row number `i` of a schema."""
    if callable(shape):
        return shape(i)
    if isinstance(shape, dict):
        return {key: made(value, i) for key, value in shape.items()}
    return [made(value, i) for value in shape] if isinstance(shape, list) else shape


def write(folder: Path, path: str, config: str, splits: Iterable[str] = SPLITS, rows: int = ROWS) -> None:
    """Write rows of a data set as a mirror has them: `DATASET/CONFIG/SPLIT.jsonl`. Raises `KeyError`."""
    import lm_eval_datasets_a
    import lm_eval_datasets_h

    datasets = {**lm_eval_datasets_a.DATASETS, **lm_eval_datasets_h.DATASETS}
    shape = datasets.get(f"{path}:{config}", datasets.get(path))
    if shape is None:
        raise KeyError(f"lm_eval_datasets_*.py have no rows of {path}")
    count = rows - 12 * (len(config) % 4)  # members of a group are not of one size
    for place, split in enumerate(sorted(splits)):
        file = folder / path / config / f"{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(made(shape, place * rows + i), ensure_ascii=False) + "\n" for i in range(count))
        file.write_text("".join(lines), encoding="utf-8")
