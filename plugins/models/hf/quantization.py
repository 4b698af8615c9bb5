"""Weights that are quantised while they load, by bitsandbytes. Those that were published so: stored.py."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from harness import UsageError

QUANT_TYPES = ("fp4", "nf4")


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
