"""Ctrl-C at moments at which an exception would be lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.interrupts import interrupts_wait
from harness.tasks.file_models import Strict, validate
from harness.tasks.yaml_file import load_document


@pytest.fixture(autouse=True)
def _signals_as_usual() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    yield
    signal.signal(signal.SIGINT, before)


class Interrupted(Strict):
    """Ctrl-C comes while its validator is made."""

    word: str
    made: ClassVar[list[str]] = []

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        schema = handler(source)
        cls.made.append("whole")
        return schema


def test_ctrl_c_waits_until_the_checker_of_a_file_is_made(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("word: a\n", encoding="utf-8")
    document = load_document(tmp_path / "x.yaml")
    with pytest.raises(KeyboardInterrupt):
        validate(Interrupted, document.data, document)
    assert Interrupted.made
    assert validate(Interrupted, document.data, document).word == "a"


def test_ctrl_c_that_waited_comes_before_the_error_of_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("something else")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
