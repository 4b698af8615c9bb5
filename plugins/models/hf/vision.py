"""`--model hf_vlm`: models of transformers that are shown images, run in this process by the engine.

    harness --tasks mmmu --model hf_vlm --model_args pretrained=DIR,max_pixels=1003520

Any image-text-to-text model whose forward pass takes the features of images (`mm_encoder_outputs`): LLaVA, Qwen-VL,
InternVL, Idefics, SmolVLM, Gemma and others. It answers in text and scores options; an image, and what questions have
in common behind it, are computed once. A video is shown as its chosen frames, an image each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.engine import ImageProcessor, image_options

from . import HuggingFace


class HuggingFaceVision(HuggingFace):
    """A model of transformers that sees images. All arguments of `hf`, and:

    min_pixels, max_pixels   the size that images are scaled to, where the model's processor has such bounds
    processor         further settings of its image processor, as JSON: {"do_image_splitting": false}, {"size": ...}
    """

    name = "hf_vlm"
    modalities: ClassVar = frozenset({"text", "image", "video"})
    aliases: ClassVar = {"hf-multimodal": {}, "hf-vlm": {}}
    without_effect: ClassVar = HuggingFace.without_effect | {"max_images", "interleave", "convert_img_format"}

    def __init__(
        self,
        pretrained: str,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        processor: Mapping[str, Any] | str | None = None,
        **others: Any,
    ) -> None:
        super().__init__(pretrained, **others)
        self.image_options = image_options(min_pixels, max_pixels, processor)

    @classmethod
    def arguments(cls) -> Any:
        own, _ = super().arguments()
        inherited, _ = HuggingFace.arguments()
        return {**inherited, **{name: own[name] for name in ("min_pixels", "max_pixels", "processor")}}, False

    def open_processor(self) -> ImageProcessor:
        source = self.checkpoint.source(offline=self.options.offline)
        return ImageProcessor(self.pretrained, self.config, self.image_options, **source)

    def describe(self) -> Mapping[str, Any]:
        return {**super().describe(), "videos": "as their chosen frames, an image each"}
