"""What goes over the wire: a request as the JSON of the chat or the completions API, and a reply as a Response.

Both are described in OpenAI's API reference; where servers differ (reasoning, refusals, finish reasons), all spellings
are read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from harness import GenerationParams, Media, Message, Prompt, Response

# The APIs take no more; the others are applied here, as all of them are.
MOST_STOPS = 4
_FINISHED: dict[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
}
_MIME = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}


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


def chat_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The turns of a chat prompt; a string prompt is one turn of the user. A prefill is the assistant's last turn."""
    turns = prompt.messages or (Message("user", (*prompt.media, prompt.text) if prompt.media else prompt.text),)
    messages = [{"role": turn.role, "content": _content(turn.content)} for turn in turns]
    if prompt.prefill:
        messages.append({"role": "assistant", "content": prompt.prefill})
    return messages


def has_media(prompt: Prompt) -> bool:
    return bool(prompt.media) or any(not isinstance(message.content, str) for message in prompt.messages)


def read_chat(reply: Mapping[str, Any]) -> Response:
    """The assistant's message, its reasoning, and what it cost."""
    choice = reply["choices"][0]
    message = choice.get("message") or {}
    text, thoughts = _texts(message.get("content"))
    reasoning = message.get("reasoning_content") or message.get("reasoning") or thoughts or None
    # A model that declines says so in a field of its own: that is its answer.
    return _response(reply, text or message.get("refusal") or "", reasoning if isinstance(reasoning, str) else None)


def read_completion(reply: Mapping[str, Any]) -> Response:
    text = reply["choices"][0].get("text")
    return _response(reply, text if isinstance(text, str) else "", None)


def finish(response: Response, until: Sequence[str], think_end: str | None) -> Response:
    """Take the reasoning off the text and cut the answer at the first stop sequence, whatever the server did."""
    text, reasoning = response.text or "", response.reasoning
    if think_end:
        before, found, after = text.rpartition(think_end)
        if found:
            text, reasoning = after.lstrip(), before
        elif text.lstrip().startswith("<think>"):  # cut off while thinking: there is no answer
            text, reasoning = "", text
    cuts = [at for at in (text.find(stop) for stop in until if stop) if at >= 0]
    if cuts:
        return replace(response, text=text[: min(cuts)], reasoning=reasoning, finish_reason="stop")
    return replace(response, text=text, reasoning=reasoning)


def _response(reply: Mapping[str, Any], text: str, reasoning: str | None) -> Response:
    reason = reply["choices"][0].get("finish_reason")
    if reason == "content_filter" and not text:
        return Response(error="the server's content filter withheld the answer")
    usage = reply.get("usage") or {}
    return Response(
        text=text,
        reasoning=reasoning,
        finish_reason=_FINISHED.get(str(reason)),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
    )


def _texts(content: Any) -> tuple[str, str]:
    """(answer, reasoning) of a content that is a text, or a list of typed parts."""
    if not isinstance(content, list):
        return (content if isinstance(content, str) else ""), ""
    parts = [part for part in content if isinstance(part, dict)]
    texts = [str(part.get("text") or "") for part in parts if part.get("type") in ("text", "output_text")]
    thoughts = [str(part["thinking"]) for part in parts if isinstance(part.get("thinking"), str)]
    return "".join(texts), "".join(thoughts)


def _content(content: str | tuple[str | Media, ...]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [{"type": "text", "text": part} if isinstance(part, str) else _image(part) for part in content]


def _image(media: Media) -> dict[str, Any]:
    mime = media.mime or next((name for magic, name in _MIME.items() if media.data.startswith(magic)), "image/png")
    encoded = base64.b64encode(media.data).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{encoded}"}}
