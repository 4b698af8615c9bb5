"""How a server is told whether and how much to reason, and whether its answers look as if it had listened.

Servers differ. `template`: variables of the chat template, and vLLM's `thinking_token_budget` (vLLM, SGLang,
llama.cpp). `enable_thinking`: a field of its own, with `thinking_budget` (Alibaba Cloud, SiliconFlow). `thinking`: an
object with a `type` (Zhipu, DeepSeek, Moonshot, Volcengine). `reasoning`: OpenRouter's object. `effort`: OpenAI's only
dial. `ollama`: that dial, with `none` to switch reasoning off.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from harness import Response, Thinking, UsageError
from harness.scoring import strip_reasoning

DIALECTS = ("auto", "template", "enable_thinking", "thinking", "reasoning", "effort", "ollama")
_BY_HOST = {
    "api.openai.com": "effort",
    "aliyuncs.com": "enable_thinking",
    "siliconflow.cn": "enable_thinking",
    "bigmodel.cn": "thinking",
    "z.ai": "thinking",
    "deepseek.com": "thinking",
    "moonshot.cn": "thinking",
    "volces.com": "thinking",
    "openrouter.ai": "reasoning",
}


def dialect_of(host: str) -> str:
    """How the server at this host is told; one of one's own by the chat template."""
    known = (how for end, how in _BY_HOST.items() if host == end or host.endswith(f".{end}"))
    return next(known, "template")


def thinking_fields(asked: Thinking, dialect: str) -> dict[str, Any]:
    """The fields of a body that say it. Raises UsageError for what this kind of server cannot be told."""
    if asked.mode != "auto" and dialect == "effort":
        raise UsageError(
            f"--thinking {asked.mode}: OpenAI's own API has no such switch: say --reasoning_effort none, low or high"
        )
    if asked.budget is not None and dialect == "effort":
        raise UsageError("--thinking_budget: OpenAI's own API takes no budget: say --reasoning_effort low or high")
    if dialect == "ollama":
        if asked.budget is not None:
            raise UsageError("--thinking_budget: Ollama takes no budget: say --reasoning_effort low, medium or high")
        said = asked.effort or {"off": "none", "on": "medium"}.get(asked.mode)
        return {} if said is None else {"reasoning_effort": said}
    fields: dict[str, Any] = {} if asked.effort is None else {"reasoning_effort": asked.effort}
    on, bounded = asked.mode == "on", {} if asked.budget is None else {"thinking_budget": asked.budget}
    if dialect == "template":
        variables = {"chat_template_kwargs": asked.template_args} if asked.template_args else {}
        budget = {} if asked.budget is None else {"thinking_token_budget": asked.budget}
        return {**fields, **variables, **budget}
    if dialect == "enable_thinking":
        return {**fields, **({} if asked.mode == "auto" else {"enable_thinking": on}), **bounded}
    if dialect == "thinking":
        kind = {"type": "disabled" if asked.mode == "off" else "enabled"}
        budget = {} if asked.budget is None else {"budget_tokens": asked.budget}
        return {**fields, **({"thinking": {**kind, **budget}} if asked.mode != "auto" or budget else {})}
    if dialect == "reasoning":
        budget = {} if asked.budget is None else {"max_tokens": asked.budget}
        effort = {} if asked.effort is None else {"effort": asked.effort}
        enabled = {} if asked.mode == "auto" else {"enabled": on}
        return {"reasoning": {**enabled, **effort, **budget}} if asked != Thinking() else {}
    return fields


_ENOUGH = 5
"""Answers without a call of which it is said: to a few prompts no function may be the right answer, also to those that
a run which was killed has left."""


class Obedience:
    """Counts answers with and without reasoning: a server that drops a field it does not know says nothing."""

    def __init__(self, asked: Thinking) -> None:
        self.asked = asked
        self._answers = self._reasoned = self._beyond = 0

    def saw(self, response: Response) -> None:
        if response.error is not None:
            return
        # Where the server counts none, there are at least as many as words.
        tokens = response.reasoning_tokens or len((response.reasoning or "").split())
        self._answers += 1
        text = response.text or ""
        self._reasoned += bool(response.reasoning or tokens or strip_reasoning(text)[1])
        self._beyond += self.asked.budget is not None and tokens > 1.1 * self.asked.budget + 16

    def doubts(self) -> Iterator[Mapping[str, Any]]:
        """What the answers do not look like, one line each."""
        count = f"{self._reasoned} of {self._answers} answers" if self._answers != 1 else "the answer"
        if self.asked.mode == "off" and self._reasoned:
            hold = "hold" if self._answers != 1 else "holds"
            yield {"kind": "thinking", "text": f"{count} {hold} reasoning: the server does not obey --thinking off"}
        wants = self.asked.mode == "on" or self.asked.effort not in (None, "none") or self.asked.budget is not None
        if wants and self._answers and not self._reasoned:
            what = f"the server neither shows nor counts reasoning in any of {self._answers} answers"
            yield {"kind": "thinking", "text": f"{what}: it may ignore {self.asked.flags}"}
        if self._beyond:
            what = f"{self._beyond} of {self._answers} answers reason for longer"
            yield {"kind": "thinking", "text": f"{what}: the server does not obey {self.asked.flags}"}


class ToolUse:
    """Counts answers that name a function which was offered: a server that drops `tools` says nothing either."""

    def __init__(self) -> None:
        self._answers = self._calls = 0

    def saw(self, tools: str, response: Response) -> None:
        """tools: the functions that were offered, as JSON."""
        if response.error is not None:
            return
        names = [str(each.get("function", each).get("name", "")) for each in json.loads(tools)]
        self._answers += 1
        self._calls += any(name and name in (response.text or "") for name in names)

    def doubts(self) -> Iterator[Mapping[str, Any]]:
        if self._answers >= _ENOUGH and not self._calls:
            what = f"none of {self._answers} answers to prompts with functions names one of these"
            yield {"kind": "tools", "text": f"{what}: the server may drop `tools`"}
