"""Regression of a robot's dynamics: the next transitions of a robot from a few earlier ones.

| input | index | unit |
|---|---|---|
| observation of the robot, normalised | 0 to O - 1 | deviations |
| action, normalised | O to O + A - 1 | deviations |

| output | index | unit |
|---|---|---|
| next observation minus observation, normalised | 0 to O - 1 | deviations |

Means and deviations are those of training robots under random actions. The model that GrBAL adapts learns the same
regression (Nagabandi et al. 2019, arXiv:1803.11347).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np

from metarl.deviations import Scaling
from metarl.envs.few_shot.robot_streams import RobotStreams
from metarl.few_shot.family import FewShotFamily, few_shot_options
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.registry import FEW_SHOT_FAMILIES, is_own_code, make_family, names
from metarl.tasks import REPORTED, DrawnTasks, Family, Parameter, TaskDistribution
from metarl.types import Floats, Task

NAME = "robot-dynamics"
SPAN = 200
"""Steps of a stream, unless the episode is shorter, or more transitions are asked for."""
SEGMENTS = 100
"""Streams of a robot that training tasks come from."""
HELD_OUT = 100
"""Held-out tasks of a family with few held-out robots."""
STATISTICS = 16
"""Training tasks whose streams are the basis of means and deviations."""


def _unused(u: Floats) -> Floats:
    raise NotImplementedError("segments are drawn by SegmentTasks, not from uniform variates")


SEGMENT = Parameter(
    name="segment",
    meaning="number of the stream of transitions of the robot",
    hidden=True,
    variates=0,
    transform=_unused,
)


@dataclass(frozen=True)
class SegmentTasks:
    """Tasks of a robot each: those of a family of environments, with the number of a stream of transitions.

    Held-out tasks are held-out robots. If there are fewer robots than `REPORTED`, each has several streams, so that
    there are `HELD_OUT` tasks; settings are then chosen by training tasks.

    Args:
        family: Name of the few-shot family.
        robots: Distribution of the robots.
    """

    family: str
    robots: TaskDistribution

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters of the robots, and the segment."""
        return (*self.robots.parameters, SEGMENT)

    @property
    def splits(self) -> bool:
        """Whether there are held-out robots."""
        return self.robots.splits

    @property
    def few(self) -> bool:
        """Whether held-out robots have several streams."""
        return len(self.robots.held_out()) < REPORTED

    @property
    def reports_all(self) -> bool:
        """Whether tables report on all held-out tasks."""
        return self.few or bool(getattr(self.robots, "reports_all", False))

    @property
    def reported(self) -> int:
        """Number of held-out tasks that tables report on."""
        return HELD_OUT if self.few else int(getattr(self.robots, "reported", REPORTED))

    def _tasks(self, robots: Sequence[Task], segments: Sequence[int]) -> list[Task]:
        pairs = zip(robots, segments, strict=True)
        return [Task.of(self.family, **dict(robot.parameters), segment=segment) for robot, segment in pairs]

    def robot(self, task: Task) -> tuple[Task, int]:
        """The task of the family of environments, and the number of the stream."""
        values = tuple(pair for pair in task.parameters if pair[0] != SEGMENT.name)
        return Task(self.robots.family, values), int(task[SEGMENT.name][0])

    def sample(self, n: int, rng: np.random.Generator) -> list[Task]:
        """Draws `n` training tasks."""
        return self._tasks(self.robots.sample(n, rng), rng.integers(SEGMENTS, size=n).tolist())

    def train_tasks(self, n: int) -> list[Task]:
        """The first `n` training tasks, one of each robot in turn, the same at every call."""
        return self._in_turn(self.robots.train_tasks(n), n)

    def _in_turn(self, robots: Sequence[Task], n: int) -> list[Task]:
        numbers = range(min(n, len(robots) * SEGMENTS))
        return self._tasks([robots[i % len(robots)] for i in numbers], [i // len(robots) for i in numbers])

    def held_out(self, n: int | None = None) -> list[Task]:
        """The first `n` held-out tasks (all by default), one of each robot in turn."""
        robots = self.robots.held_out()
        most = HELD_OUT if self.few else len(robots)
        return self._in_turn(robots, most if n is None else min(n, most))


@dataclass(frozen=True)
class DrawnSegmentTasks(SegmentTasks):
    """`SegmentTasks` of robots that are drawn from a range."""

    def with_finite_set(self, size: int) -> DrawnSegmentTasks:
        """The same distribution, its robots drawn from a fixed set of `size`."""
        return replace(self, robots=cast(DrawnTasks, self.robots).with_finite_set(size))


@dataclass(frozen=True)
class RobotTransitions:
    """The source of the examples.

    Args:
        envs: The family of environments.
        tasks: The distribution of the few-shot tasks.
    """

    envs: Family
    tasks: SegmentTasks

    @cached_property
    def streams(self) -> RobotStreams:
        """The transitions of all robots."""
        return RobotStreams(self.envs)

    @property
    def span(self) -> int:
        """Steps of a stream."""
        return min(self.envs.horizon, SPAN)

    @cached_property
    def scaling(self) -> tuple[Scaling, Scaling]:
        """Normalisation of inputs and of outputs."""
        units = self.envs.spaces().observation_units
        robots = [self.tasks.robot(task) for task in self.tasks.train_tasks(STATISTICS)]
        found = self.streams.read([(*robot, self.span) for robot in robots])
        x, y = (np.concatenate(parts) for parts in zip(*found, strict=True))
        size = y.shape[1]
        return Scaling(x, (*units, *("",) * (x.shape[1] - size)) if units else ()), Scaling(y, units)

    def draw(self, tasks: Sequence[Task], shots: int, queries: int, rng: np.random.Generator) -> tuple[Shots, Shots]:
        """See `metarl.few_shot.family.Draw`. The transitions of a task begin at a random step of its stream."""
        count = shots + queries
        steps = max(count, self.span)
        found = self.streams.read([(*self.tasks.robot(task), steps) for task in tasks])
        starts = rng.integers(steps - count + 1, size=len(tasks)).tolist()
        pieces = [tuple(part[at : at + count] for part in stream) for stream, at in zip(found, starts, strict=True)]
        x, y = (
            scale(np.stack(parts))[:, None]
            for scale, parts in zip(self.scaling, zip(*pieces, strict=True), strict=True)
        )
        both = Shots(x, y)
        return both.first(shots), Shots(both.x[:, :, shots:], both.y[:, :, shots:])


def robot_dynamics(argument: str = "") -> FewShotFamily:
    """Regression of a robot's next transitions, `robot-dynamics:FAMILY`; options shots=32,queries=32.

    Robots are held out. FAMILY is a family of environments, such as `half-cheetah-crippled`.

    Raises:
        ValueError: The argument names no family of environments with continuous actions, or an option is unknown.
    """
    subject, options = few_shot_options(NAME, argument, shots=32, queries=32)
    robots = _robots(subject)
    sizes = robots.spaces()
    if sizes.choices:
        raise ValueError(
            f"family {NAME!r}: got {subject!r}, which has {sizes.choices} discrete actions, expected a family with "
            "continuous actions, such as half-cheetah-crippled"
        )
    name = f"{NAME}:{subject}"
    kind = DrawnSegmentTasks if isinstance(robots.distribution, DrawnTasks) else SegmentTasks
    distribution = kind(name, robots.distribution)
    size = sizes.observation_size
    return FewShotFamily(
        name=name,
        summary=f"next transitions of a robot of {subject} from earlier ones",
        distribution=distribution,
        spaces=ShotSpaces(x_shape=(size + sizes.action_size,), y_size=size, classification=False, **options),
        draw=RobotTransitions(robots, distribution).draw,
    )


def _robots(subject: str) -> Family:
    """The family of environments of that name."""
    said = f"family {NAME!r}: got {subject!r}, expected {NAME}:FAMILY such as {NAME}:half-cheetah-crippled"
    name, _, rest = subject.partition(",")
    if not subject or name.partition(":")[0] in names(FEW_SHOT_FAMILIES):
        raise ValueError(f"{said}, a family of environments; see metarl list")
    if rest and ":" not in name:
        raise ValueError(f"family {NAME!r}: got option {rest!r}, expected shots=INT >= 1 or queries=INT >= 1")
    if is_own_code(subject):
        raise ValueError(f"{said}, a registered family; it cannot name code of your own")
    return make_family(subject)
