"""Serves `tools/side_by_side.py`: times one checkout of metarl, in a process of its own.

It imports metarl from the checkout that PYTHONPATH names, and adapts to its version: commits before blocks of tasks
sample by `collect_adapting` in one process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

RANDOM = "random"
"""Name of the agent that acts at random and learns nothing."""
NOT_SLOWER = 0.97
"""Least ratio where no gain is asked for."""


@dataclass(frozen=True)
class Case:
    """A measurement.

    Args:
        agent: Agent with its preset, or `random`.
        family: Family.
        tasks: `M`; 0 for the preset's number.
        episodes: `E`; 0 for the preset's number.
        horizon: `T`; 0 for the preset's number.
        sampling: Least ratio of the speeds of sampling.
        iteration: Least ratio of the speeds of whole iterations.
        learning: Least ratio of the speeds of updates.
        of_limit: Least fraction of the physics limit; 0 does not measure it.
        update: Measure updates and whole iterations, not only sampling.
    """

    agent: str
    family: str
    tasks: int = 0
    episodes: int = 0
    horizon: int = 0
    sampling: float = NOT_SLOWER
    iteration: float = NOT_SLOWER
    learning: float = NOT_SLOWER
    of_limit: float = 0.0
    update: bool = True

    @classmethod
    def read(cls, text: str) -> Case:
        """Reads `AGENT,FAMILY` or `AGENT,FAMILY,TASKSxEPISODESxHORIZON`.

        Raises:
            ValueError: The text has another form.
        """
        form = re.fullmatch(r"([^,]+),([^,]+)(?:,(\d+)x(\d+)x(\d+))?", text)
        if form is None:
            raise ValueError(
                f"--cases: got {text!r}, expected the name of a set, AGENT,FAMILY, or "
                "AGENT,FAMILY,TASKSxEPISODESxHORIZON"
            )
        agent, family, *sizes = form.groups()
        return cls(agent, family, *(int(size or 0) for size in sizes))


class Contender(Protocol):
    """An agent with its environments, in one version of metarl."""

    def sizes(self) -> list[int]:
        """`M`, `E` and `T`."""
        ...

    def play(self, agent: Any) -> tuple[Any, list[Any]]:
        """The tasks of a new meta-batch, and the trajectories of all its collects."""
        ...

    def close(self) -> None:
        """Closes environments and processes."""
        ...


class ClockedAgent:
    """An agent with a clock on `adapt`; everything else is the agent's own.

    Args:
        agent: The agent.

    Attributes:
        seconds: Seconds of `adapt` so far.
    """

    def __init__(self, agent: Any) -> None:
        self._agent, self.seconds = agent, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def adapt(self, state: Any, trajectories: Any) -> Any:
        """The agent's, with its time."""
        clock = time.perf_counter()
        state = self._agent.adapt(state, trajectories)
        _finish()
        self.seconds += time.perf_counter() - clock
        return state


class RandomActor:
    """Acts at random in one process, for versions without blocks of tasks.

    Args:
        spaces: Sizes and action bounds.
    """

    adaptation_steps = 0

    def __init__(self, spaces: Any) -> None:
        self._low, self._high = spaces.action_low, spaces.action_high

    def begin(self, tasks: Sequence[Any], episodes: int) -> None:
        """No state."""

    def act(self, state: None, step: Any, rng: Any) -> tuple[Any, None]:
        """Random actions for all rows."""
        action = importlib.import_module("metarl.types").Action
        return action(rng.uniform(self._low, self._high, (*step.first.shape, len(self._low)))), state


class InOneProcess:
    """Sampling by `collect_adapting`, in versions without blocks of tasks."""

    def __init__(self, family: Any, spec: str, sizes: Sequence[int], streams: Any, workers: str) -> None:
        self._family, self._streams, self._sizes = family, streams, list(sizes)
        self._collect = importlib.import_module("metarl.rollout").collect_adapting
        self._envs = family.make_envs(*sizes)
        self.spaces = self._envs.spaces

    def sizes(self) -> list[int]:
        """See `Contender`."""
        return self._sizes

    def play(self, agent: Any) -> tuple[Any, list[Any]]:
        """See `Contender`."""
        tasks = self._family.distribution.sample(self._envs.num_tasks, self._streams.tasks)
        self._envs.set_tasks(tasks)
        state = agent.begin(tasks, self._envs.episodes)
        return tasks, self._collect(self._envs, agent, state, self._streams)[0]

    def close(self) -> None:
        """See `Contender`."""
        self._envs.close()


class InBlocks:
    """Sampling by blocks of tasks and workers."""

    def __init__(self, family: Any, spec: str, sizes: Sequence[int], streams: Any, workers: str) -> None:
        blocks, choice = (importlib.import_module(f"metarl.workers.{name}") for name in ("blocks", "choice"))
        self._collects = importlib.import_module("metarl.sampling").collects
        self._family, self._streams, self._sizes = family, streams, list(sizes)
        cores = importlib.import_module("metarl.vector").available_cores()
        count = blocks.default_blocks(sizes[0], cores)
        asked = choice.read_workers(workers)
        self._wanted = asked.number(count)
        # Started now, not when it pays: the warm-up waits for them.
        self._player = choice.make_player(dataclasses.replace(asked, count=self._wanted), family, spec, count)
        self._sampler = blocks.BlockSampler(self._player, *sizes, count)
        self.spaces = family.spaces(sizes[2])

    @property
    def ready(self) -> bool:
        """Whether all workers have started."""
        return getattr(self._player, "num_ready", self._wanted) >= self._wanted

    def sizes(self) -> list[int]:
        """See `Contender`."""
        return self._sizes

    def play(self, agent: Any) -> tuple[Any, list[Any]]:
        """See `Contender`."""
        tasks = self._family.distribution.sample(self._sizes[0], self._streams.tasks)
        self._sampler.set_tasks(tasks)
        state = agent.begin(tasks, self._sizes[1])
        return tasks, [played for played, _ in self._collects(self._sampler, agent, state, self._streams.next())]

    def close(self) -> None:
        """See `Contender`."""
        self._player.close()


def _finish() -> None:
    """Waits for the GPU, if there is one."""
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _agent(case: Case, config: Any, spaces: Any, device: Any, rng: Any) -> Any:
    """The agent, built as its version builds it."""
    if case.agent == RANDOM:
        with contextlib.suppress(ImportError):
            return importlib.import_module("metarl.scripts.bench.sampling").RandomActor(spaces)
        return RandomActor(spaces)
    kind = importlib.import_module("metarl.registry").agent_class(case.agent)
    if "warmup_iterations" in {field.name for field in dataclasses.fields(config)}:
        config = dataclasses.replace(config, warmup_iterations=0)  # iterations with an update
    return getattr(kind, "build", kind)(config, spaces, device=device, rng=rng)


class Measured:
    """A case in this process: `iterate` times one iteration.

    Args:
        case: The case.
        device: Device of networks and updates.
        workers: Value of `--workers`, for versions that have workers.
    """

    def __init__(self, case: Case, device: str, workers: str) -> None:
        presets, registry = (importlib.import_module(f"metarl.{name}") for name in ("scripts.presets", "registry"))
        streams = importlib.import_module("metarl.seeding").Streams(0)
        training, config = presets.default_settings("maml-trpo" if case.agent == RANDOM else case.agent, case.family)
        family = registry.make_family(case.family).with_finite_train_set(training.train_tasks)
        sizes = (
            case.tasks or training.tasks,
            case.episodes or training.episodes,
            case.horizon or training.horizon or family.horizon,
        )
        kind: Any = InBlocks if importlib.util.find_spec("metarl.workers") else InOneProcess
        self._case, self.sampler = case, kind(family, case.family, sizes, streams, workers)
        runs = importlib.import_module("metarl.runs")
        on = runs.resolve_device(device)
        runs.use_matmul("float32", on)
        self._agent = _agent(case, config, self.sampler.spaces, on, streams.learner)
        while True:
            self.iterate()
            if getattr(self.sampler, "ready", True):
                break

    def iterate(self) -> dict[str, Any]:
        """Seconds of sampling without adaptation, of the update and of the iteration, and environment steps."""
        agent = self._agent if self._case.agent == RANDOM else ClockedAgent(self._agent)
        begun = time.perf_counter()
        tasks, played = self.sampler.play(agent)
        sampled = time.perf_counter()
        if self._case.update and self._case.agent != RANDOM:
            batch = importlib.import_module("metarl.types").MetaBatch
            self._agent.meta_update(batch(tuple(tasks), tuple(played)))
            _finish()
        return {
            "sampling": sampled - begun - getattr(agent, "seconds", 0.0),
            "update": time.perf_counter() - sampled,
            "iteration": time.perf_counter() - begun,
            "env_steps": sum(one.env_steps for one in played),
            "sizes": self.sampler.sizes(),
        }

    def limit(self) -> float:
        """Environment steps per second of the physics alone, by this version's benchmark."""
        physics, choice = (
            importlib.import_module(f"metarl.{name}") for name in ("scripts.bench.physics", "workers.choice")
        )
        family, (tasks, episodes, horizon) = self.sampler._family, self.sampler.sizes()
        drawn = family.distribution.train_tasks(tasks)
        envs = choice.NamedEnvs(self._case.family, family.stepping)
        with contextlib.closing(physics.PhysicsLimit(envs, drawn, episodes, horizon)) as limit:
            return statistics.median(limit.steps_per_second() for _ in range(3))


def serve() -> None:
    """Answers requests, a line of JSON each; the main function of a checkout's process."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else is printed there
    # An editable installation would find modules of its own checkout that this one lacks.
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith("__editable__")
    ]
    with contextlib.suppress(ImportError):
        importlib.import_module("metarl.learning.memory").keep_freed_memory()
    with contextlib.suppress(ImportError, AttributeError):
        importlib.import_module("metarl.learning.device.process").keep_freed_memory()
    measured: Measured | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if measured is None:
            measured = Measured(Case(**request["case"]), request["device"], request["workers"])
            answer: Any = None
        else:
            answer = getattr(measured, request["do"])()
        print(json.dumps(answer), file=answers, flush=True)
    if measured is not None:
        measured.sampler.close()


if __name__ == "__main__":
    serve()
