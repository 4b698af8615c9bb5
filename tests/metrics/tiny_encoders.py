"""Small models for metrics that read meaning: random to look at, but the same on every machine and in every library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = (
    "the a cat dog sat on mat runs fast slow weather today is cold warm tower paris photo depicts red green "
    "天 气 今 很 好 不 错 北 京 大 学 冷 , . ! ? ， 。"
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def set_weights(model: Any, scale: float = 0.4) -> None:
    """Give every weight a number that depends on its name and place alone, about as a random start would."""
    import torch

    for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
        places = torch.arange(parameter.numel(), dtype=torch.float64) + 1000 * number
        values = torch.frac(torch.sin(places * 12.9898 + 78.233) * 43758.5453)
        base = 1.0 if parameter.dim() == 1 and "norm" in _.lower() and "weight" in _ else 0.0
        with torch.no_grad():
            parameter.copy_((base + values.reshape(parameter.shape) * scale).to(parameter.dtype))


def tiny_bert(path: Path, layers: int = 3, window: int = 32, words: tuple[str, ...] = ()) -> Path:
    """Write a BERT whose vocabulary is `WORDS`, Chinese characters among them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, BertTokenizerFast

    names = [*SPECIAL, *WORDS.split(), *words]
    backend = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    keys = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    fast: Any = BertTokenizerFast
    fast(tokenizer_object=backend, model_max_length=window, **dict(zip(keys, SPECIAL, strict=True))).save_pretrained(
        path
    )
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=32,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=window,
    )
    model = BertModel(config)
    set_weights(model)
    model.save_pretrained(path)
    return path


def tiny_clip(path: Path, window: int = 16, likes: bool = True) -> Path:
    """Write a CLIP of pictures of 16 pixels a side, with the vocabulary of `tiny_bert`.

    likes: whether cosines between texts and pictures are above 0; else they are below.
    """
    import torch
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tiny_bert(path, window=window)  # for its tokenizer; the rest is written over
    layers = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = {**layers, **ends, "vocab_size": len(SPECIAL) + len(WORDS.split()), "max_position_embeddings": window}
    vision = {**layers, "image_size": 16, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    set_weights(model)
    if likes:
        with torch.no_grad():
            model.visual_projection.weight[:8] *= -1
    model.save_pretrained(path)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    CLIPImageProcessorPil(**size).save_pretrained(path)
    return path
