"""SwanLab: `--log_to swanlab,project=NAME`; the key comes from `swanlab login` or SWANLAB_API_KEY."""

from __future__ import annotations

from typing import Any

from harness import LoggedResults, LoggedRun, Logger, RunStatus, Table, UsageError, hookimpl

MODES = ("online", "local", "offline")


class SwanLab(Logger):
    """An experiment of SwanLab: scores with standard errors, tables of all values and of samples, the report.

    project, workspace, group, name: as SwanLab has them. mode: online; offline, which writes below `dir` for
    `swanlab sync`; or local, which writes below `dir` for its dashboard and knows no run again.
    """

    name = "swanlab"
    needs = "swanlab"
    extra = "swanlab"

    def __init__(
        self,
        project: str = "harness",
        workspace: str | None = None,
        name: str | None = None,
        group: str | None = None,
        mode: str = "online",
        dir: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"mode should be one of {', '.join(MODES)}, not '{mode}'")
        self.chosen = {"project": project, "workspace": workspace, "group": group, "mode": mode, "log_dir": dir}
        self.title = name
        self._run: Any = None

    def start(self, run: LoggedRun) -> str:
        import swanlab

        given = {name: value for name, value in self.chosen.items() if value is not None}
        # An offline run is a new folder each time, and `swanlab sync` joins those of one id. The dashboard of the local
        # mode makes a new experiment of each folder (swanlab/deprecated/local.py of 0.10).
        is_local = self.chosen["mode"] == "local"
        known = {} if is_local else {"id": run.key, "resume": "allow"}
        self._run = swanlab.init(name=self.title or run.title, config=dict(run.config), **known, **given)
        if self.chosen["mode"] == "online":
            return str(self._run.url)
        folder = str(self.chosen["log_dir"] or "swanlog")
        return f"{folder} (SwanLab's local mode goes on with no run: each time is a new one)" if is_local else folder

    def results(self, found: LoggedResults) -> None:
        self._run.log(dict(found.scores), step=found.step)
        self._run.log({"scores": _table(found.values), "samples": _table(found.samples)}, step=found.step)
        for path in found.files:
            self._run.save(str(path), base_path=str(path.parent), policy="now")

    def end(self, status: RunStatus) -> None:
        states: dict[RunStatus, tuple[str, str | None]] = {
            "finished": ("success", None), "failed": ("crashed", "the run failed"), "interrupted": ("aborted", None),
        }  # fmt: skip
        state, error = states[status]
        self._run.finish(state=state, error=error)


def _table(table: Table) -> Any:
    from swanlab import echarts

    rows = [["" if cell is None else cell for cell in row] for row in table.rows]
    return echarts.Table().add(list(table.columns), rows)


@hookimpl
def harness_loggers() -> list[type[Logger]]:
    return [SwanLab]
