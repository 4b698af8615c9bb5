"""What official scripts take for a number."""

from __future__ import annotations


def is_float(text: str) -> bool:
    """Whether Python's `float` reads the text: also " 1", "1e3", "1_000", "nan" and "inf"."""
    try:
        float(text)
    except ValueError:
        return False
    return True
