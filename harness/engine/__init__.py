"""How a local model is run: plan, batches, memory, devices.

What a model plugin may use is named here. Importing this package imports no torch.

TorchModel      base class of local torch models: give it a configuration, a tokenizer and the weights
TextOptions     how texts become tokens: window, BOS, chat template, reasoning
check_dtype     refuse an unknown dtype with one line
"""

from __future__ import annotations

from harness.engine.devices import check_dtype
from harness.engine.model import TextOptions, TorchModel

__all__ = ["TextOptions", "TorchModel", "check_dtype"]
