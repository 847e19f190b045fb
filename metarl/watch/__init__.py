"""Watchers of a run: they are called at its start, after every iteration and at its end, and change nothing.

`trackers` makes those that write metrics, by name: `tensorboard`, `csv`, `wandb` and `mlflow`. The display of the
command line is a watcher too. Imports the framework's core; the packages of W&B and MLflow are imported when a tracker
is made.
"""

from metarl.watch.by_name import TRACKERS as TRACKERS
from metarl.watch.by_name import trackers as trackers
from metarl.watch.protocol import RunStart as RunStart
from metarl.watch.protocol import Watcher as Watcher
