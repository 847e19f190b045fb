"""Bernoulli bandits: the smallest problem in which exploring has to be learned (Duan et al. 2016, arXiv:1611.02779).

A task is the probabilities of its arms, drawn from U(0, 1) and hidden. One episode is all pulls of a trial: the agent
pulls an arm, earns 1 with the arm's probability, else 0, and remembers. The observation is a constant zero, so all an
agent knows is its own actions and rewards. `bandit:arms=10,pulls=100` changes the sizes (5 arms, 10 pulls).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from gymnasium import spaces

from metarl.tasks import ContinuousTasks, Family, read_options, uniform
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv

HELD_OUT_BANDITS = 10_000


class Bandits(TaskVecEnv):
    """Bandits with `arms` arms; the horizon is the number of pulls.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`, pulls.
        arms: Arms of a bandit.
    """

    def __init__(self, num_tasks: int, episodes: int, horizon: int, *, arms: int) -> None:
        box = spaces.Box(0.0, 0.0, (1,), np.float64)
        super().__init__(num_tasks, episodes, horizon, box, spaces.Discrete(arms))
        self.row_bytes = 8 * arms
        self._probabilities = np.zeros((self.num_envs, arms))

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._probabilities = self.task_values(tasks, "probabilities")

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        pass  # a bandit has no state

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        wins = self.np_random.random(self.num_envs)[rows] < self._probabilities[rows, actions]
        never = np.zeros(len(rows), dtype=np.bool_)
        return wins.astype(np.float64), never, never, {}

    def _observe(self, rows: np.ndarray) -> Floats:
        return np.zeros((len(rows), 1))


def bandit(options: str = "") -> Family:
    """Bandits with 5 arms and 10 pulls, or as the options say."""
    sizes = read_options("bandit", options, most={"arms": 1000, "pulls": 100_000}, arms=5, pulls=10)
    arms, pulls = sizes["arms"], sizes["pulls"]
    probabilities = uniform("probabilities", 0.0, 1.0, size=arms, meaning="probability that an arm pays 1")
    return Family(
        name="bandit" if not options else f"bandit:{options}",
        summary="pull the best of several arms; options arms=5,pulls=10",
        distribution=ContinuousTasks("bandit", (probabilities,), held_out_size=HELD_OUT_BANDITS),
        horizon=pulls,
        make_envs=partial(Bandits, arms=arms),
    )
