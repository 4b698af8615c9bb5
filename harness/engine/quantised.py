"""How a checkpoint's weights are quantised, as its configuration says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# What the formats call how many bits a weight has, how many weights share a scale, and the layout of a file.
_BITS = ("bits", "nbits", "num_bits")
_GROUP = ("group_size", "q_group_size", "weight_block_size")
_LAYOUT = ("format", "checkpoint_format", "version", "_type", "fmt")


def stored_settings(config: Any) -> Mapping[str, Any]:
    """What a checkpoint's configuration says of how its weights are quantised; empty where they are plain."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return {}
    return stored if isinstance(stored, Mapping) else getattr(stored, "to_dict", dict)()


def stored_format(config: Any) -> str | None:
    """How a checkpoint's weights are quantised, `gptq` for example; None where they are plain."""
    settings = stored_settings(config)
    if not settings:
        return None
    method = settings.get("quant_method")
    if method is None:
        return "bitsandbytes" if settings.get("load_in_4bit") or settings.get("load_in_8bit") else "unnamed"
    return str(getattr(method, "value", method))


def stored_identity(config: Any) -> str | None:
    """How the weights are stored, for those who read a manifest: `gptq 4 bit, groups of 128, gptq_v2`."""
    settings = stored_settings(config)
    if not settings:
        return None
    bits, group, layout = (next(_named(settings, names), None) for names in (_BITS, _GROUP, _LAYOUT))
    if bits is None:
        bits = 4 if settings.get("load_in_4bit") else 8 if settings.get("load_in_8bit") else None
    said = [f"{stored_format(config)} {bits} bit" if bits else str(stored_format(config))]
    if group is not None and group != -1:
        said.append(f"groups of {group}")
    return ", ".join([*said, str(layout)] if layout else said)


def _named(settings: Any, names: Sequence[str]) -> Iterator[Any]:
    """Values of these names, wherever they stand; what is said of activations is not about weights."""
    if isinstance(settings, Mapping):
        yield from (settings[name] for name in names if settings.get(name) not in (None, ""))
        for key, value in settings.items():
            if "activations" not in str(key):
                yield from _named(value, names)
