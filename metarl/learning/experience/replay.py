"""Replay buffers of transitions, stacked over tasks, so that a batch for many tasks is one gather."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.learning.device.chunks import fits
from metarl.learning.device.gpu import send
from metarl.learning.experience.columns import Columns
from metarl.types import Bools, Floats, Trajectories

Slots = NDArray[np.int64]


class Transitions(NamedTuple):
    """Single steps; a replay stores each as one float32 row of `2 O + A + 2` numbers.

    Attributes:
        observations: `[..., O]`, before the step.
        actions: `[..., A]`, in the agent's unit.
        rewards: `[...]`.
        next_observations: `[..., O]`, after the step.
        terminated: `[...]`, 1 if the step was terminal, else 0 (also if the time limit ended the episode).
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor

    def inputs(self, next_observation: bool) -> list[Tensor]:
        """Observation, action and reward, and the next observation if asked for, `[..., width]` each."""
        columns = [self.observations, self.actions, self.rewards.unsqueeze(-1)]
        return [*columns, self.next_observations] if next_observation else columns

    @staticmethod
    @cache
    def columns(observation_size: int, action_size: int) -> Columns:
        """Layout of a stored row."""
        o, a = observation_size, action_size
        return Columns(observations=o, actions=a, rewards=0, next_observations=o, terminated=0)

    @classmethod
    def unpack(cls, rows: Tensor, observation_size: int, action_size: int) -> Transitions:
        """Views of the columns of stored rows, `[..., 2 O + A + 2]`."""
        return cls(**cls.columns(observation_size, action_size).unpack(rows))


def transition_rows(trajectories: Trajectories, actions: Floats) -> Floats:
    """The steps as rows to store, padded ones included: `[M, E, T, 2 O + A + 2]` float32.

    Args:
        trajectories: Recorded episodes.
        actions: `[M, E, T, A]`, in the agent's unit.
    """
    columns = Transitions.columns(trajectories.all_observations.shape[-1], actions.shape[-1])
    return columns.pack(
        observations=trajectories.observations,
        actions=actions,
        rewards=trajectories.rewards,
        next_observations=trajectories.next_observations,
        terminated=trajectories.terminated,
    )


def _zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Zeros on the device if they fit there, else in host memory."""
    home = device if fits(4 * math.prod(shape), device) else torch.device("cpu")
    return torch.zeros(shape, dtype=torch.float32, device=home)


def _gather(rows: Tensor, flat: Slots, device: torch.device) -> Tensor:
    """Rows `[..., width]` at indices `[N, B]` into all but the last axis, `[N, B, width]` on the device."""
    width = rows.shape[-1]
    chosen = rows.view(-1, width).index_select(0, send(flat.reshape(-1), rows.device)).view(*flat.shape, width)
    return chosen if chosen.device.type == device.type else send(chosen.numpy(), device)


class TaskReplay:
    """One ring buffer per task; when it is full, the oldest rows are overwritten.

    Args:
        tasks: Slots, one per task.
        capacity: Capacity of a slot, in rows.
        width: Numbers in a row.
        device: Device of the rows that are gathered. All rows are stored there if they fit, else in host memory.

    Attributes:
        sizes: Current number of rows in each slot, `[tasks]`.
    """

    def __init__(self, tasks: int, capacity: int, width: int, device: torch.device) -> None:
        self._rows, self._device = _zeros((tasks, capacity, width), device), device
        self.sizes = np.zeros(tasks, dtype=np.int64)
        self._next = np.zeros(tasks, dtype=np.int64)  # where each slot's next row goes

    def add(self, slots: Slots, rows: Floats) -> None:
        """Appends rows in order.

        Args:
            slots: The slot of each row, `[R]`.
            rows: `[R, width]` float32.
        """
        if not len(slots):
            return
        tasks, capacity, width = self._rows.shape
        order = np.argsort(slots, kind="stable")
        slots, rows = slots[order], rows[order]
        counts = np.bincount(slots, minlength=tasks)
        starts = np.cumsum(counts) - counts
        rank = np.arange(len(slots)) - starts[slots]
        kept = rank >= (counts - capacity)[slots]  # the last `capacity` rows of each slot
        position = (self._next[slots] + rank) % capacity
        target = send((slots * capacity + position)[kept], self._rows.device)
        self._rows.view(-1, width)[target] = send(rows[kept], self._rows.device)
        self._next = (self._next + counts) % capacity
        self.sizes = np.minimum(self.sizes + counts, capacity)

    def draw(self, slots: Slots, batch: int, rng: np.random.Generator) -> Slots:
        """Positions drawn uniformly with replacement from each slot, `[len(slots), batch]`, for `gather`.

        Raises:
            ValueError: A slot is empty.
        """
        if not self.sizes[slots].all():
            raise ValueError(f"TaskReplay.draw: got slots with {self.sizes[slots]} rows, expected at least 1 in each")
        return rng.integers(0, self.sizes[slots, None], size=(len(slots), batch))

    def gather(self, slots: Slots, positions: Slots) -> Tensor:
        """The rows at `positions` `[len(slots), B]` of each slot, `[len(slots), B, width]`."""
        return _gather(self._rows, slots[:, None] * self._rows.shape[1] + positions, self._device)

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self, prefix: str, used: int) -> dict[str, Tensor]:
        """The rows of the first `used` slots, up to the length of the fullest one, for a checkpoint."""
        longest = int(self.sizes[:used].max(initial=0))
        return {
            f"{prefix}.rows": self._rows[:used, :longest].detach().cpu().clone(),
            f"{prefix}.sizes": torch.tensor(self.sizes[:used]),
            f"{prefix}.next": torch.tensor(self._next[:used]),
        }

    def check(self, prefix: str, tensors: Mapping[str, Tensor], used: int) -> None:
        """Checks the arrays to restore.

        Raises:
            ValueError: An array is missing, or does not fit the slots, the capacity or the width.
        """
        tasks, capacity, width = self._rows.shape
        got: dict[str, Any] = {key: tensors.get(f"{prefix}.{key}") for key in ("rows", "sizes", "next")}
        shapes = {key: None if t is None else tuple(t.shape) for key, t in got.items()}
        expected = f"{used} of at most {tasks} slots, at most {capacity} rows of {width} numbers each"
        if None in shapes.values() or used > tasks or shapes["sizes"] != (used,) or shapes["next"] != (used,):
            raise ValueError(f"replay {prefix!r}: got arrays {shapes}, expected {expected}")
        longest = int(got["sizes"].max()) if used else 0
        indices = torch.cat([got["sizes"], got["next"]])
        if shapes["rows"] != (used, longest, width) or bool((indices < 0).any()) or longest > capacity:
            raise ValueError(f"replay {prefix!r}: got arrays {shapes}, fullest slot {longest}, expected {expected}")
        if used and int(got["next"].max()) >= capacity:
            raise ValueError(f"replay {prefix!r}: got a next row {int(got['next'].max())}, expected below {capacity}")

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` returned."""
        rows = tensors[f"{prefix}.rows"]
        used, longest, _ = rows.shape
        self.sizes[:] = self._next[:] = 0
        self._rows[:used, :longest] = rows.to(self._rows.device)
        self.sizes[:used] = tensors[f"{prefix}.sizes"].numpy()
        self._next[:used] = tensors[f"{prefix}.next"].numpy()


class TrialContexts:
    """The trials of each task's newest collection: each trial separate, its episodes in order, without padding.

    The arrays grow with the number of tasks, trials and steps.

    Args:
        episodes: Episodes of a trial, `J`.
        width: Numbers in a row.
        device: Device of the rows that are gathered. All rows are stored there if they fit, else in host memory.

    Attributes:
        trials: Current number of trials in each slot, `[tasks]`.
        ends: Rows of a trial up to the end of each episode, `[tasks, trials, J]`.
    """

    def __init__(self, episodes: int, width: int, device: torch.device) -> None:
        self._rows = torch.zeros(0, 0, 0, width, dtype=torch.float32)  # [tasks, trials, steps, width]
        self._device = device
        self.trials = np.zeros(0, dtype=np.int64)
        self.ends = np.zeros((0, 0, episodes), dtype=np.int64)

    def store(self, slots: Slots, rows: Floats, mask: Bools) -> None:
        """Replaces the contexts of the tasks of a collection; other tasks keep theirs.

        Args:
            slots: Slot of each task of the collection, `[M]`; one may occur several times.
            rows: `[M, E, J, T, width]` float32.
            mask: Steps that happened, `[M, E, J, T]`.
        """
        (m, e), order = mask.shape[:2], np.argsort(slots, kind="stable")
        occurrence = np.empty(m, dtype=np.int64)  # number of earlier entries with the same slot
        occurrence[order] = np.arange(m) - np.searchsorted(slots[order], slots[order])
        trials = occurrence[:, None] * e + np.arange(e)  # [M, E]
        happened = mask.reshape(m, e, -1)
        self._make_room(int(slots.max()) + 1, int(trials.max()) + 1, happened.shape[-1])
        self.trials[slots] = np.bincount(slots)[slots] * e
        self.ends[slots[:, None], trials] = mask.sum(axis=-1).cumsum(axis=-1)
        positions = happened.cumsum(axis=-1) - 1
        target = self._flat(slots[:, None, None], trials[..., None], positions)[happened]
        new = rows.reshape(*happened.shape, -1)[happened]
        self._rows.view(-1, new.shape[-1])[send(target, self._rows.device)] = send(new, self._rows.device)

    def draw(self, slots: Slots, batch: int, rng: np.random.Generator) -> tuple[Slots, Floats]:
        """Draws rows of one context per slot: the first j episodes of one of its trials, trial and j uniform.

        The draw is stratified: one row from each of `B` equal parts of the context. Every one of its `n` rows is
        equally likely and stands for `n / B` rows; for `n = B` each row is drawn once.

        Args:
            slots: `[N]`; each must hold a trial.
            batch: `B`, rows to draw.
            rng: Source of the random numbers.

        Returns:
            Indices of the rows for `gather`, `[N, B]`, and the rows of the context that each stands for, `[N]` float32.
        """
        trials = rng.integers(0, self.trials[slots])
        counts = self.ends[slots, trials, rng.integers(0, self.ends.shape[-1], size=len(slots))]
        weight = counts / batch
        places = (np.arange(batch) + rng.random((len(slots), batch))) * weight[:, None]
        positions = np.minimum(places.astype(np.int64), counts[:, None] - 1)  # rounding may reach the end
        return self._flat(slots[:, None], trials[:, None], positions), weight.astype(np.float32)

    def gather(self, chosen: Slots) -> Tensor:
        """The rows at the indices of `draw`, `[N, B, width]`."""
        return _gather(self._rows, chosen, self._device)

    def _flat(self, slots: Slots, trials: Slots, positions: Slots) -> Slots:
        _, room, steps, _ = self._rows.shape
        return (slots * room + trials) * steps + positions

    def _make_room(self, tasks: int, trials: int, steps: int) -> None:
        """Grows the arrays to these sizes; the tasks' axis doubles, so that copies are rare."""
        had = self._rows.shape
        if tasks <= had[0] and trials <= had[1] and steps <= had[2]:
            return
        room = (had[0] if tasks <= had[0] else max(tasks, 2 * had[0]), max(trials, had[1]), max(steps, had[2]))
        rows, ends = self._rows, self.ends
        self._rows = _zeros((*room, had[3]), self._device)
        self._rows[: had[0], : had[1], : had[2]] = rows.to(self._rows.device)
        self.ends = np.zeros((*room[:2], ends.shape[2]), dtype=np.int64)
        self.ends[: had[0], : had[1]] = ends
        self.trials = np.concatenate([self.trials, np.zeros(room[0] - had[0], dtype=np.int64)])

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self, prefix: str, used: int) -> dict[str, Tensor]:
        """The trials of the first `used` slots, for a checkpoint."""
        trials, ends = self.trials[:used], self.ends[:used]
        most, longest = int(trials.max(initial=0)), int(ends.max(initial=0))
        return {
            f"{prefix}.rows": self._rows[:used, :most, :longest].detach().cpu().clone(),
            f"{prefix}.trials": torch.tensor(trials),
            f"{prefix}.ends": torch.tensor(ends[:, :most]),
        }

    def check(self, prefix: str, tensors: Mapping[str, Tensor], used: int) -> None:
        """Checks the arrays to restore.

        Raises:
            ValueError: An array is missing, or does not fit the slots, the episodes or the width.
        """
        rows, trials, ends = (tensors.get(f"{prefix}.{key}") for key in ("rows", "trials", "ends"))
        shapes = [None if t is None else tuple(t.shape) for t in (rows, trials, ends)]
        episodes, width = self.ends.shape[2], self._rows.shape[3]
        most, longest = (0, 0) if rows is None or rows.ndim != 4 else rows.shape[1:3]
        if shapes != [(used, most, longest, width), (used,), (used, most, episodes)] or any(
            bool((t < 0).any() or (t > limit).any()) for t, limit in ((trials, most), (ends, longest)) if t is not None
        ):
            raise ValueError(
                f"contexts {prefix!r}: got rows, trials and ends of shapes {shapes}, expected {used} slots, trials of "
                f"{episodes} episodes, rows of {width} numbers and numbers of them that fit"
            )

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Restores what `tensors` returned."""
        rows, trials, ends = (tensors[f"{prefix}.{key}"] for key in ("rows", "trials", "ends"))
        used, most, longest, _ = rows.shape
        self._make_room(used, most, longest)
        self.trials[:], self.ends[:] = 0, 0
        self._rows[:used, :most, :longest] = rows.to(self._rows.device)
        self.trials[:used], self.ends[:used, :most] = trials.numpy(), ends.numpy()


def trials_of_rings(tensors: Mapping[str, Tensor], prefix: str, trials: int, episodes: int) -> dict[str, Tensor]:
    """Converts the contexts of an old checkpoint, one `TaskReplay` of trials, for `TrialContexts.restore`.

    The old layout does not say where episodes end, so each context becomes all rows of its trial.

    Args:
        tensors: Arrays of the checkpoint, with `trials` consecutive slots per task.
        prefix: Start of their names.
        trials: Trials of each task.
        episodes: Episodes of a trial.
    """
    rows, sizes = tensors[f"{prefix}.rows"], tensors[f"{prefix}.sizes"].view(-1, trials)
    return {
        f"{prefix}.rows": rows.view(len(sizes), trials, *rows.shape[1:]),
        f"{prefix}.trials": torch.full((len(sizes),), trials),
        f"{prefix}.ends": sizes[..., None].expand(-1, -1, episodes).contiguous(),
    }
