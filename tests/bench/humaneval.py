"""Runs HumanEval's own solutions, and broken ones, in the sandbox: all of the former must pass, none of the latter.

    python tests/bench/humaneval.py MIRROR

MIRROR is a folder as `--data` takes it, with `openai/openai_humaneval` and `github/FloatAI/humaneval-xl`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from harness.scoring import sandbox

_FILES = ("openai/openai_humaneval/test.jsonl", "github/FloatAI/humaneval-xl/data/python/Chinese.jsonl")


def _passed(rows: list[dict[str, Any]], replies: list[str]) -> int:
    programs = [
        f"{row['prompt']}{reply}\n{row['test']}\ncheck({row['entry_point']})"
        for row, reply in zip(rows, replies, strict=True)
    ]
    return sum(outcome.passed for outcome in sandbox.run_programs(programs))


def main() -> int:
    """Print a line a file and kind of solution. Returns 1 where one passed or failed that should not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mirror", type=Path)
    mirror = parser.parse_args().mirror
    wrong = 0
    for name in _FILES:
        rows = [json.loads(line) for line in (mirror / name).read_text("utf-8").splitlines() if line]
        for kind, replies, expected in (
            ("own", [row["canonical_solution"] for row in rows], len(rows)),
            ("broken", ["    return NotImplemented\n"] * len(rows), 0),
            ("leaving", ["    import os\n    os._exit(0)\n"] * len(rows), 0),
        ):
            start = time.perf_counter()
            passed = _passed(rows, replies)
            print(f"{name}: {kind} {passed}/{len(rows)} pass, {time.perf_counter() - start:.1f} s")
            wrong += passed != expected
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
