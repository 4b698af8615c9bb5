"""How fast a device multiplies matrices, and how large those of a model are: what its speed is held against."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from harness.engine.cpu import speed_up_linear_layers, threads

_SIDES = {"cpu": (256, 512), "cuda": (4096,), "mps": (2048,)}
"""Of the matrices that are multiplied: the first is for a device that takes long."""
_SLOW, _ENOUGH = 0.005, 0.01
"""Seconds: a product that takes more is not followed by larger ones; products that took so many are enough."""
_FEWEST = 2


@functools.cache
def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a linear layer on `device`, as the engine runs it.

    The best of a few products, some hundredths of a second in all, once in a process; random streams stay as they are.
    Of a processor it is the rate of one thread, by its own time, as many times as there are threads: other processes do
    not change it.
    """
    on_processor = device == "cpu"
    count = torch.get_num_threads() if on_processor else 1
    clock = time.thread_time if on_processor else time.perf_counter
    best = 0.0
    with torch.inference_mode(), threads(1) if on_processor else nullcontext():
        for side in _SIDES.get(device.split(":")[0], _SIDES["cpu"]):
            took = _seconds(_layer(side, device, dtype), torch.ones((side, side), device=device, dtype=dtype), clock)
            best = max(best, count * 2.0 * side**3 / max(took, 1e-9))
            if took > _SLOW:
                break
    return best


def _layer(side: int, device: str, dtype: torch.dtype) -> torch.nn.Linear:
    with torch.random.fork_rng(devices=[]):  # a layer begins with random weights
        layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight = torch.nn.Parameter(torch.full((side, side), 1 / side, device=device, dtype=dtype))
    speed_up_linear_layers(layer)
    return layer


def _seconds(layer: torch.nn.Linear, values: torch.Tensor, clock: Callable[[], float]) -> float:
    """Of the fastest of some products."""
    float(layer(values)[0, 0])  # what libraries make once is not of the rate
    took, spent, products = float("inf"), 0.0, 0
    while products < _FEWEST or spent < _ENOUGH:
        began = clock()
        float(layer(values)[0, 0])  # reading a value waits for a device that computes on its own
        seconds = clock() - began
        took, spent, products = min(took, seconds), spent + seconds, products + 1
    return took


def product_sizes(model: Any, layers: Any) -> tuple[int, int]:
    """Weights that a token is multiplied with in a model's `layers`, and in its head.

    Of experts, as many count as a token goes through.
    """
    config = getattr(model.config, "text_config", None) or model.config
    experts = next((n for name in ("num_local_experts", "num_experts") if (n := getattr(config, name, None))), 1)
    chosen = getattr(config, "num_experts_per_tok", None) or experts
    embeddings = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    within = 0
    for name, weight in layers.named_parameters():
        if weight.dim() > 1 and id(weight) not in embeddings:
            within += int(weight.numel() * chosen / experts) if "experts" in name else weight.numel()
    head = model.get_output_embeddings()
    return within, 0 if head is None else head.weight.numel()
