"""Replay per task: ring buffers of transitions, stacked over tasks, so that a batch for many tasks is one gather."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metarl.learning.gpu import send
from metarl.learning.memory import fits
from metarl.types import Floats, Trajectories

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
        home = device if fits(4 * tasks * capacity * width, device) else torch.device("cpu")
        self._rows, self._device = torch.zeros(tasks, capacity, width, device=home), device
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

    def clear(self, slots: Slots) -> None:
        """Forgets the rows of some slots."""
        self.sizes[slots] = 0
        self._next[slots] = 0

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
        _, capacity, width = self._rows.shape
        flat = send((slots[:, None] * capacity + positions).reshape(-1), self._rows.device)
        rows = self._rows.view(-1, width).index_select(0, flat).view(*positions.shape, width)
        return rows if rows.device.type == self._device.type else send(rows.numpy(), self._device)

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
