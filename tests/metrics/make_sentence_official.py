"""Writes sentence_official.json: cosines of sentence embeddings by the package sentence-transformers.

pip install --no-deps sentence-transformers==6.2.0
python tests/metrics/make_sentence_official.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tiny_encoders import tiny_bert

HERE = Path(__file__).parent
ANSWERS = ["the cat sat on the mat", " 今天天气很好 ", "", "a dog runs fast . " * 20, "paris 😀 tower", "Cold"]
REFERENCES = [
    "a cat sat",
    "今天天气不错",
    "the cat",
    "the dog runs slow . " * 20,
    "the tower is in paris",
    "warm weather",
]
PROMPT = "the weather today "
# pooling, as sentence-transformers calls it; whether the prompt's tokens are pooled; the prompt; tokens that are read
CASES: dict[str, tuple[str, bool, str, int | None]] = {
    "mean": ("mean", True, "", None),
    "cls": ("cls", True, "", None),
    "last": ("lasttoken", True, "", None),
    "mean, prompt": ("mean", True, PROMPT, None),
    "mean, prompt not pooled": ("mean", False, PROMPT, None),
    "mean, 8 tokens": ("mean", True, "", 8),
}


def main() -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny_bert(Path(folder) / "tiny-bert")
        for name, (mode, include, prompt, window) in CASES.items():
            text: Any = Transformer(str(Path(folder) / "tiny-bert"))
            if window:
                text.max_seq_length = window
            modules = [text, Pooling(32, pooling_mode=mode, include_prompt=include), Normalize()]
            model = SentenceTransformer(modules=modules, device="cpu", prompts={"p": prompt}, default_prompt_name="p")
            ours, theirs = model.encode(ANSWERS), model.encode(REFERENCES)
            found[name] = [float(a @ b) for a, b in zip(ours, theirs, strict=True)]
    (HERE / "sentence_official.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
