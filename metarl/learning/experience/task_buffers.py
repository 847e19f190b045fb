"""Off-policy experience of many tasks: a replay of all steps, and the contexts of the newest collection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metarl.learning.experience.replay import (
    Slots,
    TaskReplay,
    Transitions,
    TrialContexts,
    transition_rows,
    trials_of_rings,
)
from metarl.memory import FLOAT, SAVED, Need, RunSize
from metarl.tasks import TaskDistribution
from metarl.types import Floats, MetaBatch, Spaces, Task, Trajectories

REPLAY, CONTEXT = "replay", "context"
"""Prefix of the buffers' names in a checkpoint."""


class Drawn(NamedTuple):
    """Indices of the data of one gradient step, for `N` tasks.

    Attributes:
        slots: The tasks' slots, `[N]`.
        positions: Positions in each slot's replay, `[N, batch]`; for `TaskReplay.gather(slots, positions)`.
        context: Rows of one context per task, `[N, context_batch]`; for `TrialContexts.gather(context)`.
        weight: Transitions of the context that each of its drawn rows stands for, `[N]`.
    """

    slots: Slots
    positions: Slots
    context: Slots
    weight: Floats


class Minibatch(NamedTuple):
    """Data of one gradient step, for all tasks or for some.

    Attributes:
        context: Transitions that z is inferred from, `[M, context_batch, width]`.
        weight: Transitions that each row of the context stands for, `[M]`.
        batch: Transitions for critics and policy, `[M, B, width]`.
        latent_noise: Standard normal, `[M, Z]`.
        next_noise: Standard normal, for the actions after the transitions, `[M, B, A]`.
        action_noise: Standard normal, for the actions of the policy's loss, `[M, B, A]`.
    """

    context: Tensor
    weight: Tensor
    batch: Tensor
    latent_noise: Tensor
    next_noise: Tensor
    action_noise: Tensor


class TaskBuffers:
    """A replay and the newest contexts of each training task; a task gets a slot when it first occurs.

    Args:
        tasks: Largest number of tasks.
        capacity: Capacity of the replay of each task, in transitions.
        episodes: Episodes of a trial, `K + 1`.
        spaces: Sizes of observation and action.
        device: Device of gathered rows.

    Attributes:
        replay: All steps of each task, the oldest overwritten.
        contexts: The trials of each task's newest collection.
        slots: The slot of each task.
    """

    def __init__(self, tasks: int, capacity: int, episodes: int, spaces: Spaces, device: torch.device) -> None:
        self._most, self._sizes = tasks, (spaces.observation_size, spaces.action_size)
        width = Transitions.columns(*self._sizes).width
        self.replay = TaskReplay(tasks, capacity, width, device)
        self.contexts = TrialContexts(episodes, width, device)
        self.slots: dict[Task, int] = {}

    @staticmethod
    def row_bytes(spaces: Spaces) -> int:
        """Bytes of one transition."""
        return FLOAT * Transitions.columns(spaces.observation_size, spaces.action_size).width

    @classmethod
    def memory_needed(cls, tasks: int, capacity: int, episodes: int, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the buffers in a training.

        Args:
            tasks: Largest number of tasks, the agent's setting `replay_tasks`.
            capacity: Transitions of each task, the agent's setting `replay_size`.
            episodes: Episodes of a trial, `K + 1`.
            spaces: Sizes and horizon.
            size: Size of the training.
        """
        row, collected = cls.row_bytes(spaces), size.tasks * size.episodes * episodes * spaces.horizon
        stored = min(tasks * capacity, size.iterations * collected)
        return [
            Need(
                f"the replay, of {tasks * capacity:,} transitions with {2 * spaces.observation_size:,} numbers each,",
                0 if size.gpu else SAVED * stored * row,
                "a smaller --agent.replay-size N (of each task) or fewer --agent.replay-tasks",
                reserved=0 if size.gpu else tasks * capacity * row,
            ),
            Need("the contexts of a collection", row * collected, "fewer --tasks or --episodes"),
        ]

    @staticmethod
    def check_distribution(agent: str, tasks: int, distribution: TaskDistribution, size: RunSize) -> None:
        """Checks that the buffers can hold all tasks of a training.

        Args:
            agent: Name of the agent, for the message.
            tasks: Largest number of tasks, the agent's setting `replay_tasks`.
            distribution: Source of the training tasks.
            size: Size of the training.

        Raises:
            ValueError: The training has more tasks.
        """
        met = distribution.train_tasks(min(size.tasks * size.iterations, tasks + 1))
        if len(set(met)) > tasks:
            raise ValueError(
                f"{agent}: got more training tasks ({size.tasks} in each of {size.iterations} iterations) than "
                f"replay_tasks = {tasks}; draw them from a fixed set (--train-tasks {tasks}), or raise "
                "--agent.replay-tasks"
            )

    def store(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Appends every step to the replay, and replaces the contexts of the batch's tasks.

        Args:
            batch: An iteration's episodes, with the policy's outputs in [-1, 1] as the extra `policy_output`; a task
                may occur several times.

        Returns:
            Metrics: numbers of tasks and of transitions in the replay.

        Raises:
            ValueError: There are more tasks than slots; nothing is stored then.
        """
        known = len(set(batch.tasks) | set(self.slots))
        if known > self._most:
            raise ValueError(
                f"replay: got {known} training tasks, expected at most replay_tasks = {self._most}; raise it, or train "
                "on a fixed set of tasks (--train-tasks)"
            )
        slots = np.array([self.slots.setdefault(task, len(self.slots)) for task in batch.tasks], dtype=np.int64)
        masks = [t.mask for t in batch.collects]
        rows = [self.rows(t) for t in batch.collects]
        for one, mask in zip(rows, masks, strict=True):
            self.replay.add(np.broadcast_to(slots[:, None, None], mask.shape)[mask], one[mask])
        self.contexts.store(slots, np.stack(rows, axis=2), np.stack(masks, axis=2))
        return {"replay/tasks": float(len(self.slots)), "replay/transitions": float(self.replay.sizes.sum())}

    @staticmethod
    def rows(trajectories: Trajectories) -> Floats:
        """The steps of a collect as rows `[M, E, T, width]`, with the policy's outputs as actions."""
        return transition_rows(trajectories, trajectories.extras["policy_output"])

    def unpack(self, rows: Tensor) -> Transitions:
        """Views of the columns of rows `[..., width]`."""
        return Transitions.unpack(rows, *self._sizes)

    def draw(self, tasks: int, batch: int, context_batch: int, rng: np.random.Generator) -> Drawn:
        """Draws tasks without replacement, one context of each, and transitions of its replay with replacement.

        Args:
            tasks: `N`, at most as many as have a slot.
            batch: Transitions per task.
            context_batch: Rows per context.
            rng: Source of the random numbers.
        """
        slots: Slots = rng.choice(len(self.slots), tasks, replace=False)
        context, weight = self.contexts.draw(slots, context_batch, rng)
        return Drawn(slots, self.replay.draw(slots, batch, rng), context, weight)

    # Saving ---------------------------------------------------------------------------------------------

    @staticmethod
    def owns(name: str) -> bool:
        """Whether an array of a checkpoint belongs to the buffers."""
        return name.startswith((f"{REPLAY}.", f"{CONTEXT}."))

    def tensors(self) -> dict[str, Tensor]:
        """Both buffers, for a checkpoint."""
        used = len(self.slots)
        return self.replay.tensors(REPLAY, used) | self.contexts.tensors(CONTEXT, used)

    def counters(self) -> dict[str, Any]:
        """The tasks in the order of their slots."""
        return {"tasks": [task.to_json() for task in self.slots]}

    def check(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Checks the state to restore.

        Raises:
            ValueError: The arrays or tasks do not fit these buffers.
        """
        tensors, used = self._current(tensors, counters), len(counters["tasks"])
        self.replay.check(REPLAY, tensors, used)
        self.contexts.check(CONTEXT, tensors, used)

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned; they have been checked."""
        tensors = self._current(tensors, counters)
        self.replay.restore(REPLAY, tensors)
        self.contexts.restore(CONTEXT, tensors)
        self.slots = {Task.from_json(task): i for i, task in enumerate(counters["tasks"])}

    def _current(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """The arrays in the current layout; old checkpoints have contexts without episodes, and a counter `trials`."""
        if "trials" not in counters:
            return tensors
        trials, episodes = max(int(counters["trials"]), 1), self.contexts.ends.shape[2]
        return {**tensors, **trials_of_rings(tensors, CONTEXT, trials, episodes)}
