"""CLIPScore: how well a text fits a picture, with and without references (Hessel et al. 2021, arXiv 2104.08718)."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness import BatchMetric, MachineError, Metric, MetricOptions, Observation, Outcome, UsageError, hookimpl
from harness.scoring import gold_texts

from .encoder import (
    Tokens,
    in_batches,
    load_tokenizer,
    quietly,
    require_all_weights,
)
from .folder import ModelFolder, Running
from .pictures import NotInLog, opened, picture_of
from .vectors import Vectors, cosine, nearest, unit_rows

WEIGHT = 2.5
PREFIX = "A photo depicts "


@dataclass(frozen=True, slots=True)
class _Embedded:
    vector: Any
    truncated: bool = False


class PictureEncoder:
    """A model with one space for texts and pictures (CLIP, Chinese-CLIP, SigLIP), its tokenizer and image processor."""

    def __init__(self, folder: ModelFolder, running: Running, device: str) -> None:
        self.device, self.batch_size = device, running.batch_size
        self.model = _load_model(folder, running.dtype).to(device)
        tokenizer = load_tokenizer(folder)
        positions = self.model.config.get_text_config().max_position_embeddings
        self.tokens = Tokens(tokenizer, min(positions, tokenizer.model_max_length))
        self.processor = _load_processor(folder)
        self.texts: Vectors[str] = Vectors()
        self.pictures: Vectors[str] = Vectors()

    def embed_texts(self, texts: Sequence[str]) -> dict[str, _Embedded]:
        tokens = self.tokens.of(texts)
        embedded = {}
        sequences = [ids for ids, _ in tokens]
        for places, features, _ in self.tokens.batches(sequences, self.batch_size, self.device, self._texts):
            for place, vector in zip(places, unit_rows(features), strict=True):
                embedded[texts[place]] = _Embedded(vector, tokens[place][1])
        return embedded

    def prepared(self, data: bytes) -> Any:
        """The pixels that the model is shown, [3, height, width]. Raises `ValueError` for what is no picture."""
        return self.processor(images=[opened(data)], return_tensors="pt")["pixel_values"][0]

    def embed_pictures(self, keys: Sequence[str], pixels: Mapping[str, Any]) -> dict[str, _Embedded]:
        """`pixels`: pictures as `prepared` gives them, by the keys that are wanted."""

        def run(places: Sequence[int]) -> tuple[Any]:
            return (self._pictures([pixels[keys[place]] for place in places]),)

        embedded = {}
        for places, features in in_batches(range(len(keys)), self.batch_size, run):
            for place, vector in zip(places, unit_rows(features), strict=True):
                embedded[keys[place]] = _Embedded(vector)
        return embedded

    def _texts(self, ids: Any, mask: Any) -> Any:
        import torch

        with torch.inference_mode():
            return _features(self.model.get_text_features(input_ids=ids, attention_mask=mask.long()))

    def _pictures(self, pixels: Sequence[Any]) -> Any:
        import torch

        together = torch.stack(list(pixels)).to(self.device, self.model.dtype)
        with torch.inference_mode():
            return _features(self.model.get_image_features(pixel_values=together))


@functools.lru_cache(maxsize=1)
def load_picture_encoder(folder: ModelFolder, running: Running, device: str) -> PictureEncoder:
    """The encoder of a folder; one in memory serves both metrics, and each text and picture is embedded once."""
    return PictureEncoder(folder, running, device)


class ClipScore(BatchMetric):
    """CLIPScore: 2.5 * max(cos, 0) between a picture and an answer about it. Needs no reference (Hessel et al. 2021).

    model: a local folder of CLIP (or Chinese-CLIP, SigLIP) in the form of transformers.
    image: the column of the row that holds the picture: a path (below `image_folder`), a data URI, or bytes. Left out,
        the one picture that the prompt shows (`doc_to_image`).
    image_folder: where paths in rows begin, relative to the task file; its own folder where left out.
    prefix: what stands before every text, "A photo depicts " as in the authors' script. weight: the 2.5.
    device, dtype (float32, bfloat16, float16), batch_size: how the model runs.

    An answer that could not be read scores 0; an empty one is embedded as its prefix alone, as in that script. Texts
    are cut to the model's window (77 tokens in CLIP), which is counted. PIL prepares the pictures (the extra `clip`).
    """

    name = "clip_score"
    output_types = frozenset({"generate_until"})

    def __init__(
        self,
        model: str,
        image: str | None = None,
        image_folder: str | None = None,
        prefix: str = PREFIX,
        weight: float = WEIGHT,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int = 64,
    ) -> None:
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise UsageError(f"weight is {weight!r}; it should be a positive number")
        self._named, self._column, self._below = str(model), image, image_folder
        self._prefix, self._weight = prefix, float(weight)
        self._running = Running(device, dtype, batch_size)
        self.bounds = (0.0, self._greatest())

    def prepare(self, options: MetricOptions) -> None:
        if find_spec("PIL") is None:
            raise MachineError("needs the package pillow: pip install 'harness-eval[clip]'")
        self._folder = ModelFolder.find(self._named, options)
        if not {"text_config", "vision_config"} <= self._folder.config.keys():
            kind = self._folder.config.get("model_type", "unknown")
            raise UsageError(f"model: {self._folder.path} is a model of type {kind}, which embeds no pictures")
        self._base = options.base / Path(self._below or ".").expanduser()
        if not self._base.is_dir():
            raise UsageError(f"image_folder: there is no folder {self._base}")
        self._device = self._running.resolved(options)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {
            "model": self._folder.name,
            "weights": self._folder.fingerprint,
            "prefix": None if self._prefix == PREFIX else repr(self._prefix),
            "dtype": None if self._running.dtype == "float32" else self._running.dtype,
        }

    def score_batch(self, seen: Sequence[Observation]) -> Sequence[Outcome]:
        encoder = load_picture_encoder(self._folder, self._running, self._device)
        pixels: dict[str, Any] = {}
        keys = [self._picture(each, encoder, pixels) for each in seen]
        wanted = [key for key in keys if isinstance(key, str)]
        shown = encoder.pictures.of(wanted, lambda missing: encoder.embed_pictures(missing, pixels))
        texts = [f"{self._prefix}{text}" for each in seen for text in self._texts(each) if text is not None]
        known = encoder.texts.of(texts, encoder.embed_texts)
        return [
            key if isinstance(key, Outcome) else self._score(each, shown[key].vector, known)
            for each, key in zip(seen, keys, strict=True)
        ]

    def close(self) -> None:
        load_picture_encoder.cache_clear()

    def _picture(self, seen: Observation, encoder: PictureEncoder, pixels: dict[str, Any]) -> str | Outcome:
        """The key of the sample's picture, with its pixels put aside; an outcome where there is nothing to score."""
        if not seen.predictions or not self._is_scored(seen):
            return Outcome()
        try:
            data = picture_of(seen.sample, self._column, self._base)
            key = hashlib.sha256(data).hexdigest()
            if key not in pixels and key not in encoder.pictures:
                pixels[key] = encoder.prepared(data)
        except NotInLog as error:
            return Outcome(error=str(error), not_in_log=True)
        except (ValueError, OSError) as error:
            return Outcome(error=str(error))
        return key

    def _greatest(self) -> float:
        return self._weight

    def _is_scored(self, seen: Observation) -> bool:
        return True

    def _texts(self, seen: Observation) -> Sequence[str | None]:
        return seen.predictions

    def _score(self, seen: Observation, picture: Any, known: Mapping[str, _Embedded]) -> Outcome:
        texts = [None if text is None else known[f"{self._prefix}{text}"] for text in self._texts(seen)]
        answers, references = texts[: len(seen.predictions)], texts[len(seen.predictions) :]
        values = [0.0 if answer is None else self._value(answer, picture, references) for answer in answers]
        return Outcome(sum(values) / len(values), truncated=sum(text is not None and text.truncated for text in texts))

    def _value(self, answer: _Embedded, picture: Any, references: Sequence[_Embedded | None]) -> float:
        """The score of one answer, from vectors of length 1."""
        return self._weight * _positive(cosine(answer.vector, picture))


class RefClipScore(ClipScore):
    """RefCLIPScore: the harmonic mean of CLIPScore and the largest cosine between the answer and a reference, not below
    0 (Hessel et al. 2021, section 3). Options as in `clip_score`.
    """

    name = "ref_clip_score"

    def _greatest(self) -> float:
        return _harmonic(self._weight, 1.0)

    def _is_scored(self, seen: Observation) -> bool:
        return bool(gold_texts(seen.sample))

    def _texts(self, seen: Observation) -> Sequence[str | None]:
        return [*seen.predictions, *(gold_texts(seen.sample) or ())]

    def _value(self, answer: _Embedded, picture: Any, references: Sequence[_Embedded | None]) -> float:
        near = nearest(answer.vector, [each.vector for each in references if each is not None])
        return _harmonic(super()._value(answer, picture, ()), _positive(near))


def _positive(value: float) -> float:
    """`max(value, 0)`, and NaN where it is NaN."""
    return 0.0 if value < 0 else value


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0


def _features(found: Any) -> Any:
    """The projected features: a tensor in transformers 4, the pooled part of an output since then."""
    return found if hasattr(found, "norm") else found.pooler_output


def _load_model(folder: ModelFolder, dtype: str) -> Any:
    import torch
    from transformers import AutoModel

    def load() -> Any:
        kind = getattr(torch, dtype)
        return AutoModel.from_pretrained(folder.path, local_files_only=True, dtype=kind, output_loading_info=True)

    model, info = quietly(load)
    require_all_weights(folder, info)
    return model.eval()


def _load_processor(folder: ModelFolder) -> Any:
    import transformers

    # By PIL on every machine: torchvision resizes a little differently.
    newer = int(transformers.__version__.partition(".")[0]) >= 5
    by_pil: dict[str, Any] = {"backend": "pil"} if newer else {"use_fast": False}

    def load() -> Any:
        return transformers.AutoImageProcessor.from_pretrained(folder.path, local_files_only=True, **by_pil)

    return quietly(load)


@hookimpl
def harness_metrics() -> list[type[Metric]]:
    return [ClipScore, RefClipScore]
