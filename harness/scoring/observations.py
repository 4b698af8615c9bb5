"""What a metric sees of a sample: the answers, those to the bare choices apart from those to the question."""

from __future__ import annotations

from collections.abc import Sequence

from harness.metrics import Observation
from harness.types import Record, Response, Sample


def split_by_condition(wanted: int, responses: Sequence[Response]) -> tuple[tuple[Response, ...], tuple[Response, ...]]:
    """Split the responses to `wanted` choices into those with and those without their question, which come last.

    The split is by count and not by request: a sample that is scored again from a record has no requests.
    """
    if not wanted or sum(len(response.logprobs) for response in responses) <= wanted:
        return tuple(responses), ()
    seen = 0
    for index, response in enumerate(responses):
        if seen >= wanted:
            return tuple(responses[:index]), tuple(responses[index:])
        seen += len(response.logprobs)
    return tuple(responses), ()


def observation(sample: Sample, record: Record, pipeline: str) -> Observation:
    """What a metric sees of a sample whose answers are in its record."""
    conditional, unconditional = split_by_condition(len(sample.choices), record.responses)
    return Observation(sample, conditional, unconditional, record.answers.get(pipeline, ()), pipeline=pipeline)


def recorded_sample(record: Record) -> Sample:
    """The sample of a record, without its requests."""
    return Sample(
        record.task,
        record.subset,
        record.id,
        record.doc,
        (),
        record.target,
        record.choices,
        record.cluster,
        view=record.view,
    )
