"""What models scored on a live set, in its `measures.jsonl`: a run, its judges, and how far these agree."""

from __future__ import annotations

import hashlib
import json
from datetime import date as calendar_date

from harness import files
from harness.judging.judged_metrics import JudgedRun
from harness.live.folder import MEASURES, LiveFolder
from harness.record.manifest import model_title
from harness.run.result import load_run
from harness.run.spec import RunSpec
from harness.types import JSON


def note_measured(folder: LiveFolder, judged: JudgedRun, spec: RunSpec, say: files.Say) -> None:
    """Keep the scores of a run, in the place of what the same rows got from the same judges before.

    alpha: Krippendorff's, null where it is not defined; equal: the share of samples on which all judges say the same.
    Both are left out of one judge.
    """
    tasks: dict[str, JSON] = {}
    for task in judged.result.report["tasks"]:
        headline = task["metrics"][0]
        tasks[task["task"]] = {name: headline.get(name) for name in ("value", "interval", "n")}
    for result in judged.judged:
        for agreed in result.panel.agreement if result.panel else ():
            tasks[agreed.task] |= {"alpha": agreed.alpha, "alpha_interval": agreed.interval, "equal": agreed.equal}
    manifest = load_run(judged.result.path).manifest
    told = {
        "run": judged.result.path.name,
        "model": model_title(manifest),
        "judges": [judge["name"] for judge in manifest.get("judges", [])],
        **({"after": spec.after} if spec.after else {}),
        **({"limit": spec.limit} if spec.limit else {}),
    }
    name = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
    with folder.locked():
        folder.repair(MEASURES, say)
        folder.append(MEASURES, {"id": name, **told, "day": calendar_date.today().isoformat(), "tasks": tasks})
