"""Asks a model about many pages or questions, as a run like any other: its answers are on disk, within a budget, asked
once. A reply that cannot be read is asked for again, with what was wrong with it, in a further run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from harness import files
from harness.errors import UsageError
from harness.judging.replies import ReplyError
from harness.live.folder import ASKED, LiveFolder
from harness.live.forms import Form
from harness.quick import dataclass
from harness.reasoning import strip_reasoning
from harness.record.manifest import model_title
from harness.record.manifest_fields import Manifest
from harness.registry import Registry
from harness.run.result import load_run
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec
from harness.types import JSON, Record

RUNS = "runs"
DEFAULT_TOKENS = 1024
FAILED = "the model failed"
_SHOWN_CHARACTERS = 2000
"""Of a reply that could not be read, in the prompt that asks again."""


@dataclass(frozen=True, slots=True)
class ModelQuery:
    """One thing to ask. image: shown before the text, below the folder of the set."""

    id: str
    form: Form
    context: Mapping[str, JSON]
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of it: the values of the reply, or why there are none. failed: the model gave no reply at all."""

    values: Mapping[str, JSON] | None
    problem: str = ""
    failed: bool = False

    def lack(self, what: str) -> str | None:
        """Why there is no `what`; None where there is one."""
        if self.values is not None:
            return None
        return self.problem if self.failed else f"{what} could not be read: {self.problem}"


@dataclass
class Asker:
    """Asks one model. spec: the model, and all that a run is told but its tasks. retries: how often a reply that cannot
    be read is asked for again."""

    folder: LiveFolder
    spec: RunSpec
    registry: Registry
    progress: Progress = field(default_factory=Progress)
    retries: int = 2
    described: Manifest | None = None
    """The manifest of the last run, which says what the model is."""

    def __post_init__(self) -> None:
        if "generate" not in self.registry.model(self.spec.model).supports:
            raise UsageError(f"model '{self.spec.model}' writes no texts")

    @property
    def place(self) -> Path:
        """The folder of what is asked: task files with their rows, and the runs of them."""
        return self.folder.path / ASKED

    @property
    def model(self) -> str:
        """What a reader calls the model; empty before it was asked."""
        return model_title(self.described) if self.described else ""

    @property
    def told(self) -> dict[str, JSON]:
        """What `live.json` says of the model: its title, its plugin and arguments without secrets, and the seed."""
        plugin = self.described["model"] if self.described else {}
        shown = {name: plugin[name] for name in ("name", "args") if name in plugin}
        return {"model": self.model, "plugin": shown, "seed": self.spec.seed}

    def ask(self, asks: Sequence[ModelQuery]) -> dict[str, Reply]:
        """A reply to each, by its id. Raises `HarnessError`; what was answered before stays on disk."""
        self.place.mkdir(exist_ok=True)
        replies: dict[str, Reply] = {}
        rows = {
            ask.id: {"id": ask.id, "messages": _turns(ask), "example": ask.form.stand_in(ask.context)} for ask in asks
        }
        waiting = list(asks)
        for attempt in range(self.retries + 1):
            if not waiting:
                break
            read: dict[str, str] = {}
            for ask, record in self._records(f"_again_{attempt}" if attempt else "", waiting, rows):
                replies[ask.id] = _read(ask.form, record)
                if replies[ask.id].values is None and not replies[ask.id].failed:
                    read[ask.id] = record.responses[0].text or ""
            waiting = [ask for ask in waiting if ask.id in read]
            for ask in waiting:
                shown = strip_reasoning(read[ask.id])[0][:_SHOWN_CHARACTERS]
                note = ask.form.format.again(replies[ask.id].problem)
                turns = [{"role": "assistant", "content": shown}, {"role": "user", "content": note}]
                rows[ask.id]["messages"] = [*rows[ask.id]["messages"], *turns]
        return {ask.id: replies.get(ask.id, Reply(None, FAILED, failed=True)) for ask in asks}

    def _records(
        self, round: str, asks: Sequence[ModelQuery], rows: Mapping[str, dict[str, JSON]]
    ) -> list[tuple[ModelQuery, Record]]:
        """Run the tasks of one round, and find its records."""
        groups: dict[str, list[ModelQuery]] = {}
        for ask in asks:
            groups.setdefault(ask.form.name + ("_image" if ask.image else "") + round, []).append(ask)
        tasks = []
        for name, group in groups.items():
            tasks.append(self._write_task(name, group[0]))
            lines = [{**rows[ask.id], **({"image": ask.image} if ask.image else {})} for ask in group]
            files.replace(self.place / f"{name}.jsonl", (json.dumps(line).encode() + b"\n" for line in lines))
            for image in dict.fromkeys(ask.image for ask in group if ask.image):
                if not (self.place / image).is_file():
                    (self.place / image).parent.mkdir(exist_ok=True)
                    shutil.copyfile(self.folder.path / image, self.place / image)
        spec = replace(self.spec, tasks=tuple(map(str, tasks)), output=str(self.place / RUNS), bad_rows="fail")
        result = run(spec, self.registry, self.progress)
        self.described = load_run(result.path).manifest
        by_id = {ask.id: ask for ask in asks}
        found = {record.doc["id"]: record for record in result.samples() if record.doc["id"] in by_id}
        return [(by_id[name], record) for name, record in found.items()]

    def _write_task(self, name: str, ask: ModelQuery) -> Path:
        """A task that asks what its rows hold. No answer of it is right or wrong."""
        generation = {"until": [], "do_sample": False, "max_gen_toks": DEFAULT_TOKENS, **ask.form.generation}
        keys = {
            "task": name,
            "dataset_path": f"{name}.jsonl",
            "test_split": "test",
            "doc_to_messages": "{{ messages }}",
            "doc_to_target": "{{ none }}",
            "doc_to_choice": "{{ [example] }}",
            **({"doc_to_image": "image"} if ask.image else {}),
            "generation_kwargs": generation,
        }
        path = self.place / f"{name}.yaml"
        files.replace_json(path, keys)  # JSON is YAML
        return path


def _turns(ask: ModelQuery) -> list[dict[str, str]]:
    turns = ask.form.messages(ask.context)
    if ask.image:
        turns[-1] = {**turns[-1], "content": f"<image 1>\n{turns[-1]['content']}"}
    return turns


def _read(form: Form, record: Record) -> Reply:
    if record.error is not None:
        return Reply(None, f"{FAILED}: {record.error}", failed=True)
    response = record.responses[0]
    try:
        return Reply(form.format.parse(strip_reasoning(response.text or "")[0]))
    except ReplyError as error:
        cut = "it was cut off at its limit of tokens; " if response.finish_reason == "length" else ""
        return Reply(None, f"{cut}{error}")
