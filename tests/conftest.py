"""What holds for every test: one thread, one width of terminal, the same drawn inputs, caches that are nobody's own."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# The models of the tests are so small that threads cost more than they bring; two cores run four times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where a test wants two, on cores that others use, the one that waits sleeps: it would take all the time of the other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Tables are cut to the terminal, and where there is none, to what the system takes for one.
os.environ["COLUMNS"] = "160"
# Tests start a hundred commands, and each would compile the same sources anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The same inputs each time: a draw by chance would fail once in a while, and for nobody else. Nor does a busy machine
# fail a test.
slowness = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, suppress_health_check=slowness)
hypothesis.settings.load_profile("fixed")
# What is imported while tests are collected stays: no look for garbage among it, neither now nor while tests run.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture
def hangs_up() -> Iterator[None]:
    """A terminal that closes, or Ctrl-C, ends what the test starts, also where the tests themselves run under nohup or
    in a shell's background."""
    defaults = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, default) for number, default in defaults.items()}
    yield
    for number, known in before.items():
        signal.signal(number, known)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Task indexes and downloads of the tests go to a folder of their own."""
    folder: Path = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
