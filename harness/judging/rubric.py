"""A rubric: what a judge is shown, and the typed reply that it must give. One YAML file.

    rubric: politeness
    prompt: |
      Is this answer polite?
      {{ answer | fenced('answer') }}
      {{ format }}
    reply:
      reason: {type: text, about: one sentence}
      score: {type: integer, min: 1, max: 10}
    score: score

Everything that can be wrong with the file is a `TaskError` that names its line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.errors import TaskError, UsageError, suggest
from harness.judging.replies import FieldType, Language, ReplyField, ReplyFormat, WrittenFormat
from harness.quick import dataclass
from harness.record.keys import canonical_json
from harness.tasks.file_models import Strict, Words, validate, words
from harness.tasks.schema_entries import GenerationKwargs
from harness.tasks.templates import Template, TemplateFolders, Templates
from harness.tasks.yaml_file import Document, load_document
from harness.types import JSON

FOLDER = "rubrics"
"""The folder of a template folder that holds rubrics."""
FIRST, SECOND, TIE = "A", "B", "tie"
"""What the winner of a pair may be: the answer that was shown first, the other one, neither."""
_ANSWERS = ("answer", "reply", "extracted")
_PAIRED = tuple(f"{name}_{side}" for name in _ANSWERS for side in ("a", "b"))
_SHARED = ("criteria", "format", "task")
_OF_SAMPLE = ("question", "conversation", "reference", "doc", "subset", "choices")


class FieldEntry(Strict):
    """One key of the judge's reply."""

    type: FieldType
    about: str = Field("", description="what the judge is told about it")
    min: float | None = None
    max: float | None = None
    choices: list[str] | dict[str, float | None] | None = Field(
        None, description="what a choice may be; as a mapping, with what each is worth as a score (null: not scored)"
    )
    reported: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        None, description="of a number, the scores that min and max are reported as: [0, 100]"
    )
    written: Words | None = Field(
        None,
        description="how a number is written in a reply of free text, with {} in its place, where the prompt asks for "
        "that and not for JSON: '[[{}]]'; the first form that a reply holds counts",
    )


class RubricConfig(Strict):
    """What a rubric file may say."""

    rubric: str = Field(min_length=1)
    include: Words | None = None
    title: str = ""
    kind: Literal["pointwise", "pairwise"] = "pointwise"
    language: Language = "en"
    criteria: list[str] = Field([], description="lines that the prompt can list")
    needs_reference: bool = Field(False, description="samples without a known right answer are then not judged")
    system: str | None = None
    prompt: str = Field(min_length=1)
    reply: Annotated[dict[str, FieldEntry], Field(min_length=1)]
    score: str = Field(description="the key of the reply that is the headline")
    higher_is_better: bool = True
    generation_kwargs: GenerationKwargs | None = None


@dataclass(frozen=True, slots=True)
class Rubric:
    """A rubric that was checked. `digest` is of all that decides what a judge is asked and how its reply is read."""

    name: str
    title: str
    pairwise: bool
    criteria: tuple[str, ...]
    needs_reference: bool
    higher_is_better: bool
    system: Template | None
    prompt: Template
    format: ReplyFormat
    score: str
    generation: Mapping[str, JSON]
    digest: str

    @property
    def identity(self) -> str:
        """`quality_en@0a1b2c3d4e5f6071`."""
        return f"{self.name}@{self.digest}"

    @property
    def values(self) -> tuple[ReplyField, ...]:
        """The keys of the reply that are scores, the headline first."""
        fields = [each for each in self.format.fields if each.has_value]
        return tuple(sorted(fields, key=lambda each: each.name != self.score))


def find_rubric(name: str, folders: TemplateFolders) -> Rubric:
    """A rubric by its name, by `package/name`, or by its file. Raises `UsageError`, or `TaskError` with the line."""
    if name.endswith((".yaml", ".yml")):
        return read_rubric(Path(name), folders)
    known = list(rubric_files(folders))
    named = [(package, path) for package, path in known if name in (path.stem, f"{package}/{path.stem}")]
    if not named:
        names = [path.stem for _, path in known]
        has = f"there are: {', '.join(names)}; a file ends in .yaml"
        raise UsageError(f"--rubric: there is no rubric '{name}'{suggest(name, names)} ({has})")
    if len(named) > 1:
        owners = " and ".join(f"{package}/{path.stem}" for package, path in named)
        raise UsageError(f"--rubric: more than one package has a rubric '{name}': say which, {owners}")
    return read_rubric(named[0][1], folders)


def rubric_files(folders: Sequence[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """(package, file) of every rubric that is installed."""
    for package, folder in folders:
        yield from ((package, path) for path in sorted((folder / FOLDER).glob("*.yaml")))


def read_rubric(file: Path, folders: TemplateFolders) -> Rubric:
    """Read and check a rubric file. Raises `TaskError`."""
    return _Reader(load_document(file), folders).read()


def fenced(value: JSON, label: str = "text") -> str:
    """The text between marks that it cannot contain, so that nothing in it can pass for the end of it.

    The marks hold a hash of the text: the same text is always marked in the same way.
    """
    text = str(value)
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    while mark in text:
        mark = hashlib.sha256(mark.encode()).hexdigest()[:8]
    return f"<{label}-{mark}>\n{text}\n</{label}-{mark}>"


def reply_fields(entries: Mapping[str, FieldEntry], document: Document) -> tuple[ReplyField, ...]:
    """The keys that the `reply` of a document asks for. Raises `TaskError` with the line of one that cannot be."""
    return tuple(_reply_field(name, entry, document) for name, entry in entries.items())


def _reply_field(name: str, entry: FieldEntry, document: Document) -> ReplyField:
    at = ("reply", name)

    def error(message: str, *below: str) -> TaskError:
        return document.error((*at, *below), f"{'.'.join((*at, *below))}: {message}")

    if not name.isidentifier():
        raise error("a key of the reply is a word of letters, digits and _")
    numeric = entry.type in ("integer", "number")
    for key, fits in (("min", numeric), ("max", numeric), ("choices", entry.type == "choice"), ("reported", numeric)):
        given = getattr(entry, key) is not None
        if given and not fits:
            raise error(f"has no meaning for type {entry.type}", key)
        if fits and not given and key != "reported":
            raise error(f"type {entry.type} needs '{key}'")
    if numeric:
        least, most = float(entry.min or 0.0), float(entry.max or 0.0)
        if not -1e15 < least < most < 1e15:
            raise error(f"should be less than max, found {entry.min} and {entry.max}", "min")
        if entry.type == "integer" and not (least.is_integer() and most.is_integer()):
            raise error("the ends of a range of whole numbers are whole", "min")
        reported = None if entry.reported is None else (entry.reported[0], entry.reported[1])
        if reported and not -1e15 < reported[0] < reported[1] < 1e15:
            raise error("should be two numbers, the smaller one first", "reported")
        return ReplyField(name, entry.type, entry.about, least, most, reported=reported)
    given_choices = entry.choices or {}
    choices = given_choices if isinstance(given_choices, dict) else dict.fromkeys(given_choices)
    if entry.type == "choice" and (len(choices) < 2 or len(choices) < len(given_choices)):
        raise error("should be two or more, all different", "choices")
    return ReplyField(name, entry.type, entry.about, choices=choices)


class _Reader:
    """Turns one document into a rubric."""

    def __init__(self, document: Document, folders: TemplateFolders) -> None:
        self.document = document
        self.config = validate(RubricConfig, document.data, document)
        self.pairwise = self.config.kind == "pairwise"
        # An environment of its own: a task's templates know no fences.
        self.templates = Templates(document.files[0].parent, folders)
        self.templates.environment.filters["fenced"] = fenced

    def read(self) -> Rubric:
        config = self.config
        fields = reply_fields(config.reply, self.document)
        self.check_score(fields)
        system = None if config.system is None else self.template("system", config.system, (*_SHARED, *_OF_SAMPLE))
        prompt = self.template("prompt", config.prompt, (*_SHARED, *_OF_SAMPLE, *self.answers))
        self.check_shown(prompt)
        generation = config.generation_kwargs.model_dump(exclude_none=True) if config.generation_kwargs else {}
        return Rubric(
            name=config.rubric,
            title=config.title,
            pairwise=self.pairwise,
            criteria=tuple(config.criteria),
            needs_reference=config.needs_reference,
            higher_is_better=config.higher_is_better,
            system=system,
            prompt=prompt,
            format=self.reply_format(fields),
            score=config.score,
            generation=generation,
            digest=self.digest([prompt, *([system] if system else [])]),
        )

    @property
    def answers(self) -> tuple[str, ...]:
        return _PAIRED if self.pairwise else _ANSWERS

    def check_shown(self, prompt: Template) -> None:
        for side in ("_a", "_b") if self.pairwise else ("",):
            if not prompt.open_ended and not prompt.names & {f"{name}{side}" for name in _ANSWERS}:
                raise self.error(("prompt",), f"shows no answer{side}, so that there is nothing to judge")

    def template(self, key: str, source: str, known: Sequence[str]) -> Template:
        template = self.templates.compile(source, key, self.document.place((key,)))
        unknown = sorted(template.names - {*known} - self.templates.environment.globals.keys())
        if unknown:
            near = suggest(unknown[0], known)
            has = ", ".join(sorted(known))
            raise self.error((key,), f"there is no '{unknown[0]}' to show{near} (there are: {has})")
        return template

    def reply_format(self, fields: tuple[ReplyField, ...]) -> ReplyFormat:
        """JSON, unless the one number of the reply says how it is `written`."""
        forms = {name: words(entry.written) for name, entry in self.config.reply.items() if entry.written}
        for name, written in forms.items():
            at = ("reply", name, "written")
            if len(fields) > 1 or fields[0].type not in ("integer", "number"):
                raise self.error(at, "is for a reply that is one number, and no other key stands beside it")
            if bad := next((form for form in written if form.count("{}") != 1 or form == "{}"), None):
                raise self.error(at, f"should have {{}} once, in the place of the number, found '{bad}'")
            return WrittenFormat(fields, self.config.language, tuple(written))
        return ReplyFormat(fields, self.config.language)

    def check_score(self, fields: Sequence[ReplyField]) -> None:
        """The headline must be something that has a value, or, of a pair, a winner."""
        name, names = self.config.score, [each.name for each in fields]
        if name not in names:
            raise self.error(("score",), f"the reply has no key '{name}'{suggest(name, names)}")
        headline = fields[names.index(name)]
        if self.pairwise:
            if headline.type != "choice" or not {FIRST, SECOND} <= headline.choices.keys() <= {FIRST, SECOND, TIE}:
                raise self.error(("reply", name), f"the winner of a pair is a choice of {FIRST}, {SECOND} and {TIE}")
            if any(worth is not None for worth in headline.choices.values()):
                raise self.error(("reply", name, "choices"), "what a winner is worth is not for a rubric to say")
        elif not headline.has_value:
            kind = "its choices say what they are worth: {good: 1, bad: 0}" if headline.type == "choice" else "a score"
            raise self.error(("reply", name), f"the headline has a value; make it {kind}")

    def digest(self, templates: Sequence[Template]) -> str:
        included = {file.name: file.read_text(encoding="utf-8-sig") for each in templates for file in each.files}
        told = self.config.model_dump(mode="json", exclude={"rubric", "title", "include"})
        for entry in told["reply"].values():
            for later in ("written", "reported"):
                if entry[later] is None:  # rubrics that say nothing of it keep their digest
                    del entry[later]
        content = canonical_json({**told, "included": included}, f"the rubric '{self.config.rubric}'")
        return hashlib.sha256(content).hexdigest()[:16]

    def error(self, path: tuple[str, ...], message: str) -> TaskError:
        return self.document.error(path, f"{'.'.join(path)}: {message}")
