"""What lm-eval's files say of a sample and its record does not: the text of a chat, the gold as the task has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.errors import HarnessError
from harness.metrics import CorpusMetric
from harness.model import Model
from harness.record.lm_eval_samples import AsRecorded
from harness.run.jobs import TaskJob
from harness.scoring.observations import observation, recorded_sample
from harness.task_code.messages import decoded
from harness.tasks.plain_rows import row_context
from harness.types import JSON, Prompt, Record, Request, SampleKey


class ShownByRun(AsRecorded):
    """As the model of a run renders prompts, and the tasks of a run their golds."""

    def __init__(self, jobs: Sequence[TaskJob], model: Model) -> None:
        self._jobs = {job.task.name: job for job in jobs}
        self._model = model
        self._asked: dict[str, dict[SampleKey, Sequence[Request]]] = {}

    def prompt(self, prompt: Prompt) -> str | None:
        text = self._model.render(prompt)
        # What every model can say of turns is for a reader; a server has the template.
        return None if text == Model.render(self._model, prompt) else text

    def target(self, record: Record) -> JSON:
        task = self._jobs[record.task].task
        context = row_context(record.doc, task.subset(record.subset))
        if (column := task.config.doc_to_target) in record.doc and isinstance(column, str):
            return record.doc[column]
        templates = task.wordings[record.view.wording if record.view else 0].templates.doc
        try:
            rendered = templates.graded(context, record.doc.keys())
        except HarnessError:  # a row at fault, whose record says as much as there is
            return super().target(record)
        return rendered.continuation if rendered.contexts else rendered.target

    def asked(self, record: Record) -> Sequence[Request]:
        job = self._jobs[record.task]
        if job.task.config.construct_requests is None:
            return ()
        if record.task not in self._asked:
            self._asked[record.task] = {sample.key: sample.requests for sample in job.samples}
        return self._asked[record.task].get(record.key, ())

    def items(self, record: Record, pipeline: str) -> Mapping[str, JSON]:
        found: dict[str, JSON] = {}
        for key in self._jobs[record.task].scorer.keys:
            if isinstance(key.metric, CorpusMetric) and key.pipeline == pipeline and record.error is None:
                item = key.metric.item(observation(recorded_sample(record), record, pipeline))
                found[key.metric.name] = decoded(item)  # Python of a task gives it as its messages write it
        return found
