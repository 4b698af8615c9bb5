"""Imports torch and transformers, which takes seconds: while something else is waited for, and no more than needed."""

from __future__ import annotations

import contextlib
import importlib
import sys
from typing import Any

_LOSSES = "transformers.loss.loss_for_object_detection"


def import_libraries() -> None:
    """Import what every model needs. What is wrong with a library is said by whoever needs it."""
    with contextlib.suppress(Exception):
        importlib.import_module("torch")
        importlib.import_module("transformers").AutoConfig  # noqa: B018 - it is imported when it is named
        importlib.import_module("transformers").AutoTokenizer  # noqa: B018


def import_losses_without_scipy() -> None:
    """Import what transformers' models train with, and leave SciPy, half a second of it, to who trains.

    Every model of transformers imports every loss; the one for finding objects is all that needs SciPy, for one
    function, which is imported here when it is called.
    """
    if _LOSSES in sys.modules or "scipy.optimize" in sys.modules:
        return
    with contextlib.suppress(ImportError, AttributeError):  # another version of transformers, arranged otherwise
        utils: Any = importlib.import_module("transformers.utils")
        known = utils.is_scipy_available
        utils.is_scipy_available = lambda: False
        try:
            losses: Any = importlib.import_module(_LOSSES)
        finally:
            utils.is_scipy_available = known
        if known() and not hasattr(losses, "linear_sum_assignment"):
            losses.linear_sum_assignment = _linear_sum_assignment


def _linear_sum_assignment(*arguments: Any, **options: Any) -> Any:
    return importlib.import_module("scipy.optimize").linear_sum_assignment(*arguments, **options)
