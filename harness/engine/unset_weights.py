"""Builds a model without numbers in a fraction of the time: they are read from files afterwards.

transformers builds it on the device `meta`, where a tensor is a shape. Some of what its layers ask for there, torch
answers by its own functions in Python, which import SymPy: four tenths of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from harness.engine.deferred_imports import import_meta_kernels

_MOST = 1 << 20
"""Elements of a tensor that is made on the processor for its shape."""
# What the frequencies of rotary positions are made with.
_ARITHMETIC = frozenset(
    {
        torch.Tensor.div,
        torch.Tensor.__truediv__,
        torch.Tensor.__rtruediv__,
        torch.Tensor.__rdiv__,
        torch.Tensor.__rpow__,
        torch.Tensor.reciprocal,
        torch.empty_like,
    }
)


class UnsetWeights(TorchFunctionMode):
    """While this is entered, tensors without numbers come about as quickly as others.

    `torch.nn.init` leaves them as they are, and the shape of a small result is that of the same operation on the
    processor.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if getattr(func, "__module__", None) == torch.nn.init.__name__:
            tensor = args[0] if args else named.get("tensor")
            return tensor if isinstance(tensor, torch.Tensor) and tensor.is_meta else func(*args, **named)
        if func is torch.arange and torch.device(named.get("device") or "cpu").type == "meta":
            return func(*args, **{**named, "device": "cpu"}).to("meta")
        tensors = [each for each in args if isinstance(each, torch.Tensor)] if func in _ARITHMETIC else []
        if tensors and all(each.is_meta and each.numel() < _MOST for each in tensors):
            result = func(*(_on_processor(each) if isinstance(each, torch.Tensor) else each for each in args), **named)
            return result if named.get("device") is not None else result.to("meta")
        try:
            return func(*args, **named)
        except NotImplementedError:  # as torch says of an operation whose kernel is not imported yet
            if not import_meta_kernels():
                raise
            return func(*args, **named)


def _on_processor(tensor: torch.Tensor) -> torch.Tensor:
    made = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu")
    return made.requires_grad_(tensor.requires_grad)
