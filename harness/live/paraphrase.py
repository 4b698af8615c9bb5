"""Has a model say the options of tasks in other words, once; what it wrote is kept in a file for `--modify`.

    for done in paraphrase_options(asker, ("cmmlu",)): print(done.file)

Each answer is on disk as soon as it is there, and the same command goes on where it stopped. What may not stand for a
row's own options is refused and counted, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date as calendar_date
from pathlib import Path

from harness.errors import DataError, UsageError
from harness.live.ask import Asker, ModelQuery, Reply
from harness.live.folder import LiveFolder, counted
from harness.live.forms import Form, find_form
from harness.live.write import is_chinese
from harness.quick import dataclass
from harness.run.contamination import loaded_tasks
from harness.run.describe import shown_args
from harness.run.jobs import TaskJob, close_code
from harness.run.probes import first_views
from harness.tasks.answer_options import find_options, question_of
from harness.tasks.modify import infer_options
from harness.tasks.option_texts import (
    SUFFIX,
    OptionTexts,
    options_key,
    read_option_texts,
    refusal,
    says_words,
    write_option_texts,
)
from harness.tasks.schema_entries import OptionsEntry
from harness.types import JSON, Sample

ASKED_SUFFIX = ".options"
"""Of the folder beside a file that holds what was asked for it."""
WORDLESS = "its options are numbers, letters or formulas"
MANY_LINES = "an option has several lines"
TOO_FEW = "it has fewer than two options"
UNTOLD = "its options cannot be told"
FIXED = "options that may not be moved"
KEPT = (WORDLESS, MANY_LINES, TOO_FEW, UNTOLD, FIXED)
"""Why a row is not asked about."""


@dataclass(frozen=True, slots=True)
class Reworded:
    """What came of a task. file: where its options in other words are. model: who wrote them. rows: how many it has;
    reworded: of how many there are other words; kept: reason -> how many rows keep their own. failed: how many the
    model did not answer."""

    file: Path
    model: str
    rows: int
    reworded: int
    kept: dict[str, int]
    failed: int


@dataclass(frozen=True, slots=True)
class _Row:
    """What of a row is asked, or why nothing is."""

    key: str
    question: str
    options: tuple[str, ...]
    kept: str = ""

    @property
    def language(self) -> str:
        return "zh" if is_chinese(" ".join((self.question, *self.options))) else "en"


def paraphrase_options(asker: Asker, tasks: Sequence[str], forms: Path | None = None) -> Iterator[Reworded]:
    """A file for each task, in the asker's folder. Raises `HarnessError`; what was answered before stays on disk."""
    asking = replace(asker.spec, limit=None)  # which is of the tasks' rows
    jobs = loaded_tasks(replace(asker.spec, tasks=tuple(tasks)), asker.registry, asker.progress)
    try:
        for job in jobs:
            folder = LiveFolder(asker.folder.path / f"{_file_name(job)}{ASKED_SUFFIX}")
            with folder.locked():
                yield _of_task(replace(asker, folder=folder, spec=asking, described=None), job, forms)
    finally:
        close_code(jobs)


def _file_name(job: TaskJob) -> str:
    return job.task.name.replace(":", "@")


def _of_task(asker: Asker, job: TaskJob, forms: Path | None) -> Reworded:
    rows = list(_rows(job))
    wanted = list({row.key: row for row in rows if not row.kept}.values())
    found = _forms(asker, wanted, forms)
    form = ", ".join(sorted(each.identity for each in found.values()))
    file = asker.folder.path.parent / f"{_file_name(job)}{SUFFIX}"
    before = _before(asker, file, form)
    asks = []
    for row in wanted:
        context: dict[str, JSON] = {"question": row.question, "options": list(row.options)}
        asks.append(ModelQuery(row.key, found[row.language], context))
    replies = asker.ask(asks)
    refused = {row.key: row.kept for row in rows if row.kept}
    texts: dict[str, tuple[str, ...]] = {}
    for row in wanted:
        written = _written(replies[row.key])
        problem = replies[row.key].lack("the reply") or refusal(row.options, written)
        if problem:
            refused[row.key] = problem
        else:
            texts[row.key] = written
    kept = counted(refused[row.key] for row in rows if row.key in refused)
    count = sum(row.key in texts for row in rows)
    if before is not None:  # of more rows than are asked now
        texts = {**{key: each for key, each in before.texts.items() if key not in refused}, **texts}
        refused = {**{key: each for key, each in before.refused.items() if key not in texts}, **refused}
    told, day = asker.told, calendar_date.today().isoformat()
    written_by = OptionTexts(job.task.name, str(told["model"]), form, day, texts, refused, dict(told["plugin"]))
    if before is not None and not wanted:  # nobody was asked now: the words are still whose they were
        written_by = replace(written_by, model=before.model, form=before.form, plugin=before.plugin)
    write_option_texts(written_by, file)
    failed = sum(replies[row.key].failed for row in wanted)
    return Reworded(file, str(told["model"]), len(rows), count, kept, failed)


def _forms(asker: Asker, rows: Sequence[_Row], own: Path | None) -> dict[str, Form]:
    """Language -> form, of the languages that rows are in."""
    folders = tuple(asker.registry.template_folders())
    languages = dict.fromkeys(row.language for row in rows)
    return {language: find_form(f"options_{language}", folders, own) for language in languages}


def _before(asker: Asker, file: Path, form: str) -> OptionTexts | None:
    """What the file has. Raises `UsageError` where another model wrote it, or by another form."""
    if not file.exists():
        return None
    before = read_option_texts(file)
    secrets = asker.registry.model(asker.spec.model).secrets
    own = {"name": asker.spec.model, "args": shown_args(asker.spec.model_args, secrets)}
    # Where no row was to be asked, nobody was, by no form.
    if before.plugin and form and (dict(before.plugin) != own or before.form != form):
        raise UsageError(
            f"{file}: has the words of another model or form ({before.model or before.plugin.get('name')}, "
            f"{before.form}); choose another folder, --to DIR"
        )
    return before


def _rows(job: TaskJob) -> Iterator[_Row]:
    """What is asked of each row. Raises `UsageError` for a task that does not say where its options are."""
    task = job.task
    entry = task.config.options or infer_options(task.config)
    if entry is None:
        raise UsageError(
            f"task '{task.name}' does not say where its options are: add 'options: {{columns: [A, B, C, D], answer: "
            "answer}' (`harness help tasks`)"
        )
    for sample in first_views(job):
        yield _row(sample, entry)


def _row(sample: Sample, entry: OptionsEntry) -> _Row:
    try:
        found, question = find_options(sample.doc, entry), question_of(sample.doc, entry)
    except DataError as error:
        return _Row(f"{sample.subset} {sample.id}", "", (), f"{UNTOLD}: {error}")
    kept = f"{FIXED}: {found.fixed}" if found.fixed else ""
    if not kept and len(found.texts) < 2:
        kept = TOO_FEW
    elif not kept and any("\n" in text.strip() for text in found.texts):
        kept = MANY_LINES
    elif not kept and not says_words(found.texts):
        kept = WORDLESS
    return _Row(options_key(question, found.texts), question, found.texts, kept)


def _written(reply: Reply) -> tuple[str, ...]:
    """The lines of a reply; nothing where there is none."""
    lines = str((reply.values or {}).get("options", "")).splitlines()
    return tuple(line.strip() for line in lines if line.strip())
