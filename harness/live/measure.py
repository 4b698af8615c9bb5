"""What models scored on a live set, kept in its `live.json`: a run, its judges, and how far these agree."""

from __future__ import annotations

from harness.judging.judged_metrics import JudgedRun
from harness.live.folder import LiveFolder
from harness.record.manifest import model_title
from harness.run.result import load_run
from harness.types import JSON


def note_measured(folder: LiveFolder, judged: JudgedRun) -> None:
    """Keep the scores of a run beside those of other runs. alpha: Krippendorff's, null of one judge or where it is not
    defined; equal: the share of samples on which all judges say the same."""
    tasks: dict[str, JSON] = {}
    for task in judged.result.report["tasks"]:
        headline = task["metrics"][0]
        tasks[task["task"]] = {name: headline.get(name) for name in ("value", "interval", "n")}
    for result in judged.judged:
        for agreed in result.panel.agreement if result.panel else ():
            tasks[agreed.task] |= {"alpha": agreed.alpha, "alpha_interval": agreed.interval, "equal": agreed.equal}
    manifest = load_run(judged.result.path).manifest
    told = {"model": model_title(manifest), "judges": [judge["name"] for judge in manifest.get("judges", [])]}
    with folder.locked():
        earlier = folder.manifest.get("measured", {})
        folder.note("measured", **{**earlier, judged.result.path.name: {**told, "tasks": tasks}})
