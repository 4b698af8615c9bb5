"""`manifest.json` as the sessions of a run folder write it: each says what it is, once it changes something."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from harness import files
from harness.record import environment, manifest
from harness.record.codec import jsonable
from harness.record.file_types import FORMAT
from harness.record.manifest_fields import EndedFields, Manifest, SessionFields
from harness.types import JSON

RUNNING, FINISHED = "running", "finished"


class ManifestFile:
    """The manifest of a run folder, and the session that is at work in it. What changes it writes the file anew, and
    raises SaveError where that fails."""

    def __init__(self, folder: Path, fields: Manifest) -> None:
        self.fields = fields
        """What the file holds."""
        self._path = folder / manifest.MANIFEST_FILE
        self._told: Manifest | None = None
        """What this session says of itself, which stands in the manifest once it has changed something."""
        self._written: int | None = None
        """How many records this session has put on disk; None where the folder is in no session."""
        self._began = 0.0
        """When this session began, by a clock that nobody sets."""

    def begin_session(self, fields: Manifest, say: Callable[[str], None]) -> None:
        """Write the manifest first: a folder with records always says what they are."""
        self._began = time.monotonic()
        session: SessionFields = {"started": manifest.now(), "command": fields.get("command"), "samples": 0}
        sessions = [*self.fields.get("sessions", []), session]
        self._told = {**environment.describe(), **cast(Manifest, jsonable(fields))}
        self._written = 0
        if self.fields:
            self._keep_name(self._told.get("spec", {}), say)
            self.fields["sessions"] = sessions
            self._save()
            return
        self.fields = {
            "format": FORMAT,
            "kind": fields.get("kind", "run"),
            "status": RUNNING,
            "started": session["started"],
            "sessions": sessions,
        }
        self.begin_work()

    def _keep_name(self, told: dict[str, JSON], say: Callable[[str], None]) -> None:
        """The name that a run was given stays until it is given another one, of which the user is told: answers are
        found by what decides them, so that a new name makes no new run."""
        before = self.fields.get("spec", {}).get("name")
        if not told.get("name"):
            told["name"] = before
        elif told["name"] != before:
            called = f", called '{before}'" if before else ""
            say(
                f"{self._path.parent}: is a run of the same configuration{called}; it goes on there and is called "
                f"'{told['name']}' from now on (a second run of it needs another --output)"
            )

    def begin_work(self) -> None:
        """Write what this session says of itself, once, beside what the model has said in earlier ones."""
        if self._told is None:
            return
        told, self._told = self._told, None
        before = self.fields
        sessions = [session.copy() for session in before["sessions"]]
        differing: SessionFields = {}
        if "versions" in before and before["versions"] != told.get("versions"):
            differing["versions"] = before["versions"]
        if "environment" in before and before["environment"] != told.get("environment"):
            differing["environment"] = before["environment"]
        if differing and len(sessions) > 1:  # where the answers of before came from is not forgotten
            sessions[-2] = {**differing, **sessions[-2]}
        del sessions[-1]["samples"]  # how many, it will say at its end
        self.fields = {
            **before,
            **told,
            "format": FORMAT,
            "kind": before["kind"],
            "status": RUNNING,
            "sessions": sessions,
            "model": {**before.get("model", {}), **told.get("model", {})},
        }
        self._save()

    def count_record(self) -> None:
        """Take note that this session has put a record on disk."""
        self._written = None if self._written is None else self._written + 1

    def end_work(self) -> None:
        """The work of this session is done: what follows is no part of the time that it took."""
        if self._written is not None:
            self.fields["sessions"][-1] = {**self._ended(), **self.fields["sessions"][-1]}

    def _ended(self) -> SessionFields:
        return {"finished": manifest.now(), "seconds": round(time.monotonic() - self._began, 3)}

    def end_session(self, status: str) -> None:
        """Write how the session ended, and the run with it where the session has changed something."""
        if self._written is None:  # scored again: the session that asked the model keeps its times
            self.note({"rescored": manifest.now()})
            return
        *earlier, last = self.fields["sessions"]
        last = {**self._ended(), **last, "status": status, "samples": self._written}
        changed = self._told is None or self.fields.get("status") != FINISHED
        whole: Manifest = {"status": status, "finished": last["finished"]} if changed else {}
        self.note({**whole, "sessions": [*earlier, last]})

    def note(self, fields: Manifest) -> None:
        """Write what became known; a mapping is merged into the one that is there."""
        noted: dict[str, JSON] = {**self.fields}
        for name, value in jsonable(fields).items():
            old = noted.get(name)
            noted[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        self.fields = cast(Manifest, noted)
        self._save()

    def note_session(self, fields: SessionFields) -> None:
        """Write what became known of this session alone."""
        *earlier, last = self.fields["sessions"]
        self.note({"sessions": [*earlier, {**last, **fields}]})

    def note_ended(self, fields: EndedFields) -> None:
        """Write what tells the next command that nothing is left to do, in the place of what an earlier one wrote."""
        self.fields = {**self.fields, "ended": fields}
        self._save()

    def _save(self) -> None:
        files.replace_json(self._path, self.fields)
