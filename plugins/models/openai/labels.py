"""Multiple choice through the chat API: the probabilities of labels, from the first token of the answer.

The server says the likeliest tokens of that place (`top_logprobs`). A label's probability is the sum over those of them
that spell it (`A`, ` A`, `(A`, and `a`, where no other label is spelt so). A label that is not among them is less
likely than the least of them, and than all that is left: that bound stands for it, and it is counted. Where the bound
could be the likeliest label, there is no answer.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness import ModelError, Request, Response, UsageError
from harness.scoring import strip_reasoning

from .errors import RequestError, WithheldError, short
from .replies import ChatReply, finish_of

MOST_TOP = 20
"""What OpenAI's API gives at most."""
_LONGEST_LABEL = 8
_AROUND = " \t\n\u2581\u0120\u010a()[]{}（）【】「」《》\"'“”‘’.。:：、，,;；*_`$#-"
_OPENS = ("<think>", "<thinking>", "[THINK]", "◁think▷", "<|channel|>")


_REMEDY = "take a variant whose options have letters, or one that generates"


def _is_letter(label: str) -> bool:
    return len(label) == 1 and label.isascii()


class LabelCheck:
    """Refuses options that are texts: their first token is not their probability."""

    def __init__(self) -> None:
        self._words: dict[tuple[str, str], frozenset[str]] = {}

    def check(self, request: Request, task: str, subset: str) -> None:
        """Words that differ from row to row are texts however short they are; letters may. Raises UsageError."""
        labels = [spelt(text) for text in request.continuations]
        if request.kind != "loglikelihood" or request.unconditional or len(labels) < 2:
            raise UsageError(
                f"task '{task}' is no choice among labels, which is all that choices=top_logprobs can score"
            )
        distinct = frozenset(labels)
        is_text = any(not label or len(label) > _LONGEST_LABEL or " " in label for label in labels)
        if not is_text and not all(map(_is_letter, labels)):
            known = self._words.setdefault((task, subset), distinct)
            self._words[task, subset] = known | distinct
            is_text = not (known <= distinct or distinct <= known)
        if is_text or len(distinct) < len(labels):
            shown = ", ".join(repr(text) for text in request.continuations[:3])
            raise UsageError(
                f"task '{task}': choices=top_logprobs scores labels such as A and B by one token, not texts ({shown}): "
                f"{_REMEDY}"
            )


def spelt(token: str) -> str:
    """The label that a token spells, without what stands around it; full-width letters are letters."""
    return unicodedata.normalize("NFKC", token.strip(_AROUND)).strip(_AROUND)


def _names(continuations: Sequence[str]) -> dict[str, str]:
    """What spells which label: the label itself and, where only one label is spelt so, it in other cases."""
    labels = [spelt(text) for text in continuations]
    folded = Counter(label.casefold() for label in labels)
    other = {label.casefold(): label for label in labels if folded[label.casefold()] == 1}
    return {**other, **{label: label for label in labels}}


def label_fields(top: int) -> Mapping[str, Any]:
    """The fields of a body that ask for the likeliest first tokens."""
    return {"temperature": 0, "logprobs": True, "top_logprobs": top}


def label_response(reply: ChatReply, continuations: Sequence[str], *, has_given: bool = False) -> tuple[Response, int]:
    """The log-probabilities of the labels, and how many of them are but bounds.

    has_given: whether the server gave `top_logprobs` before. Raises RequestError where the reply decides nothing, and
    ModelError where the server gives no `top_logprobs` at all.
    """
    choice = reply.choice
    message = choice.message
    if finish_of(choice) == "withheld":
        raise WithheldError("refused by the server: its content filter withheld the answer")
    places = choice.logprobs.content if choice.logprobs is not None else None
    # The same entry twice is one token: some servers put the one that was chosen before the others.
    top = list(dict.fromkeys((each.token, each.logprob) for each in places[0].top_logprobs)) if places else []
    others = top
    if places and len(top) > 1 and places[0].token and places[0].token not in {token for token, _ in top}:
        # LMDeploy leaves the token that was chosen out of the likeliest; it is the likeliest of all.
        top = [(places[0].token, places[0].logprob), *top]
    thinks = message is not None and bool(message.thoughts) and not message.content
    if thinks or (top and (top[0][0].strip() in _OPENS or strip_reasoning(top[0][0])[1] is not None)):
        what = "the answer begins with reasoning: no label stands first"
        raise RequestError(
            what, cause="think", remedy="say --thinking off, or take a variant of the task that generates"
        )
    if len(top) < 2:
        what = "the server gives no top_logprobs by the chat API"
        remedy = "ask by api=completions, or take a variant of the task that generates (cmmlu:gen)"
        if choice.logprobs is None and not has_given:
            raise ModelError(f"{what}: {remedy}")
        raise RequestError(what, cause="top_logprobs", remedy=remedy)
    if any((not math.isfinite(value) and value != -math.inf) or value > 1e-3 for _, value in top):
        raise RequestError("the server's top_logprobs are not log-probabilities", cause="not log-probabilities")
    names = _names(continuations)
    sums = dict.fromkeys(names.values(), 0.0)
    for token, value in top:
        label = spelt(token)
        if (label := names.get(label) or names.get(label.casefold(), "")) in sums:
            sums[label] += math.exp(value)
    least = math.exp(min(value for _, value in others))
    bound = min(least, max(0.0, 1.0 - math.fsum(math.exp(value) for _, value in top)))
    best = max(sums.values())
    missing = sum(value == 0.0 for value in sums.values())
    if not best or (missing and best < bound):
        first = short(top[0][0])
        raise RequestError(
            f"no label is certainly the likeliest among the top {len(top)} tokens (first: '{first}')",
            remedy="" if all(map(_is_letter, sums)) else _REMEDY,
        )
    first = spelt(max(top, key=lambda each: each[1])[0])
    likeliest = names.get(first) or names.get(first.casefold())
    values = [sums[spelt(text)] or bound or 1e-30 for text in continuations]
    usage = reply.usage
    response = Response(
        logprobs=tuple(min(0.0, math.log(value)) for value in values),
        is_greedy=tuple(spelt(text) == likeliest for text in continuations),
        token_counts=(1,) * len(values),
        prompt_tokens=usage.prompted if usage else None,
        completion_tokens=usage.completed if usage else None,
        cached_tokens=usage.cached if usage else None,
    )
    return response, missing
