"""Task distributions, and families: a distribution with the environments that play its tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from metarl.distribution import DrawnTasks as DrawnTasks
from metarl.distribution import TaskDistribution as TaskDistribution
from metarl.distribution import with_finite_set
from metarl.parameters import Parameter as Parameter
from metarl.parameters import refuse_twice
from metarl.parameters import uniform as uniform
from metarl.rewards import DeclaredReward
from metarl.stepping import MakeEnvs, SingleEnvs, Stepping
from metarl.types import Floats, Spaces, Task, TaskParameter

HELD_OUT_SEED = 20_160_000
"""Seed of randomly drawn held-out sets; no training stream uses it."""
REPORTED = 40
"""Number of held-out tasks that tables report on, from the first on. Settings are chosen by the tasks after them."""
HALTON_BASES = (2, 3, 5, 7)
"""Bases of the Halton sequence, one per dimension. With larger bases the first points do not spread evenly."""
MOST_ROUNDS = 100
"""Consecutive draws without any training task after which the ranges count as too narrow."""
MOST_TASKS = 10_000
"""Training tasks that are searched for the values of a categorical parameter."""


def halton(n: int, dimensions: int) -> Floats:
    """The first points of the Halton sequence (Halton 1960), without point 0 at the edge of every range.

    Coordinate d of point i is i in base `HALTON_BASES[d]` with its digits mirrored at the radix point. The numbers
    equal SciPy's bit for bit; importing `scipy.stats` would delay the start of every training.

    Args:
        n: Number of points.
        dimensions: Number of dimensions, at most 4.

    Returns:
        `[n, dimensions]` in (0, 1).
    """
    points = np.zeros((n, dimensions))
    for d, base in enumerate(HALTON_BASES[:dimensions]):
        rest, digit = np.arange(1, n + 1), 1.0 / base
        while rest.any():
            points[:, d] += rest % base * digit
            rest, digit = rest // base, digit / base
    return points


@dataclass(frozen=True)
class ContinuousTasks:
    """Tasks with continuous parameters: random training tasks, fixed held-out tasks.

    The held-out tasks are the first points of the Halton sequence (Halton 1960) under each parameter's transform. Every
    prefix of them covers the family evenly, without random numbers. With more than four variates the first points do
    not cover the family evenly; the tasks are then drawn with a fixed seed. A training task that equals a held-out one
    is drawn again, so the two sets are disjoint by construction.

    Args:
        family: Name of the family.
        parameters: The parameters that vary.
        finite: Size of a fixed set that training tasks are drawn from (PEARL needs one); 0 draws new tasks each time.
        held_out_size: Number of held-out tasks; tables report on the first `reported`.

    Raises:
        ValueError: Two parameters have the same name.
    """

    family: str
    parameters: tuple[Parameter, ...]
    finite: int = 0
    held_out_size: int = 100
    reported: int = REPORTED
    splits: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        refuse_twice(self.family, self.parameters)

    def with_finite_set(self, size: int) -> ContinuousTasks:
        """The same distribution, its training tasks drawn from a fixed set of `size`."""
        return replace(self, finite=size)

    def _tasks(self, u: Floats) -> list[Task]:
        """Tasks from uniform variates `[n, sum of variates]`."""
        columns = np.split(u, np.cumsum([p.variates for p in self.parameters])[:-1], axis=1)
        values = [p.transform(c) for p, c in zip(self.parameters, columns, strict=True)]
        names = [p.name for p in self.parameters]
        return [Task.of(self.family, **dict(zip(names, row, strict=True))) for row in zip(*values, strict=True)]

    @cached_property
    def _held_out(self) -> tuple[Task, ...]:
        variates, n = sum(p.variates for p in self.parameters), self.held_out_size
        if variates > len(HALTON_BASES):
            return tuple(self._tasks(np.random.Generator(np.random.PCG64(HELD_OUT_SEED)).random((n, variates))))
        return tuple(self._tasks(halton(n, variates)))

    def _draw(self, n: int, rng: np.random.Generator) -> list[Task]:
        held_out, tasks, rounds = set(self._held_out), list[Task](), 0
        while len(tasks) < n:
            variates = sum(p.variates for p in self.parameters)
            found = [t for t in self._tasks(rng.random((n - len(tasks), variates))) if t not in held_out]
            tasks, rounds = tasks + found, 0 if found else rounds + 1
            if rounds == MOST_ROUNDS:
                raise ValueError(
                    f"family {self.family!r}: got ranges that hold only a few different numbers, so that every task "
                    "drawn is held out; expected wider ranges, or choices"
                )
        return tasks

    @cached_property
    def _finite_set(self) -> tuple[Task, ...]:
        return tuple(self._draw(self.finite, np.random.default_rng(0)))

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """Draws `n` training tasks; from a finite set, each as often as the others."""
        if not self.finite:
            return self._draw(n, rng)
        return [self._finite_set[i] for i in balanced_choice(len(self._finite_set), n, rng)]

    def train_tasks(self, n: int) -> list[Task]:
        """The first `n` training tasks, the same at every call."""
        return list(self._finite_set[:n]) if self.finite else self._draw(n, np.random.default_rng(0))

    def held_out(self, n: int | None = None) -> list[Task]:
        """The first `n` held-out tasks (all by default)."""
        return list(self._held_out[:n])


@dataclass(frozen=True)
class DiscreteTasks:
    """A finite set of tasks, some of them withheld from training.

    Args:
        family: Name of the family.
        parameters: Descriptions of the parameters; the tasks hold the values.
        train: The training tasks.
        withheld: The held-out tasks; None for a family that is too small to split, which is evaluated on `train`.

    Raises:
        ValueError: A task is in both sets, there is no training task, or two parameters have the same name.
    """

    family: str
    parameters: tuple[Parameter, ...]
    train: tuple[Task, ...]
    withheld: tuple[Task, ...] | None

    def __post_init__(self) -> None:
        refuse_twice(self.family, self.parameters)
        both = set(self.train) & set(self.withheld or ())
        if both or not self.train:
            raise ValueError(
                f"DiscreteTasks {self.family!r}: got {len(self.train)} training tasks, {len(both)} of them "
                "withheld too; expected at least one, and none in both sets"
            )

    @property
    def splits(self) -> bool:
        """Whether there are held-out tasks that training never sees."""
        return self.withheld is not None

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """Draws `n` training tasks in random order, each as often as the others."""
        return [self.train[i] for i in balanced_choice(len(self.train), n, rng)]

    def train_tasks(self, n: int) -> list[Task]:
        """The first `n` training tasks."""
        return list(self.train[:n])

    def held_out(self, n: int | None = None) -> list[Task]:
        """The first `n` held-out tasks; training tasks if the family is too small to split."""
        return list((self.train if self.withheld is None else self.withheld)[:n])


def told_parameters(distribution: TaskDistribution) -> tuple[TaskParameter, ...]:
    """The parameters of a task that an oracle observes: hidden numbers, and categories one-hot.

    An undeclared parameter counts as hidden. Visible numbers are left out, since they may index tasks that training
    never sees (the goals of Meta-World). A categorical parameter with a single category is left out too.
    """
    declared, told = {p.name: p for p in distribution.parameters}, []
    for name, values in (pair for task in distribution.train_tasks(1) for pair in task.parameters):
        parameter = declared.get(name)
        if parameter is not None and parameter.categorical:
            categories = sorted({task[name] for task in distribution.train_tasks(MOST_TASKS)})
            if len(categories) > 1:
                told.append(TaskParameter(name, len(values), tuple(categories)))
        elif parameter is None or parameter.hidden:
            told.append(TaskParameter(name, len(values)))
    return tuple(told)


def balanced_choice(size: int, n: int, rng: np.random.Generator) -> list[int]:
    """`n` indices below `size` in random order; how often each occurs differs by at most one."""
    rounds = [rng.permutation(size) for _ in range(-(-n // size))]
    return [int(i) for i in np.concatenate(rounds)[:n]]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A task distribution and the environments that play its tasks: FAMILY in `metarl train AGENT FAMILY`.

    Args:
        name: Name of the family, as on the command line.
        summary: One line for `metarl list`.
        distribution: Distribution of its tasks.
        horizon: `T`, steps of an episode, unless the run sets another.
        make_envs: `(M, E, horizon) ->` the batch of environments.
        single_envs: `make_envs` again if it makes single environments, with timed calls; dropped if that is replaced.
        class_of: Maps a task to the name of its class, if results are also reported per class.
        reward_version: Name of the reward function, if the benchmark has had several; reported with every number.
        reward: The reward as a function of observations and actions, for planners; None if it is not declared.
        notes: Sentences on what was chosen for the user, printed at the start of a training.
        digest: Computes the digest of the files that it is made of (`metarl.digests`); empty for a family without any.
    """

    name: str
    summary: str
    distribution: TaskDistribution
    horizon: int
    make_envs: MakeEnvs
    single_envs: SingleEnvs | None = None
    class_of: Callable[[Task], str] | None = None
    reward_version: str = ""
    reward: DeclaredReward | None = None
    notes: tuple[str, ...] = ()
    digest: Callable[[], str] = str

    def __post_init__(self) -> None:
        if self.single_envs is not self.make_envs:
            object.__setattr__(self, "single_envs", None)

    @property
    def stepping(self) -> Stepping | None:
        """Settings of its single environments; None for a batch that steps itself."""
        return self.single_envs.stepping if self.single_envs else None

    def with_single_envs(self, envs: SingleEnvs) -> Family:
        """The same family with other single environments."""
        return replace(self, make_envs=envs, single_envs=envs)

    def with_stepping(self, stepping: Stepping | None) -> Family:
        """The same family, its single environments with other settings; unchanged if None or without any."""
        if stepping is None or self.single_envs is None:
            return self
        return self.with_single_envs(self.single_envs.with_stepping(stepping))

    def drawing(self) -> Family:
        """The same family, made for rendering; a batch that steps itself renders as it is.

        Raises:
            ValueError: The single environments cannot render.
        """
        if self.single_envs is None:
            return self
        try:
            return self.with_single_envs(self.single_envs.drawing())
        except ValueError as error:
            raise ValueError(f"family {self.name!r}: {error}") from error

    def spaces(self, horizon: int | None = None) -> Spaces:
        """Sizes, bounds and units that an agent is built for, with the parameters that an oracle observes.

        Args:
            horizon: `T`; the family's by default.
        """
        envs = self.make_envs(1, 1, horizon or self.horizon)
        spaces = envs.spaces
        envs.close()
        return replace(spaces, task_parameters=told_parameters(self.distribution), reward=self.reward)

    def with_finite_train_set(self, size: int) -> Family:
        """The same family, its training tasks drawn from a fixed set of `size` (0: unchanged).

        Raises:
            ValueError: The family's training tasks are a fixed set already, or the set is too small.
        """
        return replace(self, distribution=with_finite_set(self.distribution, self.name, size))


def read_options(family: str, argument: str, most: Mapping[str, int] | None = None, **defaults: int) -> dict[str, int]:
    """Reads `name=value,name=value`, the options after a family's name on the command line, as whole numbers.

    Args:
        family: Name of the family, for messages.
        argument: The text after `FAMILY:`; may be empty.
        most: Upper bounds, for the options that have one.
        **defaults: Names and defaults of all options; every value has to be at least 1.

    Raises:
        ValueError: An option is unknown or repeated, or its value is no whole number from 1 to its upper bound.
    """
    values, limits, seen = dict(defaults), dict(most or {}), set[str]()
    for part in filter(None, argument.split(",")):
        name, _, text = part.partition("=")
        digits = text.isascii() and text.isdecimal() and len(text) < 20
        if name not in defaults or not digits or not 1 <= int(text) <= limits.get(name, int(text)):
            known = ", ".join(f"{key}=INT >= 1" for key in defaults)
            if limits:
                known += f"; at most {', '.join(f'{key}={limits[key]:,}' for key in limits)}"
            raise ValueError(f"family {family!r}: got option {part!r}, expected {known}")
        if name in seen:
            raise ValueError(f"family {family!r}: got option {name!r} twice, expected it once")
        seen.add(name)
        values[name] = int(text)
    return values


Split = Literal["test", "tune", "train"]
"""Held-out tasks to report on (test), held-out tasks to choose settings by (tune), training tasks (train)."""


def split_tasks(distribution: TaskDistribution, split: Split, n: int | None = None) -> Sequence[Task]:
    """The first `n` tasks of a split (all by default, or if there are fewer).

    Tables report on the tasks of `test`, so no preset, step size or number of iterations may be chosen by them. `tune`
    has the held-out tasks after those, by default after the first `REPORTED`. If there are none, or if a benchmark
    reports on all of its held-out tasks (`reports_all`), `tune` has training tasks.

    Args:
        distribution: Distribution of the tasks.
        split: Name of the split.
        n: Number of tasks.

    Raises:
        ValueError: The split is unknown.
    """
    if split == "test":
        return distribution.held_out(n)
    if split == "tune" and (later := _kept_for_tuning(distribution)):
        return later[:n]
    if split in ("tune", "train"):
        return distribution.train_tasks(REPORTED if n is None else n)
    raise ValueError(f"split: got {split!r}, expected 'test', 'tune' or 'train'")


def split_name(distribution: TaskDistribution, split: Split) -> Split:
    """Name of the split that `split_tasks` takes tasks from: `train` if it falls back to training tasks."""
    if not distribution.splits or (split == "tune" and not _kept_for_tuning(distribution)):
        return "train"
    return split


def _kept_for_tuning(distribution: TaskDistribution) -> list[Task]:
    """The held-out tasks that no table reports on."""
    if not distribution.splits or getattr(distribution, "reports_all", False):
        return []
    return distribution.held_out()[getattr(distribution, "reported", REPORTED) :]
