"""Weights & Biases: `--log_to wandb,project=NAME`; the key comes from `wandb login` or WANDB_API_KEY."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from harness import LoggedResults, LoggedRun, Logger, RunStatus, Table, UsageError, hookimpl

MODES = ("online", "offline")


class Wandb(Logger):
    """A run of Weights & Biases: scores with standard errors, tables of all values and of samples, the report.

    project, entity, group, tags (separated by spaces), name: as W&B has them. mode: online, or offline, which writes
    below `dir` for `wandb sync`. base_url, api_key: of another server; better WANDB_BASE_URL and WANDB_API_KEY.
    """

    name = "wandb"
    needs = "wandb"
    extra = "wandb"

    def __init__(
        self,
        project: str = "harness",
        entity: str | None = None,
        group: str | None = None,
        name: str | None = None,
        tags: str = "",
        mode: str | None = None,
        dir: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
    ) -> None:
        if mode is not None and mode not in MODES:
            raise UsageError(f"mode should be one of {', '.join(MODES)}, not '{mode}'")
        self.chosen = {"project": project, "entity": entity, "group": group, "mode": mode}
        self.title, self.tags, self.folder = name, tags.split(), dir
        self.server = {name: value for name, value in (("base_url", base_url), ("api_key", api_key)) if value}
        self._run: Any = None

    def start(self, run: LoggedRun) -> str:
        import wandb

        if self.folder is not None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True, **self.server
        )
        self._run = wandb.init(
            id=run.key, resume="allow", name=self.title or run.title, config=dict(run.config), job_type="evaluation",
            tags=self.tags, dir=self.folder, settings=settings, **self.chosen,
        )  # fmt: skip
        return str(self._run.url or Path(self._run.dir).resolve().parent)

    def results(self, found: LoggedResults) -> None:
        import wandb

        # An offline run counts its steps from 0 each time, and `wandb sync` puts those of one id behind one another.
        step = found.step if self._run.offline else None
        scores = {**found.scores, "scores": _table(found.values), "samples": _table(found.samples)}
        self._run.log(scores, step=step)
        self._run.summary.update(dict(found.scores))
        artifact = wandb.Artifact(f"report-{self._run.id}", type="evaluation")
        for path in found.files:
            artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def end(self, status: RunStatus) -> None:
        codes: dict[RunStatus, Literal[0, 1, 255]] = {"finished": 0, "failed": 1, "interrupted": 255}
        self._run.finish(exit_code=codes[status])


def _table(table: Table) -> Any:
    """A table of W&B has one type a column: texts, where a column has several."""
    import wandb

    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    mixed = [any(isinstance(cell, str) for cell in column) for column in columns]
    rows = [
        [str(cell) if is_text and cell is not None else cell for cell, is_text in zip(row, mixed, strict=True)]
        for row in table.rows
    ]
    return wandb.Table(columns=list(table.columns), data=rows)


@hookimpl
def harness_loggers() -> list[type[Logger]]:
    return [Wandb]
