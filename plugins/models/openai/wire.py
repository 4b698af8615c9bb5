"""What goes over the wire: a request as the JSON of the chat or the completions API, a typed reply as a Response."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness import GenerationParams, Media, Message, Prompt, Response
from harness.data import frames_as_images
from harness.scoring import read_calls, strip_reasoning

from .errors import RetryableError, WithheldError, short
from .pictures import MOST_FRAME_BYTES, MOST_FRAME_PIXELS, PictureRule
from .replies import CalledFunction, ChatReply, CompletionReply, Finish, finish_of
from .sounds import SoundRule

# The APIs take no more; the others are applied here, as all of them are.
MOST_STOPS = 4
# Channels of gpt-oss without their marks (`analysisThe user ...assistantfinal42`): the one of the answer did not come.
# `analysisPeriod=3` and the like are names in a call.
_UNFINISHED_CHANNEL = re.compile(r"\s*analysis(?![A-Za-z0-9_]+\s*[=(\[])(?=[^a-z\s])(?!.*assistant\s?final)", re.DOTALL)

_CALL_MARKS = (
    "<tool_call>",
    "<function=",
    "<invoke ",
    "<minimax:",
    "<｜tool",
    "<|tool_call",
    "[TOOL_CALLS]",
    "<|python_tag|>",
)
"""How calls begin in a text; one without any is a call as a whole."""


@dataclass(frozen=True, slots=True)
class MediaRules:
    """How images, frames of videos and sounds are made to fit."""

    pictures: PictureRule
    frames: PictureRule
    sounds: SoundRule


_AS_THEY_ARE = MediaRules(PictureRule(), PictureRule(MOST_FRAME_PIXELS, MOST_FRAME_BYTES), SoundRule())


def sampling_fields(params: GenerationParams, *, send_stops: bool = True) -> dict[str, Any]:
    """How the answer is drawn, as body fields; the number of tokens is left to the caller."""
    fields: dict[str, Any] = {"temperature": 0}
    if params.do_sample:
        chosen = {name: getattr(params, name) for name in ("temperature", "top_p", "top_k", "seed")}
        fields = {name: value for name, value in chosen.items() if value is not None}
    stops = [stop for stop in params.until if stop][:MOST_STOPS]
    if stops and send_stops:
        fields["stop"] = stops
    return {**fields, **dict(params.extra)}


def chat_messages(prompt: Prompt, rules: MediaRules = _AS_THEY_ARE) -> list[dict[str, Any]]:
    """The turns of a chat prompt; a string prompt is one turn of the user. A prefill is the assistant's last turn.

    A video is its chosen frames. rules: how media are made to fit. Raises DataError for one that cannot be shown.
    """
    prompt = frames_as_images(prompt) if has_media(prompt) else prompt
    turns = prompt.messages or (Message("user", (*prompt.media, prompt.text) if prompt.media else prompt.text),)
    messages = [{"role": turn.role, "content": _content(turn.content, rules)} for turn in turns]
    if any(turn.role == "tool" for turn in turns):
        _name_calls(messages, [each["function"] for each in json.loads(prompt.tools or "[]")])
    if prompt.prefill:
        messages.append({"role": "assistant", "content": prompt.prefill})
    return messages


def _name_calls(messages: list[dict[str, Any]], functions: Sequence[Mapping[str, Any]]) -> None:
    """Give turns of `tool` the id of the call that they answer, and the assistant's turn before them its calls.

    The calls are those that its text holds; what stands before the first of them is its content.
    """
    for place, message in enumerate(messages):
        answered = list(itertools.takewhile(lambda turn: turn["role"] == "tool", messages[place + 1 :]))
        if message["role"] != "assistant" or not answered:
            continue
        text = message["content"]
        calls = read_calls(text, functions)[: len(answered)]
        begins = [text.find(mark) for mark in _CALL_MARKS if mark in text]
        message["content"] = text[: min(begins, default=0)].strip() or None
        message["tool_calls"] = [
            {
                "id": f"call_{place}_{number}",
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)},
            }
            for number, call in enumerate(calls)
        ]
        for turn, call in zip(answered, message["tool_calls"], strict=False):
            turn["tool_call_id"], turn["name"] = call["id"], call["function"]["name"]


def has_media(prompt: Prompt) -> bool:
    return bool(prompt.media) or any(not isinstance(message.content, str) for message in prompt.messages)


def chat_response(reply: ChatReply) -> Response:
    """The assistant's message, its reasoning, and what it cost. Raises RequestError where it is no answer."""
    choice = reply.choice
    reason = finish_of(choice)
    message = choice.message
    if reason == "withheld":
        raise _withheld(reply, "refused by the server: its content filter withheld the answer")
    if message is None:
        raise RetryableError("the server's reply has no message")
    text, thoughts = _texts(message.content)
    calls = [call.function for call in message.tool_calls or ()]
    if message.function_call and not calls:
        calls = [message.function_call]
    text = "\n".join([*([text] if text else []), *map(_written, calls)])
    if message.refusal and not text:
        # What a model says in place of an answer answers nothing, whatever its text looks like.
        raise _withheld(reply, f"refused by the model: {short(message.refusal)}")
    reasoning = message.thoughts or thoughts or None
    return _response(reply, text, reasoning, reason)


def _written(call: CalledFunction) -> str:
    """A call that the server has read, as text in the form of Hermes; arguments that are no JSON stay as they came."""
    arguments = call.arguments
    shown = json.dumps(arguments or {}, ensure_ascii=False) if not isinstance(arguments, str) else arguments or "{}"
    name = json.dumps(call.name, ensure_ascii=False)
    return f'<tool_call>{{"name": {name}, "arguments": {shown}}}</tool_call>'


def completion_response(reply: CompletionReply) -> Response:
    """The text and what it cost. Raises RequestError where it is no answer."""
    choice = reply.choice
    reason = finish_of(choice)
    if reason == "withheld":
        raise _withheld(reply, "refused by the server: its content filter withheld the answer")
    if choice.text is None:
        raise RetryableError("the server's reply has no text")
    return _response(reply, choice.text, None, reason)


def stopped_in_reasoning(response: Response) -> bool:
    """Whether a stop sequence may have ended the answer before it began: within the reasoning, shown or not."""
    if response.finish_reason != "stop":
        return False
    text = response.text or ""
    if not text.strip():
        return bool(response.reasoning) or (response.completion_tokens or 0) > 1
    return _answer_begins(text) >= len(text)


def finish(response: Response, until: Sequence[str], think_end: str | None, *, opened: bool = False) -> Response:
    """Take the reasoning off the text and cut the answer at the first stop sequence, whatever the server did.

    think_end: the text that ends reasoning. opened: the prompt ended within reasoning. A reply that was cut before it
    came to its answer has none. Other reasoning stays in the text, where no stop sequence means an end.
    """
    text, reasoning = response.text or "", response.reasoning
    if think_end:
        before, mark, after = text.rpartition(think_end)
        if mark:
            text, reasoning = after.lstrip(), before
        elif text and (response.finish_reason == "length" or _answer_begins(text) >= len(text)):
            text, reasoning = "", text
    elif response.finish_reason == "length":
        # A cut reply that came to no answer, although no mark in it says so.
        unmarked = opened and reasoning is None and strip_reasoning(text)[1] is None
        if _UNFINISHED_CHANNEL.match(text) or unmarked:
            text, reasoning = "", text
        elif not text.strip():  # what took the tokens was reasoning that the server keeps to itself
            reasoning = reasoning or ""
    start = 0 if think_end else _answer_begins(text)
    cuts = [at for at in (text.find(stop, start) for stop in until if stop) if at >= 0]
    if cuts:
        return replace(response, text=text[: min(cuts)], reasoning=reasoning, finish_reason="stop")
    if text == response.text and reasoning == response.reasoning:
        return response
    return replace(response, text=text, reasoning=reasoning)


def _answer_begins(text: str) -> int:
    """Where the answer begins behind the reasoning in a text; at its end, where there is reasoning alone."""
    answer, reasoning = strip_reasoning(text)
    if reasoning is None:
        return len(text) if _UNFINISHED_CHANNEL.match(text) else 0
    return text.rfind(answer) if answer and answer in text else len(text)


def _response(reply: ChatReply | CompletionReply, text: str, reasoning: str | None, reason: Finish | None) -> Response:
    return Response(text=text, reasoning=reasoning, finish_reason=reason, **_taken(reply))


def _withheld(reply: ChatReply | CompletionReply, message: str) -> WithheldError:
    """What was withheld is paid for all the same."""
    return WithheldError(message, taken=_taken(reply))


def _taken(reply: ChatReply | CompletionReply) -> dict[str, Any]:
    """What a reply took, by the names of a response."""
    usage = reply.usage
    if usage is None:
        return {}
    return {
        "prompt_tokens": usage.prompted,
        "completion_tokens": usage.completed,
        "reasoning_tokens": usage.reasoned,
        "cached_tokens": usage.cached,
    }


def _texts(content: str | list[dict[str, Any]] | None) -> tuple[str, str]:
    """(answer, reasoning) of a content that is a text, or a list of typed parts."""
    if not isinstance(content, list):
        return content or "", ""
    texts = [str(part.get("text") or "") for part in content if part.get("type") in ("text", "output_text")]
    thoughts = []
    for part in content:
        thought = part.get("thinking")
        if isinstance(thought, list):  # Mistral's: parts of its own, each a text
            thought = _texts([each for each in thought if isinstance(each, dict)])[0]
        thoughts += [thought] if isinstance(thought, str) else []
    return "".join(texts), "".join(thoughts)


def _content(content: str | tuple[str | Media, ...], rules: MediaRules) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [{"type": "text", "text": part} if isinstance(part, str) else _media(part, rules) for part in content]


def _media(media: Media, rules: MediaRules) -> dict[str, Any]:
    if media.kind == "audio":
        return {"type": "input_audio", "input_audio": rules.sounds.part(media)}
    pictures = rules.pictures if media.frame is None else rules.frames
    return {"type": "image_url", "image_url": {"url": pictures.data_url(media)}}
