"""Measure how far batch sizes are apart: the same requests, one, four and 64 rows at a time, and as many as fit.

    python tests/bench/batch_sizes.py [--dtype float32,bfloat16] [--architectures qwen2,llama,...] [--device cpu]

Small random models of each architecture score letters, texts of several tokens and whole texts behind the examples of
their subject, and continue them. Prints a table: the largest difference in log-likelihood from batch size 1, and how
many generated texts differ. Exits 1 when a difference is above the bound.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import GenerationParams, ModelOptions, Prompt, Request, Response
from harness.testing import tiny_causal_lm

ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "qwen2": {},
    "llama": {"bos_token_id": 1},
    "gemma2": {"sliding_window": 24, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0},
    "gpt_neox": {"rotary_pct": 0.5},
    "mixtral": {"num_local_experts": 4},
    "mamba": {"state_size": 4},
    "t5": {},
}
BATCH_SIZES = (1, 4, 64, "auto")
# Nats. A log-likelihood is a sum over its tokens: the bound is for each nat of it, and for one at least.
BOUNDS = {"float32": 2e-5, "bfloat16": 0.1}
SUBJECTS = ("算术", "法学", "地理", "history", "the calendar", "animals")
QUESTIONS = 8


@dataclass(frozen=True)
class Line:
    """What was found for one architecture: by batch size, the largest difference in nats, the same as a share of the
    value (or of one nat, if that is more), and how many texts differ."""

    architecture: str
    dtype: str
    apart: Mapping[int | str, float]
    relative: Mapping[int | str, float]
    texts: Mapping[int | str, int]

    @property
    def within(self) -> bool:
        return max(self.relative.values()) <= BOUNDS[self.dtype]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32,bfloat16")
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(f"| model | dtype | {' | '.join(f'batch {size}' for size in BATCH_SIZES[1:])} | texts that differ | bound |")
    print("|---|---|" + "---:|" * (len(BATCH_SIZES) + 1))
    with tempfile.TemporaryDirectory() as folder:
        lines = []
        work = (args.architectures.split(","), args.dtype.split(","), requests(len(SUBJECTS), QUESTIONS))
        for line in measure(Path(folder), *work, args.device):
            apart = " | ".join(f"{value:.1e}" for value in line.apart.values())
            texts = ", ".join(str(count) for count in line.texts.values())
            print(f"| {line.architecture} | {line.dtype} | {apart} | {texts} | {BOUNDS[line.dtype]:g} |", flush=True)
            lines.append(line)
    return int(not all(line.within for line in lines))


def measure(
    folder: Path, architectures: Sequence[str], dtypes: Sequence[str], asked: Sequence[Request], device: str = "cpu"
) -> Iterator[Line]:
    """Make each model and answer the same requests at each batch size."""
    for architecture in architectures:
        path = tiny_causal_lm(
            folder / architecture, architecture, hidden=64, layers=3, max_length=1024, **ARCHITECTURES[architecture]
        )
        for dtype in dtypes:
            found = {size: answers(path, asked, dtype, size, device) for size in BATCH_SIZES}
            yield compare(architecture, dtype, found)


def compare(architecture: str, dtype: str, found: Mapping[int | str, Sequence[Response]]) -> Line:
    alone = found[BATCH_SIZES[0]]
    apart, relative, texts = {}, {}, {}
    for size in BATCH_SIZES[1:]:
        pairs = [
            (one, other)
            for first, second in zip(alone, found[size], strict=True)
            for one, other in zip(first.logprobs, second.logprobs, strict=True)
        ]
        apart[size] = max(abs(one - other) for one, other in pairs)
        relative[size] = max(abs(one - other) / max(1.0, abs(one)) for one, other in pairs)
        texts[size] = sum(one.text != other.text for one, other in zip(alone, found[size], strict=True))
    return Line(architecture, dtype, apart, relative, texts)


def answers(path: Path, asked: Sequence[Request], dtype: str, batch_size: int | str, device: str) -> list[Response]:
    from harness.registry import load_plugins

    options = ModelOptions(device=device, batch_size=batch_size, offline=True)
    model = load_plugins().model("hf").create({"pretrained": str(path), "dtype": dtype}, options)
    model.prepare()
    model.load()
    try:
        found = dict(model.respond(asked))
    finally:
        model.close()
    failed = [response.error for response in found.values() if response.error]
    if failed:
        raise SystemExit(f"{path.name}, {dtype}, batch size {batch_size}: {failed[0]}")
    return [found[index] for index in range(len(found))]


def requests(subjects: int, questions: int) -> list[Request]:
    """Letters, options, a text and prompts to continue, of all lengths, behind the examples of a few subjects."""
    params = GenerationParams(max_new_tokens=10)
    asked: list[Request] = []
    for subject in SUBJECTS[:subjects]:
        shots = f"以下是关于{subject}的单项选择题。\n" + "".join(
            f"题目：{subject} {n * n + 7}?\nA. {n}\nB. {n + 1}\n答案是：A\n\n" for n in range(10)
        )
        for number in range(questions):
            question = f"题目：{subject} {number}: {'The quick brown fox. ' * number}\n答案是："
            asked.append(Request("loglikelihood", Prompt(question, shots), ("A", "B", "C", "D")))
            asked.append(Request("loglikelihood", Prompt(question, shots), (" 42", " jumps over", " 是正确的选项。")))
            if number < 3:
                asked.append(Request("generate", Prompt(question, shots), generation=params))
        asked.append(Request("rolling", Prompt(shots)))
    return asked


if __name__ == "__main__":
    raise SystemExit(main())
