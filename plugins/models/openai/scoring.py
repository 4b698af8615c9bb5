"""Log-likelihoods from the completions API: the server repeats the prompt with the log-probability of each token.

Two dialects: `echo` with `logprobs` (OpenAI's legacy API, vLLM, SGLang), and vLLM's own
`prompt_logprobs`. With a tokenizer the prompt is sent as token ids, and it is known where the continuation begins.
Without, the server is asked for the context alone too, and the continuation begins where the two token lists part.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from harness import ModelError, Request, Response
from harness.engine import scored_from

from .echo import SPECIAL, Sent, Token, echoed_tokens, vllm_tokens
from .errors import RequestError
from .replies import CompletionReply
from .tokens import LocalTokenizer

ECHO, PROMPT_LOGPROBS = "echo", "prompt_logprobs"
Post = Callable[[Mapping[str, Any]], Awaitable[CompletionReply]]


class Dialects:
    """How the server gives log-probabilities of a prompt: what may be, until one was seen to work."""

    def __init__(self, dialect: str, usual: Sequence[str]) -> None:
        self.possible = list(usual) if dialect == "auto" else [dialect]


class PromptScorer:
    """Scores continuations and texts through `post`, which sends a body to the completions API."""

    def __init__(self, post: Post, tokenizer: LocalTokenizer | None, dialects: Dialects) -> None:
        self.post = post
        self.tokenizer = tokenizer
        self.dialects = dialects

    async def score(self, request: Request) -> Response:
        """Answer a loglikelihood or rolling request. Raises RequestError, or ModelError where no request can work."""
        if self.tokenizer is not None:
            return await self._score_ids(request, self.tokenizer)
        if request.kind == "rolling":
            return _joined([_known(await self._tokens(Sent(request.prompt.text)), request.prompt.text)])
        context = request.prompt.text
        # White space at the end goes with the next word, in tokenizers and so in `encode_requests` too.
        before = await self._tokens(Sent(context.rstrip())) if context.strip() else []
        pieces = []
        for continuation in request.continuations:
            whole = await self._tokens(Sent(context + continuation))
            if before:
                pieces.append(whole[scored_from([t.name for t in before], [t.name for t in whole]) :])
            else:
                pieces.append(_known(whole, context + continuation))
        return _separate(request, pieces, prompt_tokens=len(before) or None)

    async def _score_ids(self, request: Request, tokenizer: LocalTokenizer) -> Response:
        encoded = await asyncio.to_thread(tokenizer.encode, request)
        if encoded.errors:
            return Response(error=encoded.errors[0])
        pieces = []
        for sequence in encoded.scores:
            sent = Sent(tokenizer.spelling(sequence.tokens), tuple(sequence.tokens), tokenizer.special)
            pieces.append((await self._tokens(sent))[sequence.start :])
        truncated = encoded.truncated.get(0, 0)
        if request.kind == "rolling":
            return _joined(pieces, truncated)
        return _separate(request, pieces, encoded.prompt_tokens.get(0), truncated)

    async def _tokens(self, sent: Sent) -> list[Token]:
        """The tokens of a prompt with their log-probabilities, in the dialect that the server turns out to speak."""
        for dialect in tuple(self.dialects.possible):
            if dialect == ECHO:
                echo = {"prompt": sent.body, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
                tokens = echoed_tokens(await self.post(echo), sent)
            else:
                tokens = await self._prompt_logprobs(sent)
            if tokens is not None:
                self.dialects.possible = [dialect]
                return tokens
        raise ModelError(
            "the server gives no log-probabilities of a prompt's tokens (neither by echo nor by prompt_logprobs): "
            "this task needs them; take a server that does, such as vLLM, or a variant of the task that generates"
        )

    async def _prompt_logprobs(self, sent: Sent) -> list[Token] | None:
        try:
            reply = await self.post({"prompt": sent.body, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0})
        except RequestError as error:
            if error.status in (400, 422) and len(self.dialects.possible) > 1:
                return None  # the server knows no such field
            raise
        return vllm_tokens(reply, sent)


def _known(tokens: Sequence[Token], text: str) -> list[Token]:
    """The tokens of a text that has no context. Its first one can be scored only after a BOS that the server adds."""
    first, *rest = tokens
    if first.logprob is not None:
        return [first, *rest]
    if SPECIAL.fullmatch(first.name) and not text.startswith(first.name):
        return rest
    raise RequestError(
        "the server gives no log-probability of a text's first token: give --model_args tokenizer=DIR, "
        "so that a BOS or EOS token can be put before it"
    )


def _separate(
    request: Request, pieces: Sequence[Sequence[Token]], prompt_tokens: int | None, truncated: int = 0
) -> Response:
    """One value a continuation. Raises RequestError where they are all the same, and so say nothing."""
    sums = [_sum(piece) for piece in pieces]
    if len(set(request.continuations)) >= 3 and len(set(sums)) == 1:
        raise RequestError(
            f"the server gives all {len(sums)} continuations the log-probability {sums[0]:g}, which tells nothing"
        )
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
    if any(value is None for value in values):
        raise RequestError("the server's reply lacks the log-probability of a scored token")
    return math.fsum(value for value in values if value is not None)


def _greedy(tokens: Sequence[Token]) -> bool | None:
    flags = [token.greedy for token in tokens]
    return None if None in flags else all(flags)
