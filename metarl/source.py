"""Source of a run's experience and evaluations: `EpisodeSource` plays episodes of a family."""

from __future__ import annotations

from typing import Any, Protocol

from metarl.agent import MetaAgent
from metarl.curves import success_rates
from metarl.evaluation import evaluate
from metarl.runs import RunConfig
from metarl.sampling import Sampler
from metarl.seeding import Streams
from metarl.tasks import Family, TaskDistribution, split_tasks
from metarl.types import Progress
from metarl.workers.blocks import BlockSampler
from metarl.workers.choice import WorkerChoice, make_player


class Source(Protocol):
    """Experience of a run, and its evaluations.

    Attributes:
        distribution: Source of the training tasks.
        sampler: Collects the experience.
        in_words: One line on who samples; may be empty.
        score: Name of the score of each collect, as in the metrics `SCORE/k`.
        counted: Name of the things that `Progress.env_steps` counts.
    """

    @property
    def distribution(self) -> TaskDistribution:
        """See the attributes."""
        ...

    @property
    def sampler(self) -> Sampler[Any]:
        """See the attributes."""
        ...

    @property
    def in_words(self) -> str:
        """See the attributes."""
        ...

    @property
    def score(self) -> str:
        """See the attributes."""
        ...

    @property
    def counted(self) -> str:
        """See the attributes."""
        ...

    def evaluate(self, agent: MetaAgent[Any], progress: Progress) -> dict[str, float]:
        """Metrics of an evaluation on the tuning tasks, `evaluation/SCORE/k` among them."""
        ...

    def close(self) -> None:
        """Releases processes and environments."""
        ...


class EpisodeSource:
    """Episodes of a family, played by workers.

    Args:
        run: The configuration.
        family: The family.
        workers: Who plays the episodes.
    """

    score, counted = "return", "env steps"

    def __init__(self, run: RunConfig, family: Family, workers: WorkerChoice) -> None:
        config = run.training
        self._run, self._family, self.distribution = run, family, family.distribution
        self._player = make_player(workers, family, run.family, config.blocks, most_blocks(run))
        self.sampler = BlockSampler(self._player, config.tasks, config.episodes, run.spaces.horizon, config.blocks)
        self.in_words = workers.in_words(config.blocks, most_blocks(run))

    def evaluate(self, agent: MetaAgent[Any], progress: Progress) -> dict[str, float]:
        """Mean return and success rates over the tuning tasks at each point of the adaptation curve."""
        run, config = self._run, self._run.training
        result = evaluate(
            agent,
            self._family,
            split_tasks(self.distribution, "tune", config.eval_tasks),
            Streams.for_evaluation(config.seed, progress.iteration),
            episodes=config.episodes,
            horizon=run.spaces.horizon,
            block_tasks=run.block_tasks,
            player=self._player,
            diverged_limit=1.0,  # a policy in training may still learn to avoid divergence
        )
        metrics = {f"evaluation/return/{k}": float(v) for k, v in enumerate(result.returns.mean(axis=(0, 2)))}
        for name, rates in (("success_last", success_rates(result, "last")), ("success", success_rates(result))):
            metrics |= {f"evaluation/{name}/{k}": rate for k, rate in enumerate(rates) if rate is not None}
        return metrics | {"evaluation/diverged_episodes": float(result.diverged_episodes)}

    def close(self) -> None:
        """Ends the workers."""
        self._player.close()


def most_blocks(run: RunConfig) -> int:
    """Largest number of blocks in a collect of the training or of its evaluations: more workers have no work."""
    config = run.training
    return max(config.blocks, -(-config.eval_tasks // run.block_tasks) if config.eval_every else 1)
