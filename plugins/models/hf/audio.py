"""`--model hf_audio`: models of transformers that hear, run in this process by the engine.

    harness --tasks librispeech --model hf_audio --model_args pretrained=DIR

Any model whose own decoder is given embeddings with the features of sounds among them: Qwen2-Audio and its like. It
answers in text and scores options; a sound, and what questions have in common behind it, are computed once.
"""

from __future__ import annotations

from typing import ClassVar

from harness.engine import SoundProcessor

from . import HuggingFace


class HuggingFaceAudio(HuggingFace):
    """A model of transformers that hears. All arguments of `hf`."""

    name = "hf_audio"
    modalities: ClassVar = frozenset({"text", "audio"})
    aliases: ClassVar = {"hf-audiolm-qwen": {}}

    def open_processor(self) -> SoundProcessor:
        source = self.checkpoint.source(offline=self.options.offline)
        return SoundProcessor(self.pretrained, self.config, **source)
