"""Random tabular Markov decision processes (Duan et al. 2016, arXiv:1611.02779, section 3.2).

Tasks are drawn as in Osband et al. 2013 (arXiv:1306.0940). Every episode starts in state 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from gymnasium import spaces
from scipy import stats

from metarl.tasks import ContinuousTasks, Family, Parameter, read_options
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv

HORIZON = 10
TINY = np.finfo(np.float64).tiny


class TabularMdps(TaskVecEnv):
    """A batch of tabular Markov decision processes.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        states: Number of states.
        actions: Number of actions.
    """

    def __init__(self, num_tasks: int, episodes: int, horizon: int, *, states: int, actions: int) -> None:
        box = spaces.Box(0.0, 1.0, (states,), np.float64)
        super().__init__(num_tasks, episodes, horizon, box, spaces.Discrete(actions))
        self.row_bytes = 16 * states * actions * (states + 1)
        self._shape = (self.num_envs, states, actions)
        self._state = np.zeros(self.num_envs, dtype=np.int64)
        self._rewards = np.zeros(self._shape)
        self._cumulative = np.zeros((*self._shape, states))  # [N, states, actions, next states]

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._rewards = self.task_values(tasks, "rewards").reshape(self._shape)
        transitions = self.task_values(tasks, "transitions").reshape(*self._shape, -1)
        self._cumulative = np.cumsum(transitions, axis=-1)

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self._state[rows] = 0

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        here = (rows, self._state[rows], actions)
        rewards = self._rewards[here] + self.np_random.standard_normal(self.num_envs)[rows]
        draw = self.np_random.random(self.num_envs)[rows, None]
        last = self._cumulative.shape[-1] - 1  # the sum of probabilities may round to slightly below 1
        self._state[rows] = np.minimum((draw >= self._cumulative[here]).sum(axis=1), last)
        never = np.zeros(len(rows), dtype=np.bool_)
        return rewards, never, never, {}

    def _observe(self, rows: np.ndarray) -> Floats:
        return np.eye(self._cumulative.shape[1])[self._state[rows]]


def tabular_mdp(options: str = "") -> Family:
    """Random tabular Markov decision processes, by default with 10 states and 5 actions.

    - Observation: the state, one-hot, `states` numbers.
    - Action: 0 to `actions - 1` (discrete).
    - Reward: the mean reward of state and action plus noise from N(0, 1).
    - End: truncated after 10 steps.
    - Varies: for each state and action, the mean reward from N(1, 1) and the probabilities of the next state from a
      flat Dirichlet distribution; hidden.
    - Source: Duan et al. 2016 (RL2), section 3.2.

    Args:
        options: Sizes as in `tabular-mdp:states=4,actions=2`, after the colon.

    Raises:
        ValueError: An option is unknown or out of range.
    """
    sizes = read_options("tabular-mdp", options, most={"states": 100, "actions": 50}, states=10, actions=5)
    states, actions = sizes["states"], sizes["actions"]
    rewards = Parameter(
        name="rewards",
        meaning="mean reward of each state and action; N(1, 1)",
        hidden=True,
        variates=states * actions,
        transform=lambda u: 1.0 + stats.norm.ppf(np.maximum(u, TINY)),
    )

    def dirichlet(u: Floats) -> Floats:
        """Flat Dirichlet probabilities: exponential variates divided by their sum, `[n, states * actions * states]`."""
        weights = -np.log1p(-u).reshape(-1, states * actions, states)
        return np.reshape(weights / weights.sum(axis=-1, keepdims=True), (len(u), -1))

    transitions = Parameter(
        name="transitions",
        meaning="probability of each next state, for each state and action; flat Dirichlet",
        hidden=True,
        variates=states * actions * states,
        transform=dirichlet,
    )
    return Family(
        name="tabular-mdp" if not options else f"tabular-mdp:{options}",
        summary="maximise reward in a random MDP of a few states; options states=10,actions=5",
        distribution=ContinuousTasks("tabular-mdp", (rewards, transitions)),
        horizon=HORIZON,
        make_envs=partial(TabularMdps, states=states, actions=actions),
    )
