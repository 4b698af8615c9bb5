"""The tokens of a prompt as a server repeats them, and whether they say anything about this prompt at all.

A server that ignores `echo`, repeats another prompt, or fills in zeros gives numbers too. None of them is believed: the
tokens must spell the prompt, and the values must differ and be finite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import RequestError, short
from .replies import CompletionReply, PromptToken

# How tokenizers spell a BOS token: <s>, <bos>, <|begin_of_text|>, [BOS].
SPECIAL = re.compile(r"<[^<>\s]+>|\[[A-Z]+\]")
_BYTES = re.compile(r"bytes:|<0x[0-9A-Fa-f]{2}>|�")
# Tokens by their ids, where a server was told to (vLLM writes `token_id:12`).
_TOKEN_ID = re.compile(r"\D{0,12}(\d+)\D?")
_MARKS = str.maketrans({"\u2581": " ", "\u0120": " ", "\u010a": "\n"})
_FEWEST_TO_COMPARE = 3
"""Values of a prompt that are all one and the same say nothing; of two that may be chance."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a prompt. `name` is its text, or its id where the server says it; `greedy`: it was the likeliest."""

    name: str
    logprob: float | None
    greedy: bool | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A prompt as it went to the server: `text`, or `ids` whose spelling is `text` (special tokens left out)."""

    text: str
    ids: tuple[int, ...] = ()
    special: frozenset[str] = frozenset()

    @property
    def body(self) -> str | list[int]:
        return list(self.ids) if self.ids else self.text


def echoed_tokens(reply: CompletionReply, sent: Sent) -> list[Token] | None:
    """The prompt's tokens of an `echo` reply; None where there is nothing of the prompt in it. Raises RequestError."""
    echo = reply.choice.logprobs
    if echo is None or not echo.tokens or not echo.token_logprobs or len(echo.tokens) < 2:
        return None
    if len(echo.tokens) != len(echo.token_logprobs):
        raise _unusable(f"{len(echo.tokens)} tokens and {len(echo.token_logprobs)} log-probabilities")
    length = _prompt_length(echo.tokens, sent, reply.usage.prompt_tokens if reply.usage else None)
    if length is None:
        # Where they begin as the prompt does, they are its tokens, and some are wrong.
        first = next((name.translate(_MARKS).strip() for name in echo.tokens[:3] if not SPECIAL.fullmatch(name)), "")
        if len(echo.tokens) <= 2 or not first or not sent.text.lstrip().startswith(first):
            return None  # the tokens that it wrote, and not the prompt's
        raise _unusable(f"its tokens are not the prompt's ({short(''.join(echo.tokens))[:80]!r})")
    tops = echo.top_logprobs
    if not isinstance(tops, list) or len(tops) != len(echo.tokens):
        tops = [None] * len(echo.tokens)  # whether each was the likeliest stays open
    tokens = [
        Token(name, value, _is_top(value, top))
        for name, value, top in zip(echo.tokens, echo.token_logprobs, tops, strict=True)
    ][:length]
    return _believed(tokens)


def vllm_tokens(reply: CompletionReply, sent: Sent) -> list[Token] | None:
    """The prompt's tokens of a `prompt_logprobs` reply (vLLM): one entry a token, none for the first."""
    items = reply.choice.prompt_logprobs or reply.prompt_logprobs
    if not items:
        return None
    if sent.ids and len(items) != len(sent.ids):
        raise _unusable(f"it has {len(items)} prompt tokens, and {len(sent.ids)} were sent")
    spelt = [next(iter(item.values())).decoded_token for item in items[1:] if item] if not sent.ids else [None]
    if None not in spelt:
        end = "".join(map(str, spelt)).translate(_MARKS)  # all tokens but the first
        if not _BYTES.search(end) and not sent.text.endswith((end, end.removeprefix(" "))):
            raise _unusable("its tokens are not the prompt's")
    return _believed([_vllm_token(item, sent.ids[at] if sent.ids else None) for at, item in enumerate(items)])


def _vllm_token(item: Mapping[str, PromptToken] | None, asked: int | None) -> Token:
    """`{"1234": {"logprob": -0.5, "rank": 1, "decoded_token": " A"}}`; the prompt's own, of several."""
    if not item:
        return Token("", None, None)
    own = str(asked) if asked is not None and str(asked) in item else next(iter(item))
    if asked is not None and own.isdigit() and int(own) != asked:
        raise _unusable(f"its tokens are not the prompt's (id {own} in the place of {asked})")
    fields = item[own]
    return Token(own, fields.logprob, None if fields.rank is None else fields.rank == 1)


def _believed(tokens: list[Token]) -> list[Token]:
    """The tokens. Raises RequestError where their values cannot be the model's."""
    values = [token.logprob for token in tokens if token.logprob is not None]
    if not values and len(tokens) > 2:
        raise _unusable("it has no log-probability of any token of the prompt")
    for value in values:
        if not math.isfinite(value) or value > 1e-3:
            raise _unusable(f"a log-probability of {value} cannot be")
    if len(set(values)) == 1 and (len(values) >= _FEWEST_TO_COMPARE or values[0] == 0):
        raise _unusable(f"every token of the prompt has the log-probability {values[0]:g}")
    return tokens


def _prompt_length(names: Sequence[str], sent: Sent, counted: int | None) -> int | None:
    """How many of the repeated tokens are the prompt's: those that spell it. A token that was generated may follow."""
    if sent.ids:
        own = names[: len(sent.ids)]
        ids = [int(found[1]) if (found := _TOKEN_ID.fullmatch(name)) else -1 for name in own]
        return len(sent.ids) if ids == list(sent.ids) or _spells(own, sent) else None
    candidates = [counted] if counted is not None else []
    candidates += [len(names) - 1, len(names), *range(len(names) - 2, max(0, len(names) - 5), -1)]
    return next((n for n in candidates if 0 < n <= len(names) and _spells(names[:n], sent)), None)


def _spells(names: Sequence[str], sent: Sent) -> bool:
    """Whether the tokens make up the text. Bytes that are no whole characters fit any one; a BOS may stand before."""
    at, loose = 0, 0
    written = [name.translate(_MARKS) for name in names if name and name not in sent.special]
    if written and SPECIAL.fullmatch(written[0]) and not sent.text.startswith(written[0]):
        written = written[1:]
    if written and not sent.text.startswith(" "):  # some tokenizers put a space before a text
        written[0] = written[0].removeprefix(" ")
    for name in written:
        if _BYTES.search(name):
            loose += 2 + len(_BYTES.sub("", name))
            continue
        place = sent.text.find(name, at, at + loose + len(name))
        if place < 0:
            return False
        at, loose = place + len(name), 0
    return len(sent.text) - at <= loose


def _is_top(value: float | None, top: Any) -> bool | None:
    """top: `{" A": -0.5}`, or, as in the chat API, `[{"token": " A", "logprob": -0.5}]`."""
    if isinstance(top, Mapping):
        values = list(top.values())
    else:
        values = [each.get("logprob") for each in top if isinstance(each, Mapping)] if isinstance(top, list) else []
    if value is None or not values or not all(isinstance(each, int | float) for each in values):
        return None
    return bool(value >= max(values) - 1e-9)


def _unusable(what: str) -> RequestError:
    message = f"the server's log-probabilities of the prompt are not usable: {what}"
    remedy = "take a server that gives them, such as vLLM, or a variant of the task that generates"
    return RequestError(message, cause="log-probabilities", remedy=remedy)
