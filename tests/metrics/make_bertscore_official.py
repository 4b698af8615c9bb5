"""Writes bertscore_official.json: what the package bert-score says of texts, by the tiny model of tests.

pip install bert-score==0.3.13 "transformers<5"
python tests/metrics/make_bertscore_official.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tiny_encoders import tiny_bert

HERE = Path(__file__).parent
LONG = "a dog runs fast . " * 20
ANSWERS = [
    "the cat sat on the mat", "the cat sat on the mat", "  The   DOG runs ", "", "the cat", "今天天气很好", "北京大学",
    LONG, "paris ! paris ? 😀 tower", "weather today is cold", "the", "zzz unknown qqq", " ", "今天 weather 很 cold 。",
]  # fmt: skip
REFERENCES: list[list[str]] = [
    ["the cat sat on the mat"],
    ["a dog runs"],
    ["the dog runs fast", "a cat sat", ""],
    ["the cat"],
    [""],
    ["今天天气不错", "今天很冷"],
    ["北京大学，今天很冷。"],
    ["the dog runs slow . " * 20, "a dog"],
    ["the tower is in paris"],
    ["today the weather is warm", "today is cold"],
    ["the the the"],
    ["mat"],
    ["", "a"],
    ["今天天气很冷。"],
]
BASELINE = (0.31, 0.29, 0.3)
CASES = {
    "layer 1": {"layer": 1},
    "layer 2": {"layer": 2},
    "layer 3": {"layer": 3},
    "idf": {"layer": 2, "idf": True},
    "baseline": {"layer": 2, "baseline": list(BASELINE)},
    "idf, baseline": {"layer": 3, "idf": True, "baseline": list(BASELINE)},
}


def main() -> None:
    import bert_score

    with tempfile.TemporaryDirectory() as folder:
        model = tiny_bert(Path(folder) / "tiny-bert")
        table = Path(folder) / "baseline.tsv"
        rows = ["LAYER,P,R,F", *(f"{layer},{','.join(map(str, BASELINE))}" for layer in range(4))]
        table.write_text("\n".join(rows) + "\n", encoding="utf-8")
        found = {}
        for name, options in CASES.items():
            rescaled = "baseline" in options
            precision, recall, f1 = bert_score.score(
                ANSWERS,
                REFERENCES,
                model_type=str(model),
                num_layers=options["layer"],
                idf=bool(options.get("idf")),
                lang="en",
                rescale_with_baseline=rescaled,
                baseline_path=str(table) if rescaled else None,
                use_fast_tokenizer=True,
            )
            found[name] = [f1.tolist(), precision.tolist(), recall.tolist()]
    (HERE / "bertscore_official.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
