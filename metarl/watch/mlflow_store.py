"""MLflow: every metric, step by step; in `mlflow.db` of the run's folder by default."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from metarl.training import IterationReport
from metarl.watch.identity import identity, title
from metarl.watch.protocol import RunStart

LONGEST = 500
"""Largest length of a parameter that every version of MLflow accepts, characters."""


class MlflowStore:
    """Logs to MLflow, to the store of `MLFLOW_TRACKING_URI` if that is set. Changes no global state of MLflow.

    The experiment is `metarl`, or `MLFLOW_EXPERIMENT_NAME`. A resumed run continues the same run of MLflow; repeated
    steps have the same values.
    """

    _client: Any = None
    _run = ""

    def start(self, start: RunStart) -> None:
        """Opens the run, with the settings as parameters."""
        local = f"sqlite:///{start.out.absolute() / 'mlflow.db'}"
        client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", local))

        def new() -> str:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "metarl")
            known = client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else client.create_experiment(name)
            run = client.create_run(experiment, run_name=title(start.run))
            parameters = [Param(key, value[:LONGEST]) for key, value in _flat(start.run.to_json()).items()]
            client.log_batch(run.info.run_id, params=parameters)
            return str(run.info.run_id)

        self._run = identity(start.out, "mlflow", new)
        client.update_run(self._run, status="RUNNING")
        self._client = client

    def iteration(self, report: IterationReport) -> None:
        """Logs the metrics and `env_steps`, except numbers that are not finite, which stores reject."""
        now, step = int(1000 * time.time()), report.progress.iteration
        numbers = {**report.metrics, "env_steps": report.progress.env_steps}
        metrics = [Metric(name, float(v), now, step) for name, v in numbers.items() if math.isfinite(v)]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Closes the run."""
        if self._client is not None:
            self._client.set_terminated(self._run)
            self._client = None


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A JSON object as parameters, `training.seed` and so on."""
    pairs: dict[str, str] = {}
    for key, item in value.items():
        pairs |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {f"{prefix}{key}": json.dumps(item)}
    return pairs
