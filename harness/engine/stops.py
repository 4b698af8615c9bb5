"""When a generated row is finished, and which part of it is the answer.

A stop string may end in the middle of a token or span several, so it is looked for in decoded text: of the last few
tokens, and only where the newest of them holds the end of a stop string.
"""

from __future__ import annotations

import bisect
import weakref
from collections.abc import MutableMapping, Sequence
from typing import Any, Literal

from harness.quick import dataclass
from harness.reasoning import begins_with_reasoning, last_closing, strip_reasoning

# A window may begin inside a character, and some tokens decode to nothing.
_SLACK = 4
# What stands for bytes that are no whole character.
_BROKEN = "\N{REPLACEMENT CHARACTER}"
# Of each tokenizer: the characters that a token brings.
_CHARACTERS: MutableMapping[Any, dict[int, frozenset[str]]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished row: the answer, the reasoning taken off it, why it ended, and how many tokens it took.

    reasoning_tokens: how many of them were reasoning, its marks included.
    """

    text: str
    reasoning: str | None
    finish_reason: Literal["stop", "length"]
    tokens: int
    reasoning_tokens: int | None = None


class StopRule:
    """What ends the rows of one request: EOS ids, stop strings, a number of tokens.

    A stop string that is a special token, such as `<|im_end|>`, ends a row as EOS does: special tokens are no part of
    the text in which strings are looked for. think_end: the text (or, as a number, the id) of the token that ends a
    reasoning block; None: reasoning is known by the marks that models put around it. opened: the mark by which the
    prompt has opened reasoning.

    What is reasoning is no answer, also where it was cut at the limit of tokens, and no stop string within it ends a
    row: reasoning is full of blank lines.
    """

    def __init__(
        self,
        tokenizer: Any,
        until: Sequence[str],
        eos_ids: frozenset[int],
        max_new_tokens: int,
        think_end: str | int | None = None,
        opened: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.until = tuple(stop for stop in until if stop)
        self.eos_ids = eos_ids | special_ids(tokenizer, self.until)
        self.max_new_tokens = max_new_tokens
        # Where it is a special token, its text would be looked for in vain too.
        ends = special_ids(tokenizer, (think_end,)) if isinstance(think_end, str) else ()
        self.think_end = next(iter(ends), think_end)
        self.opened = opened
        self._window = max((len(stop.encode()) for stop in self.until), default=0) + _SLACK
        self._endings = frozenset(stop[-1] for stop in self.until) | {_BROKEN}

    def ends(self, tokens: list[int]) -> bool:
        """Whether a row is finished with the token it got last."""
        if len(tokens) >= self.max_new_tokens or tokens[-1] in self.eos_ids:
            return True
        if not self.until or self._endings.isdisjoint(self._characters(tokens[-1])):
            return False
        tail = self._decode(tokens[-self._window :])
        if not any(stop in tail for stop in self.until):
            return False
        reasoning, text = self._split_reasoning(tokens)
        if self.think_end is not None and reasoning is None:
            return False
        return any(stop in text for stop in self.until)

    def _characters(self, token: int) -> frozenset[str]:
        """The characters that a token may add to a text."""
        known = _CHARACTERS.setdefault(self.tokenizer, {})
        if token not in known:
            # A space comes and goes by what stands beside it.
            known[token] = frozenset(self._decode([token] * 3)) | {" "}
        return known[token]

    def finish(self, tokens: list[int]) -> Finished:
        """Cut a finished row: EOS and special tokens go, the reasoning goes aside, the first stop string ends it."""
        content = tokens[:-1] if tokens and tokens[-1] in self.eos_ids else tokens
        reasoning, text = self._split_reasoning(content)
        cuts = [at for at in (text.find(stop) for stop in self.until) if at >= 0]
        stopped = bool(cuts) or len(content) < len(tokens)
        answer = text[: min(cuts)] if cuts else text
        reasoned = None if reasoning is None else self._reasoning_tokens(content)
        return Finished(answer, reasoning, "stop" if stopped else "length", len(tokens), reasoned)

    def _reasoning_tokens(self, tokens: Sequence[int]) -> int:
        """How many tokens there are up to the last mark that closes reasoning; all, where none does."""
        if isinstance(self.think_end, int) and self.think_end in tokens:
            return len(tokens) - list(tokens)[::-1].index(self.think_end)
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=False))
        mark = self.think_end if isinstance(self.think_end, str) else last_closing(text)
        if not mark or mark not in text:
            return len(tokens)
        times = text.count(mark)

        def closed(length: int) -> bool:
            return str(self.tokenizer.decode(tokens[:length], skip_special_tokens=False)).count(mark) == times

        return bisect.bisect_left(range(len(tokens)), True, key=closed)

    def _split_reasoning(self, tokens: Sequence[int]) -> tuple[str | None, str]:
        """(reasoning, answer). Reasoning that never ends leaves no answer."""
        if self.think_end is None:
            return self._split_at_marks(tokens)
        if isinstance(self.think_end, int):
            if self.think_end in tokens:
                cut = len(tokens) - list(tokens)[::-1].index(self.think_end)
                return self._decode(tokens[: cut - 1]), self._decode(tokens[cut:]).lstrip()
            text = self._decode(tokens)
        else:
            text = self._decode(tokens)
            before, mark, after = text.rpartition(self.think_end)
            if mark:
                return before, after.lstrip()
        return (text, "") if self.opened or begins_with_reasoning(text) else (None, text)

    def _split_at_marks(self, tokens: Sequence[int]) -> tuple[str | None, str]:
        text = self._decode(tokens)
        # Some models have special tokens for their marks, which the text leaves out.
        marked = str(self.tokenizer.decode(tokens, skip_special_tokens=False))
        if self.opened is None and not begins_with_reasoning(marked):
            return None, text
        answer, reasoning = strip_reasoning((self.opened or "") + marked)
        if marked != text:
            added = getattr(self.tokenizer, "added_tokens_decoder", None) or {}
            for token in added.values():
                if token.special:
                    answer = answer.replace(token.content, "")
            answer = answer.strip()
        # White space behind the answer may hold the stop string; behind a mark it is no answer yet.
        return reasoning or "", answer + (text[len(text.rstrip()) :] if answer else "")

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def end_tokens(stored: int | Sequence[int] | None, tokenizer: Any) -> frozenset[int]:
    """Ids that end an answer: a generation config's `eos_token_id`, as `stored`, and the tokenizer's own."""
    ids = [*(stored if isinstance(stored, Sequence) else [stored]), tokenizer.eos_token_id]
    return frozenset(int(token) for token in ids if token is not None)


def special_ids(tokenizer: Any, texts: Sequence[str]) -> frozenset[int]:
    """Ids of those texts that are special tokens, which decoded text leaves out."""
    pairs = [(text, tokenizer.convert_tokens_to_ids(text)) for text in texts]
    return frozenset(
        token
        for text, token in pairs
        # Of a text that is no token, this is the id of the unknown one.
        if isinstance(token, int)
        and tokenizer.convert_ids_to_tokens(token) == text
        and not tokenizer.decode([token], skip_special_tokens=True)
    )
