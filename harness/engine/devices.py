"""What `--device` and `dtype` mean, checked before any weight is read."""

from __future__ import annotations

from typing import Any

from harness.errors import UsageError, suggest

DTYPES = ("auto", "float32", "bfloat16", "float16")
_KINDS = ("auto", "cpu", "cuda", "mps")


def resolve_devices(text: str) -> tuple[str, ...]:
    """The torch devices that `--device` names, in order: `auto`, `cpu`, `mps`, `cuda`, `cuda:1`, `cuda:0,1`.

    `auto` is the first GPU where there is one, else Apple's, else the processor; `cuda` is the first GPU. `cpu:0,1` is
    the processor twice: two workers with half of its cores each.
    Raises UsageError for a device that is not known or not there.
    """
    import torch

    kind, _, numbers = text.partition(":")
    if kind not in _KINDS or (numbers and kind not in ("cuda", "cpu")):
        raise UsageError(f"--device: unknown device '{text}'{suggest(kind, _KINDS)} (auto, cpu, mps, cuda, cuda:0,1)")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device: mps is not available on this machine; use --device cpu")
    try:
        chosen = [int(number) for number in numbers.split(",")] if numbers else []
    except ValueError:
        raise UsageError(f"--device: '{text}' is not of the form {kind}:0,1") from None
    if kind == "cpu":
        return ("cpu",) * max(1, len(chosen))
    return _cuda_devices(text, chosen) if kind == "cuda" else (kind,)


def _cuda_devices(text: str, chosen: list[int]) -> tuple[str, ...]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UsageError(f"--device: {text} asks for a GPU but torch finds none; use --device cpu")
    chosen = chosen or [0]
    missing = [number for number in chosen if not 0 <= number < count]
    if missing or len(set(chosen)) != len(chosen):
        raise UsageError(f"--device: {text} names GPUs that are not there or twice; torch finds {count} (from 0 on)")
    return tuple(f"cuda:{number}" for number in chosen)


def check_dtype(dtype: str) -> None:
    """Raise UsageError for a dtype that is not one of `DTYPES`."""
    if dtype not in DTYPES:
        raise UsageError(f"--model_args: unknown dtype '{dtype}'{suggest(dtype, DTYPES)} (one of {', '.join(DTYPES)})")


def resolve_dtype(dtype: str, config: Any, device: str) -> Any:
    """The torch dtype of the weights. `auto` is the checkpoint's own, but never a half type that a CPU is slow in."""
    import torch

    if dtype != "auto":
        return getattr(torch, dtype)
    stored = getattr(config, "dtype", None) or torch.float32
    if isinstance(stored, str):
        stored = getattr(torch, stored.removeprefix("torch."))
    if device == "cpu" and stored == torch.float16:
        return torch.float32
    return stored


def upload(values: Any, device: str, dtype: Any = None) -> Any:
    """A tensor of `values` on `device`. To a GPU it travels beside the work that is queued there: nothing waits."""
    import torch

    tensor = torch.as_tensor(values, dtype=dtype)
    if device.startswith("cuda"):
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
