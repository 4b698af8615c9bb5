"""Speech recognition: the word and the character error rate of a whole set of transcripts, by jiwer.

    metric_list: [{metric: wer, normalize: english}]
    metric_list: [{metric: cer, normalize: chinese}]

Edits are summed over all samples and divided by the length of all references, as the field reports them; a sample's
score is those two counts, so that every resample of the bootstrap is such a rate. An empty reply is a transcript
without words. `aggregation: mean` asks for the mean of the samples' own rates, as lm-eval takes it of `wer`, of texts
as they are.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from harness import Metric, MetricOptions, Observation, UsageError, hookimpl
from harness.scoring import gold_texts

Normalize = Callable[[str], str]
_BRACKETS = (("<[", ">]", re.compile(r"[<\[][^>\]]*[>\]]")), ("(", ")", re.compile(r"\([^)]+\)")))
_BLANKS = re.compile(r"(\s\s)\s+")


def _english() -> Normalize:
    from whisper_normalizer.english import EnglishTextNormalizer

    return _called(EnglishTextNormalizer())


def _basic() -> Normalize:
    from whisper_normalizer.basic import BasicTextNormalizer

    return _called(BasicTextNormalizer())


def _chinese() -> Normalize:
    import opencc

    basic, simplified = _basic(), opencc.OpenCC("t2s")
    # Half of a surrogate pair is no character, to OpenCC neither.
    return lambda text: basic(simplified.convert(text.encode("utf-8", "replace").decode("utf-8")))


def _called(normalizer: Any) -> Normalize:
    ignored = re.compile(getattr(normalizer, "ignore_patterns", r"(?!)"))

    def normalized(text: str) -> str:
        text = _soon_read(text, ignored)
        try:
            return str(normalizer(text)).strip()
        except (AssertionError, ArithmeticError, ValueError):  # a number of thousands of digits, said or written
            return _basic()(text)

    return normalized


def _soon_read(text: str, ignored: re.Pattern[str]) -> str:
    """A text that Whisper's normalisers make the same of as of this one, in time that grows with its length.

    Their patterns look for an end from every bracket that opens, and for an apostrophe from every blank in a row. So
    what they take out is taken out here, brackets that nothing closes become signs that they drop as well, and of a
    row of blanks two are left: one alone would be another text to them.
    """
    text = text.lower()
    for opening, closing, pattern in _BRACKETS:
        end = max(map(text.rfind, closing)) + 1
        text = pattern.sub("", text[:end] + text[end:].translate(dict.fromkeys(map(ord, opening), "}")))
    return _BLANKS.sub(r"\1", ignored.sub("", text))


NORMALIZERS: Mapping[str, Callable[[], Normalize]] = {
    "none": lambda: str,
    "basic": _basic,
    "english": _english,
    "chinese": _chinese,
}


class _ErrorRate(Metric):
    """normalize: what is done to reference and reply before they are compared. `none`; `basic`: Whisper's normaliser of
    any language (lower case, one width, no brackets, no punctuation); `english`: Whisper's of English (Radford et al.
    2022, appendix C: also contractions, numbers, spelling); `chinese`: simplified characters by OpenCC, then `basic`.
    """

    output_types = frozenset({"generate_until"})
    higher_is_better = False
    aggregation = "self"

    @classmethod
    def for_aggregation(cls, aggregation: str | None) -> type[Metric]:
        return _EACH.get(cls, cls) if aggregation not in (None, "self") else cls

    def __init__(self, normalize: str = "basic") -> None:
        if normalize not in NORMALIZERS:
            raise ValueError(f"normalize is '{normalize}'; it can be one of {', '.join(NORMALIZERS)}")
        self._name = normalize

    def prepare(self, options: MetricOptions) -> None:
        try:
            import jiwer  # noqa: F401

            _ = self._normalize
        except ImportError as error:
            raise UsageError(
                f"metric '{self.name}' needs the package {error.name}: pip install 'harness-eval[audio]'"
            ) from None

    @cached_property
    def _normalize(self) -> Normalize:
        return NORMALIZERS[self._name]()

    def score(self, seen: Observation) -> float | tuple[float, ...] | None:
        return self._sums(seen)

    def _sums(self, seen: Observation) -> tuple[float, ...] | None:
        """(edits, length of the reference), of several references against the one with the fewest edits for its length,
        of several replies all together. A reply that a filter could not read leaves the sample without a score."""
        golds = gold_texts(seen.sample)
        if not golds or not seen.predictions or any(reply is None for reply in seen.predictions):
            return None
        pairs = [self._best(golds, str(reply)) for reply in seen.predictions]
        return float(sum(edits for edits, _ in pairs)), float(sum(length for _, length in pairs))

    def from_sums(self, sums: tuple[float, ...], n: int) -> float:
        edits, length = sums
        if not length:
            raise ValueError("the references are empty: there is nothing to be right or wrong about")
        return edits / length

    def _best(self, golds: Sequence[str], reply: str) -> tuple[int, int]:
        counted = [self.count(self._normalize(gold), self._normalize(reply)) for gold in golds]
        return min(counted, key=lambda pair: (pair[0] / max(1, pair[1]), pair[0]))

    @abstractmethod
    def count(self, reference: str, reply: str) -> tuple[int, int]:
        """(edits, length of the reference) of two normalised texts."""


class WordErrorRate(_ErrorRate):
    """Edits of words (substituted, left out, put in) for each word of the references; it can be above 1."""

    name = "wer"

    def count(self, reference: str, reply: str) -> tuple[int, int]:
        import jiwer

        return _edits(jiwer.process_words(reference, reply))


class CharacterErrorRate(_ErrorRate):
    """Edits of characters for each character of the references, spaces left out, as Chinese is scored."""

    name = "cer"

    def count(self, reference: str, reply: str) -> tuple[int, int]:
        import jiwer

        return _edits(jiwer.process_characters("".join(reference.split()), "".join(reply.split())))


class _OfEachSample(_ErrorRate):
    """A sample's score is its own rate: each transcript counts alike, however long."""

    aggregation = "mean"

    def __init__(self, normalize: str = "none") -> None:
        super().__init__(normalize)

    def score(self, seen: Observation) -> float | None:
        sums = self._sums(seen)
        return None if sums is None else self.from_sums(sums, 1)


class WordErrorRateEach(_OfEachSample, WordErrorRate):
    """The word error rate of each sample, of texts as they are unless `normalize` says otherwise."""


class CharacterErrorRateEach(_OfEachSample, CharacterErrorRate):
    """The character error rate of each sample, of texts as they are unless `normalize` says otherwise."""


_EACH: Mapping[type[Metric], type[Metric]] = {
    CharacterErrorRate: CharacterErrorRateEach,
    WordErrorRate: WordErrorRateEach,
}


def _edits(found: Any) -> tuple[int, int]:
    wrong = found.substitutions + found.deletions
    return wrong + found.insertions, wrong + found.hits


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [CharacterErrorRate, WordErrorRate]
