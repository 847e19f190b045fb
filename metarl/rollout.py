"""`collect`: the rollout of training, evaluation and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np

from metarl.agent import Actor
from metarl.finite import NotFiniteError
from metarl.learning.device.process import threads
from metarl.seeding import Streams
from metarl.types import Action, Actions, Bools, Floats, Spaces, Step, Trajectories
from metarl.vector import TaskVecEnv

StateT = TypeVar("StateT")

NUMBERS = "fiub"
"""NumPy's kinds of numeric and boolean types."""


class TrajectoryBuilder:
    """Records one episode per row, step by step; for `collect` and for custom loops.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        spaces: Sizes of observation and action, and the horizon `T`.
        observation: `[M, E, O]`, the first observation of the episodes.
        recorded: The extras that each action must have, as `Actor.recorded` declares them; None skips the check.

    Raises:
        ValueError: The observation has the wrong size, or is not numeric.
    """

    def __init__(
        self,
        num_tasks: int,
        episodes: int,
        spaces: Spaces,
        observation: Floats,
        recorded: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        m, e, t = num_tasks, episodes, spaces.horizon
        self._rows, self._recorded = (m, e), recorded
        self._t = 0
        self._observations = np.zeros((m, e, t + 1, spaces.observation_size), dtype=np.float32)
        self._observations[:, :, 0] = self._seen(observation)
        self._actions = np.zeros((m, e, t, spaces.action_size), dtype=np.float32)
        self._rewards = np.zeros((m, e, t), dtype=np.float32)
        self._flags = np.zeros((4, m, e, t), dtype=np.bool_)  # mask, terminated, truncated, success
        self.knows_success = False
        self._diverged = np.zeros((m, e), dtype=np.bool_)
        self._extras: dict[str, Floats] = {}
        self.live: Bools = np.ones((m, e), dtype=np.bool_)

    @property
    def step(self) -> Step:
        """The input of the next `act`."""
        t = self._t
        return Step(
            observation=self._observations[:, :, t],
            previous_action=self._actions[:, :, t - 1] if t else np.zeros_like(self._actions[:, :, 0]),
            previous_reward=self._rewards[:, :, t - 1] if t else np.zeros_like(self._rewards[:, :, 0]),
            first=np.full(self._rows, t == 0),
            live=self.live,
        )

    @property
    def unfinished(self) -> bool:
        """Whether any episode has not ended yet."""
        return self._t < self._rewards.shape[2] and bool(self.live.any())

    def add(
        self,
        action: Action,
        observation: Floats,
        reward: Floats | float,
        terminated: Bools | bool,
        truncated: Bools | bool,
        *,
        success: Bools | None = None,
        diverged: Bools | bool = False,
    ) -> None:
        """Records one step.

        Arrays are reshaped to `[M, E, ...]`; a single number or truth value applies to all rows. Rows whose episode has
        ended are masked.

        Args:
            action: The output of `act`.
            observation: The observation after the step, `[M, E, O]`.
            reward: `[M, E]`.
            terminated: `[M, E]`, True at a terminal step.
            truncated: `[M, E]`, True at a time limit.
            success: `[M, E]`; None if the environments do not report it.
            diverged: `[M, E]`, True if the simulation diverged.

        Raises:
            ValueError: A shape or type is wrong, or every episode has reached the horizon.
        """
        t, live, rows = self._t, self.live, self._rows
        if t >= self._rewards.shape[2]:
            raise ValueError(f"add: got a step after the last of {t}, the horizon; create a new TrajectoryBuilder")
        if action.environment.shape != (*rows, self._actions.shape[3]):
            raise ValueError(
                f"add: got actions of shape {action.environment.shape}, expected {(*rows, self._actions.shape[3])}: "
                "pass the Action of `act` unchanged"
            )
        if self._recorded is not None:
            self._check_recorded(action.extras, self._recorded)
        self._observations[:, :, t + 1] = self._seen(observation)
        self._actions[:, :, t] = action.environment
        self._rewards[:, :, t] = self._by_row(reward)
        self._flags[0, :, :, t] = live
        self._flags[1, :, :, t] = live & self._by_row(terminated)
        self._flags[2, :, :, t] = live & self._by_row(truncated)
        if success is not None:
            self.knows_success = True
            self._flags[3, :, :, t] = live & self._by_row(success)
        self._diverged |= live & self._by_row(diverged)
        for name, value in action.extras.items():
            if name not in self._extras:
                self._extras[name] = np.zeros((*rows, self._rewards.shape[2], *value.shape[2:]), dtype=value.dtype)
            self._extras[name][:, :, t] = value
        if not live.all():
            for array in (self._actions, self._rewards, *self._extras.values()):
                array[:, :, t][~live] = 0
        self.live = live & ~self._flags[1, :, :, t] & ~self._flags[2, :, :, t]
        self._t += 1

    def _check_recorded(self, extras: Mapping[str, Floats], declared: Mapping[str, tuple[int, ...]]) -> None:
        """Raises ValueError if an action's extras differ from the actor's declaration."""
        expected = {name: (*self._rows, *axes) for name, axes in declared.items()}
        shapes = {name: value.shape for name, value in extras.items()}
        if shapes != expected:
            raise ValueError(
                f"act: got extras of shapes {shapes}, expected {expected}, as declared by the actor's `recorded`"
            )

    def _seen(self, observation: Floats) -> Floats:
        """Observations as `[M, E, O]`."""
        (m, e), o = self._rows, self._observations.shape[3]
        array = np.asarray(observation)
        apart = array.shape[:1] == (m * e,) or array.shape[:2] == (m, e) or m * e == 1
        if array.size != m * e * o or not apart or array.dtype.kind not in NUMBERS:
            raise ValueError(
                f"got an observation of shape {array.shape} and type {array.dtype}, expected {o} numbers for each of "
                f"{m} x {e} environments (use gymnasium.spaces.flatten for structured observations)"
            )
        return array.reshape(m, e, o)

    def _by_row(self, value: Floats | float) -> Floats:
        array = np.asarray(value)
        if array.dtype.kind not in NUMBERS or array.size not in (1, self.live.size):
            raise ValueError(f"add: got {value!r}, expected a number, or one for each of {self.live.size} environments")
        return array.reshape(self._rows) if array.size > 1 else np.full(self._rows, array.reshape(()))

    def build(self) -> Trajectories:
        """The recorded trajectories, padded to the horizon.

        Raises:
            NotFiniteError: A reward or an observation is not finite in float32.
        """
        t = self._t
        for name, array in (("a reward", self._rewards), ("an observation", self._observations[:, :, : t + 1])):
            if not np.isfinite(array).all():
                where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise NotFiniteError(
                    f"got {name} that is not finite in float32 (task {where[0]}, episode {where[1]}, step {where[2]}): "
                    f"{array[where]}; expected numbers between -3.4e38 and 3.4e38"
                )
        self._observations[:, :, t + 1 :] = self._observations[:, :, t : t + 1]
        return Trajectories(
            all_observations=self._observations,
            actions=self._actions,
            rewards=self._rewards,
            mask=self._flags[0],
            terminated=self._flags[1],
            truncated=self._flags[2],
            success=self._flags[3] if self.knows_success else None,
            diverged=self._diverged,
            extras=self._extras,
        )


def collect(
    envs: TaskVecEnv,
    actor: Actor[StateT],
    state: StateT,
    streams: Streams,
    *,
    actions: Actions = "sample",
    end_at_success: bool = False,
    on_step: Callable[[], None] | None = None,
) -> tuple[Trajectories, StateT]:
    """Plays one episode in every environment.

    Args:
        envs: `M * E` environments whose tasks are set.
        actor: The actor.
        state: Its state, adapted or not.
        streams: Source of the reset seed (`envs`) and of the policy's noise (`policy`).
        actions: Sample the policy, or take its mode.
        end_at_success: Truncate an episode at its first success.
        on_step: Called before each step of the environments.

    Returns:
        Trajectories `[M, E, T, ...]`, and the state after acting.
    """
    m, e = envs.num_tasks, envs.episodes
    observation, _ = envs.reset(seed=int(streams.envs.integers(2**31)))
    builder = TrajectoryBuilder(m, e, envs.spaces, observation, actor.recorded)
    how = {} if actions == "sample" else {"mode": True}
    with threads(actor.acting_threads), np.errstate(over="ignore"):
        while builder.unfinished:
            if on_step is not None:
                on_step()
            action, state = actor.act(state, builder.step, streams.policy, **how)
            observation, reward, terminated, truncated, infos = envs.step(
                action.environment.reshape(envs.action_space.shape)
            )
            success = infos.get("success")
            if end_at_success and success is not None:
                truncated = truncated | (success & ~terminated)
                envs.end(success)
            builder.add(
                action,
                observation,
                reward,
                terminated,
                truncated,
                success=success,
                diverged=infos["diverged"],
            )
    builder.knows_success = envs.reports_success
    return builder.build(), state
