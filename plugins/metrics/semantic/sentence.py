"""Embedding similarity: the cosine between an answer's and a reference's sentence embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import BatchMetric, MetricOptions, Observation, Outcome, UsageError, hookimpl
from harness.scoring import gold_texts

from .encoder import TextEncoder, load_encoder
from .folder import ModelFolder, Running
from .vectors import Vectors, nearest, unit_rows

POOLINGS = ("mean", "cls", "last")
# The names of sentence-transformers: `pooling_mode` since version 5.2, one truth value a way before.
_MODES = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
# What follows the pooling and does not change a cosine.
_HARMLESS = ("Normalize",)


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """How a folder says that its sentences are embedded, as sentence-transformers writes it; defaults elsewhere.

    part: where below the folder the transformer lies. window: tokens that are read; None for the model's own.
    """

    pooling: str = "mean"
    part: str = ""
    window: int | None = None
    lower: bool = False
    prompt: str = ""
    counts_prompt: bool = True

    @classmethod
    def of(cls, folder: ModelFolder) -> SentenceSettings:
        """Raises `UsageError` for a folder with modules whose embeddings would be other ones."""
        modules = folder.read("modules.json") or []
        places = {str(module["type"]).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
        for kind in places:
            if kind not in ("Transformer", "Pooling", *_HARMLESS):
                raise UsageError(f"model: {folder.path} has a module {kind} (modules.json), which is not known here")
        part = places.get("Transformer", "")
        pooling = folder.read(f"{places.get('Pooling', '1_Pooling')}/config.json") or {}
        told = folder.read(f"{part}/sentence_bert_config.json" if part else "sentence_bert_config.json") or {}
        texts = folder.read("config_sentence_transformers.json") or {}
        return cls(
            pooling=_pooling(pooling, folder),
            part=part,
            window=told.get("max_seq_length"),
            lower=bool(told.get("do_lower_case", False)),
            prompt=(texts.get("prompts") or {}).get(texts.get("default_prompt_name")) or "",
            counts_prompt=bool(pooling.get("include_prompt", True)),
        )


def _pooling(config: Mapping[str, Any], folder: ModelFolder) -> str:
    if not config:
        return "mean"
    named = config.get("pooling_mode")
    modes = [named] if isinstance(named, str) else [mode for flag, mode in _FLAGS.items() if config.get(flag)]
    if len(modes) != 1 or modes[0] not in _MODES:
        said = " and ".join(map(str, modes)) or "nothing"
        raise UsageError(f"model: {folder.path} pools by {said}, which is not known here (known: {', '.join(_MODES)})")
    return _MODES[modes[0]]


@dataclass(frozen=True, slots=True)
class _Embedded:
    vector: Any
    truncated: bool


class EmbeddingSimilarity(BatchMetric):
    """The cosine between the sentence embeddings of an answer and of a reference; the best over the references.

    model: a local folder of any text model of transformers. One of sentence-transformers says itself how it pools,
        how much it reads and which prompt it wants; that package is not needed.
    pooling: `mean`, `cls` or `last` token, in the place of what the folder says (`mean` where it says nothing).
    prompt: an instruction that is put before every text, in the place of the folder's own.
    device, dtype (float32, bfloat16, float16), batch_size: how the model runs.

    Answers are stripped of white space at both ends. An empty answer is embedded like any text, as in that package; one
    that could not be read scores 0. Texts are cut to the window, which is counted.
    """

    name = "embedding_similarity"
    output_types = frozenset({"generate_until"})
    bounds = (-1.0, 1.0)

    def __init__(
        self,
        model: str,
        pooling: str | None = None,
        prompt: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 64,
    ) -> None:
        if pooling is not None and pooling not in POOLINGS:
            raise UsageError(f"pooling is '{pooling}'; it should be one of {', '.join(POOLINGS)}")
        self._named, self._pooling, self._prompt = str(model), pooling, prompt
        self._running = Running(device, dtype, batch_size)
        self._vectors: Vectors[str] = Vectors()

    def prepare(self, options: MetricOptions) -> None:
        self._folder = ModelFolder.find(self._named, options)
        self._settings = SentenceSettings.of(self._folder)
        self._part = self._folder.below(self._settings.part)
        self._part.require_config()
        self._pooling = self._pooling or self._settings.pooling
        self._prompt = self._settings.prompt if self._prompt is None else self._prompt
        self._device = self._running.resolved(options)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "model": self._folder.name,
            "weights": self._folder.fingerprint,
            "pooling": self._pooling,
            "prompt": self._prompt or None,
            "dtype": None if self._running.dtype == "float32" else self._running.dtype,
        }

    def score_batch(self, seen: Sequence[Observation]) -> Sequence[Outcome]:
        golds = [gold_texts(each.sample) for each in seen]
        texts = [text for each in seen for text in each.predictions if text is not None]
        texts += [text for found in golds for text in found or ()]
        known = self._vectors.of((text.strip() for text in texts), self._embed)
        return [_score(each.predictions, found, known) for each, found in zip(seen, golds, strict=True)]

    def close(self) -> None:
        self._vectors.clear()
        load_encoder.cache_clear()

    def _embed(self, texts: Sequence[str]) -> dict[str, _Embedded]:
        encoder, settings = load_encoder(self._part, self._running, self._device), self._settings
        prompt = self._prompt or ""
        shown = [f"{prompt}{text}".strip() for text in texts]
        tokens = encoder.tokens.of([text.lower() for text in shown] if settings.lower else shown, settings.window)
        skipped = 0 if settings.counts_prompt or not prompt else self._prompt_tokens(encoder, prompt)
        embedded = {}
        for places, states, mask in encoder.states([ids for ids, _ in tokens]):
            for place, vector in zip(places, unit_rows(_pooled(states, mask, self._pooling, skipped)), strict=True):
                embedded[texts[place]] = _Embedded(vector, tokens[place][1])
        return embedded

    def _prompt_tokens(self, encoder: TextEncoder, prompt: str) -> int:
        """How many tokens stand before the text itself: the prompt's, without what ends a text."""
        (ids, _), *_ = encoder.tokens.of([prompt.lower() if self._settings.lower else prompt])
        ends = (encoder.tokens.tokenizer.eos_token_id, encoder.tokens.tokenizer.sep_token_id)
        return len(ids) - int(ids[-1] in ends)


def _pooled(states: Any, mask: Any, pooling: str | None, skipped: int) -> Any:
    """One vector a text, [batch, width], of states [batch, length, width] that are right-padded."""
    import torch

    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    counted = mask.clone()
    counted[:, :skipped] = False
    weights = counted.unsqueeze(-1).to(torch.float32)
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _score(replies: Sequence[str | None], golds: Sequence[str] | None, known: Mapping[str, _Embedded]) -> Outcome:
    if not golds or not replies:
        return Outcome()
    references = [known[gold.strip()] for gold in golds]
    answers = [known[reply.strip()] if reply is not None else None for reply in replies]
    cut = sum(text is not None and text.truncated for text in (*answers, *references))
    best = [
        nearest(answer.vector, [reference.vector for reference in references]) if answer is not None else 0.0
        for answer in answers
    ]
    return Outcome(sum(best) / len(best), truncated=cut)


@hookimpl
def harness_metrics() -> list[type[BatchMetric]]:
    return [EmbeddingSimilarity]
