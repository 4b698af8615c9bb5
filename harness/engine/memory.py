"""How much fits: free memory of a device, the cost of a token, and what running out looks like."""

from __future__ import annotations

import gc
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.interrupts import interrupts_wait
from harness.words import Phrase, phrase

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "alloc_cpu", "not enough memory", "cublas_status_alloc")
# On a processor larger batches stop paying once the matrices fill its caches.
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 131072
_SHARE_OF_FREE = 0.8
# A request of usual length, to say what a cache takes.
_SHOWN_TOKENS = 2048
# Where the system does not say, as on macOS.
_UNKNOWN_MEMORY = 4 << 30


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device, or the machine, has no memory left."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in _OUT_OF_MEMORY)
    )


def wanted(error: BaseException) -> str:
    """` (it wanted 2.00 GiB more)`, as torch says it when memory runs out; empty where it does not."""
    amount = re.search(r"tried to allocate ([\d.]+ ?\w+)", str(error), re.IGNORECASE)
    return f" (it wanted {amount[1]} more)" if amount else ""


def release(device: str, collect: bool = True) -> None:
    """Give cached memory back after running out, so that the smaller batch finds it.

    collect: whether something that holds memory may refer to itself, which takes tenths of a second to find.
    """
    import torch

    if collect:
        with interrupts_wait():  # it calls what watches objects, where an interrupt is printed and forgotten
            gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def free_memory(device: str) -> int:
    """Bytes that can still be allocated on `device`."""
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    # What the machine has left, or the container, where that allows less.
    bounds = [_UNKNOWN_MEMORY]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        bounds = [int(lines["MemAvailable"].split()[0]) * 1024]
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip().isdigit():
        bounds.append(int(limit.read_text()) - int(used.read_text()))
    return max(0, min(bounds))


@dataclass(frozen=True)
class TokenCost:
    """Bytes that one token takes: `cache` for its keys and values in all layers, `work` for passing activations."""

    cache: int
    work: int

    @classmethod
    def of(cls, config: Any, bytes_per_value: int) -> TokenCost:
        """Read off a model's configuration. Unknown shapes are taken as full multi-head attention."""
        text = getattr(config, "text_config", None) or config
        hidden = _first(text, ("hidden_size", "d_model", "n_embd"), 1024)
        inner = max(_first(layer, ("intermediate_size", "d_ff", "n_inner"), 4 * hidden) for layer in _layers(text))
        return cls(
            cache=sum(_cached_values(layer, hidden) for layer in _layers(text)) * bytes_per_value,
            work=(8 * hidden + 3 * inner) * max(bytes_per_value, 4),
        )


def _cached_values(layer: Any, hidden: int) -> int:
    """How many values the keys and values of a token are in one layer."""
    heads = _first(layer, ("num_attention_heads", "num_heads", "n_head"), 16)
    kv_heads = _first(layer, ("num_key_value_heads",), heads)
    return 2 * kv_heads * _first(layer, ("head_dim", "d_kv"), max(1, hidden // heads))


def _layers(text: Any) -> list[Any]:
    """A configuration for each layer; the same one for all, but where an architecture (Gemma 4) has layers of kinds."""
    count = _first(text, ("num_hidden_layers", "num_layers", "n_layer"), 24)
    if getattr(text, "is_heterogeneous", False):
        return [text.per_layer_config[index] for index in range(count)]
    return [text] * count


def batch_tokens(device: str, cost: TokenCost, keeps_cache: bool, at_once: int = 1) -> int:
    """How many tokens, padding included, each of so many batches at once may hold."""
    ceiling = _CPU_BATCH_TOKENS if device == "cpu" else _GPU_BATCH_TOKENS
    per_token = cost.work + (cost.cache if keeps_cache else 0)
    return max(1, min(ceiling, int(free_memory(device) * _SHARE_OF_FREE) // (per_token * at_once)))


def cached_tokens(device: str, cost: TokenCost) -> int:
    """How many tokens' keys and values may be kept, and passed at once, while text is generated."""
    return max(1, int(free_memory(device) * _SHARE_OF_FREE / 2) // (cost.cache + cost.work))


def weight_bytes(config: Any, bytes_per_value: int) -> int:
    """Bytes of a decoder's weights, estimated from its configuration."""
    return parameters(config) * bytes_per_value


def parameters(config: Any) -> int:
    """The number of a decoder's weights, estimated from its configuration."""
    text = getattr(config, "text_config", None) or config
    hidden = _first(text, ("hidden_size", "d_model", "n_embd"), 1024)
    vocabulary = _first(text, ("vocab_size",), 32000)
    layers = 0
    for layer in _layers(text):
        inner = _first(layer, ("intermediate_size", "d_ff", "n_inner"), 4 * hidden)
        experts = _first(layer, ("num_local_experts", "num_experts"), 1)
        layers += 4 * hidden * hidden + 3 * hidden * inner * experts
    return layers + 2 * vocabulary * hidden


def too_large(weights: int, cost: TokenCost, window: int, device: str, dtype: str) -> str:
    """What to tell a user whose model does not fit: how much is needed, how much there is, and what to try."""
    tokens = min(window, _SHOWN_TOKENS)
    cache = tokens * cost.cache
    smaller = "load_in_4bit=True" if dtype != "float32" else "dtype=bfloat16 or load_in_4bit=True"
    return (
        f"{device} has {_size(free_memory(device))} free, but {_size(weights + cache)} are needed: {_size(weights)} "
        f"for the weights and {_size(cache)} for the keys and values of {tokens:,} tokens. Try {smaller} in "
        "--model_args, another --device, or parallelize=True, which spreads the model over GPUs, main memory and disk"
    )


def outlook(weights: int, cost: TokenCost, device: str, dtype: str) -> Phrase:
    """What a model will take of a device, in a line."""
    return phrase(
        "{weights} of weights in {dtype} and {cache} of keys and values a token; {device} has {free} free",
        weights=_size(weights),
        dtype=dtype,
        cache=_size(cost.cache),
        device=device,
        free=_size(free_memory(device)),
    )


def _size(size: float) -> str:
    """`1.5 GB`, `30.2 MB`, `12.3 kB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.1f} kB"


def _first(config: Any, names: tuple[str, ...], default: int) -> int:
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return default
