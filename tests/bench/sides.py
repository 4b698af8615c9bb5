"""One side of a comparison, as a program of its own: a whole command, and what answering took of it.

    PYTHON tests/bench/sides.py harness|lm_eval NOTES.json [arguments of the command]

NOTES.json then holds the seconds on the clock and of the processor from loaded weights to the last answer, of this
process and of all that it started, the peak memory in bytes, and a few words on the engine. PYTHON's environment may
lack this project, as one that has vLLM alone: `command` sees to it that what is missing comes from the environment of
the caller.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import runpy
import site
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = "HARNESS_BENCH_PACKAGES"


def command(python: str, program: str, notes: Path, words: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
    """The command that runs a side, and its environment."""
    packages = {PACKAGES: sysconfig.get_path("purelib")}
    return [python, __file__, program, str(notes), *words], {**os.environ, **packages}


def main() -> int:
    program, notes, words = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    if importlib.util.find_spec("harness") is None and PACKAGES in os.environ:
        site.addsitedir(os.environ[PACKAGES])  # behind all that this environment has itself
    marks = _mark_lm_eval() if program == "lm_eval" else _mark_harness()
    import torch  # not before the program has set up its threads, which it does as it is imported

    counts = {"captured": 0, "replayed": 0}
    if torch.cuda.is_available():
        for name, method in (("captured", "capture_end"), ("replayed", "replay")):
            _count(torch.cuda.CUDAGraph, method, counts, name)
    sys.argv = [program, *words]
    status: Any = 0
    try:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        status = ended.code
    told: dict[str, Any] = {"memory": _memory(), "notes": _notes(program, words, counts)}
    if "loaded" in marks and "answered" in marks:
        seconds, busy = (end - start for start, end in zip(marks["loaded"], marks["answered"], strict=True))
        told |= {"answering": seconds, "busy": busy}
    notes.write_text(json.dumps(told), encoding="utf-8")
    return int(status or 0)


Marks = dict[str, tuple[float, float]]


def _mark_harness() -> Marks:
    from harness_plugins.models.hf import HuggingFace
    from harness_plugins.models.vllm import VLLMModel

    marks: Marks = {}
    for kind in (HuggingFace, VLLMModel):
        _mark_end(kind, "load", marks, "loaded")
        _mark_last(kind, marks)
    return marks


def _mark_lm_eval() -> Marks:
    from lm_eval.models.huggingface import HFLM

    marks: Marks = {}
    _mark_end(HFLM, "__init__", marks, "loaded")
    for method in ("loglikelihood", "generate_until"):
        _mark_end(HFLM, method, marks, "answered")
    return marks


def _mark_end(kind: Any, method: str, marks: Marks, name: str) -> None:
    original = getattr(kind, method)

    def marked(self: Any, *args: Any, **options: Any) -> Any:
        result = original(self, *args, **options)
        marks[name] = time.monotonic(), busy_seconds()
        return result

    setattr(kind, method, marked)


def _mark_last(kind: Any, marks: Marks) -> None:
    """Answers come one by one: the last one of the last call counts."""
    original = kind.respond

    def marked(self: Any, requests: Any) -> Any:
        yield from original(self, requests)
        marks["answered"] = time.monotonic(), busy_seconds()

    kind.respond = marked


def _count(kind: Any, method: str, counts: dict[str, int], name: str) -> None:
    original = getattr(kind, method)

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        counts[name] += 1
        return original(self, *args, **options)

    setattr(kind, method, counted)


def busy_seconds() -> float:
    """Processor seconds so far of this process and of all that it started: those that run, and those that ended."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        children.setdefault(int(words[1]), []).append(int(stat.parent.name))
        ticks[int(stat.parent.name)] = sum(map(int, words[11:15]))
    if not ticks:  # a system without /proc
        return sum(os.times()[:4])
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        total += ticks.get(process, 0)
        waiting += children.get(process, [])
    return total / os.sysconf("SC_CLK_TCK")


def _memory() -> int:
    """Peak bytes: of the card, or of the largest process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() or _card_memory()
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whose) * 1024


def _card_memory() -> int:
    """What all processes hold of the first card: vLLM's engine is one of its own."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, capture_output=True, text=True).stdout.split()[0]) * 2**20


def _notes(program: str, words: list[str], counts: Mapping[str, int]) -> str:
    if words[words.index("--model") + 1] == "vllm":
        return "in an engine of its own"
    steps = f"{counts['captured']} steps recorded, replayed {counts['replayed']:,} times"
    return f"{_self_check(words)}; {steps}" if program == "harness" else steps


def _self_check(words: list[str]) -> str:
    """What the engine said of its first batch, with shared prefixes and without."""
    runs = Path(words[words.index("--output") + 1])
    newest = max(runs.glob("*/manifest.json"), key=lambda file: file.stat().st_mtime)
    said = json.loads(newest.read_text(encoding="utf-8"))["model"].get("sharing", "")
    return said if isinstance(said, str) else "; ".join(map(str, said))


if __name__ == "__main__":
    raise SystemExit(main())
