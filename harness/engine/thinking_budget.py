"""Reasoning that is ended at a number of tokens: the closing mark is written in the model's place.

This is budget forcing (Muennighoff et al. 2025, s1, section 3.1; Qwen3's thinking budget, arXiv 2505.09388).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.reasoning import closing_of, last_closing, opening_of


class ThinkingBudget:
    """The budget of one answer, in tokens from its first one on.

    opened: the mark by which the prompt has opened reasoning. think_end: the text, or the id, that ends it, where it is
    not the mark that belongs to the opening one.
    """

    def __init__(self, tokenizer: Any, tokens: int, opened: str | None, think_end: str | int | None = None) -> None:
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.opened = opened
        self.think_end = think_end
        self._ending: tuple[int, ...] = ()

    def forced(self, written: Sequence[int]) -> int | None:
        """The token that has to follow `written`, all tokens of the answer so far; None where the model chooses it."""
        place = len(written) - self.tokens
        if place < 0:
            return None
        if place == 0:
            self._ending = self.ending(written)
        return self._ending[place] if place < len(self._ending) else None

    def ending(self, written: Sequence[int]) -> tuple[int, ...]:
        """The tokens that close the reasoning in which `written` ends; none where it is closed, or never began."""
        text = str(self.tokenizer.decode(written, skip_special_tokens=False))
        if isinstance(self.think_end, int):
            return () if self.think_end in written else (self.think_end,)
        opening = self.opened or opening_of(text)
        mark = self.think_end or (closing_of(opening) if opening else "")
        if not mark or mark in text or (self.think_end is None and last_closing(text)):
            return ()
        return tuple(self.tokenizer.encode(f"\n{mark}\n\n", add_special_tokens=False))
