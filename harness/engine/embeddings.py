"""Vectors of texts and pictures by a local model of transformers: one that reads texts (BGE and its like), or one that
sees too (CLIP and its like).

    model = EmbeddingModel(Path("bge-small-zh"))
    vectors = model.vectors(["长江", "the sea"], [[], []])     # [texts, width], each of length 1
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.engine.devices import resolve_devices
from harness.engine.weights import read_files, weights_fingerprint
from harness.errors import ModelError, UsageError

Vectors = npt.NDArray[np.float32]
BATCH = 32
_POOLINGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}
_NAMES = {"cls": "cls", "mean": "mean", "lasttoken": "last"}


class EmbeddingModel:
    """A model that turns rows into vectors. `sees`: whether it also looks at pictures.

    A folder of sentence-transformers says how its tokens are pooled (`1_Pooling/config.json`); others by their mean.
    Texts are cut to the model's window. Raises `UsageError` for what is no folder of a model, `ModelError` for one that
    does not load.
    """

    def __init__(self, folder: Path, device: str = "auto") -> None:
        import transformers

        if not (folder / "config.json").is_file():
            raise UsageError(f"--embedding {folder}: is no folder of a model of transformers (it has no config.json)")
        self.folder = folder
        self.pooling = _pooling(folder)
        try:
            self._device = resolve_devices(device)[0]
            model, info = transformers.AutoModel.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
            # transformers draws what is missing at random; poolers are not read here.
            if missing := sorted(name for name in info["missing_keys"] if "pooler" not in name):
                raise ModelError(f"--embedding {folder}: lacks {len(missing)} weights of its model ({missing[0]}, ...)")
            self._model = model.eval().to(self._device)
            self.sees = hasattr(self._model, "get_image_features") and hasattr(self._model, "get_text_features")
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            if self.sees:
                # By PIL on every machine: torchvision resizes a little differently.
                newer = int(transformers.__version__.partition(".")[0]) >= 5
                by_pil: dict[str, Any] = {"backend": "pil"} if newer else {"use_fast": False}
                processors = transformers.AutoImageProcessor
                self._processor = processors.from_pretrained(folder, local_files_only=True, **by_pil)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            raise ModelError(f"--embedding {folder}: cannot be loaded ({why})") from error

    @property
    def name(self) -> str:
        """The folder's name and a hash of its weights."""
        return f"{self.folder.resolve().name} ({weights_fingerprint(read_files(self.folder))[:12]})"

    def vectors(self, texts: Sequence[str], pictures: Sequence[Sequence[bytes]]) -> Vectors:
        """Vectors of length 1, shape [rows, width]: of a row's text, and, where the model sees, of the mean of its
        pictures beside it; zeros for what a row does not have. Raises `ValueError` for a picture that cannot be read.
        """
        parts = [self._of_texts(texts)]
        if self.sees:
            nothing = np.zeros(parts[0].shape[1], dtype=np.float32)
            parts.append(np.stack([self._of_pictures(row) if row else nothing for row in pictures]))
        joined = np.concatenate(parts, axis=1)
        return np.asarray(joined / np.maximum(np.linalg.norm(joined, axis=1, keepdims=True), 1e-12), dtype=np.float32)

    def _of_texts(self, texts: Sequence[str]) -> Vectors:
        import torch

        window = min(self._tokenizer.model_max_length, _positions(self._model.config))
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))  # little padding in a batch
        found: dict[int, Vectors] = {}
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            # An empty text has no token to pool.
            shown = [texts[place] or " " for place in places]
            inputs = self._tokenizer(shown, padding=True, truncation=True, max_length=window, return_tensors="pt")
            inputs = inputs.to(self._device)
            with torch.inference_mode():
                if self.sees:
                    pooled = _features(self._model.get_text_features(**inputs))
                else:
                    states = self._model(**inputs).last_hidden_state
                    pooled = _pooled(states, inputs["attention_mask"], self.pooling)
            found.update(zip(places, _unit(pooled), strict=True))
        return np.stack([found[place] for place in range(len(texts))])

    def _of_pictures(self, pictures: Sequence[bytes]) -> Vectors:
        import torch
        from PIL import Image

        opened = [Image.open(io.BytesIO(data)).convert("RGB") for data in pictures]
        inputs = self._processor(images=opened, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            vectors = _unit(_features(self._model.get_image_features(pixel_values=inputs["pixel_values"])))
        mean = vectors.mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), dtype=np.float32)


def _features(found: Any) -> Any:
    """The projected features: a tensor in transformers 4, the pooled part of an output since then."""
    return found if hasattr(found, "norm") else found.pooler_output


def _pooled(states: Any, mask: Any, pooling: str) -> Any:
    """One vector a text, [batch, width], of states [batch, length, width], padded at either end."""
    import torch

    if pooling == "cls":
        first = mask.int().argmax(dim=1)
        return states[torch.arange(len(states), device=states.device), first]
    if pooling == "last":
        places = torch.arange(mask.shape[1], device=states.device)
        return states[torch.arange(len(states), device=states.device), (mask * places).argmax(dim=1)]
    weights = mask.unsqueeze(-1).float()
    return (states.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _unit(vectors: Any) -> Vectors:
    import torch

    return np.asarray(torch.nn.functional.normalize(vectors.float(), dim=1).cpu().numpy(), dtype=np.float32)


def _positions(config: Any) -> int:
    """How many tokens the text part has positions for. RoBERTa's first `pad_token_id` + 1 are not for tokens."""
    text = config.get_text_config()
    positions = int(getattr(text, "max_position_embeddings", None) or 512)
    return positions - text.pad_token_id - 1 if "roberta" in text.model_type else positions


def _pooling(folder: Path) -> str:
    """Raises `UsageError` for a way of pooling that is not known here."""
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return "mean"
    told = json.loads(file.read_text(encoding="utf-8"))
    named = [_NAMES.get(str(told["pooling_mode"]), "?")] if told.get("pooling_mode") else [
        _POOLINGS.get(key, "?") for key, value in told.items() if key.startswith("pooling_mode_") and value is True
    ]  # fmt: skip
    if len(named) != 1 or named[0] == "?":
        raise UsageError(f"--embedding {folder}: pools in a way that is not known here ({file})")
    return named[0]
