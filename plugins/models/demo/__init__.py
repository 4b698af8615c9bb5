"""`--model demo`: a transformer of about a million parameters that comes with the harness, so that there is always one.

    harness --tasks demo

It knows a tiny made-up world in Chinese and English and adds and subtracts small numbers (`world.py`). `train.py` makes
it from nothing. It is no language model for anything else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import Model, ModelError, Prompt, Sample, hookimpl
from harness.engine import TorchModel

WEIGHTS = Path(__file__).parent / "weights"


class DemoModel(TorchModel):
    """The embedded model. It takes no arguments: its weights are in the package, and nothing is fetched."""

    name = "demo"

    def __init__(self) -> None:
        super().__init__("the demo model", dtype="float32")
        self._counts: Any = None
        """Its tokenizer, where prompts are only shown."""

    def prepare_to_show(self, chats: bool = False) -> None:
        if chats:
            self.prepare()
            return
        from tokenizers import Tokenizer

        self._counts = Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        if self._counts is None:
            super().inspect_samples(samples)

    def render(self, prompt: Prompt) -> str:
        return prompt.text if self._counts is not None else super().render(prompt)

    def count_tokens(self, text: str) -> int | None:
        return len(self._counts.encode(text).ids) if self._counts is not None else super().count_tokens(text)

    @property
    def identity(self) -> Mapping[str, Any]:
        files = ("model.safetensors", "tokenizer.json")
        digests = {name: hashlib.sha256((WEIGHTS / name).read_bytes()).hexdigest()[:16] for name in files}
        return {"pretrained": self.name, **digests, **(self.text_identity if self._counts is None else {})}

    def open_config(self) -> Any:
        from transformers import AutoConfig

        if not (WEIGHTS / "model.safetensors").is_file():
            raise ModelError(f"{WEIGHTS} has no weights: reinstall the package, or make them with {__name__}.train")
        return AutoConfig.from_pretrained(WEIGHTS, local_files_only=True)

    def open_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(WEIGHTS, local_files_only=True)

    def open_model(self, device: str, dtype: Any) -> Any:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        family: Any = transformers.AutoModelForCausalLM
        return family.from_pretrained(WEIGHTS, config=self.config, dtype=dtype, local_files_only=True).to(device)


@hookimpl
def harness_models() -> Sequence[type[Model]]:
    return [DemoModel]
