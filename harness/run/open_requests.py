"""What a run still has to ask: each request once, whichever samples wait for it, and later turns once they can be.

item, on_disk = questions.placed(job, sample)
while (asked := open_requests.take()):                      # once; with conversations once a turn
    for key, response in the_answers_to(asked):
        for item in open_requests.answered(key, response):  # those that have all their answers now
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.model import Model
from harness.record.keys import KEY_LENGTH, KeyMaker
from harness.record.run import OnDisk, RunFolder
from harness.run.conversations import awaited, continued, unusable
from harness.run.jobs import TaskJob
from harness.run.talks import Step, talk, user_prompt
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


@dataclass(slots=True)
class _OpenTalk:
    """A conversation under way, and the key of the request that it answers."""

    item: PendingSample
    key: str
    steps: Generator[Step, Response, Response]


class OpenRequests:
    """The requests of a run that have no answer yet, and the samples that wait for them."""

    def __init__(self, folder: RunFolder, model: Model, user: Model | None = None) -> None:
        """user: the model that plays the user of conversations."""
        self._folder = folder
        self._keys = KeyMaker(model.identity)
        self._user = {} if user is None else {"user": dict(user.identity)}
        self._user_keys = KeyMaker(self._user)
        self._talks: dict[str, list[_OpenTalk]] = {}
        self._for_user: dict[str, Request] = {}
        self._of_samples = model.answers_samples
        """Whether a replayed answer is its sample's, whatever was asked before: equal prompts may have got others."""
        self._has_known = bool(folder.known) or not self._of_samples
        """Whether an answer to a sample that was not placed yet may be known."""
        self._waiting: dict[str, list[PendingSample]] = {}
        self._requests: dict[str, Request] = {}
        self._turns: dict[str, Response] = {}
        """What earlier turns were answered in this session, by key."""

    def placed(self, job: TaskJob, sample: Sample, *, outdated: bool = False) -> tuple[PendingSample, OnDisk]:
        """How far a sample is on disk. What it still lacks is asked with the next `take`, unless it is done.

        outdated: something by which the task is scored has changed, so that nothing of it is done.
        """
        item, state = self.found(job, sample, outdated=outdated)
        if item.is_whole and state is not OnDisk.DONE:
            self._take_known(item)
        return item, state

    def found(self, job: TaskJob, sample: Sample, *, outdated: bool = False) -> tuple[PendingSample, OnDisk]:
        """How far a sample is on disk, as `placed`; of what it lacks, only earlier turns of a talk are asked."""
        item = PendingSample(job, sample)
        self._converse(item)
        if not item.is_whole:
            return item, OnDisk.ABSENT
        state = self._folder.find(item.sample, item.keys, job.task.digest)
        return item, OnDisk.OUTDATED if outdated and state is OnDisk.DONE else state

    def take(self) -> dict[str, Request]:
        """The requests that are to be asked now, by key."""
        asked, self._requests = self._requests, {}
        return asked

    def take_for_user(self) -> dict[str, Request]:
        """Those that the simulated user is to be asked, by key."""
        asked, self._for_user = self._for_user, {}
        return asked

    @property
    def any_left(self) -> bool:
        return bool(self._requests or self._for_user)

    def answered(self, key: str, response: Response) -> Iterator[PendingSample]:
        """Note an answer. Yields the samples that have all their answers by it."""
        if key in self._talks:
            if response.error is None:
                self._folder.steps.add(key, response)
            for open_talk in self._talks.pop(key):
                self._go_on(open_talk, response)
                if open_talk.item.complete:
                    yield open_talk.item
            return
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
        if item.job.task.config.environment is not None and not self._of_samples:
            item.keys, item.is_whole = tuple(map(functools.partial(self._talk_key, item), item.sample.requests)), True
            return
        if self._of_samples or not any(request.prompt.messages for request in item.sample.requests):
            item.keys, item.is_whole = self._keys_of(item), True
            return
        requests, problem = [], None
        for request in item.sample.requests:
            while (asked := awaited(request)) is not None:
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
        if problem or not any(map(awaited, requests)):
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
        if not self._has_known:
            return None
        return self._folder.known.get(key) or self._turns.get(key)

    def _take_known(self, item: PendingSample) -> None:
        """Give a sample the answers that are known, and let it wait for the others."""
        for key, request in zip(item.keys, item.sample.requests, strict=True):
            if key in item.answers:
                continue
            if (known := self._known(key)) is not None:
                item.answers[key] = known
            elif item.job.task.config.environment is not None and not self._of_samples:
                self._go_on(_OpenTalk(item, key, talk(item.job.task, item.sample, request)), None)
            else:
                self._want(key, request, item)

    def _talk_key(self, item: PendingSample, request: Request) -> str:
        """The key of a conversation as a whole: of what opens it, and of all that goes on in it."""
        task = item.job.task
        entries = [
            each and each.model_dump(mode="json") for each in (task.config.environment, task.config.simulated_user)
        ]
        code = sorted((Path(file).name, content) for file, content in task.code_files.items())
        told = [self._keys.key(request), entries, code, self._user, user_prompt(task, item.sample), item.sample.doc]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:KEY_LENGTH]

    def _go_on(self, open_talk: _OpenTalk, response: Response | None) -> None:
        """Tell a conversation the answer that it waits for (None: begin it), and go on as far as answers are known."""
        try:
            step = next(open_talk.steps) if response is None else open_talk.steps.send(response)
            while (known := self._folder.steps.known.get(key := self._step_key(step))) is not None:
                step = open_talk.steps.send(known)
        except StopIteration as end:
            open_talk.item.answers[open_talk.key] = end.value
            return
        self._talks.setdefault(key, []).append(open_talk)
        (self._requests if step.who == "model" else self._for_user)[key] = step.request

    def _step_key(self, step: Step) -> str:
        return (self._keys if step.who == "model" else self._user_keys).key(step.request)

    def _want(self, key: str, request: Request, item: PendingSample) -> None:
        if key not in self._waiting:
            self._waiting[key] = [item]
            self._requests[key] = request
        elif self._waiting[key][-1] is not item:
            self._waiting[key].append(item)
