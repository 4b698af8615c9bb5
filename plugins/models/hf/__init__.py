"""`--model hf`: any causal or encoder-decoder language model of transformers, from a folder or the hub.

    harness --model hf --model_args pretrained=DIR,dtype=bfloat16 --tasks cmmlu

Before weights load, `prepare` reads the configuration and the tokenizer and refuses what cannot work.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness import Model, ModelError, UsageError, hookimpl
from harness.engine import TextOptions, TorchModel, check_dtype, is_out_of_memory
from harness_plugins.models.hf.adapters import Base, can_be_kept, check_adapter
from harness_plugins.models.hf.quantization import LowBits
from harness_plugins.models.hf.spread import Placement
from harness_plugins.models.hf.stored import (
    check_quantization,
    check_read,
    config_to_read,
    count_weights,
    held_bytes,
    is_unpacked,
    readers,
    stored_format,
    stored_identity,
    unpack,
)
from harness_plugins.models.hf.weights import (
    WEIGHTS,
    adapter_identity,
    fingerprint,
    is_path,
    short_hash,
    stored_bytes,
    stored_dtype,
    weight_files,
)

log = logging.getLogger(__name__)
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "sentencepiece.bpe.model")

# What torch calls them where it says that two do not match.
_OWN_DTYPES = {"BFloat16": "bfloat16", "Half": "float16"}


@hookimpl
def harness_models() -> Sequence[type[Model]]:
    return [HuggingFace]


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
    add_bos_token, prefix_token_id: which token a text begins with
    attn_implementation: of transformers, where prefixes are not shared
    """

    name = "hf"

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
        template_args = dict(chat_template_args or {})
        if enable_thinking is not None:
            template_args["enable_thinking"] = enable_thinking
        if isinstance(think_end_token, str) and think_end_token.isdigit():
            think_end_token = int(think_end_token)
        text = TextOptions(
            max_length=max_length,
            add_bos_token=add_bos_token,
            prefix_token_id=prefix_token_id,
            chat_template=chat_template,
            chat_template_args=template_args,
            think_end_token=think_end_token,
            on_overflow=on_overflow,
        )
        super().__init__(str(pretrained), text, str(dtype))
        self.pretrained = str(pretrained)
        self.tokenizer_path = str(tokenizer) if tokenizer else self.pretrained
        self.revision = str(revision)
        self.peft = str(Path(str(peft)).expanduser()) if peft else None
        self.allow_other_base = allow_other_base
        limits = (max_memory, max_memory_per_gpu, max_cpu_memory)
        self.spread = Placement.of(parallelize, device_map, *limits, offload_folder)
        self.spreads = self.spread is not None
        self.trust_remote_code = trust_remote_code
        self.attn_implementation = attn_implementation
        if bnb_4bit_compute_dtype is not None:
            check_dtype(bnb_4bit_compute_dtype)
        self.low_bits = LowBits(
            load_in_4bit, load_in_8bit, bnb_4bit_quant_type, bnb_4bit_use_double_quant, bnb_4bit_compute_dtype
        )
        self._base: Base | None = None

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
        # transformers writes into the configuration when it loads weights.
        self._config_hash = short_hash(json.dumps(_config_dict(self.config), sort_keys=True, default=str).encode())
        self.check_weights()
        if self.peft is not None:
            check_adapter(
                self.peft,
                self.pretrained,
                self.config,
                trust_remote_code=self.trust_remote_code,
                offline=self.options.offline,
                allow_other_base=self.allow_other_base,
            )

    def check_weights(self) -> None:
        """Refuse weights in a format that cannot be read here."""
        check_quantization(self.pretrained, self.config, self.low_bits, self.device)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which weights, read how. Local weight files are known by name, size and a hash of samples of their bytes
        (the first 64 KiB, which hold a safetensors header, and eight more blocks spread over the file)."""
        local = Path(self.pretrained).expanduser()
        weights: Any = fingerprint(local) if local.is_dir() else getattr(self.config, "_commit_hash", None)
        return {
            # A folder may be moved, or mounted elsewhere: its content is what it is.
            "pretrained": local.resolve().name if local.is_dir() else self.pretrained,
            "revision": self.revision,
            "weights": weights or self.revision,
            "config": self._config_hash,
            "tokenizer": _tokenizer_hash(self.tokenizer),
            "peft": adapter_identity(self.peft),
            "quantization": self.low_bits.identity or stored_identity(self.config),
            **self.text_identity,
        }

    def open_config(self) -> Any:
        from transformers import AutoConfig

        self._check_folder()
        # Its retries are no news: what comes of them is said below.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            config = AutoConfig.from_pretrained(self.pretrained, **self._source())
        except (OSError, ValueError, KeyError, ImportError) as error:
            if "couldn't connect" in str(error):
                raise UsageError(
                    f"--model_args: pretrained={self.pretrained}: there is no such folder, and the Hugging Face hub "
                    "cannot be reached; give the folder of a model that is on this machine"
                ) from None
            raise UsageError(f"{self._named('pretrained', self.pretrained)}: {_one_line(error)}") from None
        if getattr(config, "dtype", None) is None:
            # Some checkpoints do not say it: then their weights do.
            config.dtype = stored_dtype(Path(self.pretrained))
        return config

    def open_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = Path(self.tokenizer_path).expanduser()
        if folder.is_dir() and not any((folder / name).exists() for name in _TOKENIZER):
            raise UsageError(
                f"{folder} has no tokenizer (none of {', '.join(_TOKENIZER)}): give one with --model_args tokenizer=DIR"
            )
        options = self._source()
        if self.text_options.add_bos_token is not None:
            options["add_bos_token"] = self.text_options.add_bos_token
        try:
            return AutoTokenizer.from_pretrained(self.tokenizer_path, **options)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise UsageError(f"{self._named('tokenizer', self.tokenizer_path)}: {_one_line(error)}") from None

    def take_over(self, other: Model) -> None:
        """Keep the base that `other` has in memory, where this is another adapter on it, or none."""
        super().take_over(other)
        if isinstance(other, HuggingFace) and type(other) is type(self) and other._base_key == self._base_key:
            self._base, other._base = other._kept_base(), None

    @property
    def _base_key(self) -> tuple[Any, ...]:
        """What decides the weights of the base, and where they lie."""
        return (
            (self.pretrained, self.revision, self.dtype_name, self.devices, self._config_hash),
            (self.low_bits, self.attn_implementation, self.trust_remote_code),
            self.spread,
        )

    def _kept_base(self) -> Base | None:
        if self._base is None and self.peft is None and self._module is not None and can_be_kept(self._module):
            return Base(self._module)
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
                f"{self._named('pretrained', self.pretrained)} has weights in the format {stored}, which cannot be "
                f"computed with in {self.dtype_name} ({_one_line(error)}): try dtype={own}"
            ) from None

    def describe(self) -> Mapping[str, Any]:
        """What the engine says; of weights that were stored quantised also how, what read them, and their true size."""
        said, stored = super().describe(), stored_identity(self.config)
        if stored is None or self._pool is not None:
            return said
        counted = count_weights(self.config, self.trust_remote_code) or said["parameters"]
        true = {"parameters": counted, "weight_bytes": held_bytes(self._module)}
        true["dtype"] = str(self._module.dtype).removeprefix("torch.")
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
        options = {**self._source(), "dtype": dtype, **self._placement(device)}
        if self.attn_implementation:
            options["attn_implementation"] = self.attn_implementation
        if self.low_bits:
            options["quantization_config"] = self.low_bits.config(dtype)
        where = self._named("pretrained", self.pretrained)
        family = transformers.AutoModelForCausalLM
        if getattr(self.config, "is_encoder_decoder", False):
            family = transformers.AutoModelForSeq2SeqLM
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
            raise ModelError(f"{where}: {_one_line(error)}") from None
        except SafetensorError as error:
            reason = f"a file of weights is damaged, or was not copied to its end ({_one_line(error)}): get it again"
            raise ModelError(f"{where}: {reason}") from None
        if model.dtype != dtype and stored_format(self.config):
            log.warning("%s: what reads %s made it %s, not %s", where, stored_format(self.config), model.dtype, dtype)
        return model if "device_map" in options else model.to(device)

    def bytes_to_load(self) -> int | None:
        if self._base is not None or self.spreads:
            return 0
        if is_unpacked(self.config, self.device):
            weights = count_weights(self.config, self.trust_remote_code)
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

    def _source(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": self.options.offline,
        }

    def _check_folder(self) -> None:
        folder = Path(self.pretrained).expanduser()
        if folder.is_dir():
            self.pretrained = str(folder)
            if not (folder / "config.json").exists():
                raise UsageError(f"{folder} has no config.json: it is not a model of transformers")
            if not list(weight_files(folder)):
                raise UsageError(f"{folder} has no weights (none of {', '.join(WEIGHTS)})")
        elif folder.exists():
            raise UsageError(f"--model_args: pretrained={folder} is a file; give the folder that holds config.json")
        elif is_path(self.pretrained):
            raise UsageError(f"--model_args: pretrained={self.pretrained}: there is no such folder")

    def _named(self, argument: str, value: str) -> str:
        return f"--model_args: {argument}={value}"


def _tokenizer_hash(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return short_hash(text.encode("utf-8"))


def _config_dict(config: Any) -> dict[str, Any]:
    # Where the files lie and who wrote them decides nothing.
    ignored = ("_name_or_path", "transformers_version")
    return {key: value for key, value in config.to_dict().items() if key not in ignored}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
