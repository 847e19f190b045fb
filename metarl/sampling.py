"""Samplers collect experience for an actor; `collects` runs a trial in training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

from metarl.agent import Actor
from metarl.rollout import collect
from metarl.seeding import Streams
from metarl.types import Actions, Experience, Task, Trajectories
from metarl.vector import TaskVecEnv

StateT = TypeVar("StateT")
ExperienceT = TypeVar("ExperienceT", bound=Experience)
ExperienceT_co = TypeVar("ExperienceT_co", bound=Experience, covariant=True)


class Sampler(Protocol[ExperienceT_co]):
    """Collects experience for an actor: in this process, in other processes, or from the data of few-shot tasks.

    Attributes:
        num_tasks: `M`, tasks of a batch.
        episodes: `E`, environments (or shots) per task.
        reports_success: Whether any episode has reported success; a resumed run restores it.
    """

    num_tasks: int
    episodes: int
    reports_success: bool

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Sets the `M` tasks of the next collects."""
        ...

    def collect(self, actor: Actor[StateT], state: StateT, streams: Streams) -> tuple[ExperienceT_co, StateT]:
        """Collects one episode per environment; returns it and the state after acting.

        All random numbers come from the next child of the streams (`Streams.next`).
        """
        ...


class LocalSampler:
    """Collects in this process.

    Args:
        envs: `M * E` environments.
        actions: Sample the policy, or take its mode.
        end_at_success: Truncate an episode at its first success.
    """

    def __init__(self, envs: TaskVecEnv, *, actions: Actions = "sample", end_at_success: bool = False) -> None:
        self.envs, self._actions, self._end_at_success = envs, actions, end_at_success
        self.num_tasks, self.episodes = envs.num_tasks, envs.episodes

    @property
    def reports_success(self) -> bool:
        """Whether the environments report success; see `TaskVecEnv`."""
        return self.envs.reports_success

    @reports_success.setter
    def reports_success(self, known: bool) -> None:
        self.envs.reports_success = known

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Sets the `M` tasks of the next collects."""
        self.envs.set_tasks(tasks)

    def collect(self, actor: Actor[StateT], state: StateT, streams: Streams) -> tuple[Trajectories, StateT]:
        """Collects one episode per environment by `metarl.rollout.collect`, as one block."""
        how: dict[str, Any] = {"actions": self._actions, "end_at_success": self._end_at_success}
        return collect(self.envs, actor, state, streams.next().child(0), **how)


def collects(
    sampler: Sampler[ExperienceT], actor: Actor[StateT], state: StateT, streams: Streams, steps: int | None = None
) -> Iterator[tuple[ExperienceT, StateT]]:
    """Runs a trial: `K + 1` collects, with a step of adaptation after each but the last.

    Args:
        sampler: Source of the experience; its tasks are set.
        actor: The actor, which acts and adapts.
        state: Its state at the start of the trial.
        streams: Source of reset seeds and of the policy's noise: each collect has their next child.
        steps: `K`; by default `actor.adaptation_steps`.

    Yields:
        The experience of a collect, and the state after acting and before adapting to it.

    Raises:
        ValueError: The experience is of another number of tasks than the sampler's.
    """
    last = actor.adaptation_steps if steps is None else steps
    for k in range(last + 1):
        experience, state = sampler.collect(actor, state, streams)
        if experience.num_tasks != sampler.num_tasks:
            raise ValueError(
                f"collect: got experience of {experience.num_tasks} tasks, expected {sampler.num_tasks}, the "
                "`num_tasks` of the sampler"
            )
        yield experience, state
        if k < last:
            state = actor.adapt(state, experience)
