"""What a run still has to ask: each request once, whichever samples wait for it, and later turns once they can be.

item, on_disk = questions.placed(job, sample)
while (asked := open_requests.take()):                      # once; with conversations once a turn
    for key, response in the_answers_to(asked):
        for item in open_requests.answered(key, response):  # those that have all their answers now
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from harness.model import Model
from harness.record.keys import KeyMaker
from harness.record.run import OnDisk, RunFolder
from harness.run.conversations import awaited, continued, unusable
from harness.run.jobs import TaskJob
from harness.types import Request, Response, Sample


@dataclass(slots=True)
class PendingSample:
    """A sample, the keys of its requests, and the answers that have come so far.

    keys: of its requests. is_whole: whether they are known; not, as long as it waits for earlier turns of its
    conversation.
    """

    job: TaskJob
    sample: Sample
    keys: tuple[str, ...] = ()
    answers: dict[str, Response] = field(default_factory=dict)
    is_whole: bool = False

    @property
    def complete(self) -> bool:
        return self.is_whole and all(key in self.answers for key in self.keys)


class OpenRequests:
    """The requests of a run that have no answer yet, and the samples that wait for them."""

    def __init__(self, folder: RunFolder, model: Model) -> None:
        self._folder = folder
        self._keys = KeyMaker(model.identity)
        self._of_samples = model.answers_samples
        """Whether a replayed answer is its sample's, whatever was asked before: equal prompts may have got others."""
        self._waiting: dict[str, list[PendingSample]] = {}
        self._requests: dict[str, Request] = {}
        self._turns: dict[str, Response] = {}
        """What earlier turns were answered in this session, by key."""

    def placed(self, job: TaskJob, sample: Sample) -> tuple[PendingSample, OnDisk]:
        """How far a sample is on disk. What it still lacks is asked with the next `take`, unless it is done."""
        item = PendingSample(job, sample)
        self._converse(item)
        if not item.is_whole:
            return item, OnDisk.ABSENT
        state = self._folder.find(item.sample, item.keys, job.task.digest)
        if state is not OnDisk.DONE:
            self._take_known(item)
        return item, state

    def take(self) -> dict[str, Request]:
        """The requests that are to be asked now, by key."""
        asked, self._requests = self._requests, {}
        return asked

    @property
    def any_left(self) -> bool:
        return bool(self._requests)

    def answered(self, key: str, response: Response) -> Iterator[PendingSample]:
        """Note an answer. Yields the samples that have all their answers by it."""
        for item in self._waiting.pop(key, ()):
            if item.is_whole:
                item.answers[key] = response
            else:
                self._turns[key] = response
                self._converse(item)
                if item.is_whole:
                    self._take_known(item)
            if item.complete:
                yield item

    def _converse(self, item: PendingSample) -> None:
        """Put what is known of earlier turns into the requests of a sample, and ask the turns that come next.

        Once every request is whole, the sample has its keys. Where an earlier turn has no answer, it has failed.
        """
        requests, problem = [], None
        for request in item.sample.requests:
            while not self._of_samples and (asked := awaited(request)) is not None:
                key = self._keys.key(asked)
                answer = self._known(key)
                if answer is None:
                    self._want(key, asked, item)
                    break
                if problem := problem or unusable(answer):
                    break
                request = continued(request, answer)
            requests.append(request)
        item.sample = replace(item.sample, requests=tuple(requests))
        if problem or self._of_samples or not any(map(awaited, requests)):
            item.keys, item.is_whole = self._keys_of(item), True
        if problem:
            item.answers = dict.fromkeys(item.keys, Response(error=problem))

    def _keys_of(self, item: PendingSample) -> tuple[str, ...]:
        sample, suffix = item.sample, ""
        if self._of_samples:
            suffix = f":{item.job.task.name}/{sample.subset}/{sample.id}"
            suffix += f"@{sample.key.view}" if sample.view else ""
        return tuple(self._keys.key(request) + suffix for request in sample.requests)

    def _known(self, key: str) -> Response | None:
        return self._folder.known.get(key) or self._turns.get(key)

    def _take_known(self, item: PendingSample) -> None:
        """Give a sample the answers that are known, and let it wait for the others."""
        for key, request in zip(item.keys, item.sample.requests, strict=True):
            if key in item.answers:
                continue
            if (known := self._known(key)) is not None:
                item.answers[key] = known
            else:
                self._want(key, request, item)

    def _want(self, key: str, request: Request, item: PendingSample) -> None:
        if key not in self._waiting:
            self._waiting[key] = [item]
            self._requests[key] = request
        elif self._waiting[key][-1] is not item:
            self._waiting[key].append(item)
