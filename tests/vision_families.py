"""Small random models of several image-text-to-text families, with their own processors and the templates they have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers
from PIL import Image

from harness.testing import tiny_tokenizer

SIZE = 32
PATCH = 8
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "head_dim": 16,  # the smallest that is compiled
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": PATCH,
}


def _template(mark: str) -> str:
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
        "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        + mark
        + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def _tokenizer(*special: str, **names: str) -> Any:
    """A small tokenizer with these special tokens; names: those that a processor asks it for."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    kind: Any = transformers.PreTrainedTokenizerFast
    return kind(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=names,
    )


def _id(tokenizer: Any, token: str) -> int:
    return int(tokenizer.convert_tokens_to_ids(token))


def llava() -> tuple[Any, Any]:
    tokenizer = _tokenizer("<image>")
    images = transformers.CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    processor = transformers.LlavaProcessor(
        images, tokenizer, PATCH, "default", _template("<image>\n"), num_additional_image_tokens=1
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        text_config=transformers.LlamaConfig(**TEXT, vocab_size=len(tokenizer)),
        image_token_id=_id(tokenizer, "<image>"),
    )
    return transformers.LlavaForConditionalGeneration(config), processor


def llava_next() -> tuple[Any, Any]:
    tokenizer = _tokenizer("<image>")
    images = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": SIZE},
        crop_size={"height": SIZE, "width": SIZE},
        image_grid_pinpoints=[[SIZE, 2 * SIZE], [2 * SIZE, SIZE], [2 * SIZE, 2 * SIZE]],
    )
    processor = transformers.LlavaNextProcessor(
        images, tokenizer, PATCH, "default", _template("<image>\n"), num_additional_image_tokens=1
    )
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**_VISION),
        text_config=transformers.MistralConfig(**TEXT, vocab_size=len(tokenizer), sliding_window=None),
        image_token_id=_id(tokenizer, "<image>"),
        image_grid_pinpoints=images.image_grid_pinpoints,
    )
    return transformers.LlavaNextForConditionalGeneration(config), processor


def _qwen(
    kind: str, vision: dict[str, Any], rope: Mapping[str, Any] = MappingProxyType({}), **text: Any
) -> tuple[Any, Any]:
    section = [TEXT["head_dim"] // part for part in (4, 8, 8)]  # together half a head
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = _tokenizer(*marks)
    images = transformers.Qwen2VLImageProcessorPil(
        patch_size=PATCH, merge_size=2, size={"shortest_edge": 24 * 24, "longest_edge": 64 * 64}
    )
    processor = Parts(f"{kind}Processor", images, tokenizer, _template("<|vision_start|><|image_pad|><|vision_end|>"))
    config = getattr(transformers, f"{kind}Config")(
        vision_config={"patch_size": PATCH, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision},
        text_config={
            **TEXT,
            "vocab_size": len(tokenizer),
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": section, **rope},
            **text,
        },
        **{f"{name}_id": _id(tokenizer, mark) for name, mark in zip(_QWEN_TOKENS, marks, strict=True)},
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


_QWEN_TOKENS = ("vision_start_token", "vision_end_token", "image_token", "video_token")


def qwen2_vl() -> tuple[Any, Any]:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": TEXT["hidden_size"], "num_heads": 4, "mlp_ratio": 2}
    return _qwen("Qwen2VL", vision, use_sliding_window=False)


def qwen2_5_vl() -> tuple[Any, Any]:
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": TEXT["hidden_size"],
        "num_heads": 4,
        "intermediate_size": 64,
    }
    more = {"window_size": 2 * PATCH * 2, "fullatt_block_indexes": [1]}
    return _qwen("Qwen2_5_VL", {**vision, **more}, use_sliding_window=False)


def qwen3_vl() -> tuple[Any, Any]:
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "out_hidden_size": TEXT["hidden_size"],
        "num_heads": 4,
        "intermediate_size": 64,
    }
    more = {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    return _qwen("Qwen3VL", {**vision, **more}, rope={"mrope_interleaved": True})


def internvl() -> tuple[Any, Any]:
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = _tokenizer(*names.values(), **names)
    images = transformers.GotOcr2ImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    processor = Parts("InternVLProcessor", images, tokenizer, _template("<IMG_CONTEXT>\n"), image_seq_length=4)
    vision = {**_VISION, "image_size": [SIZE, SIZE], "patch_size": [PATCH, PATCH]}
    config = transformers.InternVLConfig(
        vision_config=vision,
        text_config=transformers.Qwen2Config(**TEXT, vocab_size=len(tokenizer)),
        image_token_id=_id(tokenizer, "<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    return transformers.InternVLForConditionalGeneration(config), processor


def llava_onevision() -> tuple[Any, Any]:
    tokenizer = _tokenizer("<image>", "<video>")
    grids = [[SIZE, 2 * SIZE], [2 * SIZE, SIZE], [2 * SIZE, 2 * SIZE]]
    images = transformers.LlavaOnevisionImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, image_grid_pinpoints=grids
    )
    processor = Parts(
        "LlavaOnevisionProcessor",
        images,
        tokenizer,
        _template("<image>\n"),
        num_image_tokens=(SIZE // PATCH) ** 2,
        vision_feature_select_strategy="full",
    )
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**_VISION, vision_use_head=False),
        text_config=transformers.Qwen2Config(**TEXT, vocab_size=len(tokenizer)),
        image_token_id=_id(tokenizer, "<image>"),
        video_token_id=_id(tokenizer, "<video>"),
        image_grid_pinpoints=grids,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


def idefics3() -> tuple[Any, Any]:
    return _idefics("Idefics3")


def smolvlm() -> tuple[Any, Any]:
    return _idefics("SmolVLM")


def _idefics(kind: str) -> tuple[Any, Any]:
    images = getattr(transformers, f"{kind}ImageProcessorPil")(
        size={"longest_edge": 2 * SIZE}, max_image_size={"longest_edge": SIZE}
    )
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    names = {
        "fake_image_token": "<fake_token_around_image>",
        "image_token": "<image>",
        "end_of_utterance_token": "<end_of_utterance>",
        "global_image_token": "<global-img>",
    }
    tokenizer = _tokenizer(*names.values(), *rows, **names)
    processor = Parts(f"{kind}Processor", images, tokenizer, _template("<image>"), image_seq_len=4)
    config = getattr(transformers, f"{kind}Config")(
        vision_config=_VISION,
        text_config=transformers.LlamaConfig(**TEXT, vocab_size=len(tokenizer)),
        image_token_id=_id(tokenizer, "<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    return getattr(transformers, f"{kind}ForConditionalGeneration")(config), processor


def gemma3() -> tuple[Any, Any]:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer(*names.values(), **names)
    images = transformers.Gemma3ImageProcessorPil(size={"height": SIZE, "width": SIZE})
    processor = Parts("Gemma3Processor", images, tokenizer, _template("<start_of_image>"), image_seq_length=4)
    config = transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(**_VISION, vision_use_head=False),
        text_config=transformers.Gemma3TextConfig(
            **TEXT, vocab_size=len(tokenizer), query_pre_attn_scalar=8, sliding_window=16, layer_types=_GEMMA_LAYERS
        ),
        mm_tokens_per_image=4,
        boi_token_index=_id(tokenizer, "<start_of_image>"),
        eoi_token_index=_id(tokenizer, "<end_of_image>"),
        image_token_id=_id(tokenizer, "<image_soft_token>"),
    )
    return transformers.Gemma3ForConditionalGeneration(config), processor


def gemma4() -> tuple[Any, Any]:
    kinds = {"i": "image", "a": "audio"}
    names = {f"bo{letter}_token": f"<|{kind}>" for letter, kind in kinds.items()}
    names |= {f"eo{letter}_token": f"<{kind}|>" for letter, kind in kinds.items()}
    names |= {f"{kind}_token": f"<|{kind}|>" for kind in kinds.values()}
    tokenizer = _tokenizer(*names.values(), "<|video|>", **names)
    pooled = {"patch_size": PATCH, "pooling_kernel_size": 2}
    images = transformers.Gemma4ImageProcessorPil(**pooled, max_soft_tokens=70)
    hears = {"feature_extractor_type": "Gemma4AudioFeatureExtractor"}
    processor = Parts("Gemma4Processor", images, tokenizer, _template("<|image|>"), feature_extractor=hears)
    config = transformers.Gemma4Config(
        vision_config=transformers.Gemma4VisionConfig(
            **{**_VISION, **pooled}, num_key_value_heads=4, head_dim=8, position_embedding_size=64
        ),
        text_config=transformers.Gemma4TextConfig(
            **TEXT,
            vocab_size=len(tokenizer),
            vocab_size_per_layer_input=len(tokenizer),
            hidden_size_per_layer_input=8,
            global_head_dim=8,
            sliding_window=16,
            layer_types=_GEMMA_LAYERS,
            use_bidirectional_attention="vision",
        ),
        eoa_token_index=_id(tokenizer, names["eoa_token"]),
        video_token_id=_id(tokenizer, "<|video|>"),
        **{f"{name}_id": _id(tokenizer, token) for name, token in names.items() if name != "eoa_token"},
    )
    return transformers.Gemma4ForConditionalGeneration(config), processor


_GEMMA_LAYERS = ["sliding_attention", "full_attention"]


class Parts:
    """The parts of a processor, saved as a checkpoint has them: no torchvision is needed to make the whole."""

    def __init__(self, kind: str, images: Any, tokenizer: Any, template: str, **settings: Any) -> None:
        self.kind, self.images, self.tokenizer, self.template, self.settings = (
            kind,
            images,
            tokenizer,
            template,
            settings,
        )

    def save_pretrained(self, place: Path) -> None:
        self.images.save_pretrained(place)
        self.tokenizer.save_pretrained(place)
        (place / "chat_template.jinja").write_text(self.template, encoding="utf-8")
        settings = {"processor_class": self.kind, **self.settings}
        (place / "processor_config.json").write_text(json.dumps(settings), encoding="utf-8")


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    function.__name__: function
    for function in (
        llava,
        llava_next,
        llava_onevision,
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        internvl,
        idefics3,
        smolvlm,
        gemma3,
        gemma4,
    )
}


def save_family(name: str, folder: Path, seed: int = 0) -> Path:
    """A random model of a family, as a checkpoint below `folder`."""
    torch.manual_seed(seed)
    model, processor = FAMILIES[name]()
    place = folder / name
    with torch.no_grad():
        for parameter in model.parameters():  # first weights as they are drawn are too small to tell images apart
            if parameter.dim() > 1:
                parameter.normal_(0, 0.15)
    model.generation_config.eos_token_id = 0
    model.generation_config.pad_token_id = 0
    model.eval().save_pretrained(place)
    processor.save_pretrained(place)
    return place


def picture(seed: int, width: int = 40, height: int = 40) -> Image.Image:
    """Noise in colour: no two seeds look alike to any model."""
    pixels = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())
