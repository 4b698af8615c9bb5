"""A model in the format of transformers before its weights are read: configuration, tokenizer, chat template, identity.

    checkpoint = LocalCheckpoint("DIR", text=TextOptions(on_overflow="error"))
    checkpoint.open()                          # UsageError, one line, where something is missing
    checkpoint.prompts.render(prompt)          # the string that the model is shown
    checkpoint.prompts.encode(requests)        # token ids
    checkpoint.identity                        # JSON that says which weights these are

Whatever serves such a model, this engine, vLLM or a plugin of somebody else, starts from it.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from harness.engine.prompt_encoder import PromptEncoder, TextOptions
from harness.engine.quantised import stored_identity
from harness.engine.weights import (
    WEIGHTS,
    check_checkpoint,
    check_files,
    short_hash,
    stored_dtype,
    weight_files,
    weights_fingerprint,
)
from harness.errors import UsageError, one_line

_TOKENIZER = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "sentencepiece.bpe.model")
_UNUSUAL = frozenset({"auto_map", "quantization_config", "compression_config", "text_config"})
# Where the files lie and who wrote them decides nothing.
_UNDECIDING = ("_name_or_path", "transformers_version")


class LocalCheckpoint:
    """A folder, or an id on the hub, with `revision`; `tokenizer`: another one. All known after `open`.

    config, tokenizer: of transformers. prompts: what makes token ids of requests.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        tokenizer: str | None = None,
        revision: str = "main",
        trust_remote_code: bool = False,
        text: TextOptions | None = None,
    ) -> None:
        self.pretrained = str(pretrained)
        self.tokenizer_path = str(tokenizer) if tokenizer else self.pretrained
        self.revision = str(revision)
        self.trust_remote_code = trust_remote_code
        self.text_options = text or TextOptions()
        self.config: Any = None
        self.tokenizer: Any = None
        self.prompts: PromptEncoder
        self._config_hash = ""

    def open(self, *, offline: bool = False) -> None:
        """Read the configuration and the tokenizer. Raises UsageError, one line, for whatever is wrong with them."""
        self.open_config(offline=offline)
        self.open_tokenizer(offline=offline)
        self.prompts = PromptEncoder(self.config, self.tokenizer, self.text_options, self.pretrained)

    def open_to_show(self, *, offline: bool = False) -> bool:
        """Read what prompts need, which is the tokenizer, without importing torch: the others are not known then.

        False, and nothing is known, where the configuration is not in a folder, has code of its own, quantised weights
        or several parts, or cannot be read so, and where the tokenizer is in another folder.
        """
        from harness.engine.deferred_imports import defer_torch
        from harness.engine.import_structure import keep_import_structure

        folder = Path(self.pretrained).expanduser()
        if not (folder / "config.json").is_file() or self.trust_remote_code:
            return False
        self._check_folder()
        if self.tokenizer_path != self.pretrained:
            return False
        keep_import_structure()
        defer_torch()
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        try:
            from transformers import CONFIG_MAPPING

            # transformers makes a dtype of torch of its name, and of nothing else here anything of torch.
            told = {key: value for key, value in stored.items() if key not in ("dtype", "torch_dtype")}
            if told.get("model_type") not in CONFIG_MAPPING or not _UNUSUAL.isdisjoint(told):
                return False
            self.config = CONFIG_MAPPING[told["model_type"]].from_dict(told, name_or_path=self.pretrained)
        except (ValueError, TypeError, KeyError, ImportError, AttributeError):
            return False
        tokenizer = self.open_tokenizer(offline=offline, config=self.config)
        self.prompts = PromptEncoder(self.config, tokenizer, self.text_options, self.pretrained)
        return True

    def open_config(self, *, offline: bool = False) -> Any:
        """Read the configuration, and see that weights are beside it."""
        from transformers import AutoConfig

        self._check_folder()
        # Its retries are no news: what comes of them is said below.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            config = AutoConfig.from_pretrained(self.pretrained, **self.source(offline=offline))
        except (OSError, ValueError, KeyError, ImportError) as error:
            if "couldn't connect" in str(error):
                raise UsageError(
                    f"--model_args: pretrained={self.pretrained}: there is no such folder, and the Hugging Face hub "
                    "cannot be reached; give the folder of a model that is on this machine"
                ) from None
            raise UsageError(f"--model_args: pretrained={self.pretrained}: {one_line(error)}") from None
        if getattr(config, "dtype", None) is None:
            # Some checkpoints do not say it: then their weights do.
            config.dtype = stored_dtype(Path(self.pretrained))
        # Taken now: transformers writes into the configuration when it loads weights.
        known = {key: value for key, value in config.to_dict().items() if key not in _UNDECIDING}
        self._config_hash = short_hash(json.dumps(known, sort_keys=True, default=str).encode())
        self.config = config
        return config

    def open_tokenizer(self, *, offline: bool = False, config: Any = None) -> Any:
        """Read the tokenizer. config: what transformers need not read again, where it is of the same folder."""
        from transformers import AutoTokenizer

        folder = Path(self.tokenizer_path).expanduser()
        if folder.is_dir() and not any((folder / name).exists() for name in _TOKENIZER):
            raise UsageError(
                f"{folder} has no tokenizer (none of {', '.join(_TOKENIZER)}): give one with --model_args tokenizer=DIR"
            )
        options = self.source(offline=offline)
        if config is not None:
            options["config"] = config
        if self.text_options.add_bos_token is not None:
            options["add_bos_token"] = self.text_options.add_bos_token
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(self.tokenizer_path, **options)
        except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
            # The last two: JSON of another form than a tokenizer's.
            check_files(file for file in (folder / "tokenizer.json",) if file.is_file())
            raise UsageError(f"--model_args: tokenizer={self.tokenizer_path}: {one_line(error)}") from None
        return self.tokenizer

    def source(self, *, offline: bool = False) -> dict[str, Any]:
        """Where to look, as keywords of transformers' `from_pretrained`."""
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": offline,
        }

    @property
    def config_hash(self) -> str:
        """A hash of the configuration as it was stored."""
        return self._config_hash

    @property
    def identity(self) -> dict[str, Any]:
        """Which weights these are, with which configuration and tokenizer.

        Local weight files are known by name, size and a hash of samples of their bytes (the first 64 KiB, which hold a
        safetensors header, and eight more blocks spread over the file).
        """
        local = Path(self.pretrained).expanduser()
        weights: Any = getattr(self.config, "_commit_hash", None)
        if local.is_dir():
            weights = weights_fingerprint(weight_files(local))
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        tokenizer = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        return {
            # A folder may be moved, or mounted elsewhere: its content is what it is.
            "pretrained": local.resolve().name if local.is_dir() else self.pretrained,
            "revision": self.revision,
            "weights": weights or self.revision,
            "config": self._config_hash,
            "tokenizer": short_hash(tokenizer.encode("utf-8")),
            "quantization": stored_identity(self.config),
        }

    def _check_folder(self) -> None:
        folder = Path(self.pretrained).expanduser()
        if folder.is_dir():
            if self.tokenizer_path == self.pretrained:
                self.tokenizer_path = str(folder)
            self.pretrained = str(folder)
            if not (folder / "config.json").exists():
                raise UsageError(f"{folder} has no config.json: it is not a model of transformers")
            if not weight_files(folder):
                raise UsageError(f"{folder} has no weights (none of {', '.join(WEIGHTS)})")
            check_checkpoint(folder)
        elif folder.exists():
            raise UsageError(f"--model_args: pretrained={folder} is a file; give the folder that holds config.json")
        elif is_path(self.pretrained):
            raise UsageError(f"--model_args: pretrained={self.pretrained}: there is no such folder")


def is_path(text: str) -> bool:
    """Whether a name can only be a path: ids on the hub have one slash at most and start with a letter or digit."""
    return text.startswith((".", "~", os.sep)) or text.count("/") > 1
