"""Hidden states of texts by any encoder of transformers: each text once, in batches of about the same length."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness import ModelError

from .folder import ModelFolder, Running

# Of these, the official bert-score reads a text as if a space stood before it (`sent_encode`), as in mid-sentence.
_SPACE_BEFORE = {"roberta", "gpt2"}
_NO_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenizer, and how many tokens its model reads."""

    tokenizer: Any
    window: int

    def of(self, texts: Sequence[str], window: int | None = None) -> list[tuple[list[int], bool]]:
        """Token ids of each text, special tokens included, cut to the window; and whether something was cut off."""
        longest = min(self.window, window or self.window)
        if not texts:
            return []
        if longest >= _NO_LIMIT:
            return [(ids, False) for ids in self._ids(texts)]
        # A token more than fits tells which texts are too long, without any of them being read to its end.
        encoded = [(ids, False) for ids in self._ids(texts, longest + 1)]
        long = [place for place, (ids, _) in enumerate(encoded) if len(ids) > longest]
        if long:
            for place, ids in zip(long, self._ids([texts[place] for place in long], longest), strict=True):
                encoded[place] = ids, True
        return encoded

    def _ids(self, texts: Sequence[str], longest: int | None = None) -> list[list[int]]:
        cut = {"truncation": True, "max_length": longest} if longest is not None else {}
        return list(self.tokenizer(list(texts), add_special_tokens=True, **cut)["input_ids"])

    def batches(
        self, sequences: Sequence[Sequence[int]], size: int, device: str, forward: Callable[[Any, Any], Any]
    ) -> Iterator[tuple[list[int], Any, Any]]:
        """Batch by batch: places in `sequences`, what `forward(ids, mask)` gives, and the mask.

        Rows of a batch are of about the same length; padding stands at their right end and is False in the mask.
        """
        order = sorted(range(len(sequences)), key=lambda place: -len(sequences[place]))

        def run(places: Sequence[int]) -> tuple[Any, Any]:
            ids, mask = self._padded([sequences[place] for place in places], device)
            return forward(ids, mask), mask

        yield from in_batches(order, size, run)

    def _padded(self, rows: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
        import torch

        longest = max(1, *(len(row) for row in rows))
        pad = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows], device=device)
        return ids, torch.tensor([[place < len(row) for place in range(longest)] for row in rows], device=device)


class TextEncoder:
    """A tokenizer and a model. `layer` cuts the layers above it off; None keeps all."""

    def __init__(
        self, folder: ModelFolder, running: Running, device: str, layer: int | None, as_bert_score: bool
    ) -> None:
        import torch

        self.device, self.batch_size = device, running.batch_size
        self.model = _load_model(folder, getattr(torch, running.dtype))
        self.hidden_state: int | None = None
        if layer is not None and not _cut_layers(self.model, layer):
            self.hidden_state = layer
        self.model.to(device)
        tokenizer = load_tokenizer(folder, as_bert_score)
        self.tokens = Tokens(tokenizer, min(_positions(self.model.config), tokenizer.model_max_length))

    def states(self, sequences: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Any, Any]]:
        """Batch by batch: places in `sequences`, hidden states [batch, length, width], mask [batch, length]."""
        yield from self.tokens.batches(sequences, self.batch_size, self.device, self._forward)

    def _forward(self, ids: Any, mask: Any) -> Any:
        import torch

        with torch.inference_mode():
            output = self.model(
                input_ids=ids, attention_mask=mask.long(), output_hidden_states=self.hidden_state is not None
            )
        return output.last_hidden_state if self.hidden_state is None else output.hidden_states[self.hidden_state]


@functools.lru_cache(maxsize=2)
def load_encoder(
    folder: ModelFolder, running: Running, device: str, layer: int | None = None, as_bert_score: bool = False
) -> TextEncoder:
    """The encoder of a folder; one in memory serves all metrics and tasks. `load_encoder.cache_clear` gives it back."""
    return TextEncoder(folder, running, device, layer, as_bert_score)


def in_batches(
    places: Sequence[int], size: int, forward: Callable[[Sequence[int]], tuple[Any, ...]]
) -> Iterator[tuple[Any, ...]]:
    """`(places of a batch, *what forward gives for them)`; a batch that does not fit into memory is halved."""
    import torch

    waiting = [places[start : start + size] for start in range(0, len(places), size)]
    waiting.reverse()
    while waiting:
        batch = waiting.pop()
        try:
            result = forward(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            waiting += [batch[half:], batch[:half]]
            continue
        yield list(batch), *result


def quietly(load: Callable[[], Any]) -> Any:
    """Load a part of a model without progress bars and remarks; what goes wrong is a `ModelError` of one line."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    log = logging.getLogger("transformers")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load()
    except Exception as error:
        raise ModelError(f"cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}") from error
    finally:
        log.setLevel(level)


def require_all_weights(folder: ModelFolder, info: Any) -> None:
    """Raise `ModelError` where the folder lacks weights, which transformers would draw at random. Poolers do not count:
    no metric reads them."""
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise ModelError(f"{folder.path} lacks {len(missing)} weights of its model ({missing[0]}, ...)")


def load_tokenizer(folder: ModelFolder, as_bert_score: bool = False) -> Any:
    """The tokenizer of a folder. as_bert_score: with the space before a text that the official package puts there."""
    from transformers import AutoTokenizer

    space = as_bert_score and folder.config.get("model_type") in _SPACE_BEFORE
    more = {"add_prefix_space": True} if space else {}
    return quietly(lambda: AutoTokenizer.from_pretrained(folder.path, local_files_only=True, **more))


def _load_model(folder: ModelFolder, dtype: Any) -> Any:
    from transformers import AutoModel

    def load() -> Any:
        return AutoModel.from_pretrained(folder.path, local_files_only=True, dtype=dtype, output_loading_info=True)

    model, info = quietly(load)
    require_all_weights(folder, info)
    return (model.get_encoder() if model.config.is_encoder_decoder else model).eval()


def layer_count(folder: ModelFolder) -> int:
    """How many layers the encoder has, from its configuration."""
    from transformers import AutoConfig

    folder.require_config()
    config = quietly(lambda: AutoConfig.from_pretrained(folder.path, local_files_only=True))
    # `get_text_config` for models whose text part is one of several; it is the configuration itself elsewhere.
    return int(config.get_text_config(encoder=True).num_hidden_layers)


def _cut_layers(model: Any, layer: int) -> bool:
    """Take off the layers above `layer`, so that they are not computed. False where the model is built otherwise."""
    import torch

    count = model.config.num_hidden_layers
    if layer == count:
        return True
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    if len(lists) != 1:
        return False
    parent, _, attribute = lists[0][0].rpartition(".")
    setattr(model.get_submodule(parent), attribute, lists[0][1][:layer])
    return True


def _positions(config: Any) -> int:
    """How many tokens the model has positions for. RoBERTa's first `pad_token_id` + 1 positions are not for tokens."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return _NO_LIMIT
    return positions - config.pad_token_id - 1 if "roberta" in config.model_type else positions
