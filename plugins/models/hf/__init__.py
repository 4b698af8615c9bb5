"""`--model hf`: any causal or encoder-decoder language model of transformers, from a folder or the hub.

    harness --model hf --model_args pretrained=DIR,dtype=bfloat16 --tasks cmmlu

Before weights load, `prepare` reads the configuration and the tokenizer and refuses what cannot work.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from harness import Model, ModelError, UsageError, hookimpl, one_line
from harness.engine import (
    LocalCheckpoint,
    TextOptions,
    TorchModel,
    adapter_identity,
    check_dtype,
    is_out_of_memory,
    stored_format,
    stored_identity,
)

from .adapters import Base, can_be_kept, check_adapter
from .quantization import LowBits
from .spread import Placement
from .stored import (
    check_quantization,
    check_read,
    config_to_read,
    count_weights,
    held_bytes,
    is_unpacked,
    readers,
    unpack,
)
from .weights import stored_bytes

log = logging.getLogger(__name__)

# What torch calls them where it says that two do not match.
_OWN_DTYPES = {"BFloat16": "bfloat16", "Half": "float16"}


@hookimpl
def harness_models() -> Sequence[type[Model]]:
    from .audio import HuggingFaceAudio
    from .vision import HuggingFaceVision

    return [HuggingFace, HuggingFaceAudio, HuggingFaceVision]


class HuggingFace(TorchModel):
    """A model in the format of transformers. Arguments are those of `--model_args`.

    pretrained        a folder, or an id on the hub, with `revision`; `tokenizer`: another one; `trust_remote_code`
    dtype             auto (as stored, but no float16 on a processor), float32, bfloat16, float16
    peft              an adapter; `--peft` takes several. `allow_other_base`: its base has another name here
    load_in_4bit, load_in_8bit   quantise while loading, by bitsandbytes; `bnb_4bit_quant_type` (fp4, nf4),
                      `bnb_4bit_use_double_quant`, `bnb_4bit_compute_dtype`. Weights stored quantised need no flag
    parallelize       one copy over all GPUs, then main memory, then disk (`offload_folder`), each up to `max_memory`
                      ({0: 20GiB, cpu: 60GiB}), or `max_memory_per_gpu` and `max_cpu_memory`; `device_map`: in which way
    max_length        the window in tokens; `on_overflow` (truncate, skip, error): what becomes of longer requests
    chat_template, chat_template_args, enable_thinking, think_end_token: how a chat is written, and reasoning taken off
    thinking, reasoning_effort, thinking_budget: as the flags of these names
    add_bos_token, prefix_token_id: which token a text begins with
    attn_implementation: of transformers, where prefixes are not shared
    """

    name = "hf"
    aliases: ClassVar = {"hf-auto": {}, "huggingface": {}}
    without_effect: ClassVar = frozenset({"backend", "use_fast_tokenizer", "logits_cache", "mixed_precision_dtype"})
    elsewhere: ClassVar = {
        "truncation": "prompts that are too long are cut from the left and counted; on_overflow=skip or error refuses",
        "softmax_dtype": "log-probabilities are always formed in float32",
        "subfolder": "name the folder itself: pretrained=DIR/SUBFOLDER",
        "gguf_file": "serve the file by llama.cpp: --model openai --model_args base_url=http://HOST:PORT/v1,model=NAME",
        "delta": "add the delta to its base once, and name the folder of the sum by pretrained=",
        "autogptq": "a quantised checkpoint says in its config.json what it is: leave this out",
        "gptqmodel": "a quantised checkpoint says in its config.json what it is: leave this out",
        "device_map_option": "device_map= says where layers lie",
        "max_gen_toks": "--gen_kwargs max_gen_toks=N",
        "low_cpu_mem_usage": "weights are loaded so in any case: leave this out",
    }

    def __init__(
        self,
        pretrained: str,
        tokenizer: str | None = None,
        revision: str = "main",
        dtype: str = "auto",
        peft: str | None = None,
        allow_other_base: bool = False,
        parallelize: bool = False,
        device_map: str | None = None,
        max_memory: Mapping[int | str, int | str] | None = None,
        max_memory_per_gpu: int | str | None = None,
        max_cpu_memory: int | str | None = None,
        offload_folder: str | None = None,
        trust_remote_code: bool = False,
        attn_implementation: str | None = None,
        chat_template: str | None = None,
        chat_template_args: Mapping[str, Any] | None = None,
        enable_thinking: bool | None = None,
        thinking: str = "auto",
        reasoning_effort: str | None = None,
        thinking_budget: int | None = None,
        think_end_token: str | int | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        on_overflow: str = "truncate",
        load_in_4bit: bool = False,
        load_in_8bit: bool = False,
        bnb_4bit_quant_type: str = "fp4",
        bnb_4bit_use_double_quant: bool = False,
        bnb_4bit_compute_dtype: str | None = None,
    ) -> None:
        text = TextOptions.of(
            max_length=max_length,
            add_bos_token=add_bos_token,
            prefix_token_id=prefix_token_id,
            chat_template=chat_template,
            chat_template_args=chat_template_args,
            enable_thinking=enable_thinking,
            thinking=thinking,
            reasoning_effort=reasoning_effort,
            thinking_budget=thinking_budget,
            think_end_token=think_end_token,
            on_overflow=on_overflow,
        )
        super().__init__(str(pretrained), text, str(dtype))
        self.checkpoint = LocalCheckpoint(
            pretrained, tokenizer=tokenizer, revision=revision, trust_remote_code=trust_remote_code, text=text
        )
        self.peft = str(Path(str(peft)).expanduser()) if peft else None
        self.allow_other_base = allow_other_base
        limits = (max_memory, max_memory_per_gpu, max_cpu_memory)
        self.spread = Placement.of(parallelize, device_map, *limits, offload_folder)
        self.spreads = self.spread is not None
        self.attn_implementation = attn_implementation
        if bnb_4bit_compute_dtype is not None:
            check_dtype(bnb_4bit_compute_dtype)
        self.low_bits = LowBits(
            load_in_4bit, load_in_8bit, bnb_4bit_quant_type, bnb_4bit_use_double_quant, bnb_4bit_compute_dtype
        )
        self._base: Base | None = None
        self._is_shown = False

    def prepare(self) -> None:
        for package, wanted, flag in (
            ("bitsandbytes", bool(self.low_bits), "load_in_4bit and load_in_8bit"),
            ("accelerate", self.spreads, "a model that is spread over devices"),
            ("accelerate", bool(self.low_bits), "load_in_4bit and load_in_8bit"),
            ("peft", self.peft is not None, "peft"),
        ):
            if wanted and find_spec(package) is None:
                raise UsageError(
                    f"--model_args: {flag} needs the package {package}: pip install 'harness-eval[{package}]'"
                )
        super().prepare()
        if self.spread is not None:
            self.spread.check()
        check_quantization(self.pretrained, self.config, self.low_bits, self.device)
        if self.peft is not None:
            check_adapter(
                self.peft,
                self.pretrained,
                self.config,
                trust_remote_code=self.checkpoint.trust_remote_code,
                offline=self.options.offline,
                allow_other_base=self.allow_other_base,
            )

    def prepare_to_show(self, chats: bool = False) -> None:
        """Without torch, where a tokenizer in a folder is all that decides what is shown."""
        plain = type(self) is HuggingFace and self.options.device in ("auto", "cpu")
        if not plain or self.low_bits or self.spreads or self.peft is not None:
            self.prepare()
        elif self.checkpoint.open_to_show(offline=self.options.offline):
            self.prompts, self._is_shown = self.checkpoint.prompts, True
        else:
            self.prepare()

    @property
    def pretrained(self) -> str:
        """The folder, or the id on the hub."""
        return self.checkpoint.pretrained

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which weights, read how; see `LocalCheckpoint.identity`. Where prompts are only shown, its name alone."""
        if self._is_shown:
            return {"pretrained": self.pretrained}
        known = self.checkpoint.identity
        return {
            **known,
            "peft": adapter_identity(self.peft),
            "quantization": self.low_bits.identity or known["quantization"],
            **self.text_identity,
        }

    def open_config(self) -> Any:
        return self.checkpoint.open_config(offline=self.options.offline)

    def open_tokenizer(self) -> Any:
        return self.checkpoint.open_tokenizer(offline=self.options.offline)

    def take_over(self, other: Model) -> None:
        """Keep the base that `other` has in memory, where this is another adapter on it, or none."""
        super().take_over(other)
        if isinstance(other, HuggingFace) and type(other) is type(self) and other._base_key == self._base_key:
            self._base, other._base = other._kept_base(), None

    @property
    def _base_key(self) -> tuple[Any, ...]:
        """What decides the weights of the base, and where they lie."""
        return (
            (self.pretrained, self.checkpoint.revision, self.dtype_name, self.devices, self.checkpoint.config_hash),
            (self.low_bits, self.attn_implementation, self.checkpoint.trust_remote_code),
            self.spread,
        )

    def _kept_base(self) -> Base | None:
        if self._base is None and self.peft is None and self.module is not None and can_be_kept(self.module):
            return Base(self.module)
        return self._base

    def open_model(self, device: str, dtype: Any) -> Any:
        base, self._base = self._base, None
        if base is not None and not base.restore():
            log.warning("the last adapter changed weights of %s for good: they are loaded again", self.pretrained)
            base = None
        if self.peft is None:
            return base.module if base is not None else self._open_base(device, dtype)
        if base is None:
            base = Base(self._open_base(device, dtype))
        if can_be_kept(base.module):
            self._base = base
        return base.with_adapter(self.peft)

    def load(self) -> None:
        stored = stored_format(self.config)
        try:
            super().load()
        except RuntimeError as error:
            # The first pass: weights of some formats come out in a dtype of their own.
            own = next((name for sign, name in _OWN_DTYPES.items() if sign in str(error)), None)
            if stored is None or own is None or "dtype" not in str(error):
                raise
            raise ModelError(
                f"--model_args: pretrained={self.pretrained} has weights in the format {stored}, which cannot be "
                f"computed with in {self.dtype_name} ({one_line(error)}): try dtype={own}"
            ) from None

    def describe(self) -> Mapping[str, Any]:
        """What the engine says; of weights that were stored quantised also how, what read them, and their true size."""
        said, stored = super().describe(), stored_identity(self.config)
        if stored is None or self.module is None:
            return said
        counted = count_weights(self.config, self.checkpoint.trust_remote_code) or said["parameters"]
        true = {"parameters": counted, "weight_bytes": held_bytes(self.module)}
        true["dtype"] = str(self.module.dtype).removeprefix("torch.")
        return {**said, **true, "quantization": stored, "read_by": readers(self.config)}

    def close(self) -> None:
        self._base = None
        super().close()
        if self.spread is not None:
            self.spread.close()

    def _open_base(self, device: str, dtype: Any) -> Any:
        import transformers
        from safetensors import SafetensorError

        transformers.utils.logging.disable_progress_bar()
        options = {**self.checkpoint.source(offline=self.options.offline), "dtype": dtype, **self._placement(device)}
        if self.attn_implementation:
            options["attn_implementation"] = self.attn_implementation
        if self.low_bits:
            options["quantization_config"] = self.low_bits.config(dtype)
        where = f"--model_args: pretrained={self.pretrained}"
        family = self.model_family
        try:
            # Some readers of quantised weights talk on stdout, where the table goes.
            with contextlib.redirect_stdout(sys.stderr):
                model, found = family.from_pretrained(
                    self.pretrained, config=config_to_read(self.config), output_loading_info=True, **options
                )
                check_read(model, self.config, found, where)
                if stored_format(self.config) and not self.spreads:
                    unpack(model, dtype)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(f"{where}: {one_line(error)}") from None
        except SafetensorError as error:
            reason = f"a file of weights is damaged, or was not copied to its end ({one_line(error)}): get it again"
            raise ModelError(f"{where}: {reason}") from None
        if model.dtype != dtype and stored_format(self.config):
            log.warning("%s: what reads %s made it %s, not %s", where, stored_format(self.config), model.dtype, dtype)
        return model if "device_map" in options else model.to(device)

    def bytes_to_load(self) -> int | None:
        if self._base is not None or self.spreads:
            return 0
        if is_unpacked(self.config, self.device):
            weights = count_weights(self.config, self.checkpoint.trust_remote_code)
            return None if weights is None else weights * self.torch_dtype.itemsize
        return stored_bytes(Path(self.pretrained), self.torch_dtype, self.low_bits, bool(stored_format(self.config)))

    def _placement(self, device: str) -> dict[str, Any]:
        if self.spread is not None:
            return self.spread.options(self.devices)
        stored = stored_format(self.config)
        # transformers refuses to place hqq on a processor, where it is when nothing is said.
        unsaid = stored == "hqq" and device == "cpu"
        # Quantised weights are made where they stay.
        return {"device_map": {"": device}} if (self.low_bits or stored) and not unsaid else {}
