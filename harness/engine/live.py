"""A model of transformers that is in memory already, in training most of all: measured where it is, without a copy.

    with as_found(model, tokenizer):
        ...  # run a `LiveModel`; whatever it changes on the model, the tokenizer and the random streams is put back

The layers of an adapted model (peft) are the base's with the adapter in them, as a saved adapter is read by `hf`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.engine.model import TorchModel
from harness.engine.prompt_encoder import TextOptions
from harness.engine.quantised import stored_identity
from harness.engine.tokens import Encoded
from harness.engine.weights import short_hash
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.engine.plain import Piece
    from harness.engine.ranks import Ranks

# Attributes of a module that are dictionaries: what they hold has to be kept too.
_TABLES = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")
_SAMPLED_VALUES = 1024
# What says who wrote a configuration, or changes with how the model is run.
_UNDECIDING = ("_name_or_path", "transformers_version", "use_cache", "dtype", "torch_dtype")


def is_torch_module(model: object) -> bool:
    """Whether this is a module of torch; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def language_model(model: Any) -> Any:
    """The transformers model within what trainers wrap around it. Raises UsageError where there is none."""
    import torch

    found = model
    for _ in range(10):
        if isinstance(found, torch.nn.parallel.DistributedDataParallel) or type(found).__name__ == "DeepSpeedEngine":
            found = found.module
        elif hasattr(found, "_orig_mod"):  # compiled
            found = found._orig_mod
        elif type(found).__name__ == "FullyShardedDataParallel":
            found = found._fsdp_wrapped_module
        elif hasattr(found, "peft_config") and hasattr(found, "get_base_model"):
            prompts = [kind for kind in found.peft_config.values() if kind.is_prompt_learning]
            if prompts:
                raise UsageError(
                    f"model: an adapter of type {getattr(prompts[0].peft_type, 'value', prompts[0].peft_type)} puts "
                    "virtual tokens before every prompt; adapters that change weights (LORA and its relatives) are "
                    "supported"
                )
            found = found.get_base_model()
        else:
            break
    if not hasattr(getattr(found, "config", None), "is_encoder_decoder") or not hasattr(found, "generate"):
        raise UsageError(
            f"model: {type(model).__name__} is a module of torch, and no language model of transformers: it needs "
            "`config` and `generate`"
        )
    return found


def why_sharded(model: Any) -> str:
    """What cut the weights of a model over several processes, in words; empty where they are whole."""
    if any(type(part).__name__ == "FullyShardedDataParallel" for part in model.modules()):
        return "FSDP"
    if any(hasattr(parameter, "ds_id") for parameter in model.parameters()):
        return "ZeRO-3"
    if not any(map(_is_cut, model.parameters())):
        return ""
    return "FSDP2" if any(hasattr(part, "unshard") for part in model.modules()) else "tensor parallelism"


def check_sharding(model: Any) -> None:
    """Raises UsageError where `whole_weights` cannot gather the weights of a model."""
    kind = why_sharded(model)
    if kind not in ("", "FSDP", "FSDP2", "ZeRO-3"):
        raise UsageError(f"model: its weights are sharded by {kind}, from which they cannot be gathered here")


@contextlib.contextmanager
def whole_weights(model: Any) -> Iterator[None]:
    """Within the block a model that is sharded over processes has all of its weights, and runs without the others.

    To be entered by all processes together, within `as_found`. The weights are gathered once for the whole block, which
    takes as much memory as they do. Raises UsageError as `check_sharding` does.
    """
    kind = why_sharded(model)
    if not kind:
        yield
    elif kind == "FSDP2":
        parts = [part for part in model.modules() if hasattr(part, "unshard") and hasattr(part, "reshard")]
        for part in parts:
            part.unshard()
        try:
            if any(map(_is_cut, model.parameters())):
                raise UsageError("model: its weights are sharded by more than FSDP2, and cannot be gathered here")
            for part in parts:  # what gathers and cuts again around each pass; `as_found` puts it back
                part._forward_hooks.clear()
                part._forward_pre_hooks.clear()
            yield
        finally:
            for part in parts:
                part.reshard()
    elif kind == "FSDP":
        from torch.distributed.fsdp import FullyShardedDataParallel

        with FullyShardedDataParallel.summon_full_params(model, writeback=False):
            for part in model.modules():
                if isinstance(part, FullyShardedDataParallel):
                    vars(part)["forward"] = part.module.forward
            yield
    elif kind == "ZeRO-3":
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            for part in model.modules():
                for hooks in (part._forward_hooks, part._forward_pre_hooks):
                    for number, hook in list(hooks.items()):
                        if str(getattr(hook, "__module__", "")).startswith("deepspeed."):
                            del hooks[number]  # it gathers a layer, and lets it go when the layer is done
            yield
    else:
        check_sharding(model)


@contextlib.contextmanager
def as_found(model: Any, tokenizer: Any) -> Iterator[None]:
    """Within the block the model is in evaluation mode and may be changed; afterwards all is as it was.

    That is: the mode, the attributes and the hooks of every layer, buffers, which parameters train, configurations and
    generation settings, how the tokenizer pads and cuts, and the random streams of Python, numpy and torch.
    """
    import torch

    module = language_model(model)
    parts = [(part, dict(vars(part))) for part in {*model.modules(), *module.modules()}]
    # The tables stay the objects that they are: the handle of a hook finds it by them.
    tables = [(state[name], list(state[name].items())) for _, state in parts for name in _TABLES if name in state]
    trained = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    settings = [getattr(part, name, None) for part in module.modules() for name in ("config", "generation_config")]
    saved = [(each, dict(vars(each))) for each in {id(each): each for each in settings if each is not None}.values()]
    reading = _reading_state(tokenizer)
    streams = _random_streams()
    try:
        module.eval()
        if "_original_forward" in vars(module):
            # accelerate's mixed precision: a saved checkpoint is measured in the dtype of its weights, and so is this.
            module.forward = module._original_forward
        for part in module.modules():
            if vars(part).get("_compiled_call_impl") is not None:
                # `Module.compile`: each new shape of a batch would be compiled anew, for longer than it takes to run.
                part._compiled_call_impl = None
            if hasattr(part, "support_avx512bf16_for_cpu"):
                # 4-bit layers of bitsandbytes rearrange their weights to answer faster, and then learn nothing more.
                part.support_avx512bf16_for_cpu = False
        with torch.autocast(module.device.type, enabled=False):
            yield
    finally:
        for part, state in parts:
            part.__dict__.clear()
            part.__dict__.update(state)
        for table, items in tables:
            table.clear()
            table.update(items)
        for parameter, trains in trained:
            if parameter.requires_grad != trains:
                parameter.requires_grad_(trains)
        for each, values in saved:
            each.__dict__.clear()
            each.__dict__.update(values)
        _restore_reading(tokenizer, reading)
        _restore_streams(streams)


class LiveModel(TorchModel):
    """A model and a tokenizer that somebody else holds. `max_length` and the others are as those of `hf`."""

    name = "live"

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        max_length: int | None = None,
        chat_template: str | None = None,
        chat_template_args: Mapping[str, Any] | None = None,
        enable_thinking: bool | None = None,
        thinking: str = "auto",
        reasoning_effort: str | None = None,
        thinking_budget: int | None = None,
        think_end_token: str | int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        on_overflow: str = "truncate",
    ) -> None:
        text = TextOptions.of(
            max_length=max_length,
            add_bos_token=add_bos_token,
            prefix_token_id=prefix_token_id,
            chat_template=chat_template,
            chat_template_args=chat_template_args,
            enable_thinking=enable_thinking,
            thinking=thinking,
            reasoning_effort=reasoning_effort,
            thinking_budget=thinking_budget,
            think_end_token=think_end_token,
            on_overflow=on_overflow,
        )
        self.given = language_model(model)
        # Of a model that sees, the processor; its texts are measured.
        self.given_tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        if not hasattr(self.given_tokenizer, "eos_token_id"):
            raise UsageError(
                f"tokenizer: should be the tokenizer of the model, found {type(tokenizer).__name__}: a model in memory "
                "needs it: evaluate(model, tokenizer=tokenizer)"
            )
        super().__init__("the model in memory", text, str(self.given.dtype).removeprefix("torch."))
        self.ranks: Ranks | None = None
        """The processes of the training that holds the model, where these share the work."""

    @classmethod
    def of(cls, model: Any, tokenizer: Any, ranks: Ranks | None = None) -> type[LiveModel]:
        """A class of models that are this one, for whoever makes models of arguments."""

        class Held(cls):  # type: ignore[misc, valid-type]
            def __init__(self, **options: Any) -> None:
                super().__init__(model, tokenizer, **options)
                self.ranks = ranks

            @classmethod
            def arguments(own) -> Any:  # noqa: N804
                known, _ = LiveModel.arguments()
                return {name: known[name] for name in known if name not in ("model", "tokenizer")}, False

        return Held

    def open_devices(self) -> tuple[str, ...]:
        held, wanted = str(self.given.device), self.options.device
        if wanted not in ("auto", held, self.given.device.type):
            raise UsageError(f"--device: the model in memory is on {held}, not on {wanted}")
        self.spreads = len(set((getattr(self.given, "hf_device_map", None) or {}).values())) > 1
        return (held,)

    def open_config(self) -> Any:
        return self.given.config

    def open_tokenizer(self) -> Any:
        return self.given_tokenizer

    def open_model(self, device: str, dtype: Any) -> Any:
        return self.given

    def bytes_to_load(self) -> int | None:
        return 0

    def pieces(self, portions: Iterable[Encoded]) -> Iterator[Piece]:
        return super().pieces(portions) if self.ranks is None else self.ranks.run(self, Encoded.joined(portions))

    def describe(self) -> Mapping[str, Any]:
        return {**super().describe(), **({} if self.ranks is None else {"processes": self.ranks.size})}

    @functools.cached_property
    def weights(self) -> str:
        """The `fingerprint` of the weights as they are when this is asked first."""
        return fingerprint(self.given)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which weights these are: a hash of sums over all, and of samples. Training one step further is another."""
        known = {key: value for key, value in self.given.config.to_dict().items() if key not in _UNDECIDING}
        backend = getattr(self.given_tokenizer, "backend_tokenizer", None)
        vocabulary = json.dumps(self.given_tokenizer.get_vocab(), sort_keys=True)
        # How it pads and cuts is set on the way, by whoever trains.
        text = vocabulary if backend is None else json.dumps(_without_padding(backend.to_str()), sort_keys=True)
        return {
            "pretrained": "in memory",
            "weights": self.weights,
            "config": short_hash(json.dumps(known, sort_keys=True, default=str).encode()),
            "tokenizer": short_hash(text.encode("utf-8", "surrogatepass")),
            "quantization": stored_identity(self.given.config),
            **self.text_identity,
        }


def fingerprint(module: Any) -> str:
    """A hash of a model's parameters and buffers: for each its name, type and shape, the sum of all its values as
    integers, and some of them. It reads the weights once and copies none."""
    import torch

    digest = hashlib.sha256()
    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        data = tensor.detach()
        if data.is_meta or not data.numel():
            continue
        values = data.contiguous().view(words[data.element_size()]).flatten()
        digest.update(str(int(values.sum(dtype=torch.int64))).encode())
        # A copy of the samples: what numpy has looked into can no longer be given back, as sharding wants to.
        samples = values[:: max(1, len(values) // _SAMPLED_VALUES)].clone()
        digest.update(samples.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _is_cut(parameter: Any) -> bool:
    """Whether a process has only its own part of a tensor (`DTensor`)."""
    return hasattr(parameter, "full_tensor")


def _without_padding(tokenizer: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(tokenizer).items() if key not in ("padding", "truncation")}


def _reading_state(tokenizer: Any) -> tuple[dict[str, Any], Any, Any]:
    """(attributes of a tokenizer, how its backend cuts, how it pads)."""
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return dict(vars(tokenizer)), getattr(backend, "truncation", None), getattr(backend, "padding", None)


def _restore_reading(tokenizer: Any, state: tuple[dict[str, Any], Any, Any]) -> None:
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    attributes, truncation, padding = state
    tokenizer.__dict__.clear()
    tokenizer.__dict__.update(attributes)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return
    if backend.truncation != truncation:
        backend.no_truncation() if truncation is None else backend.enable_truncation(**truncation)
    if backend.padding != padding:
        backend.no_padding() if padding is None else backend.enable_padding(**padding)


def _random_streams() -> list[tuple[Any, Sequence[Any]]]:
    """What puts each random stream back, and with what."""
    import numpy as np
    import torch

    streams: list[tuple[Any, Sequence[Any]]] = [
        (random.setstate, (random.getstate(),)),
        (np.random.set_state, (np.random.get_state(),)),
        (torch.set_rng_state, (torch.get_rng_state(),)),
    ]
    if torch.cuda.is_initialized():
        streams.append((torch.cuda.set_rng_state_all, (torch.cuda.get_rng_state_all(),)))
    if torch.backends.mps.is_available():
        streams.append((torch.mps.set_rng_state, (torch.mps.get_rng_state(),)))
    return streams


def _restore_streams(streams: Sequence[tuple[Any, Sequence[Any]]]) -> None:
    for restore, state in streams:
        restore(*state)
