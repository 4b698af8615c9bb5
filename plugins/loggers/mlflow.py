"""MLflow: `--log_to mlflow,experiment=NAME,tracking_uri=http://HOST:5000`, or MLFLOW_TRACKING_URI."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from harness import LoggedResults, LoggedRun, Logger, RunStatus, hookimpl

_KEY_TAG = "harness.key"
_BATCH = 100
"""Of what MLflow takes in one call: 1,000 metrics, 100 parameters."""
_NAME = re.compile(r"[^/\w.\- ]")
_MOST_CHARACTERS = 500
"""Of a parameter; newer servers take more."""


class MLflow(Logger):
    """A run of MLflow: scores as metrics, settings as parameters, report and tables as artifacts.

    tracking_uri: of the server or store [default: MLFLOW_TRACKING_URI, or MLflow's own]; a database (sqlite:///FILE)
    needs the whole package mlflow, which the extra does not bring. experiment, name: as MLflow has them.
    Characters that it does not allow in names (`@`, `+`, `:`) become `_`.
    """

    name = "mlflow"
    needs = "mlflow"
    extra = "mlflow"

    def __init__(self, experiment: str = "harness", tracking_uri: str | None = None, name: str | None = None) -> None:
        self.experiment, self.tracking_uri, self.title = experiment, tracking_uri, name
        self._client: Any = None
        self._run_id = ""

    def start(self, run: LoggedRun) -> str:
        from mlflow import MlflowClient

        self._client = MlflowClient(self.tracking_uri)
        experiment = self._client.get_experiment_by_name(self.experiment)
        place = experiment.experiment_id if experiment else self._client.create_experiment(self.experiment)
        known = self._client.search_runs([place], f"tags.`{_KEY_TAG}` = '{run.key}'", max_results=1)
        if known:
            self._run_id = known[0].info.run_id
            self._client.update_run(self._run_id, status="RUNNING")
        else:
            title = self.title or run.title
            self._run_id = self._client.create_run(place, tags={_KEY_TAG: run.key}, run_name=title).info.run_id
            self._log_config(run.config)
        self._client.log_dict(self._run_id, dict(run.config), "config.json")
        return f"{self._client.tracking_uri} experiment {self.experiment}, run {self._run_id}"

    def _log_config(self, config: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(_NAME.sub("_", name)[:250], text[:_MOST_CHARACTERS]) for name, text in _flat(config)]
        for some in _batched(params):
            self._client.log_batch(self._run_id, params=some)

    def results(self, found: LoggedResults) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_NAME.sub("_", name), value, now, found.step) for name, value in found.scores.items()]
        for some in _batched(metrics):
            self._client.log_batch(self._run_id, metrics=some)
        for name, table in (("scores", found.values), ("samples", found.samples)):
            rows = {"columns": list(table.columns), "data": [list(row) for row in table.rows]}
            self._client.log_text(self._run_id, json.dumps(rows, ensure_ascii=False), f"{name}.json")
        for path in found.files:
            self._client.log_artifact(self._run_id, str(path))

    def end(self, status: RunStatus) -> None:
        names: dict[RunStatus, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
        self._client.set_terminated(self._run_id, names[status])


def _batched(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """`model.args.pretrained` -> text, of all that a configuration holds."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@hookimpl
def harness_loggers() -> list[type[Logger]]:
    return [MLflow]
