"""`meta_train`: the training loop of every agent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from metarl.agent import MetaAgent
from metarl.finite import check_finite, learned, naming
from metarl.sampling import Sampler, collects
from metarl.seeding import Streams
from metarl.tasks import TaskDistribution
from metarl.types import MetaBatch, Progress


@dataclass(frozen=True)
class IterationReport:
    """Result of one iteration.

    Args:
        progress: The counters after the iteration.
        metrics: Returns before and after adaptation, seconds, and the metrics of the agent.
    """

    progress: Progress
    metrics: dict[str, float]


def meta_train(
    agent: MetaAgent[Any],
    sampler: Sampler[Any],
    distribution: TaskDistribution,
    streams: Streams,
    *,
    iterations: int,
    start: Progress | None = None,
) -> Iterator[IterationReport]:
    """Trains an agent; yields after every iteration; the agent can then be saved.

    Args:
        agent: The agent, which is changed.
        sampler: Source of the experience of `M` tasks with `E` environments each: `LocalSampler(envs)` in this process.
        distribution: Source of the training tasks.
        streams: Source of all random numbers.
        iterations: Total meta-updates, including those before `start`.
        start: Counters of a run to resume; None starts a new one.

    Raises:
        NotFiniteError: Rewards, actions or parameters are not finite; the message names the iteration.
    """
    progress = start or Progress()
    if progress.reports_success:
        sampler.reports_success = True
    while progress.iteration < iterations:
        clock = time.perf_counter()
        tasks = distribution.sample(sampler.num_tasks, streams.tasks)
        sampler.set_tasks(tasks)
        with naming(f"iteration {progress.iteration + 1}"):
            done = progress.iteration / iterations
            state = agent.begin_training(tasks, sampler.episodes, done)
            trial = collects(sampler, agent, state, streams.child(progress.iteration))
            experience = [collected for collected, _ in trial]
            sampled = time.perf_counter()
            batch = MetaBatch(tuple(tasks), tuple(experience), progress=done)
            with torch.enable_grad():  # user code may have disabled gradients for its simulator
                reported = agent.meta_update(batch)
            updated = time.perf_counter()
            check_finite(learned(agent))

        steps = progress.env_steps + sum(collected.env_steps for collected in experience)
        progress = Progress(progress.iteration + 1, steps, sampler.reports_success)
        metrics = type(experience[0]).metrics(experience)
        metrics |= {"time/sample_s": sampled - clock, "time/update_s": updated - sampled, **reported}
        yield IterationReport(progress, metrics)
