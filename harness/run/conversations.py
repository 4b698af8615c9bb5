"""Conversations that hold the model's own answers: what has to be asked first, and what is asked once that is known.

    while (first := awaited(request)) is not None:
        request = continued(request, answer_to(first))

An earlier turn is a request like any other, so that it has a key, is asked once whichever samples it belongs to, and is
found on disk when a run goes on.
"""

from __future__ import annotations

from dataclasses import replace

from harness.reasoning import is_incomplete, strip_reasoning
from harness.types import Request, Response


def awaited(request: Request) -> Request | None:
    """The earlier turn whose answer the request waits for: the conversation up to there. None where all is known."""
    place = _first_own(request)
    if place is None:
        return None
    prompt = request.prompt
    asked = replace(prompt, messages=prompt.messages[:place], shared_messages=min(prompt.shared_messages, place))
    return replace(request, prompt=asked)


def continued(request: Request, answer: Response) -> Request:
    """The request with the answer to the turn that it waited for, as the model gave it, without its reasoning."""
    place = _first_own(request)
    if place is None:
        return request
    messages = list(request.prompt.messages)
    said, _ = strip_reasoning(answer.text or "")
    messages[place] = replace(messages[place], content=request.prompt.prefill + said, is_own=False)
    return replace(request, prompt=replace(request.prompt, messages=tuple(messages)))


def unusable(answer: Response) -> str | None:
    """Why no later turn can follow an answer; None where one can. One that was cut is shown as far as it came."""
    if answer.error:
        return f"an earlier turn has no answer: {answer.error}"
    if is_incomplete(answer) or (answer.finish_reason == "length" and not (answer.text or "").strip()):
        return "an earlier turn has no answer: it was cut before it said anything"
    return None


def _first_own(request: Request) -> int | None:
    return next((index for index, message in enumerate(request.prompt.messages) if message.is_own), None)
