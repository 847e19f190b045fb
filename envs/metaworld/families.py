"""Meta-World's benchmarks as families: `ml1:reach-v3`, `ml10`, `ml25`, `ml45`, and `ml:TRAIN,.../TEST,...`.

Goals equal those of `metaworld.ML1(...)`, `ML10(...)` and so on with the same seed (42 by default, `ml10:seed=1` for
another): 50 for training and 50 held out in each class. A meta-batch has all classes equally often.

| observation | index | unit |
|---|---|---|
| position of the hand, opening of the gripper | 0 to 3 | m, 1 |
| positions and quaternions of up to two objects, else zeros | 4 to 17 | m, 1 |
| the same numbers of the previous step | 18 to 35 | m, 1 |
| zeros; Meta-World's multi-task benchmarks have the goal here | 36 to 38 | m |

| action | index | range |
|---|---|---|
| displacement of the hand's target in cm; closing of the gripper | 0 to 3 | [-1, 1] |

The reward is version 2 (Yu et al. 2019, arXiv:1910.10897), 0 to 10 per step; the docstring of each task class has its
formula. An episode never terminates; it is truncated after 500 steps. The target position is hidden. The class and
the initial object positions show in the observation.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from metarl.envs.metaworld.batch import HORIZON, MetaWorldEnvs
from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.envs.metaworld.goals import ClassGoals, cache_folder, cached_goals, class_goals
from metarl.names import did_you_mean
from metarl.tasks import Family, Parameter, balanced_choice
from metarl.types import Floats, Task

SEED = 42
"""Default seed of the goals."""
REWARD_VERSION = "version 2 (Yu et al. 2019, arXiv:1910.10897v2), 0 to 10 per step"
"""Multi-task success rates differ by 48 points between the versions (McLean et al. 2025, arXiv:2505.11289)."""


def _unused(u: Floats) -> Floats:
    raise NotImplementedError("the tasks of Meta-World are enumerated, not drawn from uniform variates")


PARAMETERS = tuple(
    Parameter(name=name, meaning=meaning, hidden=hidden, variates=0, transform=_unused, categorical=categorical)
    for name, meaning, hidden, categorical in (
        ("class", "index of the task class, in alphabetical order of all 50; its objects are visible", False, True),
        ("goal", "index of the goal in its class, held-out ones last; initial positions are visible", False, False),
        ("target", "target position of the goal, m", True, False),
    )
)


@dataclass(frozen=True)
class Benchmark:
    """Task classes for training and held out. Their goals are computed, or read from the cache, on first use.

    Args:
        name: Name of the benchmark, such as `ml10`.
        seed: Seed of the goals.
        own_classes: Names of the classes for training and held out; None for Meta-World's own choice.
    """

    name: str
    seed: int
    own_classes: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    @cached_property
    def classes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the classes for training and held out, as in Meta-World."""
        if self.own_classes is not None:
            return self.own_classes
        from metaworld import env_dict  # imported late: it takes a second

        found = getattr(env_dict, f"{self.name.upper()}_V3")
        return tuple(found["train"]), tuple(found["test"])

    @property
    def held_out_classes(self) -> tuple[str, ...]:
        """The held-out classes, without those that are also trained on.

        Meta-World 3.1.1 has basketball-v3 in both halves of ML25. If both halves are the same classes (ML1), all of
        them are returned, since their goals differ.
        """
        train, test = self.classes
        return test if set(test) <= set(train) else tuple(name for name in test if name not in train)

    @cached_property
    def goals(self) -> dict[str, ClassGoals]:
        """Goals of each class by its name."""
        kinds = [MANIPULATIONS[name] for name in dict.fromkeys([*self.classes[0], *self.classes[1]])]
        key = self.name if self.own_classes is None else "/".join(",".join(names) for names in self.own_classes)
        return cached_goals(self.name, key, self.seed, kinds, lambda: _derived(self))

    def make_envs(self, num_tasks: int, episodes: int, horizon: int) -> MetaWorldEnvs:
        """The environments of a batch."""
        kinds = [MANIPULATIONS[name] for name in sorted(MANIPULATIONS)]
        return MetaWorldEnvs(num_tasks, episodes, horizon, kinds=kinds, goals=self.goals)


@dataclass(frozen=True)
class BenchmarkTasks:
    """The task distribution of a benchmark: all classes equally often, and all goals of a class equally often.

    Args:
        family: Name of the family.
        benchmark: The benchmark.
    """

    family: str
    benchmark: Benchmark
    splits: bool = field(default=True, init=False)
    reports_all: bool = field(default=True, init=False)
    parameters: tuple[Parameter, ...] = field(default=PARAMETERS, init=False)

    def _tasks(self, name: str, training: bool) -> tuple[Task, ...]:
        """The tasks of one class."""
        goals = self.benchmark.goals[name]
        which = range(goals.training) if training else range(goals.training, len(goals.states))
        number = sorted(MANIPULATIONS).index(name)
        return tuple(
            Task.of(self.family, **{"class": number, "goal": goal, "target": goals.targets[goal]}) for goal in which
        )

    @cached_property
    def train(self) -> tuple[tuple[Task, ...], ...]:
        """The training tasks of each class."""
        return tuple(self._tasks(name, training=True) for name in self.benchmark.classes[0])

    @cached_property
    def withheld(self) -> tuple[tuple[Task, ...], ...]:
        """The held-out tasks of each held-out class."""
        return tuple(self._tasks(name, training=False) for name in self.benchmark.held_out_classes)

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """`n` training tasks in random order: all classes equally often, with distinct goals in each class."""
        kinds = balanced_choice(len(self.train), n, rng)
        goals = {k: iter(balanced_choice(len(self.train[k]), kinds.count(k), rng)) for k in sorted(set(kinds))}
        return [self.train[k][next(goals[k])] for k in kinds]

    def train_tasks(self, n: int) -> list[Task]:
        """The first `n` training tasks, one of each class in turn."""
        return _in_turn(self.train)[:n]

    def held_out(self, n: int | None = None) -> list[Task]:
        """The first `n` held-out tasks (all by default), one of each class in turn."""
        return _in_turn(self.withheld)[:n]


def class_of(task: Task) -> str:
    """The name of a task's class."""
    return sorted(MANIPULATIONS)[int(task["class"][0])]


def _in_turn(groups: Sequence[Sequence[Task]]) -> list[Task]:
    """The first item of every group, then the second of every group, and so on."""
    longest = max(len(group) for group in groups)
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


def ml1(argument: str = "reach-v3") -> Family:
    """Meta-World's ML1: one task class with held-out goals.

    - Observation: 39 numbers in m and 1, see the module.
    - Action: 4 numbers in [-1, 1]: displacement of the hand's target in cm, closing of the gripper.
    - Reward: version 2, 0 to 10 per step, see the task class.
    - End: truncated after 500 steps.
    - Varies: the goal; its target position is hidden, initial object positions are visible. 50 goals are for training,
      50 are held out.
    - Source: Meta-World 3.1.1.

    Args:
        argument: Name of the class and options, as in `ml1:push-v3,seed=1`, after the colon.

    Raises:
        ValueError: The argument is no single class of Meta-World, or the seed is no number.
    """
    words, seed = _options("ml1", argument)
    if len(words) != 1:
        raise ValueError(f"family 'ml1': got {argument!r}, expected the name of one class, such as ml1:reach-v3")
    classes = (_known(words[0]),)
    name = "ml1" if argument == "reach-v3" else f"ml1:{argument}"
    return _family(name, Benchmark("ml1", seed, (classes, classes)), f"Meta-World's {words[0]}, goals held out")


def ml10(argument: str = "") -> Family:
    """Meta-World's ML10: 10 task classes for training, 5 held out; otherwise as `ml1`.

    - Varies: the class and the goal. The class's objects are visible, the target position is hidden.

    Args:
        argument: Empty, or `seed=NUMBER`.

    Raises:
        ValueError: The argument is something else.
    """
    return _fixed("ml10", argument, "Meta-World's ML10: 10 classes for training, 5 held out")


def ml25(argument: str = "") -> Family:
    """Meta-World's ML25: 25 task classes for training, 4 held out; otherwise as `ml10`.

    Meta-World lists basketball-v3 in both halves; here it is for training only.
    """
    return _fixed(
        "ml25",
        argument,
        "Meta-World's ML25: 25 classes for training, 4 held out (without basketball-v3, which is trained on)",
    )


def ml45(argument: str = "") -> Family:
    """Meta-World's ML45: 45 task classes for training, 5 held out; otherwise as `ml10`."""
    return _fixed("ml45", argument, "Meta-World's ML45: 45 classes for training, 5 held out")


def ml(argument: str = "reach-v3,push-v3/pick-place-v3") -> Family:
    """A custom choice of Meta-World's task classes; otherwise as `ml10`. Goals equal those of each class's ML1.

    Args:
        argument: Training classes, a slash, held-out classes, and options, as in
            `ml:reach-v3,push-v3/pick-place-v3,seed=1`, after the colon.

    Raises:
        ValueError: A half is empty, a class does not exist, or the seed is no number.
    """
    train, slash, test = argument.partition("/")
    words, seed = _options("ml", test)
    if not slash or not train or not words:
        raise ValueError(
            f"family 'ml': got {argument!r}, expected training classes / held-out classes, such as "
            "reach-v3,push-v3/pick-place-v3"
        )
    classes = (tuple(map(_known, train.split(","))), tuple(map(_known, words)))
    name = "ml" if argument == "reach-v3,push-v3/pick-place-v3" else f"ml:{argument}"
    summary = f"Meta-World: {len(classes[0])} classes for training, {len(classes[1])} held out"
    return _family(name, Benchmark("ml", seed, classes), summary)


def _fixed(benchmark: str, argument: str, summary: str) -> Family:
    words, seed = _options(benchmark, argument)
    if words:
        raise ValueError(f"family {benchmark!r}: got {argument!r}, expected no argument, or seed=NUMBER")
    return _family(f"{benchmark}:{argument}" if argument else benchmark, Benchmark(benchmark, seed), summary)


def _family(name: str, benchmark: Benchmark, summary: str) -> Family:
    return Family(
        name=name,
        summary=summary,
        distribution=BenchmarkTasks(name, benchmark),
        horizon=HORIZON,
        make_envs=benchmark.make_envs,
        class_of=class_of,
        reward_version=REWARD_VERSION,
    )


def _options(family: str, argument: str) -> tuple[list[str], int]:
    """The comma-separated words of an argument without `seed=NUMBER`, and the seed."""
    words, seed = [word for word in argument.split(",") if word], SEED
    for word in [word for word in words if word.startswith("seed=")]:
        text = word.removeprefix("seed=")
        if not text.isdecimal():
            raise ValueError(f"family {family!r}: got {word!r}, expected seed=NUMBER")
        words.remove(word)
        seed = int(text)
    return words, seed


def _known(name: str) -> str:
    if name not in MANIPULATIONS:
        near = did_you_mean(name, MANIPULATIONS)
        raise ValueError(f"Meta-World: got class {name!r}, expected one of {', '.join(sorted(MANIPULATIONS))}.{near}")
    return name


def _derived(benchmark: Benchmark) -> dict[str, ClassGoals]:
    """The goals of all classes, computed with Meta-World itself (seconds per class)."""
    train, test = _upstream_tasks(benchmark)
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    result: dict[str, ClassGoals] = {}
    names = list(dict.fromkeys([*train, *test]))
    for i, name in enumerate(names, start=1):
        _log(f"{benchmark.name}: computing goals of {name}, class {i} of {len(names)}; cached in {cache_folder()}")
        make_env = ALL_V3_ENVIRONMENTS[name]
        result[name] = class_goals(MANIPULATIONS[name], make_env, train.get(name, []), test.get(name, []))
    return result


def _upstream_tasks(benchmark: Benchmark) -> tuple[Mapping[str, list[Any]], Mapping[str, list[Any]]]:
    """Meta-World's own tasks by class, for training and held out.

    Meta-World draws the goals of a benchmark for all its classes together. A custom choice of classes takes the goals
    of each class's `ML1`.
    """
    import metaworld

    _log(f"{benchmark.name}: Meta-World draws its goals (first start only)")
    if benchmark.own_classes is None:
        made = getattr(metaworld, benchmark.name.upper())(seed=benchmark.seed)
        return _by_class(made.train_tasks), _by_class(made.test_tasks)
    make_one: Any = metaworld.ML1
    train, test = benchmark.own_classes
    singles = {name: make_one(name, seed=benchmark.seed) for name in dict.fromkeys([*train, *test])}
    return {name: singles[name].train_tasks for name in train}, {name: singles[name].test_tasks for name in test}


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _by_class(tasks: Sequence[Any]) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = {}
    for task in tasks:
        result.setdefault(task.env_name, []).append(task)
    return result
