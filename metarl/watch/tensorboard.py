"""TensorBoard: every metric as a scalar, under `tensorboard/` of the run's folder."""

from __future__ import annotations

from typing import Any

from metarl.training import IterationReport
from metarl.watch.protocol import RunStart


class TensorBoard:
    """Writes event files; a resumed run hides the steps that an earlier start wrote after its checkpoint."""

    _writer: Any = None

    def start(self, start: RunStart) -> None:
        """Opens the event file."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        folder = str(start.out.absolute() / "tensorboard")
        self._writer = SummaryWriter(folder, purge_step=start.progress.iteration + 1)

    def iteration(self, report: IterationReport) -> None:
        """Adds the metrics of an iteration."""
        for name, value in report.metrics.items():
            self._writer.add_scalar(name, value, report.progress.iteration)

    def close(self) -> None:
        """Flushes and closes the event file."""
        if self._writer is not None:
            self._writer.close()
