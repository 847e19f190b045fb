"""The data types of metarl, and the letters that name their axes.

Comments and docstrings give the axes of every array with these letters:

| letter | axis |
|---|---|
| `M` | tasks of a meta-batch |
| `E` | environments per task, each playing one episode |
| `N` | flat environments, `N = M * E`, task-major |
| `T` | steps of an episode |
| `K` | adaptation steps |
| `O`, `A` | observation and action features |
| `H`, `Z` | hidden units, latent features |
| `P` | parameters of a network, flat |

Learner arrays are `[M, E, T, ...]`. `terminated` (a terminal state: no bootstrap) and `truncated` (a time limit:
bootstrap) are never merged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from metarl.rewards import DeclaredReward

Floats = NDArray[Any]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Task:
    """One task of a family: a name and the values of its parameters. Hashable; tasks with equal values are equal.

    Args:
        family: Name of the family, such as `half-cheetah-vel`.
        parameters: Pairs of name and values (a tuple of floats, in the unit that the family declares); see `Task.of`.
    """

    family: str
    parameters: tuple[tuple[str, tuple[float, ...]], ...] = ()

    @classmethod
    def of(cls, family: str, /, **parameters: float | Iterable[float]) -> Task:
        """A task from keywords: `Task.of("point-robot", goal=(0.1, -0.3))`.

        Raises:
            ValueError: A value is not a finite number.
        """
        pairs = []
        for name, value in parameters.items():
            values = tuple(float(v) for v in np.ravel(np.asarray(value, dtype=np.float64)))
            if not all(math.isfinite(v) for v in values):
                raise ValueError(f"Task parameter {name!r}: got {value!r}, expected finite numbers")
            pairs.append((name, values))
        return cls(family, tuple(sorted(pairs)))

    def __getitem__(self, name: str) -> tuple[float, ...]:
        """The values of one parameter; a `KeyError` lists the existing ones."""
        for key, values in self.parameters:
            if key == name:
                return values
        raise KeyError(f"task of {self.family!r} has no parameter {name!r}; it has {[k for k, _ in self.parameters]}")

    def to_json(self) -> dict[str, Any]:
        """A JSON value from which `from_json` restores an equal task, bit for bit."""
        return {"family": self.family, "parameters": {key: list(values) for key, values in self.parameters}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Task:
        """The task that `to_json` wrote.

        Raises:
            ValueError: The value has a different structure.
        """
        try:
            return cls.of(str(value["family"]), **value["parameters"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"Task: got {value!r}, expected {{'family': ..., 'parameters': {{...}}}}") from error


@dataclass(frozen=True)
class TaskParameter:
    """A task parameter that an oracle observes (`metarl.tasks.told_parameters`).

    Args:
        name: Name of the parameter in a `Task`.
        size: Number of values.
        categories: The distinct values `[size]` of the training tasks, for a label that is encoded one-hot (any other
            value as zeros). Empty for a parameter that is passed as numbers.
    """

    name: str
    size: int
    categories: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Spaces:
    """Sizes and bounds of an environment, as plain numbers that can be written as JSON.

    Args:
        observation_size: `O`, features of one observation.
        action_low: Lower bound of each action component, length `A`, in the environment's unit; may be infinite.
        action_high: Upper bound of each action component; may be infinite.
        horizon: `T`, steps after which an episode is truncated.
        choices: Number of discrete actions; 0 for continuous actions. A discrete action is one whole number, and its
            bounds are the first and the last choice.
        observation_units: Unit of each observation feature, length `O`, such as `m` or `rad/s` (`1`: no unit, empty
            text: unknown); empty if none is declared. Normalisation compares features of one unit. Ignored by `==`.
        task_parameters: Parameters that an oracle observes, as `Family.spaces` declares them. Ignored by `==`.
        reward: The reward as a function of observations, if the family declares one. Ignored by `==`; not in JSON.
    """

    observation_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    horizon: int
    choices: int = 0
    observation_units: tuple[str, ...] = field(default=(), compare=False)
    task_parameters: tuple[TaskParameter, ...] = field(default=(), compare=False)
    reward: DeclaredReward | None = field(default=None, compare=False)

    @property
    def action_size(self) -> int:
        """`A`, components of one action; 1 for discrete actions."""
        return len(self.action_low)

    @property
    def first_choice(self) -> int:
        """The first discrete action (`start` of `gymnasium.spaces.Discrete`)."""
        return int(self.action_low[0]) if self.choices else 0

    @property
    def policy_outputs(self) -> int:
        """Outputs of a policy network: a mean per component, or a logit per choice."""
        return self.choices or self.action_size


@dataclass(frozen=True)
class Step:
    """Input of `act`, for all rows of the batch.

    Args:
        observation: `[M, E, O]` float32.
        previous_action: `[M, E, A]` float32, as the environment received it; zeros before the first step.
        previous_reward: `[M, E]` float32; zeros before the first step.
        first: `[M, E]`, True at the first step of an episode.
        live: `[M, E]`, False after the end of the episode (the action is then ignored).
    """

    observation: Floats
    previous_action: Floats
    previous_reward: Floats
    first: Bools
    live: Bools


@dataclass(frozen=True)
class Action:
    """Output of `act`.

    Args:
        environment: `[M, E, A]`, actions in the environments' unit; whole numbers if they are discrete. Read-only, so
            that no environment can change the recorded action.
        extras: Further arrays `[M, E, ...]` to record in the `Trajectories`, such as the policy's output before scaling
            and clipping.
    """

    environment: Floats
    extras: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.environment, np.ndarray):
            self.environment.flags.writeable = False

    def single(self, task: int = 0, episode: int = 0) -> Any:
        """The action of one row, as `step` of a single environment expects it.

        Returns:
            A copy of the numbers `[A]`, or one whole number for discrete actions.
        """
        row = self.environment[task, episode]
        return row[0] if row.dtype.kind in "iu" else row.copy()


@dataclass(frozen=True)
class Trajectories:
    """One episode per row, padded to the same length; `mask` marks the steps that happened.

    Padding is zero, except for observations, which repeat the last one.

    Args:
        all_observations: `[M, E, T + 1, O]` float32, the last one included.
        actions: `[M, E, T, A]` float32, as the environment received them.
        rewards: `[M, E, T]` float32.
        terminated: `[M, E, T]`, True at a terminal step.
        truncated: `[M, E, T]`, True at the step of the time limit.
        mask: `[M, E, T]`, True for steps that happened, False for padding.
        success: `[M, E, T]`, or None if the family does not report success.
        diverged: `[M, E]`, True if a diverged simulation ended the episode.
        extras: The extras of the actions, each `[M, E, T, ...]`.
    """

    all_observations: Floats
    actions: Floats
    rewards: Floats
    terminated: Bools
    truncated: Bools
    mask: Bools
    success: Bools | None
    diverged: Bools
    extras: Mapping[str, Floats]

    @property
    def observations(self) -> Floats:
        """`[M, E, T, O]`, the observation before each step (a view)."""
        return self.all_observations[:, :, :-1]

    @property
    def next_observations(self) -> Floats:
        """`[M, E, T, O]`, the observation after each step (a view)."""
        return self.all_observations[:, :, 1:]

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(M, E, T)`."""
        m, e, t = self.rewards.shape
        return m, e, t

    @property
    def num_tasks(self) -> int:
        """`M`."""
        return len(self.rewards)

    @property
    def env_steps(self) -> int:
        """Environment steps, without padding."""
        return int(self.mask.sum())

    @classmethod
    def metrics(cls, collects: Sequence[Trajectories]) -> dict[str, float]:
        """Mean return and success rate of each collect `k` of an iteration, and the number of diverged episodes."""
        metrics = {f"return/{k}": float(t.returns().mean()) for k, t in enumerate(collects)}
        for k, t in enumerate(with_known_success(collects)):
            for name, successes in (("success", t.successes()), ("success_last", t.last_step_successes())):
                if successes is not None:
                    metrics[f"{name}/{k}"] = float(successes.mean())
        metrics["diverged_episodes"] = float(sum(t.diverged.sum() for t in collects))
        return metrics

    def returns(self) -> Floats:
        """Undiscounted sum of rewards of each episode, `[M, E]` float64."""
        return np.asarray(self.rewards.sum(axis=2, dtype=np.float64))

    def successes(self) -> Floats | None:
        """1.0 if an episode succeeded at any step, `[M, E]` float64; None if success is unknown."""
        return None if self.success is None else np.any(self.success, axis=2).astype(np.float64)

    def last_step_successes(self) -> Floats | None:
        """1.0 if an episode's last step was a success, `[M, E]` float64; None if success is unknown."""
        if self.success is None:
            return None
        last = np.maximum(self.mask.sum(axis=2, keepdims=True) - 1, 0)
        return np.take_along_axis(self.success, last, axis=2)[:, :, 0].astype(np.float64)

    @classmethod
    def join_episodes(cls, parts: Sequence[Trajectories]) -> Trajectories:
        """Joins recordings of the same tasks along the axis of episodes `E`; copies all arrays.

        Raises:
            ValueError: There are no parts, or they differ in `M`, in `T`, or in the arrays of a step.
        """
        return cls._joined("join_episodes", parts, axis=1)

    @classmethod
    def join_tasks(cls, parts: Sequence[Trajectories]) -> Trajectories:
        """Joins recordings of different tasks along the axis of tasks `M`; see `join_episodes`."""
        return cls._joined("join_tasks", parts, axis=0)

    @classmethod
    def _joined(cls, name: str, parts: Sequence[Trajectories], axis: int) -> Trajectories:
        same, kinds = [(p.shape[1 - axis], p.shape[2]) for p in parts], [p._step_shapes() for p in parts]
        if not parts or any(sizes != same[0] for sizes in same):
            shapes = [p.shape for p in parts]
            raise ValueError(f"Trajectories.{name}: got shapes {shapes}, expected the same {'EM'[axis]} and T")
        if other := next((kind for kind in kinds if kind != kinds[0]), None):
            expected = "expected recordings of one agent in one kind of environment"
            raise ValueError(f"Trajectories.{name}: got steps with arrays of shapes {kinds[0]} and {other}, {expected}")
        parts = with_known_success(parts)

        def join(arrays: list[Any]) -> Any:
            return None if arrays[0] is None else np.concatenate(arrays, axis=axis)

        names = [f.name for f in fields(cls) if f.name != "extras"]
        return cls(
            **{name: join([getattr(p, name) for p in parts]) for name in names},
            extras={key: join([p.extras[key] for p in parts]) for key in parts[0].extras},
        )

    def cut_episodes(self, parts: int) -> list[Trajectories]:
        """Cuts the axis of episodes into equal parts: the inverse of `join_episodes`."""

        def cut(array: Any) -> list[Any]:
            return [None] * parts if array is None else np.split(array, parts, axis=1)

        arrays = {f.name: cut(getattr(self, f.name)) for f in fields(self) if f.name != "extras"}
        extras = {name: cut(array) for name, array in self.extras.items()}

        def part(i: int, pieces: Mapping[str, list[Any]]) -> dict[str, Any]:
            return {name: piece[i] for name, piece in pieces.items()}

        return [Trajectories(**part(i, arrays), extras=part(i, extras)) for i in range(parts)]

    def _step_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array of a single step."""
        arrays = {"observations": self.all_observations, "actions": self.actions, **self.extras}
        return {name: array.shape[3:] for name, array in arrays.items()}


def with_known_success(collects: Sequence[Trajectories]) -> list[Trajectories]:
    """The same collects of one family. If any of them reports success, unknown successes become False."""
    if all(t.success is None for t in collects):
        return list(collects)
    return [replace(t, success=np.zeros_like(t.mask)) if t.success is None else t for t in collects]


class Experience(Protocol):
    """Data of one collect for all tasks of a batch: `Trajectories`, or the examples of a few-shot learner."""

    @property
    def num_tasks(self) -> int:
        """`M`."""
        ...

    @property
    def env_steps(self) -> int:
        """Environment steps made, or examples drawn."""
        ...

    @classmethod
    def metrics(cls, collects: Sequence[Self]) -> dict[str, float]:
        """Metrics of the collects of one iteration, in order."""
        ...


ExperienceT_co = TypeVar("ExperienceT_co", bound=Experience, covariant=True)


@dataclass(frozen=True)
class MetaBatch(Generic[ExperienceT_co]):
    """The experience of one iteration: the input of `meta_update`.

    Args:
        tasks: The `M` tasks.
        collects: `K + 1` collects: before adaptation, after one step, ..., after `K` steps.
        progress: Fraction of the run's meta-updates that are done, in [0, 1).

    Raises:
        ValueError: The progress is out of range, or a collect has a different number of tasks.
    """

    tasks: tuple[Task, ...]
    collects: tuple[ExperienceT_co, ...]
    progress: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.progress < 1.0:
            raise ValueError(
                f"MetaBatch.progress: got {self.progress!r}, expected the fraction of meta-updates done, >= 0 and < 1"
            )
        if any(collect.num_tasks != len(self.tasks) for collect in self.collects):
            raise ValueError(
                f"MetaBatch: got {len(self.tasks)} tasks and collects of {[c.num_tasks for c in self.collects]}, "
                "expected the same number of tasks in each"
            )


@dataclass(frozen=True)
class Progress:
    """The counters of a run.

    Args:
        iteration: Meta-updates done.
        env_steps: Environment steps of training, including those of adaptation.
        reports_success: Whether any episode has reported success so far; see `TaskVecEnv`.
    """

    iteration: int = 0
    env_steps: int = 0
    reports_success: bool = False


Actions = Literal["sample", "mode", "mode-only"]
"""How the policy acts: samples, its mode (an evaluation adapts from samples), or its mode and no samples at all."""
