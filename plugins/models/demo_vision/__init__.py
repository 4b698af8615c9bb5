"""`--model demo_vision`: a model of less than a million parameters that sees, so that there is always one.

    harness --tasks demo_vision

It names the colour, the shape, the number and the place of what `drawings.py` draws, in Chinese and English, says yes
and no to what is said of it, and tells two pictures apart by their order. `train_vision.py` makes it. It is a LLaVA of
transformers (a CLIP tower before a Llama) and goes through all that larger ones go through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness import Model, ModelError, hookimpl
from harness.engine import ImageProcessor, TorchModel

WEIGHTS = Path(__file__).parent / "weights"


class DemoVisionModel(TorchModel):
    """The embedded model that sees. It takes no arguments: its weights are in the package, and nothing is fetched."""

    name = "demo_vision"
    modalities: ClassVar = frozenset({"text", "image"})

    def __init__(self) -> None:
        super().__init__("the demo model that sees", dtype="float32")

    @property
    def identity(self) -> Mapping[str, Any]:
        files = ("model.safetensors", "tokenizer.json")
        digests = {name: hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest()[:16] for name in files}
        return {"pretrained": self.name, **digests, **self.text_identity}

    def open_config(self) -> Any:
        from transformers import AutoConfig

        if not (WEIGHTS / "model.safetensors").is_file():
            raise ModelError(
                f"{WEIGHTS} has no weights: reinstall the package, or make them with {__name__}.train_vision"
            )
        return AutoConfig.from_pretrained(WEIGHTS, local_files_only=True)

    def open_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(WEIGHTS, local_files_only=True)

    def open_processor(self) -> ImageProcessor:
        return ImageProcessor(str(WEIGHTS), self.config, {}, local_files_only=True)

    def open_model(self, device: str, dtype: Any) -> Any:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        family: Any = transformers.AutoModelForImageTextToText
        return family.from_pretrained(WEIGHTS, config=self.config, dtype=dtype, local_files_only=True).to(device)


@hookimpl
def harness_models() -> Sequence[type[Model]]:
    return [DemoVisionModel]
