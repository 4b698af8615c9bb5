"""Weights that were published with fewer bits: what reads them, what they take in memory, whether all were read.

A folder whose configuration says how its weights are stored needs no flag; transformers reads it, if the package that
knows the format is there. What transformers itself cannot read here is its word to say, in one line.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from harness import ModelError, UsageError
from harness.engine import stored_format, stored_settings, without_numbers

from .quantization import LowBits

_EXTRA = {name: f"'harness-eval[{name}]'" for name in ("accelerate", "bitsandbytes", "compressed-tensors")}
_ACCELERATE = ("accelerate", "accelerate")
# Format -> (module, name to install) of what transformers (its `quantizers`) needs to read it.
_READERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "aqlm": (("aqlm", "'aqlm[cpu,gpu]'"), _ACCELERATE),
    "auto-round": (("auto_round", "auto-round"),),
    "awq": (("gptqmodel", "gptqmodel"), _ACCELERATE),
    "bitnet": (_ACCELERATE,),
    "bitsandbytes": (("bitsandbytes", "bitsandbytes"), _ACCELERATE),
    "compressed-tensors": (("compressed_tensors", "compressed-tensors"),),
    "eetq": (("kernels", "kernels"), _ACCELERATE),
    "fbgemm_fp8": (("fbgemm_gpu", "fbgemm-gpu"), _ACCELERATE),
    "fouroversix": (("fouroversix", "fouroversix"),),
    "fp8": (_ACCELERATE,),
    "fp_quant": (("fp_quant", "fp_quant"),),
    "gptq": (("optimum", "optimum"), ("gptqmodel", "gptqmodel")),
    "higgs": (("flute", "flute-kernel"), ("fast_hadamard_transform", "fast-hadamard-transform"), _ACCELERATE),
    "hqq": (("hqq", "hqq"),),
    "mxfp4": (_ACCELERATE,),
    "mxfp8": (_ACCELERATE,),
    "quanto": (("optimum.quanto", "optimum-quanto"), _ACCELERATE),
    "quark": (("quark", "amd-quark"),),
    "sinq": (("sinq", "sinq"),),
    "spqr": (("spqr_quant", "'spqr_quant[gpu]'"), _ACCELERATE),
    "torchao": (("torchao", "torchao"),),
    "vptq": (("vptq", "vptq"), _ACCELERATE),
}
# Formats whose kernels, in transformers, are for GPUs only.
_GPU_ONLY = ("eetq", "fbgemm_fp8", "fp_quant", "higgs", "spqr", "vptq")
# Formats that are unpacked while they load, except on this kind of device.
_UNPACKED_BUT_ON = {"compressed-tensors": "nothing", "fp8": "cuda", "metal": "mps", "mxfp4": "cuda", "mxfp8": "cuda"}
# Names of tensors without which quantised weights are not what they say.
_PARTS = (
    *("qweight", "weight_packed", "W_q", "weight._data"),
    *("weight_scale", "weight_scale_2", "weight_scale_inv", "weight.absmax", "scales"),
)


def check_quantization(pretrained: str, config: Any, wanted: LowBits, device: str) -> None:
    """Refuse what no installed package can read, or not on this device, and weights that would be quantised twice."""
    stored = stored_format(config)
    where = f"--model_args: pretrained={pretrained}"
    if stored is None:
        return
    if wanted:
        flag = "load_in_4bit" if wanted.load_in_4bit else "load_in_8bit"
        raise UsageError(f"{where} is quantised already, by {stored}: leave {flag} out")
    if stored in _GPU_ONLY and device == "cpu":
        raise UsageError(f"{where} has weights in the format {stored}, which transformers computes with on GPUs only")
    missing = [name for module, name in _READERS.get(stored, ()) if not _is_installed(module)]
    if missing:
        need = "the package" if len(missing) == 1 else "the packages"
        raise UsageError(
            f"{where} has weights in the format {stored}, which needs {need} {' and '.join(missing)}: "
            f"pip install {' '.join(_EXTRA.get(name, name) for name in missing)}"
        )


def _is_installed(module: str) -> bool:
    package, _, _ = module.rpartition(".")
    return (not package or find_spec(package) is not None) and find_spec(module) is not None


def readers(config: Any) -> Mapping[str, str]:
    """The packages, and their versions, that read these weights: kernels, and so last digits, differ between them."""
    versions = {}
    for _, name in _READERS.get(stored_format(config) or "", ()):
        package = name.strip("'").partition("[")[0]
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def config_to_read(config: Any) -> Any:
    """The configuration that transformers is given.

    compressed-tensors unpacks weights at the first pass unless it is told to do so while they load. The latter gives
    the same weights, reads zero points that the former has no room for (0.20), heeds the model's dtype, and leaves
    layers that the engine knows. It drops what becomes of activations, so that it is for weights alone.
    """
    settings = stored_settings(config)
    if stored_format(config) != "compressed-tensors" or settings.get("kv_cache_scheme"):
        return config
    import transformers

    groups = (settings.get("config_groups") or {}).values()
    weights_alone = all(
        isinstance(group, Mapping) and not group.get("input_activations") and not group.get("output_activations")
        for group in groups
    )
    known = inspect.signature(transformers.CompressedTensorsConfig.__init__).parameters
    if not weights_alone or "dequantize" not in known:
        return config
    told = copy.deepcopy(config)
    told.quantization_config = {**settings, "dequantize": True}
    return told


def check_read(model: Any, config: Any, found: Mapping[str, Any], where: str) -> None:
    """Refuse a model with random numbers in it, and one whose quantised weights were taken for plain ones.

    transformers skips formats that it does not know with a warning, and some that it knows without one: the codes of
    weights, without their scales, would be read as if they were weights. found: transformers' `output_loading_info`.
    """
    import transformers

    stored, missing = stored_format(config), sorted(found["missing_keys"])
    modules = {name for name, _ in model.named_modules()}
    unread = [
        name
        for name in sorted(found["unexpected_keys"])
        if any(name.endswith(f".{part}") and name.removesuffix(f".{part}") in modules for part in _PARTS)
    ]
    if unread or (stored and missing and found["unexpected_keys"]):
        name = f"the format '{stored}'" if stored else "a format that config.json does not name"
        raise ModelError(
            f"{where} has weights in {name}, which transformers {transformers.__version__} did not read here: "
            f"{len(unread) + len(missing)} tensors ({[*unread, *missing][0]}, ...) do not fit the model"
        )
    if missing:
        raise ModelError(
            f"{where} lacks {len(missing)} of its weights ({missing[0]}, ...): they would be random numbers; is the "
            "folder complete?"
        )


def unpack(model: Any, dtype: Any) -> None:
    """Have weights whole now that would be unpacked at the first pass, and in `dtype` what became bfloat16 regardless.

    compressed-tensors would also put all tensors into containers of its own, which adapters cannot copy.
    """
    import torch

    quantizer: Any = getattr(model, "hf_quantizer", None)
    if quantizer is None and model.dtype != dtype:
        model.to(dtype)
    if not hasattr(model, "ct_decompress_hook"):
        return
    from compressed_tensors.compressors import decompress_module

    for layer in model.modules():
        decompress_module(layer)
        weight = getattr(layer, "weight", None)
        if isinstance(layer, torch.nn.Linear) and weight is not None and weight.dtype != dtype:
            layer.weight = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
    quantizer.compressor.remove_decompression_hook(model)


def is_unpacked(config: Any, device: str) -> bool:
    """Whether weights of this format are whole in memory."""
    stored = stored_format(config)
    if stored == "mxfp4" and device.startswith("cuda"):
        return find_spec("kernels") is None or find_spec("triton") is None
    kernels = _UNPACKED_BUT_ON.get(stored or "")
    return kernels is not None and not device.startswith(kernels)


def count_weights(config: Any, trust_remote_code: bool) -> int | None:
    """The number of weights of the model that a configuration describes; None where its code needs them to be built."""
    import transformers

    plain = copy.deepcopy(config)
    if hasattr(plain, "quantization_config"):
        del plain.quantization_config
    family: Any = transformers.AutoModelForCausalLM
    if getattr(config, "is_encoder_decoder", False):
        family = transformers.AutoModelForSeq2SeqLM
    try:
        with without_numbers():
            return int(family.from_config(plain, trust_remote_code=trust_remote_code).num_parameters())
    except (RuntimeError, ValueError, TypeError, AttributeError, ImportError, OSError):
        return None


def held_bytes(model: Any) -> int:
    """Bytes of all tensors of a model. Tensors of quantisation packages say the size that they would have if whole."""
    return sum(_bytes(tensor) for tensor in (*model.parameters(), *model.buffers()))


def _bytes(tensor: Any) -> int:
    if hasattr(tensor, "__tensor_flatten__"):
        parts, _ = tensor.__tensor_flatten__()
        return sum(_bytes(getattr(tensor, part)) for part in parts)
    return int(tensor.nelement() * tensor.element_size())
