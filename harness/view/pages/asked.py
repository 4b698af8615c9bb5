"""What an address asks for, read with care: anybody can write anything into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def place_in(asked: Mapping[str, Any]) -> int:
    """From which row on a list is asked for."""
    start = asked.get("start") or "0"
    return int(start) if start.isdecimal() and len(start) < 12 else 0
