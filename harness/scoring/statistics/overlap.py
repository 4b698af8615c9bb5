"""Which texts of a benchmark stand in a corpus: runs of words, and texts that are nearly alike.

    index = OverlapIndex(texts)          # of each row, its texts
    for place, document in documents:
        index.look(place, document)
    index.matches                        # row -> how much of it stands in one document, and where

Words are compared after NFKC (full-width forms become plain), without case and punctuation; each Chinese, Japanese or
Korean character is a word, so that no segmenter decides. A run is 13 words, as in T. Brown et al., Language Models are
Few-Shot Learners (2020), appendix C; a shorter text is one run, of at least 11 words, or 8 where a row has no longer
one. Runs that stand in three rows or more are the benchmark's own phrases and count nowhere. MinHash (A. Broder, 1997)
finds texts that were edited: pieces of a document that are about as long as a row are hashed to 64 signatures of
three-word shingles.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from harness.quick import dataclass

Hashes = npt.NDArray[np.uint64]

RUN = 13
LONG, SHORTEST = 11, 8
"""Words of a text that is looked for, and of the longest one of a row that has none so long: a shorter one stands in
any large corpus by chance."""
PHRASE = 3
FOUND = 0.5
"""From this part of its runs in one document on, a row is said to stand there."""
ALIKE = 0.6
"""From this similarity (Jaccard's, of shingles) on, a text is said to be nearly the row."""
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]|[^\W_\u3040-\u9fff\uac00-\ud7af]+"
)
_BASE, _PLACE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x2545F4914F6CDD1D)
_PERMUTATIONS, _BANDS, _SHINGLE = 64, 16, 3


def words_of(text: str) -> list[str]:
    """The words of a text as they are compared: `ＡＢＣ，长江！` is `abc`, `长`, `江`."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


@dataclass(frozen=True, slots=True)
class CorpusMatch:
    """Where a row stands. share: of its runs, in that document; similarity: by MinHash, where it is nearly alike."""

    place: str
    share: float
    similarity: float


class OverlapIndex:
    """The runs and signatures of the rows of a benchmark, and the best match of each in what was looked at.

    Memory grows with the benchmark, and not with the corpus.
    """

    def __init__(self, rows: Sequence[Sequence[str]]) -> None:
        """rows: the texts of each row; a text stands alone or not at all."""
        self.n = len(rows)
        self.too_short: list[int] = []
        """Rows that have no text long enough to be looked for."""
        self.documents = 0
        self._share: dict[int, tuple[float, str]] = {}
        self._similarity: dict[int, tuple[float, str]] = {}
        self._totals: dict[tuple[int, int], int] = {}
        found: dict[int, dict[int, set[tuple[int, int]]]] = {}
        shingles: list[Hashes] = []
        self._lengths: list[int] = []
        for row, texts in enumerate(rows):
            coded = sorted((_codes(words_of(text)) for text in texts), key=len, reverse=True)
            long = [codes for codes in coded if len(codes) >= LONG]
            # A short question in front of long options ("which of these is right") says nothing of its row.
            coded = long or [codes for codes in coded[:1] if len(codes) >= SHORTEST]
            if not coded:
                self.too_short.append(row)
            for part, codes in enumerate(coded):
                size = min(RUN, len(codes))
                for gram in set(_runs(codes, size).tolist()):
                    found.setdefault(size, {}).setdefault(gram, set()).add((row, part))
            whole = max(coded, key=len, default=np.zeros(0, dtype=np.uint64))
            self._lengths.append(len(whole))
            shingles.append(np.unique(_runs(whole, min(_SHINGLE, max(1, len(whole))))))
        self._runs: dict[int, tuple[Hashes, list[list[tuple[int, int]]]]] = {}
        for size, grams in found.items():
            own = {gram: where for gram, where in grams.items() if len({row for row, _ in where}) < PHRASE}
            ordered = np.array(sorted(own), dtype=np.uint64)
            self._runs[size] = ordered, [sorted(own[int(gram)]) for gram in ordered]
            for where in own.values():
                for text in where:
                    self._totals[text] = self._totals.get(text, 0) + 1
        generator = np.random.default_rng(1234)
        self._factors = generator.integers(1, 2**63, _PERMUTATIONS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        self._signatures = np.array([self._signature(each) for each in shingles], dtype=np.uint64)
        has_own = {row for row, _ in self._totals}
        self._buckets: dict[tuple[int, int], list[int]] = {}
        for row, signature in enumerate(self._signatures):
            if self._lengths[row] >= SHORTEST and row in has_own:
                for band, key in enumerate(_bands(signature)):
                    self._buckets.setdefault((band, key), []).append(row)
        lengths = [length for length in self._lengths if length >= SHORTEST]
        self._window = int(np.median(lengths)) if lengths else 0

    def look(self, place: str, document: str) -> None:
        """Note which rows stand in a document."""
        self.documents += 1
        words = words_of(document)
        codes = _codes(words)
        counts: dict[tuple[int, int], int] = {}
        for size, (grams, owners) in self._runs.items():
            runs = np.unique(_runs(codes, size))
            if not len(runs) or not len(grams):
                continue
            at = np.searchsorted(grams, runs)
            hit = at[(at < len(grams)) & (grams[np.minimum(at, len(grams) - 1)] == runs)]
            for index in hit.tolist():
                for key in owners[index]:
                    counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            share = count / self._totals[key]
            if share > self._share.get(key[0], (0.0, ""))[0]:
                self._share[key[0]] = share, place
        for piece in self._pieces(document, codes):
            self._look_alike(place, piece)

    @property
    def matches(self) -> dict[int, CorpusMatch]:
        """The rows that stand in the corpus, by share or by similarity."""
        found = {}
        for row in range(self.n):
            (share, there), (similarity, here) = self._share.get(row, (0.0, "")), self._similarity.get(row, (0.0, ""))
            if share >= FOUND or similarity >= ALIKE:
                found[row] = CorpusMatch(there if share >= FOUND else here, share, similarity)
        return found

    def _pieces(self, document: str, codes: Hashes) -> Iterator[Hashes]:
        """Parts of a document that may be a row: its lines, and windows of the usual length over all of it."""
        if not self._window:
            return
        if len(codes) <= 2 * self._window:
            yield codes
        else:
            step = max(1, self._window // 2)
            for start in range(0, len(codes) - self._window + step, step):
                yield codes[start : start + self._window]
        lines = document.splitlines()
        for line in lines if len(lines) > 1 else ():
            if len(line) >= SHORTEST:
                coded = _codes(words_of(line))
                if SHORTEST <= len(coded) <= 8 * self._window:
                    yield coded

    def _look_alike(self, place: str, codes: Hashes) -> None:
        if len(codes) < SHORTEST:
            return
        signature = self._signature(np.unique(_runs(codes, _SHINGLE)))
        rows = {row for key in enumerate(_bands(signature)) for row in self._buckets.get(key, ())}
        for row in rows:
            similarity = float((self._signatures[row] == signature).mean())
            if similarity > self._similarity.get(row, (0.0, ""))[0]:
                self._similarity[row] = similarity, place

    def _signature(self, shingles: Hashes) -> Hashes:
        """The least hash of all shingles by each of the permutations, shape [permutations]."""
        if not len(shingles):
            return np.zeros(_PERMUTATIONS, dtype=np.uint64)
        hashed = shingles[:, None] * self._factors
        hashed ^= hashed >> np.uint64(29)
        return np.asarray((hashed * _BASE).min(axis=0))


def _codes(words: Sequence[str]) -> Hashes:
    """A number for each word, the same in every process, shape [words]."""
    return np.array([zlib.crc32(word.encode("utf-8", "surrogatepass")) for word in words], dtype=np.uint64)


def _runs(codes: Hashes, size: int) -> Hashes:
    """A hash of each run of `size` words, shape [words - size + 1]; none where there are fewer words."""
    count = len(codes) - size + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint64)
    mixed = (codes ^ (codes << np.uint64(17))) * _BASE
    mixed ^= mixed >> np.uint64(32)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        total *= _PLACE
        total += mixed[offset : offset + count]
    return total ^ (total >> np.uint64(31))


def _bands(signature: Hashes) -> list[int]:
    return [hash(part.tobytes()) for part in signature.reshape(_BANDS, -1)]
