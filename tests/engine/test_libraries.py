"""What is imported of transformers, and what is not."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """\
import gc
import sys
from harness.engine.libraries import import_model_classes
import_model_classes()
from transformers.utils import is_scipy_available
assert "scipy.optimize" not in sys.modules
assert gc.isenabled()
import transformers.loss.loss_for_object_detection as losses
assert is_scipy_available() and losses.is_scipy_available()
print([list(map(int, places)) for places in losses.linear_sum_assignment([[2.0, 1.0], [1.0, 2.0]])])
"""


@pytest.mark.slow
def test_scipy_is_imported_only_by_who_trains_with_it() -> None:
    pytest.importorskip("scipy")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout == "[[0, 1], [1, 0]]\n", done.stderr
