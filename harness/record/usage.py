"""What the answers of a run took: tokens and seconds, as far as the models say it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from harness.record.report_fields import UsageFields
from harness.types import Record, Response


@dataclass(slots=True)
class Usage:
    """What answers cost, as far as the model says: tokens, prompt tokens cut off, and seconds of the model's time.

    cached_tokens are among the prompt's, reasoning_tokens among the completion's, and those of answers that came by a
    batch API, batch_*, among the others. replies_without_tokens: how many
    answers came without a word of what they took, and are in no sum; answers: how many texts there are. user: the same
    of whoever played the user of conversations, which is in none of the others.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    batch_prompt_tokens: int = 0
    batch_completion_tokens: int = 0
    batch_cached_tokens: int = 0
    replies_without_tokens: int = 0
    answers: int = 0
    truncated_tokens: int = 0
    seconds: float = 0.0
    user: Usage | None = None

    def add(self, response: Response) -> None:
        """Count one answer."""
        self.prompt_tokens += response.prompt_tokens or 0
        self.completion_tokens += response.completion_tokens or 0
        self.reasoning_tokens += response.reasoning_tokens or 0
        self.cached_tokens += response.cached_tokens or 0
        if response.by_batch:
            self.batch_prompt_tokens += response.prompt_tokens or 0
            self.batch_completion_tokens += response.completion_tokens or 0
            self.batch_cached_tokens += response.cached_tokens or 0
        generated = response.text is not None
        self.replies_without_tokens += generated and None in (response.prompt_tokens, response.completion_tokens)
        self.answers += generated
        self.truncated_tokens += response.truncated
        self.seconds += response.seconds or 0.0
        if response.user is not None:
            self.user = self.user or Usage()
            self.user.add(response.user)

    def to_json(self) -> UsageFields:
        """As a report holds it."""
        told = {name: getattr(self, name) for name in self.__slots__}
        fields = {name: value for name, value in told.items() if value or not name.startswith(("batch_", "user"))}
        return cast(UsageFields, {**fields, **({"user": self.user.to_json()} if self.user is not None else {})})

    @classmethod
    def from_json(cls, fields: UsageFields) -> Usage:
        """What a report holds, without what it says of costs."""
        known = {name: value for name, value in fields.items() if name in cls.__slots__ and name != "user"}
        return cls(**cast(Any, known), user=cls.from_json(fields["user"]) if "user" in fields else None)


def watch(records: Iterable[Record], usage: dict[str, Usage]) -> Iterator[Record]:
    """Hand the records on, and add up in `usage` (by task) what their answers cost."""
    for record in records:
        total = usage.setdefault(record.task, Usage())
        for response in record.responses:
            total.add(response)
        yield record
