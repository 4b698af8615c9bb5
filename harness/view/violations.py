"""Where a run was not safe, sample by sample, for a person to read: what was asked and answered, and why it counts.

    for found in Violations(load_run("runs/candidate"), t):
        found.task, found.question, found.answer, found.why

A violation is a sample of a task of the ability `safety` whose score is not the best one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.errors import UsageError
from harness.judging.judge import JUDGEMENTS
from harness.quick import dataclass
from harness.record.coverage import coverage_of, covered
from harness.record.html import answer_of, gold_words
from harness.record.manifest import read_manifest, runs_below
from harness.record.manifest_fields import Manifest
from harness.record.run import RunFolder
from harness.record.score_fields import MetricFields
from harness.run.compare import headline
from harness.types import Message, Prompt, Record, SampleKey
from harness.words import Translate, english

ABILITY = "safety"
COLUMNS = ("task", "subset", "id", "question", "answer", "why")


@dataclass(frozen=True, slots=True)
class Violation:
    """A sample that is not as it should be. question: its system message, if any, and what was asked last."""

    task: str
    subset: str
    id: int
    question: str
    answer: str
    why: str

    @property
    def row(self) -> list[str | int]:
        """The values of `COLUMNS`."""
        return [self.task, self.subset, self.id, self.question, self.answer, self.why]


class Violations:
    """The violations of a finished run, read from disk as they are asked for. t: the language of `why`.

    n: by task, how many were found so far. unscored: how many samples of these tasks have no score (they failed, or
    wait for a judge) and so are not among them. Raises `UsageError` for a run that has no task about safety.
    """

    def __init__(self, run: RunFolder, t: Translate = english) -> None:
        if run.report is None:
            raise UsageError(f"{run.path}: has no report yet: the run has not ended; its command goes on with it")
        self._headlines: dict[str, MetricFields] = {
            task["task"]: headline(task)
            for task in run.report["tasks"]
            if task["metrics"] and is_about_safety(run.manifest, task["task"])
        }
        if not self._headlines:
            there = ", ".join(task["task"] for task in run.report["tasks"]) or "none"
            raise UsageError(f"{run.path}: has no task of the ability '{ABILITY}' (it has: {there})")
        self._run, self._t = run, t
        self.n = dict.fromkeys(self._headlines, 0)
        self.unscored = 0

    def __iter__(self) -> Iterator[Violation]:
        assert self._run.report is not None
        is_asked = covered(coverage_of(self._run.report))
        self.n, self.unscored = dict.fromkeys(self._headlines, 0), 0
        for task, metric in self._headlines.items():
            verdicts = self._verdicts(task)
            worst, best = (float(end) for end in metric.get("bounds") or (0, 1))
            best = best if metric["higher_is_better"] else worst
            for record in filter(is_asked, self._run.records(task)):
                score = record.scores.get(metric["metric"])
                if record.error is not None or not isinstance(score, int | float):
                    self.unscored += 1
                elif score != best:
                    self.n[task] += 1
                    yield self._violation(record, score, verdicts.get(record.key, ""))

    def _violation(self, record: Record, score: float, verdict: str) -> Violation:
        t, gold, read = self._t, gold_words(record.target, record.choices), answer_of(record)
        if verdict:
            why = t("the judge says {verdict}", verdict=verdict)
        elif record.unparsed:
            why = t("no answer could be read, and '{gold}' is right", gold=gold)
        elif gold and read:
            why = t("read as '{read}', and '{gold}' is right", read=read, gold=gold)
        else:
            why = t("score {score}", score=f"{score:g}")
        answer = "\n".join(response.text or "" for response in record.responses).strip() or read
        return Violation(record.task, record.subset, record.id, _question(record.prompt), answer, why)

    def _verdicts(self, task: str) -> Mapping[SampleKey, str]:
        """What judges said of the samples of a task: the keys of their replies, one judge behind the other."""
        said: dict[SampleKey, list[str]] = {}
        for path in runs_below(self._run.path / JUDGEMENTS):
            if task in read_manifest(path).get("tasks", {}):
                for record in RunFolder.read(path).records(task):
                    words = [f"{key}: {values[0]}" for key, values in record.answers.items() if values and values[0]]
                    said.setdefault(record.key, []).extend(words)
        return {key: "; ".join(words) for key, words in said.items()}


def is_about_safety(manifest: Manifest, task: str) -> bool:
    """Whether a task of a run has the ability `safety`, alone or among others."""
    config: Mapping[str, object] = manifest.get("tasks", {}).get(task, {}).get("config", {})
    found = config.get("ability")
    return found == ABILITY or (isinstance(found, list) and ABILITY in found)


def _question(prompt: Prompt) -> str:
    """What was asked last, without what samples share but with the system message, which an answer may break."""
    if not prompt.is_chat:
        return prompt.suffix.strip()
    system = [_words(message) for message in prompt.messages[:-1] if message.role == "system"]
    return "\n\n".join([*system, _words(prompt.messages[-1])]).strip()


def _words(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(part if isinstance(part, str) else f"<{part.kind}>" for part in message.content)
