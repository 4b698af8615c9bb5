"""The typed reply of a judge: it writes its own format instruction, and reads a reply strictly.

    reply = ReplyFormat((ReplyField("reason", "text"), ReplyField("score", "integer", least=1, most=10)))
    reply.instruction()                                  # what the judge is told
    reply.parse('{"reason": "short", "score": 7}')       # {"reason": "short", "score": 7}

A reply is one JSON object with exactly these keys, alone or alone in a code fence. Nothing is searched for in a longer
text: an object that the judged answer brought along must never be taken for the verdict.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from harness.quick import dataclass
from harness.types import JSON

FieldType = Literal["integer", "number", "boolean", "choice", "text"]
Language = Literal["en", "zh"]
_FENCE = re.compile(r"```[A-Za-z0-9_-]*[ \t]*\r?\n(.*?)\r?\n?```", re.DOTALL)
_SHOWN_CHARACTERS = 60

_WORDS: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "head": "Reply with one JSON object and nothing else, no text before it or after it. "
        "It has exactly these keys, in this order:",
        "shape": "So the reply has this form:",
        "integer": "a whole number from {least} to {most}",
        "number": "a number from {least} to {most}",
        "boolean": "true or false",
        "choice": "one of {choices}",
        "text": "a text in quotes",
        "again": "This reply could not be read: {problem}. Reply again, with the JSON object alone.",
        "again_written": "This reply could not be read: {problem}. Reply again, with the verdict written like {shown}.",
        "item": '- "{name}": {kind}{about}',
        "about": "; {about}",
    },
    "zh": {
        "head": "请只回复一个 JSON 对象，前后都不要有其他文字。它恰好含有下列键，并按此顺序：",
        "shape": "即回复的形式为：",
        "integer": "{least} 到 {most} 之间的整数",
        "number": "{least} 到 {most} 之间的数",
        "boolean": "true 或 false",
        "choice": "下列之一：{choices}",
        "text": "用引号括起来的文字",
        "again": "这个回复无法读取：{problem}。请重新回复，只写 JSON 对象。",
        "again_written": "这个回复无法读取：{problem}。请重新回复，并把结论写成 {shown} 的样子。",
        "item": '- "{name}"：{kind}{about}',
        "about": "；{about}",
    },
}


class ReplyError(ValueError):
    """A reply that is not what was asked for. Its text says why, in words that the judge can act on."""


@dataclass(frozen=True, slots=True)
class ReplyField:
    """One key of the reply.

    least, most: the range of an `integer` or a `number`, ends included. choices: the texts that a `choice` may be, and
    what each of them is worth as a score (None: nothing, the sample is then not scored). reported: the scores that
    least and most stand for, what lies between them in proportion; None where a number is its own score.
    """

    name: str
    type: FieldType
    about: str = ""
    least: float = 0.0
    most: float = 0.0
    choices: Mapping[str, float | None] = field(default_factory=dict)
    reported: tuple[float, float] | None = None

    @property
    def has_value(self) -> bool:
        """Whether the field can be a score."""
        return self.type != "text" and (self.type != "choice" or any(v is not None for v in self.choices.values()))

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest score that the field can be."""
        if self.type == "choice":
            worths = [worth for worth in self.choices.values() if worth is not None]
            return min(worths), max(worths)
        return (0.0, 1.0) if self.type == "boolean" else self.reported or (self.least, self.most)

    def worth(self, answer: str) -> float | None:
        """The score of a value in the form that `ReplyFormat.answers` gives it."""
        if self.type == "choice":
            return self.choices[answer]
        if self.type == "boolean":
            return float(answer == "true")
        if self.reported is None:
            return float(answer)
        worst, best = self.reported
        return worst + (best - worst) * (float(answer) - self.least) / (self.most - self.least)

    def words(self, language: Language) -> str:
        """What may stand there, for the judge."""
        shown = {"least": _number(self.least), "most": _number(self.most)}
        listed = ", ".join(_json(choice) for choice in self.choices)
        return _WORDS[language][self.type].format(**shown, choices=listed)

    def check(self, value: JSON) -> JSON:
        """The value, if it is of this field's type and within its range. Raises ReplyError."""
        if not self._fits(value):
            raise ReplyError(f'"{self.name}" is {_shown(value)}, not {self.words("en")}')
        # JSON has one kind of number: 7.0 is the whole number 7.
        return int(value) if self.type == "integer" else value

    def _fits(self, value: JSON) -> bool:
        if self.type in ("integer", "number"):
            if isinstance(value, bool) or not isinstance(value, int | float) or not self.least <= value <= self.most:
                return False
            return self.type == "number" or float(value).is_integer()
        if self.type == "boolean":
            return isinstance(value, bool)
        return isinstance(value, str) and (self.type == "text" or value in self.choices)

    def samples(self) -> list[JSON]:
        """Some values that may stand there, the least first."""
        if self.type == "text":
            return ["..."]
        if self.type == "boolean":
            return [False, True]
        if self.type == "choice":
            return sorted(self.choices, key=lambda choice: -math.inf if (v := self.choices[choice]) is None else v)
        if self.type == "integer":
            return list(range(int(self.least), int(self.most) + 1))[:100]
        return [self.least, (self.least + self.most) / 2, self.most]


@dataclass(frozen=True, slots=True)
class ReplyFormat:
    """All keys of a reply, in the order in which the judge writes them."""

    fields: tuple[ReplyField, ...]
    language: Language = "en"

    def instruction(self) -> str:
        """What tells the judge how to reply."""
        words = _WORDS[self.language]
        lines = [words["head"]]
        for each in self.fields:
            about = words["about"].format(about=each.about) if each.about else ""
            lines.append(words["item"].format(name=each.name, kind=each.words(self.language), about=about))
        shape = ", ".join(f"{_json(each.name)}: <{each.words(self.language)}>" for each in self.fields)
        return "\n".join([*lines, words["shape"], f"{{{shape}}}"])

    def again(self, problem: str) -> str:
        """What tells the judge that its reply could not be read, and why."""
        return _WORDS[self.language]["again"].format(problem=problem)

    def parse(self, text: str) -> dict[str, JSON]:
        """The values of a reply, by key. Raises ReplyError for whatever is not exactly what was asked for."""
        values = _json_object(text)
        names = [each.name for each in self.fields]
        missing = [name for name in names if name not in values]
        if missing:
            raise ReplyError(f'the key "{missing[0]}" is missing')
        surplus = [name for name in values if name not in names]
        if surplus:
            raise ReplyError(f"there is a key {_shown(surplus[0])}, which was not asked for")
        return {each.name: each.check(values[each.name]) for each in self.fields}

    def answers(self, values: Mapping[str, JSON]) -> dict[str, str]:
        """The values that are no free text, as texts: what a record says was read from the reply."""
        typed = {each.name: values[each.name] for each in self.fields if each.type != "text"}
        return {name: value if isinstance(value, str) else _json(value) for name, value in typed.items()}

    def examples(self) -> tuple[str, ...]:
        """Some replies that can be read, from the least values to the greatest."""
        columns = [each.samples() for each in self.fields]
        rows = max(map(len, columns))

        def picked(column: list[JSON], row: int) -> JSON:
            return column[round(row * (len(column) - 1) / max(1, rows - 1))]

        return tuple(
            _json({each.name: picked(column, row) for each, column in zip(self.fields, columns, strict=True)})
            for row in range(rows)
        )


@dataclass(frozen=True, slots=True)
class WrittenFormat(ReplyFormat):
    """A reply in free text that ends in one number, as the judges of some benchmarks write it: `Rating: [[5]]`.

    The prompt says itself how to reply. written: how the number may be written, `{}` in its place; the first form that
    the text holds counts, and of that form the first number. That is as open as the benchmark's own script: what the
    judged answer brought along can pass for a verdict, where the judge repeats it.
    """

    written: tuple[str, ...] = ("[[{}]]",)

    def instruction(self) -> str:
        return ""

    def again(self, problem: str) -> str:
        shown = self.written[0].format(self.fields[0].samples()[-1])
        return _WORDS[self.language]["again_written"].format(problem=problem, shown=shown)

    def parse(self, text: str) -> dict[str, JSON]:
        for form in self.written:
            before, after = form.split("{}")
            if number := re.search(rf"{re.escape(before)}(\d+\.?\d*){re.escape(after)}", text):
                return {self.fields[0].name: self.fields[0].check(float(number[1]))}
        raise ReplyError(f"there is no number written as {self.written[0].format('N')}")

    def examples(self) -> tuple[str, ...]:
        return tuple(self.written[0].format(value) for value in self.fields[0].samples())


def _json_object(text: str) -> dict[str, JSON]:
    text = text.strip().removeprefix("\ufeff")
    if not text:
        raise ReplyError("it is empty")
    if fence := _FENCE.fullmatch(text):
        text = fence[1].strip()
    if not text.startswith("{"):
        raise ReplyError('it does not begin with "{"')
    try:
        values, end = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant).raw_decode(text)
    except json.JSONDecodeError as error:
        raise ReplyError(f"it is not valid JSON: {error.msg} at character {error.pos + 1}") from None
    except ReplyError:
        raise
    except (ValueError, RecursionError):  # a number of thousands of digits; brackets without end
        raise ReplyError("it is not JSON of a sensible size") from None
    if text[end:].strip():
        raise ReplyError("there is text after the JSON object")
    return dict(values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is given twice could mean either value."""
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ReplyError(f"the key {_shown(name)} is given twice")
        values[name] = value
    return values


def _constant(name: str) -> None:
    raise ReplyError(f"{name} is no JSON number")


def _json(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(value)


def _shown(value: JSON) -> str:
    text = _json(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
