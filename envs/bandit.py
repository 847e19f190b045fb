"""Bernoulli bandits (Duan et al. 2016, arXiv:1611.02779): the smallest problem that requires learned exploration.

One episode holds all pulls of a trial. The observation is a constant zero, so an agent knows only its own actions and
rewards.
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
    """A batch of bandits.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`, number of pulls.
        arms: Number of arms.
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
    """Bernoulli bandits, by default with 5 arms and 10 pulls.

    - Observation: 1 number, always 0.
    - Action: the arm, 0 to `arms - 1` (discrete).
    - Reward: 1 with the arm's probability, else 0.
    - End: truncated after `pulls` steps.
    - Varies: the probability of each arm in U(0, 1); hidden. 10,000 tasks are held out.
    - Source: Duan et al. 2016 (RL2), section 3.1.

    Args:
        options: Sizes as in `bandit:arms=10,pulls=100`, after the colon.

    Raises:
        ValueError: An option is unknown or out of range.
    """
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
