"""The oracle of a few-shot evaluation: a network that is fitted to many examples of each task.

Its score is what a learner of that size could reach if a task gave it all its examples. It is fitted from scratch, by
Adam with a step size that falls to 0 along a cosine, all tasks of a batch side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from metarl.few_shot.draws import drawn
from metarl.few_shot.evaluation import TASKS_AT_ONCE, ShotResult
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.scores import scores
from metarl.learning.few_shot.losses import losses, predictions
from metarl.learning.few_shot.networks import Network
from metarl.learning.networks.optimisers import Adam, flat_gradient
from metarl.seeding import Streams
from metarl.types import Task

MOST_EXAMPLES = 1000
"""Most shots that the oracle is fitted to."""
STEP_SIZE = 1e-2


def evaluate_oracle(
    family: FewShotFamily,
    tasks: Sequence[Task],
    streams: Streams,
    *,
    queries: int | None = None,
    hidden: tuple[int, ...] = (40, 40),
    channels: int = 16,
    steps: int = 500,
    split: str = "test",
    device: torch.device | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ShotResult:
    """Fits a network to as many examples of each task as there are, up to 1,000 shots, and scores its predictions.

    Args:
        family: Source of the examples.
        tasks: The tasks.
        streams: Source of all random numbers.
        queries: Queries per task; by default as in training. Queries per class are at most those of training, since a
            class may have few examples.
        hidden: Units of the hidden layers, for vectors.
        channels: Channels of the convolutional blocks, for images.
        steps: Steps of Adam.
        split: Name of the split that the tasks belong to.
        device: Device of the networks; the CPU by default.
        on_progress: Called with the number of finished tasks and their total.

    Returns:
        One point, `[task, 1]`.
    """
    spaces, at = family.spaces, device or torch.device("cpu")
    network = Network(spaces.x_shape, hidden, spaces.y_size, channels)
    asked_per_task = spaces.queries if queries is None else queries
    if spaces.classification:  # a class may have no more examples than most_shots and these
        asked_per_task = min(asked_per_task, spaces.queries)
    count = min(family.most_shots, MOST_EXAMPLES)
    found = np.zeros((len(tasks), 1))
    for start in range(0, len(tasks), TASKS_AT_ONCE):
        group = tasks[start : start + TASKS_AT_ONCE]
        own = streams.next()
        support, query = drawn(family, group, count, asked_per_task, own.envs)
        x, y, asked = (
            torch.tensor(a, dtype=torch.float32, device=at).flatten(1, 2) for a in (support.x, support.y, query.x)
        )
        parameters = torch.stack([network.initial(own.learner) for _ in group]).to(at).requires_grad_()
        adam = Adam([parameters], STEP_SIZE)
        for step in range(steps):
            adam.step_size = STEP_SIZE * 0.5 * (1.0 + math.cos(math.pi * step / steps))
            loss = losses(spaces, network(parameters, x), y).sum()  # tasks do not share parameters
            adam.step_along(flat_gradient(loss, [parameters]))
        with torch.no_grad():
            predicted = predictions(spaces, network(parameters, asked)).unsqueeze(1)
        found[start : start + len(group), 0] = scores(spaces, predicted, query.y)
        on_progress(start + len(group), len(tasks))
    return ShotResult(family.name, split, tuple(tasks), spaces.score, found, (count,))
