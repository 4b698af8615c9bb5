"""How work is cut: requests into stretches of about equal work, so that what begins alike stays together."""

from __future__ import annotations

import bisect
import itertools
from array import array
from collections.abc import Sequence

from harness.executor import WorkPiece
from harness.types import Message, Prompt, Request

# How many characters of a prompt are as much work as one generated token, and as one image, sound or video.
_GENERATED, _MEDIA = 16, 2000
_NEW_TOKENS = 256
"""Where a request does not say how many tokens it may generate."""
_SNAP = 20
"""A cut goes to the edge of a group that is nearer than this fraction of a part."""
LEAST = 20_000
"""Characters that a piece of work is worth: below, its way to another machine takes longer than the work."""


def opening_of(prompt: Prompt) -> tuple[str, ...]:
    """What a prompt shares with others: a text, or for each of its first turns a role and a text."""
    return (prompt.prefix,) if not prompt.is_chat else _outlines(prompt.messages[: prompt.shared_messages])


def own_part(prompt: Prompt) -> tuple[str, ...]:
    """The rest of a prompt, in the same form."""
    return (prompt.suffix,) if not prompt.is_chat else _outlines(prompt.messages[prompt.shared_messages :])


def _outlines(messages: Sequence[Message]) -> tuple[str, ...]:
    return tuple(part for message in messages for part in (message.role, message.outline))


def weight_of(request: Request, opening: tuple[str, ...] | None) -> int:
    """About how many characters of prompt a request is worth, without its opening where that is `opening`, which is
    computed already."""
    prompt = request.prompt
    weight = 1 + sum(map(len, own_part(prompt))) + sum(map(len, request.continuations))
    weight += _MEDIA * sum(1 for _ in prompt.shown_media)
    if request.generation is not None:
        weight += _GENERATED * (request.generation.max_new_tokens or _NEW_TOKENS)
    own = opening_of(prompt)
    return weight if own == opening else weight + sum(map(len, own))


def parts_of(groups: Sequence[object], weights: Sequence[int], of: int) -> list[int]:
    """To which of `of` stretches of about equal weight each item belongs, from 0.

    groups: what each item would rather stay with. All is in whole numbers, so that every machine cuts alike.
    """
    starts = array("q", itertools.accumulate(weights, initial=0))
    total = max(1, starts[-1])
    # Every place is counted `of` times, and so the cuts are whole numbers too.
    edges = [starts[place] * of for place in range(1, len(groups)) if groups[place] != groups[place - 1]]
    cuts = []
    for target in range(total, total * of, total):
        near = bisect.bisect_left(edges, target)
        beside = [(abs(edge - target), edge) for edge in edges[max(0, near - 1) : near + 1]]
        distance, edge = min(beside, default=(total, target))
        cuts.append(edge if distance * _SNAP <= total else target)
    middles = ((2 * start + weight) * of for start, weight in zip(starts, weights, strict=False))
    return [bisect.bisect_right(cuts, middle // 2) for middle in middles]


def cut_requests(requests: Sequence[Request], pieces: int) -> list[WorkPiece]:
    """Cut requests into at most so many pieces of about equal work, those that generate first, since they take longest.

    They come in the order of what they begin with; those with one and the same prompt stay together.
    """
    cut: list[WorkPiece] = []
    for generates in (True, False):
        chosen = [index for index, request in enumerate(requests) if (request.kind == "generate") is generates]
        keys = {index: (opening_of(requests[index].prompt), own_part(requests[index].prompt)) for index in chosen}
        ordered = sorted(chosen, key=keys.__getitem__)
        weights, before = [], None
        for index in ordered:
            weights.append(weight_of(requests[index], before))
            before = keys[index][0]
        count = max(1, min(pieces, sum(weights) // LEAST))
        places = parts_of([keys[index] for index in ordered], weights, count)
        of_prompt: dict[object, int] = {}
        by_place: dict[int, list[tuple[int, Request]]] = {}
        for index, place in zip(ordered, places, strict=True):
            by_place.setdefault(of_prompt.setdefault(keys[index], place), []).append((index, requests[index]))
        cut += by_place.values()
    return cut
