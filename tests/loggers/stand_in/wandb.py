"""What the wandb logger uses of W&B, written down line by line in the file that STAND_IN_LOG names.

STAND_IN_FAILS says what goes wrong: `hang` or `raise` in init, `quit` ends the process, `late` raises when scores come.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def _note(what: str, **fields: Any) -> None:
    with Path(os.environ["STAND_IN_LOG"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"what": what, **fields}, ensure_ascii=False) + "\n")


class Settings:
    def __init__(self, **chosen: Any) -> None:
        self.chosen = chosen


class Table:
    def __init__(self, columns: list[str], data: list[list[Any]]) -> None:
        assert all(len(row) == len(columns) for row in data)
        for column in zip(*data, strict=True):
            kinds = {isinstance(cell, str) for cell in column if cell is not None}
            assert len(kinds) < 2, f"a column of W&B has one type: {column}"
        self.columns, self.data = columns, data


class Artifact:
    def __init__(self, name: str, type: str) -> None:
        self.name, self.type, self.files = name, type, list[str]()

    def add_file(self, path: str) -> None:
        assert Path(path).is_file()
        self.files.append(Path(path).name)


class _Run:
    def __init__(self, id: str, *, offline: bool) -> None:
        self.id, self.dir, self.summary, self.offline = id, "files", dict[str, Any](), offline
        self.url = f"https://wandb.example/{id}"

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        if os.environ.get("STAND_IN_FAILS") == "late":
            raise OSError("the server went away, it said api_key=sk-very-secret")
        plain = {name: value for name, value in values.items() if not isinstance(value, Table)}
        tables = {name: [value.columns, value.data] for name, value in values.items() if isinstance(value, Table)}
        _note("log", values=plain, tables=tables, step=step)

    def log_artifact(self, artifact: Artifact) -> None:
        _note("artifact", name=artifact.name, type=artifact.type, files=artifact.files)

    def finish(self, exit_code: int) -> None:
        _note("finish", exit_code=exit_code)


def init(*, settings: Settings, config: dict[str, Any], **chosen: Any) -> _Run:
    print("wandb greets")
    print("wandb complains", file=sys.stderr)
    fails = os.environ.get("STAND_IN_FAILS")
    if fails == "hang":
        time.sleep(600)
    if fails == "raise":
        raise ConnectionError("no such host")
    if fails == "quit":
        os._exit(3)
    _note("init", config=config, settings=settings.chosen, **chosen)
    return _Run(chosen["id"], offline=chosen["mode"] == "offline")
