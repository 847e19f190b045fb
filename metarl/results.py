"""Results of an evaluation, episode by episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from metarl.types import Actions, Bools, Floats, Task


@dataclass(frozen=True)
class EvalResult:
    """Returns and successes of every episode of an evaluation.

    Args:
        family: Family of the tasks.
        split: `test` (held-out tasks), `tune` (held-out tasks for choosing settings) or `train`.
        tasks: The evaluated tasks.
        returns: `[task, k, repeat]` float64: undiscounted return of each episode in the `k`-th collect. An episode
            with a diverged simulation has the worst return of its task.
        success: `[task, k, repeat]`, 1.0 if the episode succeeded at any step; None if unknown.
        episodes: For each `k`, the number of adaptation episodes before it.
        diverged: `[task, k, repeat]`, True if a diverged simulation ended the episode; None if none did.
        last_step_success: As `success`, for the last step of the episode.
        actions: How the policy acted in these episodes.
        adapts_within_episodes: Whether the agent adapts during an episode; `k = 0` is then its first episode, not the
            policy before adaptation.
    """

    family: str
    split: str
    tasks: tuple[Task, ...]
    returns: Floats
    success: Floats | None
    episodes: tuple[int, ...]
    diverged: Bools | None = None
    last_step_success: Floats | None = None
    actions: Actions = "sample"
    adapts_within_episodes: bool = False

    @property
    def diverged_episodes(self) -> int:
        """Number of episodes that a diverged simulation ended."""
        return 0 if self.diverged is None else int(self.diverged.sum())

    def _part(self, index: Any) -> EvalResult:
        def cut(array: Any) -> Any:
            return None if array is None else array[index]

        return replace(
            self,
            returns=self.returns[index],
            success=cut(self.success),
            diverged=cut(self.diverged),
            last_step_success=cut(self.last_step_success),
        )

    def first_repeats(self, n: int) -> EvalResult:
        """The results of the first `n` episodes of each collect."""
        return self._part(np.s_[:, :, :n])

    def of_tasks(self, rows: Sequence[int]) -> EvalResult:
        """The results of some of the tasks."""
        return replace(self._part(list(rows)), tasks=tuple(self.tasks[i] for i in rows))
