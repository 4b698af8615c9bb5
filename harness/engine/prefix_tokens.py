"""Token ids of many long texts that begin alike, without tokenising their shared prefix again for each.

Five shots in front of 10,000 questions are tokenised 50,000 times by the plain way: once for each context and once for
each of its continuations. Where a tokenizer first cuts a text into words by a pattern that looks at what follows only
(byte-level BPE as in GPT-2, Llama 3 or Qwen), its tokens up to a word are the same whatever comes later. Then the
beginning is taken from a text already done. Any other tokenizer is left alone, and some texts are always done both
ways: should they differ, all are done the plain way.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

from harness.engine.plan import common_prefix

# How far from the place where texts part a cut is made: more than any pattern looks ahead.
_MARGIN = 24
# Texts that share fewer characters, and lists of fewer texts, are tokenised as they are.
_LEAST_SHARED = 256
_LEAST_TEXTS = 8
# How many texts are tokenised both ways.
_CHECKS = 12
_CHUNK = 512


class PrefixTokenizer:
    """Encodes lists of texts with a transformers tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        self._margin = _MARGIN

    @functools.cached_property
    def shares(self) -> bool:
        """Whether beginnings are reused. Looked up when first needed: large tokenizers take a moment to look at."""
        return self._backend is not None and self._is_local()

    def encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        """Ids of each text, with the tokenizer's special tokens when `special`."""
        if len(texts) < _LEAST_TEXTS or not self.shares:
            return self._plain(texts, special)
        done: dict[int, list[int]] = {}
        for run in _runs(texts):
            if len(run) > 1 and (prefix := self._shared_prefix(texts, run, special)) is not None:
                ids, cut = prefix
                tails = self._tokenize([texts[index][cut:] for index in run])
                done.update((index, ids + tail.ids) for index, tail in zip(run, tails, strict=True))
        rest = [index for index in range(len(texts)) if index not in done]
        done.update(zip(rest, self._plain([texts[index] for index in rest], special), strict=True))
        return self._checked(texts, special, [done[index] for index in range(len(texts))], set(done) - set(rest))

    def extend(
        self, contexts: Sequence[str], encoded: Sequence[list[int]], texts: Sequence[str], special: bool
    ) -> list[list[int]]:
        """Ids of `context + text` for each pair, given the ids of the contexts."""
        wholes = [context + text for context, text in zip(contexts, texts, strict=True)]
        if len(texts) < _LEAST_TEXTS or not self.shares:
            return self._plain(wholes, special)
        # The last words of a context are all that a continuation can change.
        cuts = {context: max(0, len(context) - 4 * self._margin) for context in set(contexts)}
        last_words = dict(zip(cuts, self._tokenize([context[cut:] for context, cut in cuts.items()]), strict=True))
        places = {context: self._last_word(context, cut, last_words[context]) for context, cut in cuts.items()}
        shared = [(index, place) for index, context in enumerate(contexts) if (place := places[context]) is not None]
        tails = self._tokenize([wholes[index][start:] for index, (start, _, _) in shared])
        done: dict[int, list[int]] = {}
        for (index, (_, count, last)), tail in zip(shared, tails, strict=True):
            kept = len(encoded[index]) - count
            if encoded[index][kept:] == last:
                done[index] = encoded[index][:kept] + tail.ids
        rest = [index for index in range(len(wholes)) if index not in done]
        done.update(zip(rest, self._plain([wholes[index] for index in rest], special), strict=True))
        return self._checked(wholes, special, [done[index] for index in range(len(wholes))], set(done) - set(rest))

    def _last_word(self, context: str, start: int, encoding: Any) -> tuple[int, int, list[int]] | None:
        """(where a word begins near the end of a context, how many tokens follow, their ids), from its last words.

        The first word after an arbitrary cut is no word of the context; those after it are.
        """
        words, offsets = encoding.word_ids, encoding.offsets
        limit = len(context) - start - self._margin
        for token in reversed(range(1, len(words))):
            begins = words[token] is not None and words[token - 1] not in (words[token], words[0])
            if begins and offsets[token][0] <= limit:
                return start + offsets[token][0], len(words) - token, encoding.ids[token:]
        return None

    def _shared_prefix(self, texts: Sequence[str], run: Sequence[int], special: bool) -> tuple[list[int], int] | None:
        """(ids, characters) of the beginning that the texts of a run share, up to the start of a word."""
        first = texts[run[0]]
        limit = min(common_prefix(first, texts[index]) for index in run[1:]) - self._margin
        whole = self._backend.encode(first, add_special_tokens=special)
        words, offsets = whole.word_ids, whole.offsets
        for token in reversed(range(1, len(words))):
            begins = words[token] is not None and words[token] != words[token - 1]
            if begins and offsets[token][0] <= limit:
                return list(whole.ids[:token]), int(offsets[token][0])
        return None

    def _tokenize(self, texts: Sequence[str]) -> list[Any]:
        return [
            encoding
            for at in range(0, len(texts), _CHUNK)
            for encoding in self._backend.encode_batch(list(texts[at : at + _CHUNK]), add_special_tokens=False)
        ]

    def _plain(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        ids: list[list[int]] = []
        for at in range(0, len(texts), _CHUNK):
            chunk = list(texts[at : at + _CHUNK])
            ids += self.tokenizer(chunk, add_special_tokens=special, return_attention_mask=False, verbose=False)[
                "input_ids"
            ]
        return ids

    def _checked(self, texts: Sequence[str], special: bool, ids: list[list[int]], shared: set[int]) -> list[list[int]]:
        """The ids, when some of the texts whose beginning was reused come out the same the plain way."""
        candidates = sorted(shared)
        some = candidates[:: max(1, len(candidates) // _CHECKS)]
        expected = self._plain([texts[index] for index in some], special)
        if all(ids[index] == wanted for index, wanted in zip(some, expected, strict=True)):
            return ids
        self.shares = False
        return self._plain(texts, special)

    def _is_local(self) -> bool:
        """Whether what a tokenizer does to a word depends on nothing before it."""
        state = json.loads(self._backend.to_str())
        normal = state.get("normalizer")
        added = state.get("added_tokens") or []
        if state["model"]["type"] != "BPE" or (normal is not None and normal["type"] != "NFC"):
            return False
        if any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added):
            return False
        self._margin = max([_MARGIN, *(len(token["content"]) + 1 for token in added)])
        if not _cuts_by_lookahead(state.get("pre_tokenizer")):
            return False
        plain, marked = (self._backend.encode("a b", add_special_tokens=special).ids for special in (False, True))
        return bool(marked[len(marked) - len(plain) :] == plain)


def _cuts_by_lookahead(step: Any) -> bool:
    """Whether a pre-tokenizer finds the next word from where the last one ended, without looking back."""
    if step is None:
        return False
    if step["type"] == "Sequence":
        return bool(step["pretokenizers"]) and all(_cuts_by_lookahead(inner) for inner in step["pretokenizers"])
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    if step["type"] == "Split":
        return "Regex" in step["pattern"] and "(?<" not in step["pattern"]["Regex"] and step["behavior"] == "Isolated"
    return bool(step["type"] == "Digits")


def _runs(texts: Sequence[str]) -> list[list[int]]:
    """Indices of texts in alphabetical order, cut where a text no longer shares most of the first one's beginning."""
    runs: list[list[int]] = []
    shared = 0
    for index in sorted(range(len(texts)), key=lambda i: texts[i]):
        if runs:
            common = common_prefix(texts[runs[-1][0]], texts[index])
            least = shared // 2 if len(runs[-1]) > 1 else 0
            if common >= max(_LEAST_SHARED, least):
                shared = min(shared, common) if len(runs[-1]) > 1 else common
                runs[-1].append(index)
                continue
        runs.append([index])
    return runs
