"""A first task file from real rows: which column is the question, where the options are, what says which is right.

It looks at all rows before it says so, and writes down in comments what it could not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.types import JSON

Row = Mapping[str, JSON]
AnswerForm = Literal["letter", "index from 0", "index from 1", "text of an option", "free text"]

LABELS = "ABCDEFGHIJ"
# In the order of preference; compared in lower case.
_QUESTION = (
    *("question", "问题", "题目", "题干", "stem", "problem", "prompt", "query"),
    *("instruction", "input", "text", "sentence"),
)
_PASSAGE = ("context", "passage", "article", "材料", "文章", "paragraph", "document", "story", "premise")
_ANSWER = (
    *("answer", "答案", "answerkey", "answer_key", "label", "gold", "target", "correct", "correct_answer"),
    *("output", "solution"),
)
_OPTIONS = ("options", "choices", "选项", "candidates", "answers", "endings")
_STEMS = "option|choice|opt|op|ans|answer|ending|sol|选项"
_NUMBERED = re.compile(rf"(?P<stem>(?:{_STEMS})?[ _-]?)(?P<place>[A-J]|\d)", re.IGNORECASE)
_CJK = re.compile(r"[\u3400-\u9fff]")


@dataclass(slots=True)
class Proposal:
    """What the columns seem to be.

    options: one column an option, or the one that holds them all (`choices.text` reaches into a mapping); empty where
    answers are texts. doubts: what a person should look at, one line each.
    """

    question: str
    passage: str | None
    options: tuple[str, ...]
    answer: str
    form: AnswerForm
    chinese: bool
    doubts: list[str] = field(default_factory=list)

    @property
    def options_in_one_column(self) -> bool:
        return len(self.options) == 1


def propose(rows: Sequence[Row]) -> Proposal:
    """Guess from all rows. Raises `ValueError` where there is no question or no answer to be found."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    options = _option_columns(columns, rows)
    taken = {column.partition(".")[0] for column in options}
    left = [column for column in columns if column not in taken]
    texts = [column for column in left if all(isinstance(row.get(column), str) for row in rows if column in row)]
    lengths = {column: sum(len(str(row.get(column) or "")) for row in rows[:100]) for column in texts}
    question = _named(_QUESTION, texts) or max(texts, key=lengths.__getitem__, default="")
    if not question:
        raise ValueError(f"no column holds texts, so that none can be the question (there are: {', '.join(columns)})")
    passage = _named(_PASSAGE, [column for column in texts if column != question])
    answer = _named(_ANSWER, [column for column in left if column not in (question, passage)])
    answer = answer or _answer_by_values(left, options, rows, (question, passage))
    if not answer:
        raise ValueError(f"no column says which answer is right (there are: {', '.join(columns)})")
    questions = [str(row.get(question) or "") for row in rows[:100]]
    chinese = sum(bool(_CJK.search(text)) for text in questions) * 2 > len(questions)
    proposal = Proposal(question, passage, options, answer, "free text", chinese)
    if options:
        proposal.form = _form(proposal, rows)
    for column in (question, answer):
        empty = sum(row.get(column) in (None, "") for row in rows)
        if empty:
            proposal.doubts.append(f"'{column}' is empty in {empty} of {len(rows)} rows")
    return proposal


def options_of(proposal: Proposal, row: Row) -> list[str]:
    """The texts of a row's options."""
    if not proposal.options_in_one_column:
        return [str(row[column]) for column in proposal.options if row.get(column) not in (None, "")]
    value: JSON = row
    for part in proposal.options[0].split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return [str(item) for item in value] if isinstance(value, list) else []


def task_keys(proposal: Proposal) -> dict[str, JSON]:
    """The keys of a task file that follow from a proposal."""
    cue = "答案：" if proposal.chinese else "Answer:"
    passage = f"{{{{ {proposal.passage} }}}}\n\n" if proposal.passage else ""
    question = f"{passage}{{{{ {proposal.question} }}}}\n"
    if not proposal.options or proposal.form == "free text":
        return {
            "output_type": "generate_until",
            "doc_to_text": question + cue,
            "doc_to_target": f"{{{{ {proposal.answer} }}}}",
            "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 256},
            "metric_list": [{"metric": "exact_match"}],
        }
    shown, choices, entry = _shown_options(proposal)
    return {
        "output_type": "multiple_choice",
        "doc_to_text": question + shown + cue,
        "doc_to_choice": choices,
        "doc_to_target": _target(proposal),
        "metric_list": [{"metric": "acc"}],
        **({"options": entry} if entry else {}),
    }


def _shown_options(proposal: Proposal) -> tuple[str, JSON, dict[str, JSON]]:
    """How the options stand in the prompt, what is scored, and what `options:` says; nothing where it cannot say it."""
    entry: dict[str, JSON] = {"answer": proposal.answer, "question": proposal.question}
    if proposal.form == "text of an option":
        entry["form"] = "text"
    if proposal.form == "index from 1":
        entry = {}
    if proposal.options_in_one_column:
        column = proposal.options[0]
        shown = f"{{% for option in {column} %}}{{{{ '{LABELS}'[loop.index0] }}}}. {{{{ option }}}}\n{{% endfor %}}"
        choices = f"{{{{ '{LABELS}'[:{column} | length] | list }}}}"
        return shown, choices, {"columns": column, **entry} if entry else {}
    labels = LABELS[: len(proposal.options)]
    lines = [f"{label}. {{{{ {column} }}}}\n" for label, column in zip(labels, proposal.options, strict=True)]
    return "".join(lines), list(labels), {"columns": list(proposal.options), **entry} if entry else {}


def _target(proposal: Proposal) -> str:
    answer = proposal.answer
    if proposal.form == "letter":
        return f"{{{{ {answer} | trim | upper }}}}"
    if proposal.form == "index from 1":
        return f"{{{{ {answer} | int - 1 }}}}"
    if proposal.form == "text of an option":
        several = proposal.options[0] if proposal.options_in_one_column else f"[{', '.join(proposal.options)}]"
        return f"{{{{ {several}.index({answer}) }}}}"
    return f"{{{{ {answer} | int }}}}"


def _option_columns(columns: Sequence[str], rows: Sequence[Row]) -> tuple[str, ...]:
    """Columns A, B, C ... (option_a, choice1, ...), or one that holds a list."""
    families: dict[str, list[str]] = {}
    for column in columns:
        if match := _NUMBERED.fullmatch(column):
            families.setdefault(match["stem"].lower(), []).append(column)
    for family in families.values():
        places = [column[-1].lower() for column in family]
        if len(family) >= 2 and any("".join(places) in alphabet for alphabet in ("abcdefghij", "0123456789")):
            return tuple(family)
    for column in [*filter(lambda column: column.lower() in _OPTIONS, columns), *columns]:
        values = [row.get(column) for row in rows]
        if all(_is_list_of_texts(value) for value in values):
            return (column,)
        if all(isinstance(value, Mapping) and _is_list_of_texts(value.get("text")) for value in values):
            return (f"{column}.text",)
    return ()


def _is_list_of_texts(value: JSON) -> bool:
    return isinstance(value, list) and len(value) >= 2 and all(isinstance(item, str) for item in value)


def _named(names: Sequence[str], columns: Sequence[str]) -> str | None:
    lower = {column.lower(): column for column in reversed(columns)}
    return next((lower[name] for name in names if name in lower), None)


def _answer_by_values(
    columns: Sequence[str], options: tuple[str, ...], rows: Sequence[Row], others: Sequence[str | None]
) -> str | None:
    """A column whose values are all letters or places of options, whatever it is called."""
    if not options:
        return None
    for column in columns:
        if column not in others:
            guess = Proposal("", None, options, column, "free text", chinese=False)
            if _form(guess, rows) != "free text":
                return column
    return None


def _form(proposal: Proposal, rows: Sequence[Row]) -> AnswerForm:
    """How the answers say which option is right, where all of them say it in one way; notes doubts."""
    pairs = [(row.get(proposal.answer), options_of(proposal, row)) for row in rows]
    known = [(value, options) for value, options in pairs if value not in (None, "")]
    letters = [str(value).strip().upper() for value, _ in known]
    if known and all(len(text) == 1 and text in LABELS[: len(o)] for text, (_, o) in zip(letters, known, strict=True)):
        return "letter"
    if known and all(str(value) in options for value, options in known):
        return "text of an option"
    numbers = [int(text) if text.isascii() and text.isdigit() else None for text in letters]
    if known and all(number is not None for number in numbers):
        places = [(number or 0, len(options)) for number, (_, options) in zip(numbers, known, strict=True)]
        if all(number < count for number, count in places) and any(number == 0 for number, _ in places):
            return "index from 0"
        if all(1 <= number <= count for number, count in places):
            if not any(number == count for number, count in places):
                proposal.doubts.append(f"'{proposal.answer}' is never 0 and never the last: does it count from 1?")
            return "index from 1"
    bad = next((value for value, _ in known), None)
    proposal.doubts.append(
        f"'{proposal.answer}' is no letter, place or text of an option in every row (such as {bad!r})"
    )
    return "free text"


def quoted(value: JSON) -> str:
    """A value as YAML writes it in one line; JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)
