"""Trackio: `--log_to trackio,project=NAME`, on this machine, a Space of the hub or a server of one's own."""

from __future__ import annotations

from typing import Any

from harness import LoggedResults, LoggedRun, Logger, RunStatus, Table, hookimpl


class Trackio(Logger):
    """A run of Trackio: scores with standard errors, tables of all values and of samples, the report as artifact.

    project, group: as Trackio has them. space_id, server_url: where it is kept [default: TRACKIO_SPACE_ID or
    TRACKIO_SERVER_URL, else this machine]. name: of the run; a part of its key is put behind it.
    """

    name = "trackio"
    needs = "trackio"
    extra = "trackio"

    def __init__(
        self,
        project: str = "harness",
        name: str | None = None,
        group: str | None = None,
        space_id: str | None = None,
        server_url: str | None = None,
    ) -> None:
        self.chosen = {"project": project, "group": group, "space_id": space_id, "server_url": server_url}
        self.title = name
        self._run: Any = None

    def start(self, run: LoggedRun) -> str:
        import trackio

        self._run = trackio.init(
            name=f"{self.title or run.title}-{run.key[:6]}", config=dict(run.config), resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False, **self.chosen,
        )  # fmt: skip
        place = self.chosen["space_id"] or "this machine"
        return f"trackio project {self.chosen['project']} on {place}, run {self._run.name}"

    def results(self, found: LoggedResults) -> None:
        self._run.log({**found.scores, "scores": _table(found.values), "samples": _table(found.samples)}, found.step)
        for path in found.files:
            self._run.log_artifact(str(path), type="evaluation")

    def end(self, status: RunStatus) -> None:
        self._run.log({"status": status})
        self._run.finish()


def _table(table: Table) -> Any:
    import pandas  # type: ignore[import-untyped]
    import trackio

    return trackio.Table(dataframe=pandas.DataFrame(table.rows, columns=list(table.columns)))


@hookimpl
def harness_loggers() -> list[type[Logger]]:
    return [Trackio]
