"""Publish: the questions that stand, as a task file with rows, dates and sources, that any run takes.

The measured model is shown what the question was written from, the text or the screenshot. Rows in two languages, or of
texts and screenshots, are a task each: they are asked and judged by other words.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import date as calendar_date
from pathlib import Path

import yaml

from harness import files
from harness.errors import UsageError
from harness.live.folder import IMAGES, TASK, LiveFolder, LiveQuestion, Page
from harness.live.review import reviewed_questions
from harness.live.write import source_text
from harness.quick import dataclass
from harness.record.manifest import safe_name
from harness.types import JSON

TOKENS = 1024
_ASKED = {
    ("en", "text"): ("Answer the question from the text.\n\n", "\n\nQuestion: "),
    ("zh", "text"): ("请根据材料回答问题。\n\n", "\n\n问题："),
    ("en", "screenshot"): ("Answer the question from the page in the picture.\n\nQuestion: ", ""),
    ("zh", "screenshot"): ("请根据图中的网页回答问题。\n\n问题：", ""),
}
"""What stands before the text and before the question."""


@dataclass(frozen=True, slots=True)
class Published:
    """The task files, how many rows they have, how many of these a person has looked at, and how many carry no date."""

    tasks: tuple[Path, ...]
    rows: int
    reviewed: int
    undated: int


def publish(folder: LiveFolder, name: str, to: Path | None = None, *, only_reviewed: bool = False) -> Published:
    """Write the tasks into `to`, by default the folder `task` of the set. Raises `UsageError` where nothing stands."""
    to = to or folder.path / TASK
    with folder.locked():
        if safe_name(name) != name:
            raise UsageError(f"--name: a task's name is made of letters, digits, _ and -: not '{name}'")
        pages = {page.id: page for page in folder.pages()}
        kept = [(question, seen) for question, seen in reviewed_questions(folder) if seen or not only_reviewed]
        if not kept:
            why = "a person has accepted none" if only_reviewed else "a person has rejected all of them"
            raise UsageError(f"publish: no question of {folder.path} is left: {why}")
        groups: dict[tuple[str, str], list[tuple[LiveQuestion, bool]]] = {}
        for question, seen in kept:
            groups.setdefault((question.language, question.by), []).append((question, seen))
        to.mkdir(parents=True, exist_ok=True)
        paths = []
        for (language, by), group in sorted(groups.items()):
            parts = [language] * (len({key[0] for key in groups}) > 1)
            parts += ["screenshots"] * (by == "screenshot" and len({key[1] for key in groups}) > 1)
            rows = [_row(question, pages[question.page], seen) for question, seen in group]
            paths.append(_write(folder, to, "_".join([name, *parts]), (language, by), rows))
        names = [os.path.relpath(path, folder.path) for path in paths]
        for old in set(folder.manifest.get("publish", {}).get("tasks", [])) - set(names):
            for path in (folder.path / old, (folder.path / old).with_suffix(".jsonl")):
                path.unlink(missing_ok=True)  # of a publication before this one, which made other tasks of the set
        undated = sum(pages[question.page].date is None for question, _ in kept)
        reviewed = sum(seen for _, seen in kept)
        told = {"tasks": names, "rows": len(kept), "reviewed": reviewed, "undated": undated}
        folder.note("publish", **told, day=calendar_date.today().isoformat())
    return Published(tuple(paths), len(kept), reviewed, undated)


def published_tasks(folder: LiveFolder) -> Sequence[str]:
    """The task files that were published last. Raises `UsageError` where none was."""
    paths = folder.manifest.get("publish", {}).get("tasks", [])
    if not paths:
        raise UsageError(f"{folder.path}: no task is there yet: harness live publish {folder.path} --name NAME")
    return [str(folder.path / path) for path in paths]


def _row(question: LiveQuestion, page: Page, seen: bool) -> dict[str, JSON]:
    shown = {"text": source_text(page)} if question.by == "text" else {"image": page.image}
    return {
        "id": question.id,
        "question": question.question,
        "answer": question.answer,
        "criteria": list(question.criteria),
        "kind": question.kind,
        **shown,
        "title": page.title,
        "source": page.source,
        "date": page.date,
        "captured": page.captured,
        "reviewed": seen,
    }


def _write(folder: LiveFolder, to: Path, name: str, key: tuple[str, str], rows: Sequence[dict[str, JSON]]) -> Path:
    language, by = key
    for image in dict.fromkeys(row["image"] for row in rows if "image" in row):
        (to / IMAGES).mkdir(exist_ok=True)
        shutil.copyfile(folder.path / image, to / image)
    files.replace(to / f"{name}.jsonl", (json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
    before, between = _ASKED[key]
    text = f"{before}{{{{ text }}}}{between}{{{{ question }}}}" if by == "text" else f"{before}{{{{ question }}}}"
    dates = sorted(row["date"] for row in rows if row["date"])
    told = folder.manifest
    keys = {
        "task": name,
        "title": f"Live questions on pages of {dates[0]} to {dates[-1]}" if dates else "Live questions",
        "ability": "reading",
        "language": language,
        "modality": "text" if by == "text" else "image",
        "version": 1,
        "tag": ["live", "judged"],
        "metadata": {
            **({"date": dates[-1]} if dates else {}),
            "rows": {"test": len(rows)},
            "live": {
                "reviewed": sum(row["reviewed"] for row in rows),
                **{stage: _made_by(told.get(stage, {})) for stage in ("capture", "write", "check")},
            },
        },
        "dataset_path": f"{name}.jsonl",
        "test_split": "test",
        "num_fewshot": 0,
        "output_type": "generate_until",
        "doc_to_text": text,
        **({} if by == "text" else {"doc_to_image": "image"}),
        "doc_to_target": "{{ answer }}",
        "doc_to_date": "date",
        "cluster_key": "source",
        "generation_kwargs": {"until": [], "do_sample": False, "max_gen_toks": TOKENS},
        "metric_list": [{"metric": "judge", "rubric": f"live_{language}", "range": [0, 100]}],
        **({"example": _example(rows[0], before, between)} if by == "text" else {}),
    }
    head = (
        "# Made by `harness live`: rows on pages that were published lately; what they say belongs to who wrote them.\n"
    )
    written = yaml.safe_dump(keys, allow_unicode=True, sort_keys=False, width=120)
    files.replace(to / f"{name}.yaml", (head.encode(), written.encode()))
    return to / f"{name}.yaml"


def _made_by(stage: dict[str, JSON]) -> dict[str, JSON]:
    names: Iterable[str] = ("model", "forms", "day", "by_the_writer")
    return {name: stage[name] for name in names if name in stage}


def _example(row: dict[str, JSON], before: str, between: str) -> dict[str, JSON]:
    prompt = f"{before}{row['text']}{between}{row['question']}"
    return {"row": row, "prompt": prompt, "target": row["answer"], "scores": [{"reply": row["answer"], "judge": None}]}
