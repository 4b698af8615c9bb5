"""Fixtures for the authors of plugins and tasks. Importing this module imports no torch.

def test_my_task(tmp_path):
    model = tiny_causal_lm(tmp_path / "model")
    harness.evaluate("hf", {"pretrained": str(model)}, ["my_task"])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TEXT = (
    "The quick brown fox jumps over the lazy dog.\n",
    "Question: How many apples are left? Answer: 42\n",
    "以下是关于大学法学的单项选择题，请直接给出正确答案的选项。\n",
    "题目：下列哪一项是正确的？\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案是：A\n",
    "0123456789 + - * / = ( ) [ ] { } <think> </think>\n",
)
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_causal_lm(
    path: Path,
    architecture: str = "qwen2",
    *,
    vocab_size: int = 400,
    hidden: int = 32,
    layers: int = 2,
    max_length: int = 512,
    seed: int = 0,
    texts: Sequence[str] = (),
    **config: Any,
) -> Path:
    """Write a small random model with a tokenizer trained on the spot to `path`, and return `path`.

    architecture: a model type of transformers: `qwen2`, `llama`, `gpt2`, `mamba`, `t5` and so on. Further keywords go
    into its configuration. The same arguments give the same files.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
    from transformers.utils import logging

    quiet: Any = logging
    quiet.disable_progress_bar()
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer(vocab_size, texts)
    tokenizer.save_pretrained(path)
    settings = _config(architecture, len(tokenizer), hidden, layers, max_length, config)
    family: Any = AutoModelForSeq2SeqLM if settings.is_encoder_decoder else AutoModelForCausalLM
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    model = family.from_config(settings)
    # Weights far enough from zero that predictions differ between contexts.
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.08 if "embed" in name or "wte" in name else 0.15)
    torch.random.set_rng_state(state)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(path)
    return path


def tiny_tokenizer(vocab_size: int = 400, texts: Sequence[str] = ()) -> Any:
    """A byte-level BPE tokenizer of transformers, trained on a few lines of English, Chinese and arithmetic."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([*_TEXT * 4, *texts], trainer)
    tokenizer = fast(
        tokenizer_object=backend,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def _config(architecture: str, vocab: int, hidden: int, layers: int, max_length: int, extra: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    heads = 4
    names = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "d_model": hidden,
        "n_embd": hidden,
        "intermediate_size": 2 * hidden,
        "d_ff": 2 * hidden,
        "num_hidden_layers": layers,
        "num_layers": layers,
        "n_layer": layers,
        "num_attention_heads": heads,
        "num_heads": heads,
        "n_head": heads,
        "num_key_value_heads": 2,
        "head_dim": hidden // heads,
        "d_kv": hidden // heads,
        "max_position_embeddings": max_length,
        "n_positions": max_length,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "decoder_start_token_id": 0,
    }
    kind = CONFIG_MAPPING[architecture]
    known = {*kind.__init__.__annotations__, *getattr(kind, "__annotations__", {}), *dir(kind), *kind().to_dict()}
    # Names that an architecture maps to another one would be set twice.
    chosen = {key: value for key, value in names.items() if key in known and key not in kind.attribute_map}
    return kind(**{**chosen, **extra})
