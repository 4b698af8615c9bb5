"""Review: what a person says of the questions that the check let stand. Into `reviews.jsonl`, a line a decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import date as calendar_date
from typing import Literal

from harness.live.checking import passed_questions
from harness.live.folder import REVIEWS, LiveFolder, LiveQuestion, Page
from harness.quick import dataclass
from harness.types import JSON

Verdict = Literal["accepted", "edited", "rejected"]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question that nobody has decided on yet, and its page."""

    question: LiveQuestion
    page: Page


def decisions(folder: LiveFolder) -> dict[str, dict[str, JSON]]:
    """Question -> the last decision on it; none where nobody has looked."""
    if not (folder.path / REVIEWS).is_file():
        return {}
    return {str(entry["id"]): entry for entry in folder.lines(REVIEWS)}


def waiting(folder: LiveFolder) -> list[Waiting]:
    """The questions that a person has still to look at, in the order of their pages."""
    decided = decisions(folder)
    pages = {page.id: page for page in folder.pages()}
    questions = [question for question in passed_questions(folder) if not _is_decided(question, decided)]
    return [Waiting(question, pages[question.page]) for question in questions]


def decide(
    folder: LiveFolder, question: LiveQuestion, verdict: Verdict, reason: str = "", edited: LiveQuestion | None = None
) -> None:
    """Keep a decision on the writer's question. edited: the question as it is to be, where a person has changed it."""
    line: dict[str, JSON] = {"id": question.id, "verdict": verdict, "of": question.question}
    question = edited or question
    line |= {"question": question.question, "answer": question.answer, "criteria": list(question.criteria)}
    line |= {"day": calendar_date.today().isoformat(), **({"reason": reason} if reason else {})}
    folder.append(REVIEWS, line)


def reviewed_questions(folder: LiveFolder) -> list[tuple[LiveQuestion, bool]]:
    """(question as a person left it, whether one has looked at it); those that were rejected are left out."""
    decided = decisions(folder)
    kept = []
    for question in passed_questions(folder):
        entry = decided.get(question.id) if _is_decided(question, decided) else None
        if entry is None:
            kept.append((question, False))
        elif entry["verdict"] != "rejected":
            criteria = tuple(entry["criteria"])
            left = replace(question, question=entry["question"], answer=entry["answer"], criteria=criteria)
            kept.append((left, True))
    return kept


def _is_decided(question: LiveQuestion, decided: dict[str, dict[str, JSON]]) -> bool:
    """A question that was written anew since is another one."""
    entry = decided.get(question.id)
    return entry is not None and entry.get("of") == question.question
