"""Ctrl-C at moments at which an exception would be lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.api import evaluate
from harness.interrupts import interrupts_wait, stopped_tidily
from harness.tasks.file_models import Strict, validate
from harness.tasks.yaml_file import load_document
from harness.testing import run_harness


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_ends_as_by_ctrl_c(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), stopped_tidily():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # nohup
        with stopped_tidily():
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_command_that_writes_a_file_leaves_no_half_of_it_when_it_is_told_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = evaluate("dummy", {"mode": "gold"}, ["demo_arithmetic"], output=str(tmp_path), limit=3).path

    def told_to_end(record: object) -> dict[str, object]:
        signal.raise_signal(signal.SIGTERM)
        return {}

    monkeypatch.setattr("harness.run.parquet.sample_row", told_to_end)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        done = run_harness("export", run, "--parquet", tmp_path / "out" / "samples.parquet")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.exit_code == 2 and "interrupted; go on with: harness export" in done.stderr
    assert not any((tmp_path / "out").iterdir())
