"""Samplers play for an actor; `collects` is the trial that training and evaluation have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from metarl.agent import Actor
from metarl.rollout import collect
from metarl.seeding import Streams
from metarl.types import Actions, Experience, Task, Trajectories
from metarl.vector import TaskVecEnv

StateT = TypeVar("StateT")
ExperienceT = TypeVar("ExperienceT", bound=Experience)
ExperienceT_co = TypeVar("ExperienceT_co", bound=Experience, covariant=True)


class Sampler(Protocol[ExperienceT_co]):
    """Plays for an actor: in this process, in others, on a cluster; or draws data of few-shot tasks.

    Attributes:
        num_tasks: `M`, tasks of a batch.
        episodes: `E`, environments (or shots) per task.
        reports_success: Whether episodes tell success, once that is known; a resumed run sets it again.
    """

    num_tasks: int
    episodes: int
    reports_success: bool

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """The `M` tasks that the next collects are of."""
        ...

    def collect(self, actor: Actor[StateT], state: StateT, streams: Streams) -> tuple[ExperienceT_co, StateT]:
        """One episode per environment, and the state after acting."""
        ...


class LocalSampler:
    """Plays in this process.

    Args:
        envs: `M * E` environments.
        actions: Sample actions from the policy, or take its mode.
        end_at_success: Truncate an episode at its first success.
    """

    def __init__(self, envs: TaskVecEnv, *, actions: Actions = "sample", end_at_success: bool = False) -> None:
        self.envs, self._actions, self._end_at_success = envs, actions, end_at_success
        self.num_tasks, self.episodes = envs.num_tasks, envs.episodes

    @property
    def reports_success(self) -> bool:
        """Whether the environments tell success; see `TaskVecEnv`."""
        return self.envs.reports_success

    @reports_success.setter
    def reports_success(self, known: bool) -> None:
        self.envs.reports_success = known

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """The `M` tasks that the next collects are of."""
        self.envs.set_tasks(tasks)

    def collect(self, actor: Actor[StateT], state: StateT, streams: Streams) -> tuple[Trajectories, StateT]:
        """One episode per environment, by `metarl.rollout.collect`."""
        return collect(self.envs, actor, state, streams, actions=self._actions, end_at_success=self._end_at_success)


def collects(
    sampler: Sampler[ExperienceT], actor: Actor[StateT], state: StateT, streams: Streams, steps: int | None = None
) -> Iterator[tuple[ExperienceT, StateT]]:
    """Collects before every step of adaptation and after the last: `K + 1` collects.

    Args:
        sampler: Plays; its tasks are set.
        actor: Acts and adapts.
        state: Its state at the start of the trial.
        streams: Source of reset seeds and of the policy's noise.
        steps: `K`; the actor's own by default.

    Yields:
        The experience of a collect, and the state after it, not yet adapted to it.
    """
    last = actor.adaptation_steps if steps is None else steps
    for k in range(last + 1):
        experience, state = sampler.collect(actor, state, streams)
        yield experience, state
        if k < last:
            state = actor.adapt(state, experience)
