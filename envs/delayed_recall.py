"""Delayed recall: a cue is shown once and asked for many steps later, a pure test of memory.

| observation | index |
|---|---|
| the cue, one-hot, at the first step; zeros afterwards | 0 to C - 1 |
| a distractor, one-hot, at each step between the first and the last; zeros at these two | C to 2 C - 1 |
| 1 at the last step, else 0 | 2 C |

C is the number of cues. Distractors are drawn anew at each step and tell nothing, so a memory has to select.

Steps from the cue to the question are the horizon minus 1: `--horizon 201` is the same as `delayed-recall:delay=200`.
An agent that guesses succeeds with probability 1 / C.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from gymnasium import spaces

from metarl.tasks import DiscreteTasks, Family, Parameter, read_options
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv


class DelayedRecall(TaskVecEnv):
    """A batch of delayed-recall environments.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`; the question comes at the last step.
        cues: Number of cues, `C`.
    """

    reports_success = True

    def __init__(self, num_tasks: int, episodes: int, horizon: int, *, cues: int) -> None:
        box = spaces.Box(0.0, 1.0, (2 * cues + 1,), np.float64)
        super().__init__(num_tasks, episodes, horizon, box, spaces.Discrete(cues))
        self._choices = cues
        self._cues = np.zeros(self.num_envs, dtype=np.int64)
        self._distractors = np.zeros(self.num_envs, dtype=np.int64)

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._cues = self.task_values(tasks, "cue")[:, 0].astype(np.int64)

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        pass  # the first observation follows from the task

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        asked = self._elapsed[rows] == self.horizon - 1
        right = asked & (actions == self._cues[rows])
        self._distractors = self.np_random.integers(self._choices, size=self.num_envs)
        never = np.zeros(len(rows), dtype=np.bool_)
        return right.astype(np.float64), never, never, {"success": right}

    def _observe(self, rows: np.ndarray) -> Floats:
        cues, elapsed, each = self._choices, self._elapsed[rows], np.arange(len(rows))
        last = self.horizon - 1
        seen = np.zeros((len(rows), 2 * cues + 1))
        seen[each, self._cues[rows]] = elapsed == 0
        seen[each, cues + self._distractors[rows]] = (elapsed > 0) & (elapsed < last)
        seen[:, -1] = elapsed == last
        return seen


def delayed_recall(options: str = "") -> Family:
    """Recall of a cue, by default one of 4 that was shown 50 steps ago.

    - Observation: `2 cues + 1` numbers: cue, distractor, flag of the question; see the module.
    - Action: 0 to `cues - 1` (discrete). Only that of the last step matters.
    - Reward: 1, and success, if the action of the last step is the cue; else 0.
    - End: truncated after `delay + 1` steps.
    - Varies: the cue; it is visible, but only in the first step of each episode. All tasks are trained on: the family
      tests memory, and its only generalisation is to new distractors.
    - Source: our own; in the manner of the first test of Hochreiter and Schmidhuber 1997 with long lags.

    A batch cannot know whether an episode is the first of a trial, since a worker may play a later one in a new batch.
    So every episode shows the cue. A trial should be one episode (`--agent.episodes-per-trial 1`).

    Args:
        options: Sizes as in `delayed-recall:delay=200,cues=8`, after the colon.

    Raises:
        ValueError: An option is unknown or out of range.
    """
    sizes = read_options("delayed-recall", options, most={"delay": 100_000, "cues": 100}, delay=50, cues=4)
    delay, cues = sizes["delay"], sizes["cues"]
    parameter = Parameter(
        name="cue",
        meaning=f"the cue, one of {cues}; shown in the first step of an episode",
        hidden=False,
        variates=0,
        transform=_unchanged,
        categorical=True,
    )
    tasks = tuple(Task.of("delayed-recall", cue=cue) for cue in range(cues))
    return Family(
        name="delayed-recall" if not options else f"delayed-recall:{options}",
        summary="recall a cue shown many steps ago; options delay=50,cues=4",
        distribution=DiscreteTasks("delayed-recall", (parameter,), train=tasks, withheld=None),
        horizon=delay + 1,
        make_envs=partial(DelayedRecall, cues=cues),
    )


def _unchanged(u: Floats) -> Floats:
    return u
