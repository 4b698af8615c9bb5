"""Weights of fewer bits: made so while they load (bitsandbytes), or stored so by whoever published them.

A folder whose configuration says how its weights are stored needs no flag; transformers reads it, if the package that
knows the format is there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from harness import UsageError

QUANT_TYPES = ("fp4", "nf4")
_EXTRA = {"bitsandbytes": "'harness-eval[bitsandbytes]'"}
# Format -> (module, name to install) of what transformers needs to read it.
_READERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "aqlm": (("aqlm", "aqlm"), ("accelerate", "accelerate")),
    "auto-round": (("auto_round", "auto-round"),),
    "awq": (("gptqmodel", "gptqmodel"), ("accelerate", "accelerate")),
    "bitsandbytes": (("bitsandbytes", "bitsandbytes"), ("accelerate", "accelerate")),
    "compressed-tensors": (("compressed_tensors", "compressed-tensors"),),
    "fp8": (("accelerate", "accelerate"),),
    "gptq": (("optimum", "optimum"), ("gptqmodel", "gptqmodel")),
    "hqq": (("hqq", "hqq"),),
    "mxfp4": (("accelerate", "accelerate"),),
    "torchao": (("torchao", "torchao"),),
}


@dataclass(frozen=True, slots=True)
class LowBits:
    """What `--model_args` say about loading weights with fewer bits, by bitsandbytes.

    quant_type: of 4-bit weights, `fp4` (as in transformers) or `nf4` (Dettmers et al. 2023, QLoRA). double_quant: their
    scales are quantised too. compute_dtype: the dtype that 4-bit weights are multiplied in; None is that of the model.
    """

    load_in_4bit: bool = False
    load_in_8bit: bool = False
    quant_type: str = "fp4"
    double_quant: bool = False
    compute_dtype: str | None = None

    def __post_init__(self) -> None:
        if self.load_in_4bit and self.load_in_8bit:
            raise UsageError("--model_args: load_in_4bit and load_in_8bit exclude each other; give one")
        if self.quant_type not in QUANT_TYPES:
            raise UsageError(
                f"--model_args: unknown bnb_4bit_quant_type '{self.quant_type}' (one of {', '.join(QUANT_TYPES)})"
            )

    def __bool__(self) -> bool:
        return self.load_in_4bit or self.load_in_8bit

    @property
    def identity(self) -> Any:
        """As JSON; None for weights that are loaded as they are."""
        if not self.load_in_4bit:
            return "8bit" if self.load_in_8bit else None
        chosen = ("4bit", self.quant_type, "double" if self.double_quant else "", self.compute_dtype or "")
        return " ".join(part for part in chosen if part)

    def config(self, dtype: Any) -> Any:
        """What transformers wants to be told. `dtype`: of the model, a torch.dtype."""
        import torch
        import transformers

        # One line a layer, that inputs are cast; and that a kernel for some processors is not installed.
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
        return transformers.BitsAndBytesConfig(
            load_in_4bit=self.load_in_4bit,
            load_in_8bit=self.load_in_8bit,
            bnb_4bit_quant_type=self.quant_type,
            bnb_4bit_use_double_quant=self.double_quant,
            bnb_4bit_compute_dtype=getattr(torch, self.compute_dtype) if self.compute_dtype else dtype,
        )


def stored_format(config: Any) -> str | None:
    """How a checkpoint's weights are quantised, `gptq` for example; None where they are plain."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        return None
    method = stored.get("quant_method") if isinstance(stored, Mapping) else getattr(stored, "quant_method", None)
    return str(getattr(method, "value", method) or "bitsandbytes")


def check_quantization(pretrained: str, config: Any, wanted: LowBits) -> None:
    """Refuse what no installed package can read, and weights that would be quantised twice."""
    stored = stored_format(config)
    where = f"--model_args: pretrained={pretrained}"
    if stored is None:
        return
    if wanted:
        flag = "load_in_4bit" if wanted.load_in_4bit else "load_in_8bit"
        raise UsageError(f"{where} is quantised already, by {stored}: leave {flag} out")
    missing = [name for module, name in _READERS.get(stored, ()) if find_spec(module) is None]
    if missing:
        need = "the package" if len(missing) == 1 else "the packages"
        raise UsageError(
            f"{where} has weights in the format {stored}, which needs {need} {' and '.join(missing)}: "
            f"pip install {' '.join(_EXTRA.get(name, name) for name in missing)}"
        )
