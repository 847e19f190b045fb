"""Weights & Biases: every metric, step by step; offline, under `wandb/` of the run's folder by default."""

from __future__ import annotations

import os
import uuid
from typing import Any

import wandb

from metarl.training import IterationReport
from metarl.watch.identity import identity, title
from metarl.watch.protocol import RunStart


class WeightsAndBiases:
    """Logs to W&B. `WANDB_MODE=online` sends the run to the server; else `wandb sync` does so later.

    The project is `metarl`, or `WANDB_PROJECT`. A resumed run keeps its id; repeated steps have the same values, and do
    not replace the earlier ones.
    """

    _run: Any = None

    def start(self, start: RunStart) -> None:
        """Opens the run."""
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "metarl"),
            name=title(start.run),
            id=identity(start.out, "wandb", lambda: uuid.uuid4().hex[:8]),
            resume="allow",
            mode=None if "WANDB_MODE" in os.environ else "offline",
            dir=str(start.out.absolute()),
            config=start.run.to_json(),
        )

    def iteration(self, report: IterationReport) -> None:
        """Logs the metrics and `env_steps` under the number of the iteration."""
        metrics = {**report.metrics, "env_steps": report.progress.env_steps}
        self._run.log(metrics, step=report.progress.iteration)

    def close(self) -> None:
        """Closes the run."""
        if self._run is not None:
            self._run.finish()
            self._run = None
