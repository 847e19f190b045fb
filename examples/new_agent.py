"""A complete agent of one's own, in one file outside the package: evolution strategies, meta-learned as by Reptile.

Train it with `metarl train new_agent:Evolver point-robot --out runs/evolver`, in the folder of this file, and evaluate
it with `metarl evaluate runs/evolver --agent new_agent:Evolver`.

Each episode is played with its own perturbation of a task's linear policy. Adaptation moves the policy along the
perturbations, weighted by their standardised returns (Salimans et al. 2017, arXiv:1703.03864). The meta-update moves
the initial policy toward the mean of the adapted ones (Nichol et al. 2018, arXiv:1803.02999).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from metarl.agent import MetaAgent
from metarl.config import Positive, Rounds, UnitInterval
from metarl.storage import write_tensors
from metarl.types import Action


@dataclass(frozen=True, kw_only=True)
class EvolverConfig:
    """Settings of the evolver; their ranges are checked, and `--help` shows their docstrings."""

    adaptation_steps: Rounds = 1
    """Adaptation steps, each after a collect."""
    noise: Positive = 0.02
    """Standard deviation of the perturbations."""
    inner_lr: Positive = 3.0
    """Step size of adaptation, relative to `noise`."""
    outer_lr: UnitInterval = 0.3
    """Share of the way to the mean of the adapted policies."""


@dataclass(frozen=True)
class Policies:
    """A linear policy per task, and the perturbation of each episode."""

    weights: np.ndarray  # [M, A, O + 1]
    noise: np.ndarray  # [M, E, A, O + 1]

    def tasks(self, part):
        """The state of some tasks."""
        return Policies(self.weights[part], self.noise[part])

    @classmethod
    def join(cls, parts):
        """The state of all tasks of the parts."""
        return cls(np.concatenate([p.weights for p in parts]), np.concatenate([p.noise for p in parts]))


class Evolver(MetaAgent[Policies]):
    """Evolution strategies as a `metarl.agent.MetaAgent`."""

    Config = EvolverConfig
    summary = "perturbs a linear policy and keeps what earned more"
    default_settings = {"tasks": 10, "episodes": 20}  # noqa: RUF012  # where to start on any family

    def __init__(self, config, spaces, *, device, rng):
        if spaces.choices:
            raise ValueError("evolver: got discrete actions, expected continuous ones")
        self.config, self.spaces = config, spaces
        self._weights = np.zeros((spaces.action_size, spaces.observation_size + 1))
        self.recorded = {"noise": self._weights.shape}

    @property
    def adaptation_steps(self):
        """`K`."""
        return self.config.adaptation_steps

    def episodes_per_adaptation(self, episodes):
        """One step pools all episodes of a task."""
        return episodes

    def begin(self, tasks, episodes):
        """Every task starts from the meta-learned policy."""
        shape = (len(tasks), *self._weights.shape)
        return Policies(np.broadcast_to(self._weights, shape), np.zeros((shape[0], episodes, *shape[1:])))

    def act(self, state, step, rng, mode=False):
        """Draws a perturbation at the first step of an episode, and keeps it to the end."""
        drawn = rng.normal(scale=0.0 if mode else self.config.noise, size=state.noise.shape)
        noise = np.where(step.first[..., None, None], drawn, state.noise)
        inputs = np.concatenate([step.observation, np.ones_like(step.observation[..., :1])], axis=-1)
        output = np.einsum("meai,mei->mea", state.weights[:, None] + noise, inputs)
        actions = np.clip(output, self.spaces.action_low, self.spaces.action_high).astype(np.float32)
        return Action(actions, extras={"noise": noise.astype(np.float32)}), replace(state, noise=noise)

    def adapt(self, state, trajectories):
        """One step of evolution strategies per task."""
        return replace(state, weights=self._evolved(state.weights, trajectories))

    def _evolved(self, weights, trajectories):
        returns, noise = trajectories.returns(), trajectories.extras["noise"][:, :, 0]
        standard = (returns - returns.mean(axis=1, keepdims=True)) / (returns.std(axis=1, keepdims=True) + 1e-8)
        return weights + self.config.inner_lr * np.einsum("me,meai->mai", standard, noise) / returns.shape[1]

    def meta_update(self, batch):
        """Moves the initial policy toward the mean of the policies after one more step on the last collect."""
        weights = np.broadcast_to(self._weights, (len(batch.tasks), *self._weights.shape))
        for trajectories in batch.collects:
            weights = self._evolved(weights, trajectories)
        step = self.config.outer_lr * (weights.mean(axis=0) - self._weights)
        self._weights = self._weights + step
        return {"update/step_norm": float(np.linalg.norm(step))}

    def tensors(self):
        """Arrays that training changes."""
        return {"weights": torch.from_numpy(self._weights.copy())}

    def counters(self):
        """Nothing else."""
        return {}

    def restore(self, tensors, counters):
        """Takes back `tensors`."""
        if tensors["weights"].shape != self._weights.shape:
            raise ValueError(f"weights: got {tuple(tensors['weights'].shape)}, expected {self._weights.shape}")
        self._weights = tensors["weights"].numpy().copy()

    def save_policy(self, state, path, task=0):
        """Writes the adapted policy of a task."""
        write_tensors(path, {"weights": torch.from_numpy(state.weights[task].copy())}, {"agent": "evolver"})
