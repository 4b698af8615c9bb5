"""What stands between requests and token ids: chat template, token rules, and what is refused before weights load."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.engine.chat import ChatTemplate, read_template
from harness.engine.thinking_budget import ThinkingBudget
from harness.engine.tokens import (
    DEFAULT_MAX_LENGTH,
    OVERFLOW,
    Encoded,
    Encoder,
    TokenRules,
    encode_in_portions,
    encode_requests,
    reasoning_opened_by,
)
from harness.errors import UsageError, suggest
from harness.reasoning import speaks_of_reasoning
from harness.thinking import SWITCHES, Thinking
from harness.types import Prompt, Request

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextOptions:
    """How texts become tokens and tokens answers. Part of a model's identity.

    max_length: the window in tokens; None reads it from the configuration. add_bos_token, prefix_token_id: None
    leaves them to the tokenizer. chat_template: Jinja text or a file. think_end_token: text or id that ends a
    reasoning block. on_overflow: `truncate` (from the left), `skip` (an error on that sample) or `error`.
    thinking: what the run asks of the model's reasoning. named_variables: of the chat template, by whoever gave them.
    """

    max_length: int | None = None
    add_bos_token: bool | None = None
    prefix_token_id: int | None = None
    chat_template: str | None = None
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    think_end_token: str | int | None = None
    on_overflow: str = "truncate"
    thinking: Thinking = field(default=Thinking())
    named_variables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.on_overflow not in OVERFLOW:
            raise UsageError(
                f"--model_args: unknown on_overflow '{self.on_overflow}'{suggest(self.on_overflow, OVERFLOW)} "
                f"(one of {', '.join(OVERFLOW)})"
            )
        if self.max_length is not None and (not isinstance(self.max_length, int) or self.max_length < 2):
            raise UsageError(f"--model_args: max_length={self.max_length} is not a number of tokens above 1")

    @classmethod
    def of(
        cls,
        *,
        enable_thinking: bool | None = None,
        chat_template_args: Mapping[str, Any] | None = None,
        think_end_token: str | int | None = None,
        thinking: str = "auto",
        reasoning_effort: str | None = None,
        thinking_budget: int | None = None,
        **others: Any,
    ) -> TextOptions:
        """From `--model_args`: `enable_thinking` is a variable of the chat template, a number is the id of a token."""
        asked = Thinking.of(thinking, reasoning_effort, thinking_budget)
        template_args = {**asked.template_args, **(chat_template_args or {})}
        if enable_thinking is not None:
            template_args["enable_thinking"] = enable_thinking
        if isinstance(think_end_token, str) and think_end_token.isdigit():
            think_end_token = int(think_end_token)
        return cls(
            chat_template_args=template_args,
            think_end_token=think_end_token,
            thinking=asked,
            named_variables=tuple(chat_template_args or ()),
            **others,
        )


class PromptEncoder:
    """Renders and encodes requests for one model. `where` names the model in errors."""

    def __init__(self, config: Any, tokenizer: Any, options: TextOptions, where: str) -> None:
        self.tokenizer = tokenizer
        self.options = options
        self.where = where
        self.chat = ChatTemplate(tokenizer, read_template(options.chat_template), options.chat_template_args, where)
        self.rules = _token_rules(config, tokenizer, options, where)
        self.encoder = Encoder(tokenizer, self.rules)

    def reserve(self, tokens: int) -> None:
        """Keep so many tokens of the window free, for a backend that needs more room than it says."""
        self.rules = replace(self.rules, max_length=self.rules.max_length - tokens)
        self.encoder = Encoder(self.tokenizer, self.rules)

    def render(self, prompt: Prompt) -> str:
        """The string that the model is shown. Raises UsageError where the chat template refuses the prompt."""
        return self.chat.render(prompt) if prompt.is_chat else prompt.text

    def count_tokens(self, text: str) -> int:
        """Tokens of `text`, special tokens included as the model would see them."""
        return self.encoder.count(text)

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Token ids of all requests. Raises UsageError for what `on_overflow=error` and the vocabulary forbid."""
        return encode_requests(self.encoder, requests, self.render, self.where)

    def portions(self, requests: Sequence[Request]) -> Iterator[Encoded]:
        """The same, as it is done, so many at a time; at once where any request may have to be refused."""
        if self.rules.may_refuse:
            yield self.encode(requests)
        else:
            yield from encode_in_portions(self.encoder, requests, self.render)

    def check(self, requests: Sequence[Request]) -> None:
        """Refuse before weights load what `encode` would refuse later. Raises UsageError."""
        for request in requests[:1]:
            self.render(request.prompt)
        self._refuse_unknown_variables(requests)
        if self.options.thinking != Thinking():
            self._check_thinking(requests)
        self._refuse_options_within_reasoning(requests)
        if self.rules.may_refuse:
            self.encode(requests)

    def _refuse_unknown_variables(self, requests: Sequence[Request]) -> None:
        """A variable that the template never reads would change nothing, and nobody would know."""
        words = set(re.findall(r"\w+", self.chat.text or ""))
        unknown = next((name for name in self.options.named_variables if name not in words), None)
        if unknown is not None and any(request.prompt.is_chat for request in requests[:1]):
            raise UsageError(
                f"{self.where}: chat_template_args: the chat template reads no variable '{unknown}'"
                f"{suggest(unknown, sorted(words))}"
            )

    def thinking_budget(self, opened: str | None) -> ThinkingBudget | None:
        """What ends the reasoning of one answer, whose prompt ends with the mark `opened`; None where nothing does."""
        tokens = self.options.thinking.budget
        if tokens is None:
            return None
        return ThinkingBudget(self.tokenizer, tokens, opened, self.options.think_end_token)

    def _check_thinking(self, requests: Sequence[Request]) -> None:
        """Refuse what the chat template cannot do of what is asked: each is tried on the first prompt."""
        asked = self.options.thinking
        prompt = next((request.prompt for request in requests if request.prompt.is_chat), None)
        if prompt is None:
            raise UsageError(
                f"{asked.flags}: no prompt is asked by the chat template, which alone can say that: add "
                "--apply_chat_template"
            )
        asked.check_lengths(requests)

        def shown(**variables: Any) -> str:
            return self.chat.with_variables(variables).render(prompt)

        opens = reasoning_opened_by(prompt, shown(**Thinking("on").template_args)) is not None
        switches = shown(**Thinking("on").template_args) != shown(**Thinking("off").template_args)
        reasons = opens or speaks_of_reasoning(self.chat.text or "")
        if asked.mode == "off" and not switches:
            what = "always opens reasoning" if opens else f"reads none of {', '.join(SWITCHES)}"
            raise UsageError(f"--thinking off: {self.where}: the chat template cannot switch it off: it {what}")
        if asked.mode == "on" and not (switches or reasons):
            raise UsageError(f"--thinking on: {self.where}: the chat template knows no reasoning")
        if asked.effort is not None:
            others = (shown(reasoning_effort=other) for other in ("low", "high") if other != asked.effort)
            if shown(reasoning_effort=asked.effort) in others:
                raise UsageError(
                    f"--reasoning_effort {asked.effort}: {self.where}: the chat template does not read reasoning_effort"
                )

    @property
    def may_reason(self) -> bool:
        """Whether the model may put reasoning before its answer, as far as its template and the options tell."""
        return self.options.think_end_token is not None or speaks_of_reasoning(self.chat.text or "")

    def _refuse_options_within_reasoning(self, requests: Sequence[Request]) -> None:
        """Options that are scored behind an open mark are scored as what the model thinks, not as what it answers."""
        scored = (each.prompt for each in requests if each.kind == "loglikelihood" and each.prompt.is_chat)
        prompt = next(scored, None)
        if prompt is None:
            return
        opened = reasoning_opened_by(prompt, self.render(prompt))
        if opened is not None:
            raise UsageError(
                f"{self.where}: the chat template opens reasoning ({opened}), and options would be scored as a part of "
                "it: give --thinking off where the template knows that, or --model_args "
                "chat_template=FILE, or choose a task that generates its answers"
            )
        if "enable_thinking" in (self.chat.text or "") and self.chat.extra.get("enable_thinking") is not False:
            log.warning(
                "%s: options are scored where the model would begin to reason: --thinking off has the chat template "
                "say that it does not",
                self.where,
            )

    @property
    def identity(self) -> dict[str, Any]:
        """What of this decides a model's answers: window, template, token rules."""
        return {
            "max_length": self.rules.max_length,
            "add_bos_token": self.rules.add_bos_token,
            "prefix_token": self.rules.prefix_token,
            "chat_template": self.chat.text,
            **({"chat_content": "parts"} if self.chat.wants_parts else {}),
            "chat_template_args": dict(self.options.chat_template_args),
            "think_end_token": self.options.think_end_token,
            "on_overflow": self.rules.on_overflow,
            **self.options.thinking.identity,
        }


def _token_rules(config: Any, tokenizer: Any, options: TextOptions, where: str) -> TokenRules:
    prefix = options.prefix_token_id
    for candidate in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        prefix = candidate if prefix is None else prefix
    if prefix is None:
        raise UsageError(
            f"{where}: the tokenizer has neither BOS nor EOS, so that nothing can stand before a text without "
            "context: give --model_args prefix_token_id=N"
        )
    size = getattr(getattr(config, "text_config", None) or config, "vocab_size", None)
    return TokenRules(
        max_length=options.max_length or _window(config, tokenizer),
        prefix_token=prefix,
        add_bos_token=options.add_bos_token,
        on_overflow=options.on_overflow,
        is_encoder_decoder=bool(getattr(config, "is_encoder_decoder", False)),
        # Some tokenizers have spare tokens that the model does not know and no text contains.
        vocabulary=size if isinstance(size, int) and len(tokenizer) > size else None,
    )


def _window(config: Any, tokenizer: Any) -> int:
    """The model's window: what its configuration says, else its tokenizer, else 2,048 tokens, as in lm-eval."""
    text = getattr(config, "text_config", None) or config
    for name in ("n_positions", "max_position_embeddings", "n_ctx"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    length = getattr(tokenizer, "model_max_length", None)
    # Tokenizers without a limit say 1e30.
    return int(length) if isinstance(length, int) and length < 10**9 else DEFAULT_MAX_LENGTH
