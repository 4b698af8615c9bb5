"""What is known of the samples of a task from one look at each, which it gets as it is rendered.

What a run says of its samples before it asks, and what it refuses, is read here: nobody has to go through them again.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Self, overload

from harness.record.sample_keys import SampleKeys
from harness.run.answers import unreadable
from harness.run.conversations import awaited
from harness.types import GenerationParams, RequestKind, Sample, View


@dataclass(slots=True)
class KeptRows:
    """How many rows a modifier leaves as they are; (subset, number) of the first, and why."""

    rows: int = 0
    first: tuple[str, int] = ("", 0)
    reason: str = ""

    def note(self, row: tuple[str, int], reason: str) -> None:
        if reason:
            self.first, self.reason = (self.first, self.reason) if self.rows else (row, reason)
            self.rows += 1


@dataclass(slots=True)
class NullsShown:
    """Of a column, how many rows show `None` in its place, and the first of them: (subset, number)."""

    rows: int = 0
    first: tuple[str, int] = ("", 0)
    last: tuple[str, int] | None = None


@dataclass(slots=True)
class SampleFacts:
    """Counts over samples, those of one row one after another.

    samples: how many there are. keys: of all samples. rows: how many rows they are of. requests: of all.
    hidden: without a gold answer. empty_golds: whose gold answer is a text without characters. single_choices: of
    multiple choice, with one choice, which is gold. twin_golds: whose right choice has the text of another one.
    kinds: of the requests; shown: of their media. is_talk: whether requests hold the model's own answers.
    offers_tools: whether they offer functions. with_media: samples with media, and first_problem: of media that cannot
    be shown, in how many samples media_problems. unreadable: places of samples that no model can read.
    generation: of the first request of the first sample. frames: of videos, frames -> how many videos show so many;
    frame_rule: rule and decoder of the first. nulls: by column.
    first_views: samples that show a row for the first time in a modified task; fixed: those that keep the order of
    their options, and kept: those that a modifier leaves. ordered: views that say in which order images stand, and
    own_order: how many of them leave it.
    """

    keys: SampleKeys = field(default_factory=SampleKeys)
    rows: int = 0
    requests: int = 0
    hidden: int = 0
    empty_golds: int = 0
    single_choices: int = 0
    twin_golds: int = 0
    kinds: dict[RequestKind, None] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    is_talk: bool = False
    offers_tools: bool = False
    with_media: int = 0
    media_problems: int = 0
    first_problem: str = ""
    unreadable: set[int] = field(default_factory=set)
    generation: GenerationParams | None = None
    frames: Counter[int] = field(default_factory=Counter)
    frame_rule: tuple[str, str] = ("", "")
    nulls: dict[str, NullsShown] = field(default_factory=dict)
    first_views: int = 0
    fixed: KeptRows = field(default_factory=KeptRows)
    kept: KeptRows = field(default_factory=KeptRows)
    ordered: int = 0
    own_order: int = 0
    samples: int = 0
    _row: tuple[str, int] | None = None

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Self:
        facts = cls()
        for sample in samples:
            facts.look(sample)
        return facts

    def look(self, sample: Sample) -> None:
        """Take note of the next sample."""
        row = sample.subset, sample.id
        if row != self._row:
            self.rows, self._row = self.rows + 1, row
        self.keys.add(sample.key)
        self.hidden += sample.target is None and not sample.problem
        self.empty_golds += sample.target == ""
        self.single_choices += len(sample.choices) == 1 and sample.target is not None
        if len(set(sample.choices)) < len(sample.choices):
            golds = sample.target if isinstance(sample.target, tuple) else (sample.target,)
            right = {gold for gold in golds if isinstance(gold, int)}
            texts = {sample.choices[gold] for gold in right if 0 <= gold < len(sample.choices)}
            self.twin_golds += any(text in texts and n not in right for n, text in enumerate(sample.choices))
        if not self.samples and sample.requests:
            self.generation = sample.requests[0].generation
        for place, request in enumerate(sample.requests):
            prompt = request.prompt
            self.kinds.setdefault(request.kind)
            if prompt.messages or prompt.media:
                self.offers_tools = self.offers_tools or bool(prompt.tools)
                self.is_talk = self.is_talk or awaited(request) is not None
                self.shown.update(media.kind for media in prompt.shown_media)
                if not place:
                    self._count_frames(sample)
            if unreadable(request) is not None:
                self.unreadable.add(self.samples)
        if self.shown:
            self._look_at_media(sample)
        for column in sample.nulls:
            nulls = self.nulls.setdefault(column, NullsShown(first=row))
            if nulls.last != row:
                nulls.rows, nulls.last, nulls.first = nulls.rows + 1, row, min(nulls.first, row)
        if sample.view is not None:
            self._look_at_view(sample.view, row)
        self.requests += len(sample.requests)
        self.samples += 1

    def _count_frames(self, sample: Sample) -> None:
        for media in sample.requests[0].prompt.shown_media:
            if media.frames is not None:
                if not self.frames:
                    self.frame_rule = media.frames.rule, media.frames.decoder
                self.frames[len(media.frames.indices)] += 1

    def _look_at_media(self, sample: Sample) -> None:
        media = [each for request in sample.requests for each in request.prompt.shown_media]
        if media:
            problem = next((each.problem for each in media if each.problem), "")
            self.with_media += 1
            self.media_problems += bool(problem)
            self.first_problem = self.first_problem or problem

    def _look_at_view(self, view: View, row: tuple[str, int]) -> None:
        if view.index == 0:
            self.first_views += 1
            self.fixed.note(row, view.fixed)
            self.kept.note(row, view.kept)
        if view.image_order:
            self.ordered += 1
            self.own_order += view.shows_own_images


class AskedSamples(Sequence[Sample]):
    """All samples of some tasks, one after another, without a second copy.

    facts: task -> what is known of its samples. unreadable: places of those that no model can read.
    left_out: places of samples that are passed over.
    """

    def __init__(
        self,
        parts: Sequence[Sequence[Sample]],
        facts: Mapping[str, SampleFacts],
        unreadable: Set[int] = frozenset(),
        left_out: Set[int] = frozenset(),
    ) -> None:
        self._parts, self.facts, self._unreadable, self._left_out = parts, facts, unreadable, left_out

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> Self:
        """Samples of one task or several, each looked at here."""
        facts: dict[str, SampleFacts] = {}
        for sample in samples:
            facts.setdefault(sample.task, SampleFacts()).look(sample)
        places = (place for place, sample in enumerate(samples) if any(map(unreadable, sample.requests)))
        return cls([samples], facts, frozenset(places))

    @classmethod
    def joined(cls, tasks: Mapping[str, tuple[Sequence[Sample], SampleFacts]]) -> Self:
        """The samples of several tasks, with what is known of them."""
        places: set[int] = set()
        start = 0
        for samples, facts in tasks.values():
            places.update(start + place for place in facts.unreadable)
            start += len(samples)
        return cls([samples for samples, _ in tasks.values()], {name: own for name, (_, own) in tasks.items()}, places)

    @property
    def readable(self) -> AskedSamples:
        """Those that a model can read."""
        return AskedSamples(self._parts, self.facts, self._unreadable, self._unreadable)

    def __len__(self) -> int:
        return sum(map(len, self._parts)) - len(self._left_out)

    def __iter__(self) -> Iterator[Sample]:
        samples = itertools.chain.from_iterable(self._parts)
        if not self._left_out:
            return samples
        return (sample for place, sample in enumerate(samples) if place not in self._left_out)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(index, slice):
            chosen = range(*index.indices(len(self)))
            return [self[at] for at in chosen]
        at = index + len(self) if index < 0 else index
        if self._left_out:
            for sample in itertools.islice(self, at, None) if at >= 0 else ():
                return sample
        for part in self._parts:
            if 0 <= at < len(part):
                return part[at]
            at -= len(part)
        raise IndexError(index)
