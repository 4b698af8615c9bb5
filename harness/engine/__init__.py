"""How a local model is run: plan, batches, memory, devices.

What a model plugin may use is named here. Importing this package imports no torch.

TorchModel      base class of local torch models: give it a configuration, a tokenizer and the weights
TextOptions     how texts become tokens: window, BOS, chat template, reasoning
ChatTemplate    chat turns as the string that a model is shown
Encoder         texts to token ids under `TokenRules`; `encode_requests` does it for whole requests, `scored_from` finds
                where a continuation begins
StopRule        what ends a generated row, and which part of it is the answer
Assembler       from the `Scored`, `Finished` and `Failed` pieces of requests back to responses; `join_windows` too
check_dtype     refuse an unknown dtype with one line
is_out_of_memory   whether an exception says so: `TorchModel.load` turns it into advice, so let it through
resolve_devices the torch devices that `--device` names
weights_fingerprint   a hash of weight files, from samples of their bytes
"""

from __future__ import annotations

from harness.engine.chat import ChatTemplate
from harness.engine.devices import check_dtype, resolve_devices
from harness.engine.memory import is_out_of_memory
from harness.engine.model import TextOptions, TorchModel
from harness.engine.outcomes import Assembler, Failed, Scored, join_windows
from harness.engine.stops import Finished, StopRule
from harness.engine.tokens import Encoded, Encoder, TokenRules, encode_requests, scored_from
from harness.engine.weights import weights_fingerprint

__all__ = [
    "Assembler",
    "ChatTemplate",
    "Encoded",
    "Encoder",
    "Failed",
    "Finished",
    "Scored",
    "StopRule",
    "TextOptions",
    "TokenRules",
    "TorchModel",
    "check_dtype",
    "encode_requests",
    "is_out_of_memory",
    "join_windows",
    "resolve_devices",
    "scored_from",
    "weights_fingerprint",
]
