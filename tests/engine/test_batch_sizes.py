"""Whatever the batch size, the scores are the same: bounded here, and printed by `tests/bench/batch_sizes.py`."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[1] / "bench" / "batch_sizes.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    found = importlib.util.spec_from_file_location("batch_sizes", BENCH)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["batch_sizes"] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [
        *((name, "float32") for name in ("qwen2", "llama", "gemma2", "gpt_neox", "mixtral", "mamba", "t5")),
        ("qwen2", "bfloat16"),
    ],
)
def test_one_four_and_64_rows_give_the_same_scores(
    bench: ModuleType, architecture: str, dtype: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = bench.requests(2, 4)

    with caplog.at_level(logging.WARNING, logger="harness"):
        (line,) = bench.measure(tmp_path, [architecture], [dtype], asked)

    assert set(line.relative) == {4, 64, "auto"}
    assert max(line.relative.values()) <= bench.BOUNDS[dtype]
    if dtype == "float32":
        assert set(line.texts.values()) == {0}
        assert max(line.apart.values()) <= 1e-4
    assert not [record for record in caplog.records if record.name.startswith("harness")]


def test_a_difference_is_seen(bench: ModuleType) -> None:
    from harness import Response

    one, other = Response(logprobs=(-10.0, -1.0)), Response(logprobs=(-10.5, -1.0))
    found = {1: [one], 4: [one], 64: [other], "auto": [one]}

    line = bench.compare("qwen2", "float32", found)

    assert line.apart == {4: 0.0, 64: 0.5, "auto": 0.0}
    assert line.relative[64] == pytest.approx(0.05)
    assert not line.within
