"""A first task file from real rows: which column is the question, where the options are, what says which is right.

It looks at all rows before it says so, and writes down in comments what it could not know.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.tasks.option_columns import LABEL_IN_FRONT, LABELS, OptionColumns, find_option_columns, jinja_name
from harness.types import JSON

Row = Mapping[str, JSON]
AnswerForm = Literal["letter", "index from 0", "index from 1", "text of an option", "free text"]

# In the order of preference; compared without case, spaces, dashes and underscores.
_QUESTION = (
    "question", "问题", "题目", "题干", "問題", "題目", "題幹", "stem", "problem", "prompt", "query", "q", "提问",
    "题目内容", "instruction", "input", "text", "sentence", "content",
)  # fmt: skip
_PASSAGE = ("context", "passage", "article", "材料", "文章", "paragraph", "document", "story", "premise")
_ANSWER = (
    "answer", "答案", "answerkey", "label", "gold", "target", "correct", "correctanswer", "answers", "正确答案",
    "正確答案", "标准答案", "参考答案", "正确选项", "标签", "output", "solution", "response", "completion", "reference",
    "expected", "groundtruth", "class", "category", "类别",
)  # fmt: skip
_ID = re.compile(r"(.*[ _-])?(id|idx|index|uid|qid|no)|题号|编号|序号|__index_level_\d+__", re.IGNORECASE)
_CJK = re.compile(r"[\u3400-\u9fff]")


@dataclass(slots=True)
class Proposal:
    """What the columns seem to be.

    behind: a column that belongs to the question and stands behind it. option_columns: where the options are; none
    where answers are texts. labels: the letters of options that stand in the question. letters: what each answer means,
    where answers are letters but written otherwise: `(B)`, `Ｂ`. ends_in_number: whether the answer is what stands
    behind `####`, as in GSM8K. doubts: what a person should look at, one line each.
    """

    question: str
    passage: str | None
    option_columns: OptionColumns
    answer: str
    form: AnswerForm
    chinese: bool
    behind: str | None = None
    labels: str = ""
    letters: Mapping[str, str] = field(default_factory=dict)
    ends_in_number: bool = False
    doubts: list[str] = field(default_factory=list)

    @property
    def options(self) -> tuple[str, ...]:
        return self.option_columns.columns


def propose(rows: Sequence[Row]) -> Proposal:
    """Guess from all rows. Raises `ValueError` where there is no question or no answer to be found."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    options = find_option_columns(columns, rows)
    taken = {column.partition(".")[0] for column in options.columns} | set(options.columns)
    left = [column for column in columns if column not in taken]
    texts = [column for column in left if all(isinstance(row.get(column), str) for row in rows if column in row)]
    lengths = {column: sum(len(str(row.get(column) or "")) for row in rows[:100]) for column in texts}
    unlike_answers = [column for column in texts if _plain(column) not in _ANSWER]
    question = _named(_QUESTION, texts) or max(unlike_answers, key=lengths.__getitem__, default="")
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
    if _plain(question) == "instruction":
        proposal.behind = _named(("input",), [column for column in texts if column != answer])
    _read_answers(proposal, rows)
    for column in (question, answer):
        empty = sum(row.get(column) in (None, "") for row in rows)
        if empty:
            proposal.doubts.append(f"'{column}' is empty in {empty} of {len(rows)} rows")
    used = {question, passage, answer, proposal.behind}
    unused = [column for column in left if column not in used and not _ID.fullmatch(column)]
    if unused:
        names = ", ".join(column.strip() or "a column without a name" for column in unused)
        proposal.doubts.append(f"what the model is not shown: {names}")
    return proposal


def task_keys(proposal: Proposal) -> dict[str, JSON]:
    """The keys of a task file that follow from a proposal."""
    cue = "答案：" if proposal.chinese else "Answer:"
    passage = f"{{{{ {jinja_name(proposal.passage)} }}}}\n\n" if proposal.passage else ""
    behind = jinja_name(proposal.behind) if proposal.behind else ""
    behind = f"{{% if {behind} %}}{{{{ {behind} }}}}\n{{% endif %}}" if behind else ""
    question = f"{passage}{{{{ {jinja_name(proposal.question)} }}}}\n{behind}{_shown_options(proposal)}{cue}"
    if proposal.form == "free text":
        return {
            "output_type": "generate_until",
            "doc_to_text": question,
            "doc_to_target": _target(proposal),
            "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 256},
            "metric_list": [{"metric": "exact_match"}],
        }
    entry = _entry(proposal)
    return {
        "output_type": "multiple_choice",
        "doc_to_text": question,
        "doc_to_choice": _choices(proposal),
        "doc_to_target": _target(proposal),
        "metric_list": [{"metric": "acc"}],
        **({"options": entry} if entry else {}),
    }


def _shown_options(proposal: Proposal) -> str:
    """How the options stand in the prompt: one a line, each with its letter."""
    found = proposal.option_columns
    if len(found.columns) < 2:
        label = "" if found.labelled else f"{{{{ '{LABELS}'[loop.index0] }}}}. "
        line = f"{label}{{{{ option }}}}\n"
        return f"{{% for option in {found.listed} %}}{line}{{% endfor %}}" if found.columns else ""
    lines = []
    for label, column in zip(LABELS, map(jinja_name, found.columns), strict=False):
        line = f"{'' if found.labelled else f'{label}. '}{{{{ {column} }}}}\n"
        lines.append(f"{{% if {column} %}}{line}{{% endif %}}" if found.optional else line)
    return "".join(lines)


def _choices(proposal: Proposal) -> JSON:
    """What is scored: the letters."""
    found = proposal.option_columns
    if len(found.columns) == 1 or found.optional:
        return f"{{{{ '{LABELS}'[:({found.listed}) | length] | list }}}}"
    return list(proposal.labels or LABELS[: len(found.columns)])


def _entry(proposal: Proposal) -> dict[str, JSON]:
    """What `options:` says; nothing where it cannot say it."""
    found = proposal.option_columns
    if found.movable is None or proposal.letters or proposal.form == "index from 1":
        return {}
    form: dict[str, JSON] = {"form": "text"} if proposal.form == "text of an option" else {}
    prefix: dict[str, JSON] = {"prefix": LABEL_IN_FRONT} if found.labelled else {}
    separator: dict[str, JSON] = {"separator": found.separator} if found.separator.strip() else {}
    said = {"columns": found.movable, "answer": proposal.answer, "question": proposal.question}
    return {**said, **form, **prefix, **separator}


def _target(proposal: Proposal) -> str:
    answer = jinja_name(proposal.answer)
    if proposal.ends_in_number:
        return f"{{{{ {answer}.split('####')[-1] | trim }}}}"
    if proposal.letters:
        return f"{{{{ {quoted(dict(proposal.letters))}[{answer}] }}}}"
    if proposal.form == "letter":
        return f"{{{{ {answer} | trim | upper }}}}"
    if proposal.form == "index from 1":
        return f"{{{{ {answer} | int - 1 }}}}"
    if proposal.form == "text of an option":
        text = f"{answer} | string" if "map('string')" in proposal.option_columns.listed else answer
        return f"{{{{ ({proposal.option_columns.listed}).index({text}) }}}}"
    return f"{{{{ {answer} | int }}}}" if proposal.form == "index from 0" else f"{{{{ {answer} }}}}"


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _named(names: Sequence[str], columns: Sequence[str]) -> str | None:
    plain = {_plain(column): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def _answer_by_values(
    columns: Sequence[str], options: OptionColumns, rows: Sequence[Row], others: Sequence[str | None]
) -> str | None:
    """A column whose values are all letters or places of options, whatever it is called."""
    for column in columns if options.columns else ():
        if column not in others:
            guess = Proposal("", None, options, column, "free text", chinese=False)
            _read_answers(guess, rows)
            if guess.form != "free text":
                return column
    return None


def _read_answers(proposal: Proposal, rows: Sequence[Row]) -> None:
    """Find out how the answers say what is right, where all of them say it in one way; notes doubts."""
    known = [row for row in rows if row.get(proposal.answer) not in (None, "")]
    answers = [row[proposal.answer] for row in known]
    if not answers:
        return
    letters = {str(answer): _letter(answer) for answer in answers}
    if proposal.options:
        proposal.form = _form(proposal, [proposal.option_columns.texts(row) for row in known], answers, letters)
        if proposal.form == "free text":
            shown = f"'{proposal.answer}' is no letter, place or text of an option in every row"
            proposal.doubts.append(f"{shown} (such as {answers[0]!r})")
    elif all(letters.values()) and len(set(letters.values())) > 1:
        labels = LABELS[: LABELS.index(max(letters.values())) + 1]
        questions = [str(row.get(proposal.question)) for row in known]
        if all(re.search(rf"(?:^|\s)[(（]?{label}[.、．:：)）]", text) for text in questions for label in labels):
            proposal.form, proposal.labels = "letter", labels
            proposal.doubts.append(f"the options {', '.join(labels)} are thought to stand in '{proposal.question}'")
    if proposal.form == "letter" and any(answer.strip().upper() != letter for answer, letter in letters.items()):
        proposal.letters = letters
    texts = [answer for answer in answers if isinstance(answer, str)]
    proposal.ends_in_number = len(texts) == len(answers) and all("####" in text for text in texts)


def _letter(answer: JSON) -> str:
    """The one letter that an answer is, with or without brackets and dots, in full width or not; else empty."""
    bare = unicodedata.normalize("NFKC", answer).strip(" .、,:()[]\n\t").upper() if isinstance(answer, str) else ""
    return bare if len(bare) == 1 and bare in LABELS else ""


def _form(
    proposal: Proposal, options: Sequence[Sequence[str]], answers: Sequence[JSON], letters: Mapping[str, str]
) -> AnswerForm:
    pairs = list(zip(answers, options, strict=True))
    if all(letters[str(answer)] and letters[str(answer)] in LABELS[: len(texts)] for answer, texts in pairs):
        return "letter"
    if all(str(answer) in texts for answer, texts in pairs):
        return "text of an option"
    numbers = [int(str(answer)) if str(answer).isascii() and str(answer).isdigit() else -1 for answer in answers]
    places = list(zip(numbers, map(len, options), strict=True))
    if all(0 <= number < count for number, count in places) and 0 in numbers:
        return "index from 0"
    if all(1 <= number <= count for number, count in places):
        if not any(number == count for number, count in places):
            proposal.doubts.append(f"'{proposal.answer}' is never 0 and never the last: does it count from 1?")
        return "index from 1"
    return "free text"


def quoted(value: JSON) -> str:
    """A value as YAML writes it in one line; JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)
