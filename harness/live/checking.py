"""Check: another model answers each question from the source and without it; what it cannot stand behind is dropped.

Three things are asked about a question, so that no answer is given in sight of another one: an answer from the source,
an answer without it, and then whether the two mean what the writer's answer means. Into `checks.jsonl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date as calendar_date
from pathlib import Path

from harness.errors import UsageError
from harness.live.ask import Asker, ModelQuery, Reply
from harness.live.folder import CHECKS, LiveFolder, LiveQuestion, NothingLeft, Page, counted
from harness.live.forms import Form, find_form
from harness.live.write import Stage, source_text
from harness.quick import dataclass
from harness.types import JSON

UNANSWERABLE = "unanswerable from the source"
CONTRADICTORY = "contradictory: the answer from the source is another one"
TRIVIAL = "trivial"
KNOWN = "answerable without the source"


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found of one question. dropped: why it is not used; None where it stands."""

    id: str
    dropped: str | None
    from_source: str = ""
    without_source: str = ""
    reason: str = ""


def check_questions(asker: Asker, forms: Path | None = None) -> Stage:
    """Have the model check. Raises `UsageError` where there is nothing to check, `NothingLeft` where nothing stands."""
    folder = asker.folder
    with folder.locked():
        pages = {page.id: page for page in folder.pages()}
        questions = [question for question in folder.questions() if question.dropped is None]
        if not questions:
            raise UsageError(f"check: {folder.path} has no questions that could be used")
        found = _Forms(asker, forms)
        answers = asker.ask([ask for question in questions for ask in _answers(question, pages, found)])
        doubts = {question.id: _unanswered(question, answers) for question in questions}
        clear = [question for question in questions if doubts[question.id] is None]
        verdicts = asker.ask([_verdict(question, answers, found) for question in clear])
        checked = [_checked(question, doubts[question.id], answers, verdicts) for question in questions]
        folder.replace(CHECKS, map(_as_line, checked))
        dropped = counted(each.dropped for each in checked)
        kept = sum(each.dropped is None for each in checked)
        writer = folder.manifest.get("write", {}).get("model")
        told: dict[str, JSON] = {**asker.told, "forms": found.used, "by_the_writer": writer == asker.model}
        told |= {"day": calendar_date.today().isoformat(), "passed": kept, "dropped": dropped}
        folder.note("check", **told)
    if not kept:
        raise NothingLeft("check: not one question stands", [each.dropped for each in checked])
    return Stage(kept, dropped)


def passed_questions(folder: LiveFolder) -> list[LiveQuestion]:
    """The questions that a check let stand."""
    checks = {entry["id"]: entry for entry in folder.lines(CHECKS)}
    return [
        question
        for question in folder.questions()
        if question.dropped is None and question.id in checks and checks[question.id].get("dropped") is None
    ]


class _Forms:
    """The forms of a check, each read once."""

    def __init__(self, asker: Asker, own: Path | None) -> None:
        self._folders, self._own = tuple(asker.registry.template_folders()), own
        self._known: dict[str, Form] = {}

    def __call__(self, name: str) -> Form:
        if name not in self._known:
            self._known[name] = find_form(name, self._folders, self._own)
        return self._known[name]

    @property
    def used(self) -> list[str]:
        return [form.identity for form in self._known.values()]


def _answers(question: LiveQuestion, pages: Mapping[str, Page], forms: _Forms) -> Iterator[ModelQuery]:
    page = pages[question.page]
    image = page.image if question.by == "screenshot" else None
    shared: dict[str, JSON] = {"question": question.question, "reference": question.answer, "image": image is not None}
    source: dict[str, JSON] = {**shared, "title": page.title, "text": source_text(page)}
    yield ModelQuery(f"{question.id}/from", forms(f"answer_{question.language}"), source, image)
    yield ModelQuery(f"{question.id}/without", forms(f"recall_{question.language}"), shared)


def _unanswered(question: LiveQuestion, answers: Mapping[str, Reply]) -> str | None:
    """Why no verdict is needed, or possible."""
    for part, what in (("from", "the answer from the source"), ("without", "the answer without it")):
        if (lack := answers[f"{question.id}/{part}"].lack(what)) is not None:
            return lack
    values = answers[f"{question.id}/from"].values or {}
    return None if values["answerable"] else UNANSWERABLE


def _verdict(question: LiveQuestion, answers: Mapping[str, Reply], forms: _Forms) -> ModelQuery:
    said = {part: _said(question, answers, part) for part in ("from", "without")}
    context = {"question": question.question, "reference": question.answer}
    context |= {"from_source": said["from"], "without_source": said["without"]}
    return ModelQuery(question.id, forms(f"verdict_{question.language}"), context)


def _said(question: LiveQuestion, answers: Mapping[str, Reply], part: str) -> str:
    return str((answers[f"{question.id}/{part}"].values or {}).get("answer", ""))


def _checked(
    question: LiveQuestion, doubt: str | None, answers: Mapping[str, Reply], verdicts: Mapping[str, Reply]
) -> Checked:
    said = (_said(question, answers, "from"), _said(question, answers, "without"))
    values = None if doubt is not None else verdicts[question.id].values
    if values is None:
        return Checked(question.id, doubt or verdicts[question.id].lack("the verdict"), *said)
    reasons = [
        *([] if values["first_same"] else [CONTRADICTORY]),
        *([TRIVIAL] if values["trivial"] else []),
        *([KNOWN] if values["second_same"] else []),
    ]
    return Checked(question.id, reasons[0] if reasons else None, *said, str(values["reason"]))


def _as_line(checked: Checked) -> dict[str, JSON]:
    line: dict[str, JSON] = {"id": checked.id, "passed": checked.dropped is None}
    for name in ("dropped", "from_source", "without_source", "reason"):
        if value := getattr(checked, name):
            line[name] = value
    return line
