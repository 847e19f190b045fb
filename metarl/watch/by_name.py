"""Trackers by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

from metarl.names import did_you_mean
from metarl.watch.protocol import Watcher

TRACKERS = {
    "tensorboard": ("metarl.watch.tensorboard", "TensorBoard", "tensorboard"),
    "csv": ("metarl.watch.csv_file", "CsvFile", None),
    "wandb": ("metarl.watch.weights_and_biases", "WeightsAndBiases", "wandb"),
    "mlflow": ("metarl.watch.mlflow_store", "MlflowStore", "mlflow"),
}
"""Module, class and required package of each tracker, by name."""
NONE = "none"


def trackers(names: str) -> list[Watcher]:
    """The trackers that a comma-separated list names.

    Args:
        names: Such as `tensorboard,csv`, or `none`.

    Raises:
        ValueError: There is no such tracker, it is named twice, or its package is not installed.
    """
    if not isinstance(names, str):
        raise ValueError(f"track: got {names!r}, expected a text such as 'tensorboard,csv' or {NONE!r}")
    listed = [name.strip() for name in names.split(",")]
    if listed == [NONE]:
        return []
    for name in listed:
        if name not in TRACKERS:
            near = did_you_mean(name, TRACKERS)
            raise ValueError(
                f"track: got {name!r}, expected {NONE} or some of {', '.join(TRACKERS)}.{near}".rstrip(".")
            )
        if listed.count(name) > 1:
            raise ValueError(f"track: got {name!r} twice, expected it once")
        package = TRACKERS[name][2]
        if package and find_spec(package) is None:
            raise ValueError(f"track: got {name!r}, but its package is not installed; run: pip install {package}")
    return [_made(*TRACKERS[name][:2]) for name in listed]


def _made(module: str, name: str) -> Watcher:
    kind = cast(Callable[[], Any], getattr(import_module(module), name))
    made: Watcher = kind()
    return made
