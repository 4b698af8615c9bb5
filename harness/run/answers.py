"""Asks a model, checks each answer where it comes in, and turns what a plugin raises into one line that names it."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from harness.errors import HarnessError, ModelError, one_line, only_failures
from harness.model import Model
from harness.plugin_values import flag, integer, items, mapping, number, shown, text
from harness.record.keys import canonical_json
from harness.run.early_stop import FirstReplies
from harness.scoring.scores import located
from harness.types import Request, Response

T = TypeVar("T")
# Log-probabilities are computed in floating point: so far above 0 one may come out.
_ABOVE_ZERO = 1e-3
_TOLD_COUNTS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
_HALF = re.compile("[\ud800-\udfff]")


def answers(
    model: Model,
    name: str,
    requests: Sequence[Request],
    *,
    is_new: bool = False,
    refuse: Callable[[int], None] = lambda left: None,
) -> Iterator[tuple[int, Response]]:
    """The model's answers as they come, one a request; one that it leaves out is an error. Raises `HarnessError`.

    An answer that is none (a wrong type, a number that is not finite, too few of them) fails its request alone, and is
    named with its field. What no model can read is not asked, and fails alone too.
    is_new: whether nothing was answered before: then the work ends where many first requests fail alike. refuse: told
    how many requests the model left without an answer; it may raise.
    """
    asked = list(range(len(requests)))
    if model.sees_prompts:
        looks = unshowable if model.answers_samples else unreadable
        problems = {index: problem for index in asked if (problem := looks(requests[index]))}
        yield from ((index, Response(error=problem)) for index, problem in problems.items())
        asked = [index for index in asked if index not in problems]
    if asked:
        first = FirstReplies(name, len(asked))
        for place, response in _given(model, name, [requests[index] for index in asked], refuse):
            yield asked[place], response
            if is_new and not model.answers_samples:
                first.watch(response.error)


def _given(
    model: Model, name: str, requests: Sequence[Request], refuse: Callable[[int], None]
) -> Iterator[tuple[int, Response]]:
    """What the model yields, checked; see `answers`."""
    left = dict.fromkeys(range(len(requests)))
    for answer in _yielded(model, name, requests):
        if answer is None:
            break
        index, response = _numbered(answer, name, len(requests))
        if index in left:
            del left[index]
            yield index, checked_response(response, requests[index], name)
    if left:
        refuse(len(left))
    yield from ((index, Response(error=f"model '{name}' gave no answer")) for index in left)


def _yielded(model: Model, name: str, requests: Sequence[Request]) -> Iterator[object]:
    with plugin_errors(name, "stopped"):
        yield from model.respond(requests)


def _numbered(answer: object, name: str, count: int) -> tuple[int, object]:
    """The two parts of what `respond` yields. Whose answer it is must be known: anything else ends the run."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ModelError(f"model '{name}': respond yields pairs of an index and a Response, not {shown(answer)}")
    try:
        index = integer(answer[0], "the index of an answer")
    except TypeError as error:
        raise ModelError(f"model '{name}': {error}") from None
    if not 0 <= index < count:
        raise ModelError(f"model '{name}': it answered request {index}, and was asked {count}, numbered from 0")
    return index, answer[1]


def checked_response(response: object, request: Request, name: str) -> Response:
    """The response with plain values, or one whose `error` names the model and the field that is wrong."""
    if not isinstance(response, Response):
        return Response(error=f"model '{name}': an answer is a Response, not {shown(response)}")
    try:
        return _plain(response, request)
    except (TypeError, ValueError) as error:
        return Response(error=f"model '{name}': {error}")


def _plain(response: Response, request: Request) -> Response:
    if _is_plain(response, request):
        return response
    error: object = response.error  # an exception says what it says; an empty text is still an error
    values: dict[str, Any] = {
        "truncated": integer(response.truncated, "truncated"),
        "error": None if error is None else " ".join(str(error).split()) or type(error).__name__,
        "reasoning": _optional(text, response.reasoning, "reasoning"),
        "finish_reason": _optional(text, response.finish_reason, "finish_reason"),
        "prompt_tokens": _optional(integer, response.prompt_tokens, "prompt_tokens"),
        "completion_tokens": _optional(integer, response.completion_tokens, "completion_tokens"),
        "reasoning_tokens": _optional(integer, response.reasoning_tokens, "reasoning_tokens"),
        "cached_tokens": _optional(integer, response.cached_tokens, "cached_tokens"),
        "seconds": _optional(number, response.seconds, "seconds"),
        "by_batch": flag(response.by_batch, "by_batch"),
    }
    if values["error"] is not None:
        return Response(**values)
    if request.kind == "generate":
        if response.text is None:
            raise TypeError("text is None, where an answer is to be generated")
        return Response(text=text(response.text, "text"), **values)
    wanted = 1 if request.kind == "rolling" else len(request.continuations)
    logprobs = _each(number, response.logprobs, "logprobs", wanted)
    above = next((value for value in logprobs if value > _ABOVE_ZERO), None)
    if above is not None:
        raise ValueError(f"logprobs has {above:g}: log-probabilities are at most 0")
    return Response(
        logprobs=logprobs,
        is_greedy=_each(flag, response.is_greedy, "is_greedy", wanted, may_lack=True),
        token_counts=_each(integer, response.token_counts, "token_counts", wanted, may_lack=True),
        **values,
    )


def _is_plain(response: Response, request: Request) -> bool:
    """Whether scores of continuations are for certain as they should be, as those of most models are."""
    wanted = 1 if request.kind == "rolling" else len(request.continuations)
    logprobs, is_greedy, token_counts = response.logprobs, response.is_greedy, response.token_counts
    return (
        request.kind != "generate"
        and response.error is response.reasoning is response.finish_reason is response.text is None
        and response.user is None
        and {type(logprobs), type(is_greedy), type(token_counts)} == {tuple}
        and len(logprobs) == len(is_greedy) == len(token_counts) == wanted > 0
        and {*map(type, logprobs)} == {float}
        and {*map(type, is_greedy)} == {bool}
        and {*map(type, token_counts), type(response.truncated)} == {int}
        and {type(getattr(response, name)) for name in _TOLD_COUNTS} <= {int, type(None)}
        and type(response.seconds) in (float, type(None))
        and response.by_batch is False
        and math.isfinite(sum(logprobs) + (response.seconds or 0.0))
        and max(logprobs) <= _ABOVE_ZERO
    )


def _optional(check: Callable[[object, str], T], value: object, what: str) -> T | None:
    return None if value is None else check(value, what)


def _each(
    check: Callable[[object, str], T], values: object, what: str, wanted: int, *, may_lack: bool = False
) -> tuple[T, ...]:
    """The checked values of a field, as many as continuations; a field that some models do not know may be empty."""
    given = items(values, what)
    if len(given) != wanted and not (may_lack and not given):
        raise ValueError(f"{what} has {len(given)} values, where {wanted} are asked for")
    try:
        return tuple([check(value, what) for value in given])
    except (TypeError, ValueError):  # once more, to say which
        return tuple(check(value, f"{what}[{place}]") for place, value in enumerate(given))


def unreadable(request: Request) -> str | None:
    """Why no model can be shown this: half of a character (a surrogate without its other half) is in its text, or an
    image cannot be shown."""
    prompt = request.prompt
    texts = [prompt.prefix, prompt.suffix, prompt.prefill, *request.continuations]
    if prompt.messages:
        texts += [message.text for message in prompt.messages]
    for part in texts:
        if not part.isascii() and (half := _HALF.search(part)):
            return f"its text holds half of a character (U+{ord(half[0]):04X}), which no model can read: mend the row"
    return unshowable(request)


def unshowable(request: Request) -> str | None:
    """Why an image of the request cannot be shown."""
    if not request.prompt.messages and not request.prompt.media:
        return None
    return next((media.problem for media in request.prompt.shown_media if media.problem), None)


def description(model: Model, name: str, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """What the model says of itself, for the manifest; nothing, and one line to `say`, where that is no mapping."""
    try:
        return mapping(model.describe(), "describe")
    except (Exception, SystemExit) as error:
        say(f"model '{name}': what it says of itself is left out of the manifest: {one_line(error)}")
        return {}


def incidents(model: Model, name: str) -> list[dict[str, Any]]:
    """What the model survived, each with a line of text; what is none of this is an incident of its own."""
    try:
        told = [mapping(each, f"incidents[{n}]") for n, each in enumerate(items(model.incidents(), "incidents"))]
        return [{**each, "text": text(each.get("text"), f"incidents[{n}]['text']")} for n, each in enumerate(told)]
    except (Exception, SystemExit) as error:
        return [{"text": f"model '{name}': it could not say what went wrong on the way: {one_line(error)}"}]


def check_declared(model: Model, name: str) -> None:
    """Hold what a model says of itself before it loads against its type. Raises `ModelError`, naming the field."""
    with plugin_errors(name, "says of itself what cannot be"):
        for field in ("supports", "modalities"):
            for kind in items(getattr(model, field), field):
                text(kind, f"a name in {field}")
        flag(model.answers_samples, "answers_samples")
        canonical_json(mapping(model.identity, "identity"), f"model '{name}': identity")


def close_model(model: Model) -> None:
    """Have a model let go of what it holds. One that fails at that is told of, and costs nothing that was done."""
    try:
        model.close()
    except BaseException as error:
        only_failures(error)
        model.say(f"model '{model.name}' could not be closed: {located(error)}")


@contextlib.contextmanager
def plugin_errors(name: str, what: str) -> Iterator[None]:
    """Turn any exception of a plugin into one line that names it."""
    process = os.getpid()
    try:
        yield
    except HarnessError:
        raise
    except BaseException as error:
        if os.getpid() != process:  # a copy that the plugin forked: it must not go on with the run as well
            os._exit(1)
        only_failures(error)
        raise ModelError(f"model '{name}' {what}: {located(error)}") from error
