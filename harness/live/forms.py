"""A form: what a model is asked while a live set is made, and the typed reply that it must give. One YAML file.

    form: recall_en
    prompt: |
      {{ question | fenced('question') }}
      {{ format }}
    reply:
      known: {type: boolean}
      answer: {type: text}
    example: {known: "false", answer: "I do not know."}

It is a rubric without a score: the reply is read as strictly. A set can bring its own (`--forms DIR`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from harness.errors import UsageError, suggest
from harness.judging.replies import Language, ReplyFormat
from harness.judging.rubric import FieldEntry, fenced, reply_fields
from harness.quick import dataclass
from harness.record.keys import canonical_json
from harness.tasks.file_models import Strict, validate
from harness.tasks.schema_entries import GenerationKwargs
from harness.tasks.templates import Context, Template, TemplateFolders, Templates
from harness.tasks.yaml_file import load_document
from harness.types import JSON

FOLDER = "live"
"""The folder of a template folder that holds forms."""


class FormConfig(Strict):
    """What a form's file may say."""

    form: str = Field(min_length=1)
    language: Language = "en"
    kinds: list[str] = Field([], description="of a form that is asked several times: what each time is asked for")
    system: str | None = None
    prompt: str = Field(min_length=1)
    reply: Annotated[dict[str, FieldEntry], Field(min_length=1)]
    example: dict[str, str] = Field(description="a reply by Jinja, which stand-ins such as the model dummy give")
    generation_kwargs: GenerationKwargs | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A form that was checked. digest: of all that decides what is asked and how the reply is read."""

    name: str
    kinds: tuple[str, ...]
    system: Template | None
    prompt: Template
    example: Mapping[str, Template]
    format: ReplyFormat
    generation: Mapping[str, JSON]
    digest: str

    @property
    def identity(self) -> str:
        """`write_en@0a1b2c3d4e5f6071`."""
        return f"{self.name}@{self.digest}"

    def messages(self, context: Context) -> list[dict[str, str]]:
        """What is asked about one page or question, as turns of a chat."""
        shown = {**context, "format": self.format.instruction()}
        system = [{"role": "system", "content": self.system.text(shown)}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt.text(shown).rstrip()}]

    def stand_in(self, context: Context) -> str:
        """A reply that can be read."""
        values: dict[str, JSON] = {}
        for field in self.format.fields:
            text = self.example[field.name].text(context)
            values[field.name] = text if field.type in ("text", "choice") else json.loads(text)
        return json.dumps(values, ensure_ascii=False)


def find_form(name: str, folders: TemplateFolders, own: Path | None = None) -> Form:
    """A form by its name, of the folder `own` before those that are installed. Raises `UsageError`, `TaskError`."""
    files = [folder / f"{name}.yaml" for folder in ([own] if own else [])]
    files += [folder / FOLDER / f"{name}.yaml" for _, folder in folders]
    file = next((each for each in files if each.is_file()), None)
    if file is None:
        known = sorted({path.stem for _, folder in folders for path in (folder / FOLDER).glob("*.yaml")})
        raise UsageError(f"there is no form '{name}'{suggest(name, known)} (there are: {', '.join(known)})")
    return read_form(file, folders)


def read_form(file: Path, folders: TemplateFolders) -> Form:
    """Read and check the file of a form. Raises `TaskError` with the line."""
    document = load_document(file)
    config = validate(FormConfig, document.data, document)
    fields = reply_fields(config.reply, document)
    if config.example.keys() != config.reply.keys():
        raise document.error(("example",), f"example: has the keys of the reply: {', '.join(config.reply)}")
    templates = Templates(file.parent, folders)
    templates.environment.filters["fenced"] = fenced
    prompt = templates.compile(config.prompt, "prompt", document.place(("prompt",)))
    system = None
    if config.system is not None:
        system = templates.compile(config.system, "system", document.place(("system",)))
    example = {
        name: templates.compile(text, f"example.{name}", document.place(("example", name)))
        for name, text in config.example.items()
    }
    told = config.model_dump(mode="json", exclude={"form", "example"})
    used = [each for each in (prompt, system) if each is not None]
    included = {path.name: path.read_text(encoding="utf-8-sig") for each in used for path in each.files}
    digest = hashlib.sha256(canonical_json({**told, "included": included}, f"the form '{config.form}'")).hexdigest()
    generation = config.generation_kwargs.model_dump(exclude_none=True) if config.generation_kwargs else {}
    reply = ReplyFormat(fields, config.language)
    return Form(config.form, tuple(config.kinds), system, prompt, example, reply, generation, digest[:16])
