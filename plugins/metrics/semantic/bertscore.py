"""BERTScore: tokens of an answer and of a reference matched by what they mean (Zhang et al. 2020, arXiv 1904.09675)."""

from __future__ import annotations

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import BatchMetric, MetricOptions, Observation, Outcome, Sample, UsageError, hookimpl
from harness.scoring import gold_texts

from .encoder import TextEncoder, layer_count, load_encoder
from .folder import ModelFolder, Running

# The layers that the official package takes (bert_score/utils.py, `model2layers`), for folders with these names.
_LAYERS = {
    "albert-base-v2": 9,
    "bart-large": 10,
    "bert-base-chinese": 8,
    "bert-base-multilingual-cased": 9,
    "bert-base-uncased": 9,
    "bert-large-uncased": 18,
    "deberta-large-mnli": 18,
    "deberta-v3-base": 9,
    "deberta-v3-large": 12,
    "deberta-xlarge-mnli": 40,
    "distilbert-base-uncased": 5,
    "distilroberta-base": 5,
    "roberta-base": 10,
    "roberta-large": 17,
    "roberta-large-mnli": 19,
    "xlm-roberta-base": 9,
    "xlm-roberta-large": 17,
}
_TOKENISED_AT_ONCE = 1000


@dataclass
class _Frequencies:
    """In how many references each token is. idf(w) = log((n + 1) / (df(w) + 1)), as the official package has it."""

    n: int = 0
    df: Counter[int] = field(default_factory=Counter)

    def weight(self, token: int) -> float:
        return math.log((self.n + 1) / (self.df[token] + 1))

    @property
    def title(self) -> str:
        content = f"{self.n} {sorted(self.df.items())}"
        return f"of {self.n} references ({hashlib.sha256(content.encode()).hexdigest()[:8]})"


@dataclass(frozen=True, slots=True)
class _Text:
    """A text for matching: normalised states [tokens, width]; weights [tokens] that sum to 1, None where all are 0."""

    states: Any
    weights: Any | None
    empty: bool
    truncated: bool


class BertScore(BatchMetric):
    """BERTScore: F1, precision and recall of greedily matched token embeddings (Zhang et al. 2020).

    model: a local folder of any encoder of transformers. layer: whose hidden states are matched, from 1; the official
        choice where the folder is named like a model that the official package knows (`bert-base-chinese`, ...).
    idf: weigh tokens by their inverse document frequency in all references of the task.
    baseline: rescale to (x - b) / (1 - b), with three numbers [precision, recall, f1], or a file of the official
        package's form (columns LAYER, P, R, F), of which the row of `layer` is taken.
    device, dtype (float32, bfloat16, float16), batch_size: how the model runs.

    Values agree with the package `bert-score`: an answer or a reference without tokens scores 0 before rescaling; of
    several references the best counts, for each value by itself; texts are cut to the model's window, which is counted.
    Padding never takes part in a match. Where no token of a text has weight (idf of very few references), the package
    says NaN or 0; here the sample is not scored.
    """

    name = "bertscore"
    output_types = frozenset({"generate_until"})
    values = ("f1", "precision", "recall")

    def __init__(
        self,
        model: str,
        layer: int | None = None,
        idf: bool = False,
        baseline: Sequence[float] | str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 64,
    ) -> None:
        if layer is not None and (isinstance(layer, bool) or not isinstance(layer, int) or layer < 1):
            raise UsageError(f"layer is {layer!r}; it should be a whole number of at least 1")
        self._named, self._layer, self._baseline = str(model), layer or 0, baseline
        self._running = Running(device, dtype, batch_size)
        self._frequencies = _Frequencies() if idf else None
        self.bounds = None if baseline is not None else (-1.0, 1.0)

    def prepare(self, options: MetricOptions) -> None:
        self._folder = ModelFolder.find(self._named, options)
        count = layer_count(self._folder)
        self._layer = self._layer or _LAYERS.get(self._folder.name, 0)
        if not 1 <= self._layer <= count:
            chosen = f"layer is {self._layer}" if self._layer else "say whose layer's states to match"
            raise UsageError(f"{chosen}; {self._folder.name} has layers 1 to {count} (`layer: N`)")
        self._rescale = _baseline(self._baseline, self._layer, options)
        self._device = self._running.resolved(options)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "model": self._folder.name,
            "weights": self._folder.fingerprint,
            "layer": self._layer,
            "idf": self._frequencies.title if self._frequencies else None,
            "baseline": list(self._rescale) if self._rescale else None,
            "dtype": None if self._running.dtype == "float32" else self._running.dtype,
        }

    def prepare_corpus(self, samples: Iterable[Sample]) -> None:
        if self._frequencies is None:
            return
        frequencies = _Frequencies()
        references = (text for sample in samples for text in gold_texts(sample) or ())
        waiting: list[str] = []
        for text in references:
            waiting.append(text.strip())
            if len(waiting) == _TOKENISED_AT_ONCE:
                self._count(waiting, frequencies)
                waiting = []
        self._count(waiting, frequencies)
        self._frequencies = frequencies

    def _count(self, texts: Sequence[str], found: _Frequencies) -> None:
        for ids, _ in self._encoder.tokens.of(texts):
            found.n += 1
            found.df.update(set(ids))

    def score_batch(self, seen: Sequence[Observation]) -> Sequence[Outcome]:
        golds = [gold_texts(each.sample) for each in seen]
        texts = [text for each in seen for text in each.predictions]
        texts += [text for found in golds for text in found or ()]
        known = self._embed(list(dict.fromkeys((text or "").strip() for text in texts)))
        return [self._score(each.predictions, found, known) for each, found in zip(seen, golds, strict=True)]

    def close(self) -> None:
        load_encoder.cache_clear()

    @property
    def _encoder(self) -> TextEncoder:
        return load_encoder(self._folder, self._running, self._device, self._layer, as_bert_score=True)

    def _score(self, replies: Sequence[str | None], golds: Sequence[str] | None, known: Mapping[str, _Text]) -> Outcome:
        if not golds or not replies:
            return Outcome()
        answers = [known[(reply or "").strip()] for reply in replies]
        references = [known[gold.strip()] for gold in golds]
        cut = sum(text.truncated for text in (*answers, *references))
        try:
            matches = [[_match(answer, reference) for reference in references] for answer in answers]
        except ValueError as error:
            return Outcome(error=str(error), truncated=cut)
        best = [tuple(max(column) for column in zip(*each, strict=True)) for each in matches]
        precision, recall, f1 = (sum(column) / len(column) for column in zip(*best, strict=True))
        if self._rescale:
            low = self._rescale
            precision, recall, f1 = ((x - b) / (1 - b) for x, b in zip((precision, recall, f1), low, strict=True))
        return Outcome((f1, precision, recall), truncated=cut)

    def _embed(self, texts: Sequence[str]) -> dict[str, _Text]:
        """The states and weights of each text. Each is encoded once; they are held until the batch is scored."""
        import torch

        encoder = self._encoder
        tokens = encoder.tokens.of(texts)
        bare = encoder.tokens.tokenizer.num_special_tokens_to_add()
        embedded = {}
        for places, states, _ in encoder.states([ids for ids, _ in tokens]):
            states = torch.nn.functional.normalize(states.float(), dim=-1)
            for place, rows in zip(places, states, strict=True):
                ids, truncated = tokens[place]
                embedded[texts[place]] = _Text(
                    rows[: len(ids)].clone(), self._weights(ids), len(ids) <= bare, truncated
                )
        return embedded

    def _weights(self, ids: Sequence[int]) -> Any | None:
        import torch

        tokenizer = self._encoder.tokens.tokenizer
        if self._frequencies is None:
            silent = (tokenizer.cls_token_id, tokenizer.sep_token_id)
            weights = [0.0 if token in silent else 1.0 for token in ids]
        else:
            weights = [self._frequencies.weight(token) for token in ids]
        total = sum(weights)
        return torch.tensor(weights, device=self._device) / total if total > 0 else None


def _match(answer: _Text, reference: _Text) -> tuple[float, float, float]:
    """Precision, recall and F1 of one pair, equations 1 and 2 of the paper. Raises `ValueError` where it has none."""
    if answer.empty or reference.empty:
        return 0.0, 0.0, 0.0
    for text, what in ((answer, "answer"), (reference, "reference")):
        if text.weights is None:
            raise ValueError(f"no token of the {what} has an idf weight: too few references, or all of them hold it")
    similar = answer.states @ reference.states.T
    precision = float((similar.amax(dim=1) * answer.weights).sum())
    recall = float((similar.amax(dim=0) * reference.weights).sum())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def _baseline(given: Sequence[float] | str | None, layer: int, options: MetricOptions) -> tuple[float, ...] | None:
    """Precision, recall and F1 of unrelated texts, from three numbers or a file. Raises `UsageError`."""
    if given is None:
        return None
    numbers = _baseline_row(given, layer, options) if isinstance(given, str) else given
    try:
        values = tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        values = ()
    if len(values) != 3 or not all(number < 1 for number in values):
        raise UsageError(
            f"baseline is {given!r}; it should be three numbers below 1 [precision, recall, f1], or a file"
        )
    return values


def _baseline_row(named: str, layer: int, options: MetricOptions) -> Sequence[str]:
    path = next((place / named for place in (options.base, Path.cwd()) if (place / named).is_file()), None)
    if path is None:
        raise UsageError(f"baseline: there is no file '{named}' (relative to the task file, or to where you are)")
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = {row.get("LAYER", "").strip(): row for row in csv.DictReader(stream)}
    row = rows.get(str(layer))
    if row is None or not {"P", "R", "F"} <= row.keys():
        raise UsageError(f"baseline: {path} has no row for layer {layer} with the columns LAYER, P, R, F")
    return [row["P"], row["R"], row["F"]]


@hookimpl
def harness_metrics() -> list[type[BatchMetric]]:
    return [BertScore]
