"""Small random models of several image-text-to-text families, with their own processors and the templates they have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from harness.testing import tiny_tokenizer

SIZE = 32
PATCH = 8
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "head_dim": 8,
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
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)}, replace_extra_special_tokens=False)
    for name, token in names.items():
        setattr(tokenizer, name, token)
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    return tokenizer


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
        text_config=transformers.LlamaConfig(**_TEXT, vocab_size=len(tokenizer)),
        image_token_id=_id(tokenizer, "<image>"),
    )
    return transformers.LlavaForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {"llava": llava}


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
