"""Replay per task: buffers of transitions, stacked over tasks, so that a batch for many tasks is one gather."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.learning.device.chunks import fits
from metarl.learning.device.gpu import send
from metarl.types import Bools, Floats, Trajectories

Slots = NDArray[np.int64]


class Transitions(NamedTuple):
    """What single steps led to; as stored, one float32 row of `2 O + A + 2` numbers per step.

    Attributes:
        observations: `[..., O]`, before the step.
        actions: `[..., A]`, in the unit that the agent chose to store.
        rewards: `[...]`.
        next_observations: `[..., O]`, after the step.
        terminated: `[...]`, 1 where the task ended with the step, else 0 (also where the time limit cut).
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    next_observations: Tensor
    terminated: Tensor

    @staticmethod
    def width(observation_size: int, action_size: int) -> int:
        """Numbers in a stored row."""
        return 2 * observation_size + action_size + 2

    @classmethod
    def unpack(cls, rows: Tensor, observation_size: int, action_size: int) -> Transitions:
        """Views of the columns of stored rows, `[..., 2 O + A + 2]`."""
        o, a, r, n, d = torch.split(rows, [observation_size, action_size, 1, observation_size, 1], dim=-1)
        return cls(o, a, r.squeeze(-1), n, d.squeeze(-1))


def transition_rows(trajectories: Trajectories, actions: Floats) -> Floats:
    """The steps as rows to be stored, padded ones included: `[M, E, T, 2 O + A + 2]` float32.

    Args:
        trajectories: Whatever was recorded.
        actions: `[M, E, T, A]`, in the unit that the agent wants to store.
    """
    columns = (
        trajectories.observations,
        actions,
        trajectories.rewards[..., None],
        trajectories.next_observations,
        trajectories.terminated[..., None],
    )
    return np.concatenate(columns, axis=-1, dtype=np.float32)


def _zeros(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Zeros on the device if they fit there, else in the host's memory."""
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
        capacity: Rows that a slot holds.
        width: Numbers in a row.
        device: Where samples are to be, and the rows too if they fit; else these lie in the host's memory.

    Attributes:
        sizes: Rows that each slot holds now, `[tasks]`.
    """

    def __init__(self, tasks: int, capacity: int, width: int, device: torch.device) -> None:
        self._rows, self._device = _zeros((tasks, capacity, width), device), device
        self.sizes = np.zeros(tasks, dtype=np.int64)
        self._next = np.zeros(tasks, dtype=np.int64)  # where each slot's next row goes

    def add(self, slots: Slots, rows: Floats) -> None:
        """Appends rows in the order given.

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
        kept = rank >= (counts - capacity)[slots]  # of more rows than fit, only the last
        position = (self._next[slots] + rank) % capacity
        target = send((slots * capacity + position)[kept], self._rows.device)
        self._rows.view(-1, width)[target] = send(rows[kept], self._rows.device)
        self._next = (self._next + counts) % capacity
        self.sizes = np.minimum(self.sizes + counts, capacity)

    def sample(self, slots: Slots, batch: int, rng: np.random.Generator) -> Tensor:
        """Rows drawn uniformly with replacement from each slot, in one gather: `[len(slots), batch, width]`.

        Raises:
            ValueError: A slot is empty.
        """
        if not self.sizes[slots].all():
            raise ValueError(f"TaskReplay.sample: got slots with {self.sizes[slots]} rows, expected at least 1 in each")
        chosen = rng.integers(0, self.sizes[slots, None], size=(len(slots), batch))
        return self.gather(slots, chosen)

    def gather(self, slots: Slots, positions: Slots) -> Tensor:
        """The rows at `positions` `[len(slots), B]` of each slot, `[len(slots), B, width]`."""
        return _gather(self._rows, slots[:, None] * self._rows.shape[1] + positions, self._device)

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self, prefix: str, used: int) -> dict[str, Tensor]:
        """The content of the first `used` slots, as long as their fullest, for a checkpoint."""
        longest = int(self.sizes[:used].max(initial=0))
        return {
            f"{prefix}.rows": self._rows[:used, :longest].detach().cpu().clone(),
            f"{prefix}.sizes": torch.tensor(self.sizes[:used]),
            f"{prefix}.next": torch.tensor(self._next[:used]),
        }

    def check(self, prefix: str, tensors: Mapping[str, Tensor], used: int) -> None:
        """Refuses tensors that `restore` could not take.

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
        """Takes back what `tensors` gave."""
        rows = tensors[f"{prefix}.rows"]
        used, longest, _ = rows.shape
        self.sizes[:] = self._next[:] = 0
        self._rows[:used, :longest] = rows.to(self._rows.device)
        self.sizes[:used] = tensors[f"{prefix}.sizes"].numpy()
        self._next[:used] = tensors[f"{prefix}.next"].numpy()


class TrialContexts:
    """The trials of each task's newest collection, each on its own, episode after episode, without padding.

    Room for tasks, trials and steps is made as they come.

    Args:
        episodes: Episodes of a trial, `J`.
        width: Numbers in a row.
        device: Where samples are to be, and the rows too if they fit; else these lie in the host's memory.

    Attributes:
        trials: Trials that each slot holds now, `[tasks]`.
        ends: Rows of a trial up to the end of each episode, `[tasks, trials, J]`.
    """

    def __init__(self, episodes: int, width: int, device: torch.device) -> None:
        self._rows, self._device = (
            torch.zeros(0, 0, 0, width, dtype=torch.float32),
            device,
        )  # [tasks, trials, steps, width]
        self.trials = np.zeros(0, dtype=np.int64)
        self.ends = np.zeros((0, 0, episodes), dtype=np.int64)

    def store(self, slots: Slots, rows: Floats, mask: Bools) -> None:
        """Takes a collection; what its tasks had before is forgotten, and every other task keeps what it has.

        Args:
            slots: The task of each row of the collection, `[M]`; a task may be there more than once.
            rows: `[M, E, J, T, width]` float32.
            mask: Steps that happened, `[M, E, J, T]`.
        """
        (m, e), order = mask.shape[:2], np.argsort(slots, kind="stable")
        occurrence = np.empty(m, dtype=np.int64)  # how many of the rows before are of the same task
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
        """A context of each slot, the first j episodes of one of its trials; trial and j are uniform.

        Of its `n` rows `batch` are drawn, one from each of as many equal parts of the context. Every row is equally
        likely, and each stands for `n / batch`; where the two are equal, each row is drawn once.

        Args:
            slots: Those to draw for, `[N]`; each holds a trial.
            batch: Rows to draw, `B`.
            rng: Source of what is drawn.

        Returns:
            The rows for `gather`, `[N, B]`, and how many of the context's each of them stands for, `[N]` float32.
        """
        trials = rng.integers(0, self.trials[slots])
        counts = self.ends[slots, trials, rng.integers(0, self.ends.shape[-1], size=len(slots))]
        weight = counts / batch
        places = (np.arange(batch) + rng.random((len(slots), batch))) * weight[:, None]
        positions = np.minimum(places.astype(np.int64), counts[:, None] - 1)  # a sum may be rounded up
        return self._flat(slots[:, None], trials[:, None], positions), weight.astype(np.float32)

    def gather(self, chosen: Slots) -> Tensor:
        """The rows that were drawn, `[N, B, width]`."""
        return _gather(self._rows, chosen, self._device)

    def _flat(self, slots: Slots, trials: Slots, positions: Slots) -> Slots:
        _, room, steps, _ = self._rows.shape
        return (slots * room + trials) * steps + positions

    def _make_room(self, tasks: int, trials: int, steps: int) -> None:
        """Room for so many, and for what is there; that for tasks grows twofold, so that few copies are made."""
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
        """The content of the first `used` slots, for a checkpoint."""
        trials, ends = self.trials[:used], self.ends[:used]
        most, longest = int(trials.max(initial=0)), int(ends.max(initial=0))
        return {
            f"{prefix}.rows": self._rows[:used, :most, :longest].detach().cpu().clone(),
            f"{prefix}.trials": torch.tensor(trials),
            f"{prefix}.ends": torch.tensor(ends[:, :most]),
        }

    def check(self, prefix: str, tensors: Mapping[str, Tensor], used: int) -> None:
        """Refuses tensors that `restore` could not take.

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
        """Takes back what `tensors` gave."""
        rows, trials, ends = (tensors[f"{prefix}.{key}"] for key in ("rows", "trials", "ends"))
        used, most, longest, _ = rows.shape
        self._make_room(used, most, longest)
        self.trials[:], self.ends[:] = 0, 0
        self._rows[:used, :most, :longest] = rows.to(self._rows.device)
        self.trials[:used], self.ends[:used, :most] = trials.numpy(), ends.numpy()


def trials_of_rings(tensors: Mapping[str, Tensor], prefix: str, trials: int, episodes: int) -> dict[str, Tensor]:
    """What `TrialContexts.restore` takes, from a checkpoint that has the contexts as one `TaskReplay`.

    Where episodes ended in it is not known: each context is all rows of the trial.

    Args:
        tensors: With those of the replay, `trials` slots of each task.
        prefix: Of their names.
        trials: Trials of each task.
        episodes: Episodes of a trial.
    """
    rows, sizes = tensors[f"{prefix}.rows"], tensors[f"{prefix}.sizes"].view(-1, trials)
    return {
        f"{prefix}.rows": rows.view(len(sizes), trials, *rows.shape[1:]),
        f"{prefix}.trials": torch.full((len(sizes),), trials),
        f"{prefix}.ends": sizes[..., None].expand(-1, -1, episodes).contiguous(),
    }
