"""`--model hf`: any causal or encoder-decoder language model of transformers, from a folder or the hub.

    harness --model hf --model_args pretrained=DIR,dtype=bfloat16 --tasks cmmlu

Before weights load, `prepare` reads the configuration and the tokenizer and refuses what cannot work.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness import Model, ModelError, UsageError, hookimpl
from harness.engine import TextOptions, TorchModel

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "sentencepiece.bpe.model")
_SAMPLE_BYTES = 65536
_SAMPLES = 8


@hookimpl
def harness_models() -> Sequence[type[Model]]:
    return [HuggingFace]


class HuggingFace(TorchModel):
    """A model in the format of transformers. Arguments are those of `--model_args`."""

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
        max_memory_per_gpu: int | str | None = None,
        max_cpu_memory: int | str | None = None,
        offload_folder: str = "offload",
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
        self.peft = str(peft) if peft else None
        self.allow_other_base = allow_other_base
        self.parallelize = self.spreads = parallelize
        self.max_memory_per_gpu, self.max_cpu_memory = max_memory_per_gpu, max_cpu_memory
        self.offload_folder = offload_folder
        self.trust_remote_code = trust_remote_code
        self.attn_implementation = attn_implementation
        self.load_in_4bit, self.load_in_8bit = load_in_4bit, load_in_8bit

    def prepare(self) -> None:
        for package, wanted, flag in (
            ("bitsandbytes", self.load_in_4bit or self.load_in_8bit, "load_in_4bit and load_in_8bit"),
            ("accelerate", self.parallelize or self.load_in_4bit or self.load_in_8bit, "parallelize"),
            ("peft", self.peft is not None, "peft"),
        ):
            if wanted and find_spec(package) is None:
                raise UsageError(f"--model_args: {flag} needs the package {package}: pip install {package}")
        super().prepare()
        if self.peft is not None:
            self._check_adapter()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Which weights, read how. Local weight files are known by name, size and a hash of samples of their bytes
        (the first 64 KiB, which hold a safetensors header, and eight more blocks spread over the file)."""
        local = Path(self.pretrained).expanduser()
        weights: Any = _fingerprint(local) if local.is_dir() else getattr(self.config, "_commit_hash", None)
        return {
            # A folder may be moved, or mounted elsewhere: its content is what it is.
            "pretrained": local.resolve().name if local.is_dir() else self.pretrained,
            "revision": self.revision,
            "weights": weights or self.revision,
            "config": _hash(json.dumps(_config_dict(self.config), sort_keys=True, default=str).encode()),
            "tokenizer": _tokenizer_hash(self.tokenizer),
            "peft": _adapter_identity(self.peft),
            "quantization": "4bit" if self.load_in_4bit else "8bit" if self.load_in_8bit else None,
            **self.text_identity,
        }

    def open_config(self) -> Any:
        from transformers import AutoConfig

        self._check_folder()
        # Its retries are no news: what comes of them is said below.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            return AutoConfig.from_pretrained(self.pretrained, **self._source())
        except (OSError, ValueError, KeyError, ImportError) as error:
            if "couldn't connect" in str(error):
                raise UsageError(
                    f"--model_args: pretrained={self.pretrained}: there is no such folder, and the Hugging Face hub "
                    "cannot be reached; give the folder of a model that is on this machine"
                ) from None
            raise UsageError(f"{self._named('pretrained', self.pretrained)}: {_one_line(error)}") from None

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

    def open_model(self, device: str, dtype: Any) -> Any:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        options = {**self._source(), "dtype": dtype, **self._placement(device)}
        if self.attn_implementation:
            options["attn_implementation"] = self.attn_implementation
        if self.load_in_4bit or self.load_in_8bit:
            options["quantization_config"] = transformers.BitsAndBytesConfig(
                load_in_4bit=self.load_in_4bit, load_in_8bit=self.load_in_8bit, bnb_4bit_compute_dtype=dtype
            )
        family = transformers.AutoModelForCausalLM
        if getattr(self.config, "is_encoder_decoder", False):
            family = transformers.AutoModelForSeq2SeqLM
        try:
            model, found = family.from_pretrained(
                self.pretrained, config=self.config, output_loading_info=True, **options
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"{self._named('pretrained', self.pretrained)}: {_one_line(error)}") from None
        if missing := sorted(found["missing_keys"]):
            raise ModelError(
                f"--model_args: pretrained={self.pretrained} lacks {len(missing)} of its weights ({missing[0]}, ...): "
                "they would be random numbers; is the folder complete?"
            )
        if self.peft is not None:
            model = self._with_adapter(model)
        return model if "device_map" in options else model.to(device)

    def _placement(self, device: str) -> dict[str, Any]:
        if not self.parallelize:
            return {"device_map": {"": device}} if self.load_in_4bit or self.load_in_8bit else {}
        import torch

        options: dict[str, Any] = {"device_map": "auto", "offload_folder": self.offload_folder}
        memory: dict[int | str, int | str] = {}
        if self.max_memory_per_gpu is not None:
            memory = dict.fromkeys(range(torch.cuda.device_count()), self.max_memory_per_gpu)
        if self.max_cpu_memory is not None:
            memory["cpu"] = self.max_cpu_memory
        return {**options, "max_memory": memory} if memory else options

    def _with_adapter(self, model: Any) -> Any:
        from peft import PeftModel

        with warnings.catch_warnings():
            # peft still asks transformers for a property by its old name.
            warnings.filterwarnings("ignore", message=".is_gradient_checkpointing", category=FutureWarning)
            adapted = PeftModel.from_pretrained(model, self.peft)
        # The layers now hold the adapter; the outer shell only renames methods.
        return adapted.get_base_model()

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
            if not list(_weight_files(folder)):
                raise UsageError(f"{folder} has no weights (none of {', '.join(_WEIGHTS)})")
        elif folder.exists():
            raise UsageError(f"--model_args: pretrained={folder} is a file; give the folder that holds config.json")
        elif _is_path(self.pretrained):
            raise UsageError(f"--model_args: pretrained={self.pretrained}: there is no such folder")

    def _named(self, argument: str, value: str) -> str:
        return f"--model_args: {argument}={value}"

    def _check_adapter(self) -> None:
        """Refuse an adapter of a kind that is not a change of weights, of another base, or of another shape."""
        from peft import PeftConfig

        if _is_path(str(self.peft)) and not Path(str(self.peft)).is_dir():
            raise UsageError(f"--model_args: peft={self.peft}: there is no such folder")
        try:
            adapter = PeftConfig.from_pretrained(self.peft, local_files_only=self.options.offline)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self._named('peft', str(self.peft))}: {_one_line(error)}") from None
        kind = getattr(adapter.peft_type, "value", str(adapter.peft_type))
        if adapter.is_prompt_learning:
            raise UsageError(
                f"--model_args: peft={self.peft} is of type {kind}, which puts virtual tokens before "
                "every prompt; adapters that change weights (LORA and its relatives) are supported"
            )
        base = adapter.base_model_name_or_path
        if base and not self.allow_other_base and _last_part(base) != _last_part(self.pretrained):
            raise UsageError(
                f"--model_args: peft={self.peft} was trained on '{base}', not on '{self.pretrained}': give pretrained="
                f"{base}, or allow_other_base=True if both are the same weights"
            )
        self._check_adapter_shapes()

    def _check_adapter_shapes(self) -> None:
        """Compare the adapter's matrices with an empty model of this configuration (no memory is taken)."""
        import torch
        import transformers

        file = Path(str(self.peft)) / "adapter_model.safetensors"
        if not file.is_file():
            return
        family = transformers.AutoModelForCausalLM
        if getattr(self.config, "is_encoder_decoder", False):
            family = transformers.AutoModelForSeq2SeqLM
        with torch.device("meta"):
            model = family.from_config(self.config, trust_remote_code=self.trust_remote_code)
        modules = dict(model.named_modules())
        for name, shape in _tensor_shapes(file):
            path, _, matrix = name.removeprefix("base_model.model.").rpartition(".lora_")
            if not path or matrix[:1] not in "AB" or not matrix.endswith("weight"):
                continue
            module = modules.get(path)
            if module is None:
                raise UsageError(f"--model_args: peft={self.peft} changes '{path}', which '{self.pretrained}' has not")
            inner, outer = _features(module)
            wanted, found = (inner, shape[-1]) if matrix.startswith("A") else (outer, shape[0])
            if wanted is not None and wanted != found:
                raise UsageError(
                    f"--model_args: peft={self.peft} does not fit '{self.pretrained}': {path} takes {wanted} values "
                    f"where the adapter has {found}"
                )


def _features(module: Any) -> tuple[int | None, int | None]:
    """(inputs, outputs) of a linear layer, GPT-2's transposed kind and embeddings included."""
    weight = getattr(module, "weight", None)
    if hasattr(module, "in_features"):
        return module.in_features, module.out_features
    if weight is None or weight.dim() != 2:
        return None, None
    return int(weight.shape[0]), int(weight.shape[1])


def _tensor_shapes(file: Path) -> Iterator[tuple[str, list[int]]]:
    """Names and shapes from the header of a safetensors file."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, entry["shape"]


def _weight_files(folder: Path) -> Iterator[Path]:
    for pattern in _WEIGHTS:
        yield from sorted(folder.glob(pattern))


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in _weight_files(folder):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with file.open("rb") as stream:
            for index in range(_SAMPLES + 1):
                stream.seek(max(0, size - _SAMPLE_BYTES) * index // _SAMPLES)
                digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _adapter_identity(peft: str | None) -> Any:
    if peft is None:
        return None
    folder = Path(peft).expanduser()
    return {"name": folder.name, "weights": _fingerprint(folder)} if folder.is_dir() else {"name": peft}


def _tokenizer_hash(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return _hash(text.encode("utf-8"))


def _config_dict(config: Any) -> dict[str, Any]:
    # Where the files lie and who wrote them decides nothing.
    ignored = ("_name_or_path", "transformers_version")
    return {key: value for key, value in config.to_dict().items() if key not in ignored}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _is_path(text: str) -> bool:
    """Whether a name can only be a path: ids on the hub have one slash at most and start with a letter or digit."""
    return text.startswith((".", "~", os.sep)) or text.count("/") > 1


def _last_part(name: str) -> str:
    return name.rstrip("/").replace("\\", "/").rpartition("/")[2].lower()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
