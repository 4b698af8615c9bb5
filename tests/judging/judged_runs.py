"""What the tests of judging share: small finished runs, and judges that say what a test wants."""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness import Model, Record, Request, Response, hookimpl
from harness.judging.judge import JudgeModel, JudgeResult, JudgeSpec, run_judges
from harness.record.run import RunFolder
from harness.registry import Registry, load_plugins
from harness.run.runner import run
from harness.run.spec import Progress, RunSpec

Said = str | Response
Judge = Callable[[str], Said]
ROWS = (
    {"subset": "zh", "question": "中国的首都是哪里？", "answer": "北京"},
    {"subset": "zh", "question": "水的化学式是什么？", "answer": "H2O"},
    {"subset": "en", "question": "What is 2 + 2?", "answer": "4"},
    {"subset": "en", "question": "Which planet is red? 🔴", "answer": "Mars"},
)
TASK = """\
task: talk
dataset_path: json
dataset_kwargs: {{data_files: {{test: rows.jsonl}}}}
test_split: test
output_type: generate_until
repeats: {repeats}
doc_to_text: "{{{{ question }}}}"
doc_to_target: "{{{{ answer }}}}"
metric_list:
  - metric: exact_match
"""


class Says(Model):
    """Answers from a table: the prompt's text, or its part, to what is said."""

    name = "says"
    supports: ClassVar = frozenset({"generate"})

    def __init__(self, replies: Mapping[str, str]) -> None:
        self.replies = replies

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"replies": dict(self.replies)}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            said = next((reply for part, reply in self.replies.items() if part in self.render(request.prompt)), "none")
            yield index, Response(error="out of order") if said == "FAIL" else Response(text=said)


class Judging(Model):
    """Answers as a function says, by the whole prompt. `asked` holds all prompts of all its kind."""

    name = "judging"
    supports: ClassVar = frozenset({"generate"})
    answer: ClassVar[Judge] = staticmethod(lambda prompt: "")
    asked: ClassVar[list[Request]] = []
    loads: ClassVar[list[str]] = []

    def __init__(self, who: str = "one", api_key: str = "", headers: Any = None) -> None:
        self.who = who

    secrets: ClassVar = frozenset({"api_key", "headers"})

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"who": self.who}

    def load(self) -> None:
        Judging.loads.append(self.who)

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        for index, request in enumerate(requests):
            Judging.asked.append(request)
            said = Judging.answer(f"[{self.who}]\n{self.render(request.prompt)}")
            yield index, said if isinstance(said, Response) else Response(said, prompt_tokens=100, completion_tokens=10)


class Messages(Progress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def registry() -> Registry:
    """All that is installed, and the models of this file."""
    module = types.ModuleType("judged_runs_plugin")
    module.harness_models = hookimpl(lambda: [Says, Judging])  # type: ignore[attr-defined]
    found = load_plugins()
    found.register(module, package="tests", name="tests.judging")
    return found


def write_task(folder: Path, rows: Sequence[Mapping[str, Any]] = ROWS, repeats: int = 1, extra: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "talk.yaml").write_text(TASK.format(repeats=repeats) + extra, encoding="utf-8")
    return folder / "talk.yaml"


def make_run(folder: Path, replies: Mapping[str, str], name: str = "run", **task: Any) -> str:
    """A finished run of the task `talk`. replies: part of the question -> the answer (`FAIL`: none)."""
    file = write_task(folder / "task", **task)
    spec = RunSpec((str(file),), "says", {"replies": dict(replies)}, output=str(folder / name))
    return str(run(spec, registry()).path)


def judge(runs: str | Sequence[str], rubric: str, answer: Judge, *who: str, **options: Any) -> JudgeResult:
    """Have the judges (`one` where none is named) answer by `answer`."""
    Judging.answer = staticmethod(answer)
    Judging.asked.clear()
    Judging.loads.clear()
    named = (runs,) if isinstance(runs, str) else tuple(runs)
    prices = options.pop("prices", None)
    args = options.pop("args", {})
    judges = tuple(JudgeModel("judging", {"who": each, **args}, prices) for each in who or ("one",))
    progress = options.pop("progress", Progress())
    return run_judges(JudgeSpec(named, str(rubric), judges, **options), registry(), progress)


def records(result: JudgeResult, place: int = 0) -> dict[int, Record]:
    return {record.id: record for record in RunFolder.read(result.judgements[place].path).records()}


def headline(result: JudgeResult, place: int = 0) -> dict[str, Any]:
    """The first metric of the first task."""
    found: dict[str, Any] = result.judgements[place].report["tasks"][0]["metrics"][0]
    return found
