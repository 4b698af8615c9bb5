"""Adapters of peft as files: which weights they are, and what an engine of its own needs to know to serve one.

adapter = LoraAdapter.open("ADAPTER", "BASE")     # UsageError, one line, for what no such engine can put on it
adapter.rank, adapter.name, adapter.identity
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.engine.weights import check_files, short_hash, weights_fingerprint
from harness.errors import UsageError
from harness.quick import dataclass

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# What an adapter's configuration says about its origin and not about its arithmetic.
_ORIGIN = ("base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping")
# What vLLM and SGLang compute is W + s B A, and nothing beside it.
_BEYOND = ("use_dora", "lora_bias", "modules_to_save", "trainable_token_indices", "alora_invocation_tokens")


def adapter_identity(peft: str | None) -> Any:
    """What is known of an adapter: its weights, and the settings that scale them."""
    if peft is None:
        return None
    folder = Path(peft)
    if not folder.is_dir():
        return {"name": peft}
    stored = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    settings = {key: value for key, value in stored.items() if key not in _ORIGIN}
    return {
        "name": folder.resolve().name,
        "weights": weights_fingerprint([folder / name for name in ADAPTER_WEIGHTS if (folder / name).exists()]),
        "config": short_hash(json.dumps(settings, sort_keys=True).encode()),
    }


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """A plain LoRA adapter in a folder. name: tells it from others on one engine. rank: the largest of its matrices."""

    folder: Path
    name: str
    rank: int

    @classmethod
    def open(cls, peft: str, pretrained: str) -> LoraAdapter:
        """Read the configuration. Raises UsageError for what is no LoRA adapter of this base, or more than that."""
        where, folder = f"--model_args: peft={peft}", Path(peft).expanduser().resolve()
        if not folder.is_dir():
            raise UsageError(f"{where}: there is no such folder")
        if not (folder / "adapter_config.json").is_file():
            raise UsageError(f"{where} has no adapter_config.json: it is not an adapter of peft")
        weights = next((folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), None)
        if weights is None:
            raise UsageError(f"{where} has no weights (none of {', '.join(ADAPTER_WEIGHTS)})")
        check_files([folder / "adapter_config.json", weights])
        stored = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        ranks = [stored.get("r"), *(stored.get("rank_pattern") or {}).values()]
        if stored.get("peft_type") != "LORA" or not all(isinstance(rank, int) and rank > 0 for rank in ranks):
            raise UsageError(f"{where} is of type {stored.get('peft_type')}; this engine takes LORA (hf takes others)")
        beyond = [name for name in _BEYOND if stored.get(name)]
        if beyond or stored.get("bias", "none") != "none":
            raise UsageError(
                f"{where} changes more than matrices ({(beyond or ['bias'])[0]}), which this engine would leave out: "
                "--model hf takes it, or merge it into its base"
            )
        base = str(stored.get("base_model_name_or_path") or "")
        if base and Path(base).name.lower() != Path(pretrained).name.lower():
            raise UsageError(f"{where} was trained on '{base}', not on '{pretrained}': give pretrained={base}")
        return cls(folder, f"{folder.name}-{short_hash(str(folder).encode())[:6]}", max(ranks))

    @property
    def identity(self) -> Any:
        return adapter_identity(str(self.folder))
