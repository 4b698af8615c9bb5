"""Log-likelihoods from the completions API: the server repeats the prompt with the log-probability of each token.

Two dialects: `echo` with `logprobs` (OpenAI's legacy API, vLLM, SGLang, llama.cpp's server), and vLLM's own
`prompt_logprobs`. With a tokenizer the prompt is sent as token ids, and it is known where the continuation begins.
Without, the server is asked for the context alone too, and the continuation begins where the two token lists part.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import ModelError, Request, Response
from harness.engine import scored_from

from .client import RequestError
from .tokens import LocalTokenizer

ECHO, PROMPT_LOGPROBS = "echo", "prompt_logprobs"
# How tokenizers spell a BOS token: <s>, <bos>, <|begin_of_text|>, [BOS].
_SPECIAL = re.compile(r"<[^<>]+>|\[[A-Z]+\]")
Post = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a prompt. `name` is its text, or its id where the server says it; `greedy`: it was the likeliest."""

    name: str
    logprob: float | None
    greedy: bool | None


class PromptScorer:
    """Scores continuations and texts through `post`, which sends a body to the completions API."""

    def __init__(self, post: Post, tokenizer: LocalTokenizer | None, dialect: str) -> None:
        self.post = post
        self.tokenizer = tokenizer
        self.dialects = [ECHO, PROMPT_LOGPROBS] if dialect == "auto" else [dialect]

    def score(self, request: Request) -> Response:
        """Answer a loglikelihood or rolling request. Raises RequestError, or ModelError where no request can work."""
        if self.tokenizer is not None:
            return self._score_ids(request, self.tokenizer)
        if request.kind == "rolling":
            return _joined([_known(self._tokens(request.prompt.text), request.prompt.text)])
        context = request.prompt.text
        # White space at the end goes with the next word, in tokenizers and so in `encode_requests` too.
        before = self._tokens(context.rstrip()) if context.strip() else []
        pieces = []
        for continuation in request.continuations:
            whole = self._tokens(context + continuation)
            if before:
                pieces.append(whole[scored_from([t.name for t in before], [t.name for t in whole]) :])
            else:
                pieces.append(_known(whole, context + continuation))
        return _separate(pieces, prompt_tokens=len(before) or None)

    def _score_ids(self, request: Request, tokenizer: LocalTokenizer) -> Response:
        encoded = tokenizer.encode(request)
        if encoded.errors:
            return Response(error=encoded.errors[0])
        pieces = [self._tokens(sequence.tokens)[sequence.start :] for sequence in encoded.scores]
        truncated = encoded.truncated.get(0, 0)
        if request.kind == "rolling":
            return _joined(pieces, truncated)
        return _separate(pieces, encoded.prompt_tokens.get(0), truncated)

    def _tokens(self, prompt: str | Sequence[int]) -> list[Token]:
        """The tokens of a prompt with their log-probabilities, in the dialect that the server turns out to speak."""
        sent = prompt if isinstance(prompt, str) else list(prompt)
        for dialect in tuple(self.dialects):
            tokens = self._echo(sent) if dialect == ECHO else self._prompt_logprobs(sent)
            if tokens is not None:
                self.dialects = [dialect]
                return tokens
        raise ModelError(
            "the server gives no log-probabilities of a prompt's tokens (neither by echo nor by prompt_logprobs): "
            "this task needs them; take a server that does, such as vLLM, or a variant of the task that generates"
        )

    def _echo(self, prompt: str | list[int]) -> list[Token] | None:
        reply = self.post({"prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1})
        found = reply["choices"][0].get("logprobs") or {}
        values, names = found.get("token_logprobs"), found.get("tokens")
        if not values or not names or len(values) < 2:
            return None
        tops = found.get("top_logprobs") or [None] * len(values)
        tokens = [Token(str(n), v, _is_top(v, top)) for n, v, top in zip(names, values, tops, strict=True)]
        return tokens[: _prompt_length(prompt, reply, found)]

    def _prompt_logprobs(self, prompt: str | list[int]) -> list[Token] | None:
        try:
            reply = self.post({"prompt": prompt, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0})
        except RequestError as error:
            if error.status in (400, 422) and len(self.dialects) > 1:
                return None  # the server knows no such field
            raise
        found = reply["choices"][0].get("prompt_logprobs") or reply.get("prompt_logprobs")
        return [_vllm_token(item) for item in found] if found else None


def _prompt_length(prompt: str | list[int], reply: Mapping[str, Any], found: Mapping[str, Any]) -> int:
    """How many of the echoed tokens are the prompt's: the last one is the token that had to be generated."""
    if not isinstance(prompt, str):
        return len(prompt)
    counted = (reply.get("usage") or {}).get("prompt_tokens")
    return counted if isinstance(counted, int) else len(found["tokens"]) - 1


def _is_top(value: float | None, top: Mapping[str, float] | None) -> bool | None:
    return value >= max(top.values()) - 1e-9 if value is not None and top else None


def _vllm_token(item: Mapping[str, Mapping[str, Any]] | None) -> Token:
    """`{"1234": {"logprob": -0.5, "rank": 1, "decoded_token": " A"}}`; the first token of a prompt has none."""
    if not item:
        return Token("", None, None)
    name, fields = next(iter(item.items()))
    return Token(name, float(fields["logprob"]), None if fields.get("rank") is None else fields["rank"] == 1)


def _known(tokens: Sequence[Token], text: str) -> list[Token]:
    """The tokens of a text that has no context. Its first one can be scored only after a BOS that the server adds."""
    first, *rest = tokens
    if first.logprob is not None:
        return [first, *rest]
    if _SPECIAL.fullmatch(first.name) and not text.startswith(first.name):
        return rest
    raise RequestError(
        "the server gives no log-probability of a text's first token: give --model_args tokenizer=DIR, "
        "so that a BOS or EOS token can be put before it"
    )


def _separate(pieces: Sequence[Sequence[Token]], prompt_tokens: int | None, truncated: int = 0) -> Response:
    """One value a continuation."""
    sums = [_sum(piece) for piece in pieces]
    greedy = [_greedy(piece) for piece in pieces]
    return Response(
        logprobs=tuple(sums),
        is_greedy=() if None in greedy else tuple(map(bool, greedy)),
        token_counts=tuple(map(len, pieces)),
        prompt_tokens=prompt_tokens,
        truncated=truncated,
    )


def _joined(pieces: Sequence[Sequence[Token]], truncated: int = 0) -> Response:
    """One value for all windows of a text."""
    tokens = [token for piece in pieces for token in piece]
    greedy = _greedy(tokens)
    flags = () if greedy is None else (greedy,)
    return Response(logprobs=(_sum(tokens),), is_greedy=flags, token_counts=(len(tokens),), truncated=truncated)


def _sum(tokens: Sequence[Token]) -> float:
    values = [token.logprob for token in tokens]
    if any(value is None or math.isnan(value) for value in values):
        raise RequestError("the server's reply lacks the log-probability of a scored token")
    return math.fsum(value for value in values if value is not None)


def _greedy(tokens: Sequence[Token]) -> bool | None:
    flags = [token.greedy for token in tokens]
    return None if None in flags else all(flags)
