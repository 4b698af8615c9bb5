"""How a local model is run: plan, batches, memory, devices.

What a model plugin may use is named here. Importing this package imports no torch.

LocalCheckpoint a model in the format of transformers before its weights are read: configuration, tokenizer, identity
TorchModel      base class of local torch models: give it a configuration, a tokenizer and the weights
TextOptions     how texts become tokens: window, BOS, chat template, reasoning
ImageProcessor, ImagePromptEncoder   what a checkpoint's processor makes of images, and of prompts that show them
PromptEncoder   requests as strings and token ids for one model, and what is refused before weights load
ChatTemplate    chat turns as the string that a model is shown
Encoder         texts to token ids under `TokenRules`; `encode_requests` does it for whole requests, `scored_from` finds
                where a continuation begins
StopRule        what ends a generated row, and which part of it is the answer; `end_tokens` are a checkpoint's own
Assembler       from the `Scored`, `Finished` and `Failed` pieces of requests back to responses
check_dtype, resolve_dtype   refuse an unknown dtype with one line; which one `auto` is
is_out_of_memory   whether an exception says so: `TorchModel.load` turns it into advice, so let it through
resolve_devices the torch devices that `--device` names
weights_fingerprint   a hash of weight files, from samples of their bytes; `weight_files`, `read_files`,
                `stored_tensors`, `short_hash`, `FLOAT_DTYPES`: what a folder of weights holds
check_files     refuse files of JSON or weights that are not whole
is_path         whether a name can be no id on the hub
without_numbers   what a model is built in for its shapes alone
stored_format, stored_settings, stored_identity   how a configuration says that its weights are quantised
"""

from __future__ import annotations

from harness.data.shown_images import open_picture, picture_size
from harness.engine.adapters import ADAPTER_WEIGHTS, LoraAdapter, adapter_identity
from harness.engine.chat import ChatTemplate
from harness.engine.checkpoint import LocalCheckpoint, is_path
from harness.engine.devices import check_dtype, resolve_devices, resolve_dtype
from harness.engine.image_prompts import ImagePromptEncoder
from harness.engine.libraries import keep_to_allowed_cores, let_threads_sleep, without_numbers
from harness.engine.memory import is_out_of_memory
from harness.engine.model import TorchModel
from harness.engine.outcomes import Assembler, Failed, Scored
from harness.engine.processor import ImageProcessor, image_options, load_processor
from harness.engine.prompt_encoder import PromptEncoder, TextOptions
from harness.engine.quantised import stored_format, stored_identity, stored_settings
from harness.engine.sounds import SoundProcessor
from harness.engine.stops import Finished, StopRule, end_tokens
from harness.engine.tokens import Encoded, Encoder, TokenRules, encode_requests, scored_from
from harness.engine.weights import (
    FLOAT_DTYPES,
    check_files,
    read_files,
    short_hash,
    stored_tensors,
    weight_files,
    weights_fingerprint,
)
from harness.still_images import is_plain_picture

__all__ = [
    "ADAPTER_WEIGHTS",
    "FLOAT_DTYPES",
    "Assembler",
    "ChatTemplate",
    "Encoded",
    "Encoder",
    "Failed",
    "Finished",
    "ImageProcessor",
    "ImagePromptEncoder",
    "LocalCheckpoint",
    "LoraAdapter",
    "PromptEncoder",
    "Scored",
    "SoundProcessor",
    "StopRule",
    "TextOptions",
    "TokenRules",
    "TorchModel",
    "adapter_identity",
    "check_dtype",
    "check_files",
    "encode_requests",
    "end_tokens",
    "image_options",
    "is_out_of_memory",
    "is_path",
    "is_plain_picture",
    "load_processor",
    "open_picture",
    "picture_size",
    "read_files",
    "resolve_devices",
    "resolve_dtype",
    "scored_from",
    "short_hash",
    "stored_format",
    "stored_identity",
    "stored_settings",
    "stored_tensors",
    "weight_files",
    "weights_fingerprint",
    "without_numbers",
]

# Every module of this room that imports torch comes after this.
let_threads_sleep()
keep_to_allowed_cores()
