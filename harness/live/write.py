"""Write: a model asks questions about each page, with answers and criteria, into `questions.jsonl`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date as calendar_date
from pathlib import Path
from typing import Literal

from harness.errors import UsageError
from harness.live.ask import FAILED, Asker, ModelQuery, Reply
from harness.live.capture import kept_pages
from harness.live.folder import QUESTIONS, LiveQuestion, NothingLeft, Page, as_line, counted
from harness.live.forms import Form, find_form
from harness.quick import dataclass
from harness.types import JSON

By = Literal["auto", "text", "screenshot"]
LONGEST_SOURCE = 6000
"""Characters of a page that are read, as the measured model reads them; what follows is left out."""
_BULLET = re.compile(r"^\s*(?:[-*•·]|\d{1,2}[.)、．])\s*")


@dataclass(frozen=True, slots=True)
class WriteSpec:
    """How questions are written. questions: of each page. language: `zh`, `en`, or `auto`, by the page's text. by: what
    they are asked of; `auto` is the text where there is one. forms: a folder of own forms."""

    questions: int = 2
    language: str = "auto"
    by: By = "auto"
    forms: Path | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage left, and what it dropped."""

    kept: int
    dropped: dict[str, int]

    @property
    def failed(self) -> int:
        """Questions that the model gave no reply for, which the same command asks again."""
        return self.dropped.get(FAILED, 0)


def write_questions(spec: WriteSpec, asker: Asker) -> Stage:
    """Have the model write. Raises `UsageError` where there are no pages, `NothingLeft` where no question is of use."""
    folder = asker.folder
    with folder.locked():
        pages = kept_pages(folder)
        planned = [(question, page) for page in pages for question in _planned(page, spec)]
        if not planned:
            raise UsageError(f"write: no page of {folder.path} has a {spec.by} to ask about")
        folders = tuple(asker.registry.template_folders())
        forms = {
            language: find_form(f"write_{language}", folders, spec.forms)
            for language in dict.fromkeys(question.language for question, _ in planned)
        }
        asks = [_ask(question, page, forms[question.language], spec.questions) for question, page in planned]
        replies = asker.ask(asks)
        written = list(_written([question for question, _ in planned], asks, replies))
        folder.replace(QUESTIONS, map(as_line, written))
        dropped = counted(question.dropped for question in written)
        kept = sum(question.dropped is None for question in written)
        told: dict[str, JSON] = {**asker.told, "forms": [form.identity for form in forms.values()]}
        told |= {"day": calendar_date.today().isoformat(), "questions": kept, "dropped": dropped}
        folder.note("write", **told)
    if not kept:
        raise NothingLeft("write: not one question could be used", [question.dropped for question in written])
    return Stage(kept, dropped)


def _planned(page: Page, spec: WriteSpec) -> Iterator[LiveQuestion]:
    by = ("text" if page.text else "screenshot") if spec.by == "auto" else spec.by
    if (by == "text" and not page.text) or (by == "screenshot" and not page.image):
        return
    language = language_of(page) if spec.language == "auto" else spec.language
    for number in range(1, spec.questions + 1):
        yield LiveQuestion(f"{page.id}-{number}", page.id, language, by)


def language_of(page: Page) -> str:
    """`zh` where a page is Chinese, else `en`."""
    return "zh" if is_chinese(page.text or page.title) else "en"


def is_chinese(text: str) -> bool:
    """Whether a fifth of the letters of a text are Chinese."""
    letters = [letter for letter in text if letter.isalpha()]
    chinese = sum("\u4e00" <= letter <= "\u9fff" for letter in letters)
    return bool(letters) and chinese >= 0.2 * len(letters)


def source_text(page: Page) -> str:
    """What of a page's text is read: whole paragraphs, up to `LONGEST_SOURCE` characters."""
    if len(page.text) <= LONGEST_SOURCE:
        return page.text
    cut = page.text[:LONGEST_SOURCE]
    end = max(cut.rfind("\n"), cut.rfind("。"), cut.rfind(". "))
    return cut[: end + 1].rstrip() if end > LONGEST_SOURCE // 2 else cut


def _ask(question: LiveQuestion, page: Page, form: Form, count: int) -> ModelQuery:
    number = int(question.id.rpartition("-")[2])
    parts = [part.strip() for part in re.split(r"\n+|(?<=[。！？])", source_text(page)) if part.strip()] or [page.title]
    context: dict[str, JSON] = {
        "title": page.title,
        "text": source_text(page),
        "image": question.by == "screenshot",
        "kind": form.kinds[(number - 1) % len(form.kinds)] if form.kinds else "",
        "number": number,
        "part": parts[(number * len(parts) // (count + 1)) % len(parts)],
    }
    return ModelQuery(question.id, form, context, page.image if question.by == "screenshot" else None)


def _written(
    planned: Sequence[LiveQuestion], asks: Sequence[ModelQuery], replies: Mapping[str, Reply]
) -> Iterator[LiveQuestion]:
    """The questions, each with why it is dropped, if it is."""
    seen: dict[str, str] = {}
    for question, ask in zip(planned, asks, strict=True):
        reply = replies[question.id]
        common = (question.id, question.page, question.language, question.by, str(ask.context["kind"]))
        if reply.values is None:
            yield LiveQuestion(*common, dropped=reply.lack("the reply"))
            continue
        asked, answer = (str(reply.values[name]).strip() for name in ("question", "answer"))
        lines = [_BULLET.sub("", line).strip() for line in str(reply.values["criteria"]).splitlines()]
        criteria = tuple(line for line in lines if line)
        same = seen.setdefault("".join(filter(str.isalnum, asked.casefold())), question.id)
        dropped = None if same == question.id else f"the same question as another: {same}"
        for name, value in (("question", asked), ("answer", answer), ("criteria", criteria)):
            if not value:
                dropped = f"the {name} is empty"
            elif any("\ud800" <= letter <= "\udfff" for letter in "".join(value)):
                dropped = f"the {name} holds half of a character"
        yield LiveQuestion(*common, asked, answer, criteria, dropped)
