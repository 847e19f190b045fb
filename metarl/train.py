"""`meta_train`: the one loop that trains every agent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from metarl.agent import MetaAgent
from metarl.checkpoint import Progress
from metarl.config import Count, Rows, RowsOrOwn, Seed, Whole
from metarl.finite import check_finite, learned, naming
from metarl.rollout import collect_adapting
from metarl.seeding import Streams
from metarl.tasks import TaskDistribution
from metarl.types import MetaBatch, with_known_success
from metarl.vector import TaskVecEnv


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a run that do not belong to its agent."""

    seed: Seed = 0
    """Seed of everything random in the run."""
    iterations: Count = 100
    """Meta-updates to make in all; a resumed run may raise it."""
    tasks: Rows = 20
    """Tasks of a meta-batch (M); usually 10 to 100."""
    episodes: Rows = 20
    """Environments per task, each one episode per collect (E); usually 2 to 40."""
    horizon: RowsOrOwn = 0
    """Steps of an episode (T); 0 takes the family's own."""
    train_tasks: RowsOrOwn = 0
    """Size of a fixed set that training tasks are drawn from; 0 draws new ones from the whole range."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the agent computes; auto is CUDA where there is one."""
    matmul: Literal["float32", "tf32"] = "float32"
    """How a GPU multiplies matrices: tf32 is faster and keeps 10 bits of each factor's mantissa in place of 23."""
    eval_every: Whole = 10
    """Evaluate every so many iterations; 0 never. A resumed run may change it. The tasks are held out from training,
    but they are not those that `metarl evaluate` reports on: settings may be chosen by these curves."""
    eval_tasks: Rows = 40
    """Tasks of these evaluations."""
    checkpoint_every: Count = 5
    """Save every so many iterations (and at the end)."""
    checkpoints_kept: Count = 2
    """Newest checkpoints to keep; at least two are."""


@dataclass(frozen=True)
class IterationReport:
    """What one iteration did.

    Args:
        progress: The counters after it.
        metrics: Numbers for the log: returns before and after adaptation, times, what the agent reports.
    """

    progress: Progress
    metrics: dict[str, float]


def meta_train(
    agent: MetaAgent[Any],
    envs: TaskVecEnv,
    distribution: TaskDistribution,
    streams: Streams,
    *,
    iterations: int,
    start: Progress | None = None,
) -> Iterator[IterationReport]:
    """Trains an agent and yields after every iteration, when its state is whole and can be saved.

    Args:
        agent: The agent; it changes.
        envs: `M * E` environments of the distribution's family.
        distribution: Where the training tasks come from.
        streams: Source of all random numbers.
        iterations: Meta-updates in all, those before `start` included.
        start: The counters to go on from.

    Raises:
        NotFiniteError: Rewards, actions or parameters are not finite any more; the message names the iteration.
    """
    progress = start or Progress()
    if progress.reports_success:
        envs.reports_success = True
    while progress.iteration < iterations:
        clock = time.perf_counter()
        tasks = distribution.sample(envs.num_tasks, streams.tasks)
        envs.set_tasks(tasks)
        with naming(f"iteration {progress.iteration + 1}"):
            trajectories, _ = collect_adapting(envs, agent, agent.begin(tasks, envs.episodes), streams)
            sampled = time.perf_counter()
            batch = MetaBatch(tuple(tasks), tuple(trajectories), progress=progress.iteration / iterations)
            with torch.enable_grad():  # a module of the user's may have switched gradients off for its simulator
                reported = agent.meta_update(batch)
            updated = time.perf_counter()
            check_finite(learned(agent))

        steps = sum(t.env_steps for t in trajectories)
        progress = Progress(progress.iteration + 1, progress.env_steps + steps, envs.reports_success)
        metrics = {f"return/{k}": float(t.returns().mean()) for k, t in enumerate(trajectories)}
        for k, t in enumerate(with_known_success(trajectories)):
            for name, successes in (("success", t.successes()), ("success_last", t.last_step_successes())):
                if successes is not None:
                    metrics[f"{name}/{k}"] = float(successes.mean())
        metrics["diverged_episodes"] = float(sum(t.diverged.sum() for t in trajectories))
        metrics |= {"time/sample_s": sampled - clock, "time/update_s": updated - sampled, **reported}
        yield IterationReport(progress, metrics)
