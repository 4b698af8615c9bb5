"""Adapters of peft on one base: refused before weights load where they do not fit, and taken off again without a trace.

peft changes a base in place: it puts its own layers around the base's, and an adapter that was trained with biases or
with whole modules overwrites them. Its own `unload` puts layers back, and leaves the rest as the adapter had it. `Base`
remembers how the base was, puts all of it back, and checks that every weight is what it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import UsageError
from harness.engine import ADAPTER_WEIGHTS, check_files, is_path, stored_tensors, without_numbers

# Parts of a module that are dictionaries of its own: a copy of the module's attributes must copy them too.
_TABLES = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


class Base:
    """A loaded model that adapters are put on, one after another."""

    def __init__(self, module: Any) -> None:
        self.module = module
        # Layers of quantised weights rearrange themselves when they are first used; no adapter touches their insides.
        self._states = [(part, _copied(vars(part))) for part in module.modules() if all(map(_is_plain, _tensors(part)))]
        tensors = {id(tensor): tensor for part in module.modules() for tensor in _tensors(part) if _is_plain(tensor)}
        # Where the values lie: `tensor.data = ...` makes a tensor point elsewhere.
        self._data = [(tensor, tensor.data) for tensor in tensors.values()]
        # Biases and norms are small enough to keep a copy of.
        self._copies = [(data, data.clone()) for _, data in self._data if data.dim() < 2]
        self._sums = [_checksum(data) for _, data in self._data]
        configs = {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}
        self._settings = [(config, dict(vars(config))) for config in configs.values()]

    def with_adapter(self, peft: str) -> Any:
        """The module, with the adapter in it."""
        from peft import PeftModel

        with warnings.catch_warnings():
            # peft still asks transformers for a property by its old name.
            warnings.filterwarnings("ignore", message=".is_gradient_checkpointing", category=FutureWarning)
            adapted = PeftModel.from_pretrained(self.module, peft)
        # The layers now hold the adapter; the outer shell only renames methods.
        return adapted.get_base_model()

    def restore(self) -> bool:
        """Make the module what it was before any adapter. False where some weights were changed for good."""
        import torch

        for part, state in self._states:
            part.__dict__.clear()
            part.__dict__.update(_copied(state))
        for config, settings in self._settings:
            config.__dict__.clear()
            config.__dict__.update(settings)
        for tensor, data in self._data:
            if tensor.data_ptr() != data.data_ptr():
                tensor.data = data
        with torch.no_grad():
            for data, copy in self._copies:
                data.copy_(copy)
        return all(_checksum(data) == total for (_, data), total in zip(self._data, self._sums, strict=True))


def can_be_kept(module: Any) -> bool:
    """Whether other adapters may follow on a module: its weights are in memory, and stay as they are when peft looks.

    What accelerate moves to and fro cannot be put back in place. On a processor, bitsandbytes (0.50) rearranges a used
    4-bit layer back when its state is read, and gets it wrong.
    """
    return not any(
        parameter.is_meta or (parameter.device.type == "cpu" and type(parameter).__name__ == "Params4bit")
        for parameter in module.parameters()
    )


def check_adapter(
    peft: str, pretrained: str, config: Any, *, trust_remote_code: bool, offline: bool, allow_other_base: bool
) -> None:
    """Refuse an adapter of a kind that is not a change of weights, of another base, or of another shape."""
    from peft import PeftConfig

    where = f"--model_args: peft={peft}"
    if is_path(peft) and not Path(peft).is_dir():
        raise UsageError(f"{where}: there is no such folder")
    if Path(peft).is_dir() and not (Path(peft) / "adapter_config.json").is_file():
        raise UsageError(f"{where} has no adapter_config.json: it is not an adapter of peft")
    if Path(peft).is_dir():
        weights = [file for name in ADAPTER_WEIGHTS if (file := Path(peft) / name).is_file()]
        if not weights:
            raise UsageError(f"{where} has no weights (none of {', '.join(ADAPTER_WEIGHTS)})")
        check_files([Path(peft) / "adapter_config.json", weights[0]])
    try:
        adapter = PeftConfig.from_pretrained(peft, local_files_only=offline)
    except (OSError, ValueError, KeyError, TypeError) as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        absent = "" if Path(peft).is_dir() else "there is no such folder, and no adapter of this name on the hub: "
        raise UsageError(f"{where}: {absent}{cause}") from None
    kind = getattr(adapter.peft_type, "value", str(adapter.peft_type))
    if adapter.is_prompt_learning:
        raise UsageError(
            f"{where} is of type {kind}, which puts virtual tokens before every prompt; adapters that change weights "
            "(LORA and its relatives) are supported"
        )
    base = adapter.base_model_name_or_path
    if base and not allow_other_base and _last_part(base) != _last_part(pretrained):
        raise UsageError(
            f"{where} was trained on '{base}', not on '{pretrained}': give pretrained={base}, or "
            "allow_other_base=True if both are the same weights"
        )
    _check_shapes(peft, pretrained, config, trust_remote_code)


def _check_shapes(peft: str, pretrained: str, config: Any, trust_remote_code: bool) -> None:
    """Compare the adapter's matrices with an empty model of this configuration (no memory is taken)."""
    import transformers

    file = Path(peft) / "adapter_model.safetensors"
    if not file.is_file():
        return
    family: Any = transformers.AutoModelForCausalLM
    if getattr(config, "is_encoder_decoder", False):
        family = transformers.AutoModelForSeq2SeqLM
    with without_numbers():
        model = family.from_config(config, trust_remote_code=trust_remote_code)
    modules = dict(model.named_modules())
    for name, entry in stored_tensors(file):
        shape = entry["shape"]
        path, _, matrix = name.removeprefix("base_model.model.").rpartition(".lora_")
        if not path or matrix[:1] not in "AB" or not matrix.endswith("weight"):
            continue
        module = modules.get(path)
        if module is None:
            raise UsageError(f"--model_args: peft={peft} changes '{path}', which '{pretrained}' has not")
        inner, outer = _features(module)
        wanted, found = (inner, shape[-1]) if matrix.startswith("A") else (outer, shape[0])
        if wanted is not None and wanted != found:
            raise UsageError(
                f"--model_args: peft={peft} does not fit '{pretrained}': {path} takes {wanted} values "
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


def _last_part(name: str) -> str:
    return name.rstrip("/").replace("\\", "/").rpartition("/")[2].lower()


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if name in _TABLES else value for name, value in state.items()}


def _tensors(part: Any) -> Iterator[Any]:
    yield from part.parameters(recurse=False)
    yield from part.buffers(recurse=False)


def _is_plain(tensor: Any) -> bool:
    import torch

    return type(tensor) in (torch.Tensor, torch.nn.Parameter)


def _checksum(data: Any) -> int:
    """A sum over all bytes of a tensor, in words of the size of its values, so that any change of one value shows."""
    import torch

    words = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    if not data.numel():
        return 0
    plain = data.detach().contiguous()
    return int(plain.view(words[plain.element_size()]).sum(dtype=torch.int64))
