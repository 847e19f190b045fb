"""Small agents of every kind, and trials in which an exported step has to act as its agent does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.networks.exported.step import PolicyStep
from metarl.registry import agent_class
from metarl.rewards import DeclaredReward
from metarl.rollout import TrajectoryBuilder
from metarl.types import Spaces, Task, TaskParameter

Run = Callable[[Mapping[str, np.ndarray]], tuple[np.ndarray, np.ndarray]]
TOLD = (TaskParameter("goal", 1),)
SPACES = Spaces(3, (-1.0, -np.inf), (3.0, np.inf), 5, task_parameters=TOLD)
BOUNDED = dataclasses.replace(SPACES, action_low=(-1.0, 0.0), action_high=(3.0, 0.5))
SMALL: dict[str, Any] = {"encoder": (6, 5), "encoder_hidden": (6,), "units": 8, "hidden": (5,), "key_size": 3}
SMALL |= {"representation": (4,), "replay_size": 10, "buffer_trials": 4, "normalise_observations": True}
SMALL |= {"plan_steps": 3, "candidates": 12, "rounds": 2, "elites": 3, "past": 3, "future": 1, "window": 3}
TASK = Task.of("a task", goal=0.5)
LENGTHS = (5, 3, 5)
"""Steps of the episodes of a trial, of at most 5."""


def reward(observations: Any, actions: Any, following: Any, task: Any) -> Any:
    """A reward for the agents that plan."""
    return following[..., 0] - 0.1 * (actions * actions).sum(-1)


@pytest.fixture
def build() -> Callable[..., Any]:
    """Builds an agent whose parameters and statistics are all different from their initial values."""

    def build(name: str, spaces: Spaces | None = None, **settings: Any) -> Any:
        kind: Any = agent_class(name)
        plans = getattr(kind, "needs_reward", False)
        known = {f.name for f in dataclasses.fields(kind.Config)}
        config = kind.Config(**{key: value for key, value in {**SMALL, **settings}.items() if key in known})
        bounded = plans or name in ("pearl", "recurrent-sac")
        spaces = dataclasses.replace(spaces or (BOUNDED if bounded else SPACES), reward=DeclaredReward(reward))
        agent = kind(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(1))
        tensors, generator = agent.tensors(), torch.Generator().manual_seed(0)
        for key, t in tensors.items():
            if key.endswith((".count", ".mean")) and "return" not in key:
                tensors[key] = t + 0.5
            elif t.dtype == torch.float32 and not key.startswith(("adam", "buffer", "replay", "context")):
                tensors[key] = t + 0.2 * torch.randn(t.shape, generator=generator)
        agent.restore(tensors, agent.counters())
        agent.iteration = 1  # agents that plan have seen data
        return agent

    return build


class NoNoise:
    """A generator whose normal numbers are zero: PEARL's z is then the mean of its posterior."""

    def standard_normal(self, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
        return np.zeros(shape, np.float32)


def adapted(agent: Any) -> Any:
    """The state of the agent after adaptation to random experience."""
    rng, state = np.random.default_rng(2), agent.begin([TASK], 3)
    for _ in range(agent.adaptation_steps):
        builder = TrajectoryBuilder(1, 3, agent.spaces, rng.standard_normal((1, 3, 3)), agent.recorded)
        while builder.unfinished:
            action, state = agent.act(state, builder.step, rng)
            builder.add(action, rng.standard_normal((1, 3, 3)), rng.standard_normal((1, 3)), False, False)
        state = agent.adapt(state, builder.build())
    return state


@pytest.fixture
def step_of() -> Callable[..., tuple[PolicyStep, Any]]:
    """The step of an agent and the state to compare it with: a fresh one, or an adapted one."""

    def make(agent: Any, sampled: bool = False) -> tuple[PolicyStep, Any]:
        state = agent.begin([TASK], 1)
        step = agent.policy_step(state, sampled=sampled)
        if step.adapts or not agent.adaptation_steps:
            return step.eval(), state
        state = adapted(agent)
        return agent.policy_step(state, sampled=sampled).eval(), state

    return make


@pytest.fixture
def traced() -> Callable[[PolicyStep], Run]:
    """Runs a step by torch, as it is traced."""

    def make(step: PolicyStep) -> Run:
        def run(given: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
            with torch.no_grad():
                outputs: tuple[Tensor, Tensor] = step(*(torch.tensor(given[name]) for name in step.sizes))
            return outputs[0].detach().numpy(), outputs[1].detach().numpy()

        return run

    return make


def noise_for(step: PolicyStep, first: bool, latent: int, rng: Any) -> np.ndarray:
    """The random numbers of a step in the order in which the agent draws them."""
    if step.distribution == "gumbel":
        return rng.gumbel(size=step.noise).astype(np.float32)
    skipped = 0 if first else latent  # z is drawn once per episode
    drawn = rng.standard_normal(step.noise - skipped, dtype=np.float32)
    return np.concatenate([np.zeros(skipped, np.float32), drawn])


@pytest.fixture
def largest_difference() -> Callable[..., float]:
    """Plays a trial of three episodes with the agent's own `act`; the largest difference of the step's actions."""

    def play(agent: Any, step: PolicyStep, state: Any, run: Run, seed: int = 0) -> float:
        rng, spaces = np.random.default_rng(seed), agent.spaces
        theirs, mine = np.random.default_rng(7), np.random.default_rng(7)
        pearl = agent.config.latent if hasattr(agent, "buffers") else 0
        sampled, of_noise = bool(step.noise), NoNoise() if pearl and not step.noise else theirs
        given = {name: np.full(size, 3.0, np.float32) for name, size in step.sizes.items()}  # ignored at the start
        given["memory"], worst = np.zeros_like(given["memory"]), 0.0
        for length in LENGTHS:
            seen = 3 * rng.standard_normal(3).astype(np.float32)
            builder = TrajectoryBuilder(1, 1, spaces, seen, agent.recorded)
            for t in range(length):
                with np.errstate(invalid="ignore"):  # OpenBLAS may raise the flag in products of finite numbers
                    action, state = agent.act(state, builder.step, of_noise, mode=not sampled)
                given["observation"] = seen
                if sampled:
                    given["noise"] = noise_for(step, t == 0, pearl, mine)
                acted, given["memory"] = run(given)
                assert np.isfinite(acted).all()
                assert np.isfinite(action.environment).all()
                worst = max(worst, float(np.abs(acted - action.environment.ravel()).max()))
                seen, earned = 3 * rng.standard_normal(3).astype(np.float32), float(rng.standard_normal())
                builder.add(action, seen, earned, t + 1 == length < 5, t + 1 == length == 5)
                given["previous_action"] = action.environment.ravel().astype(np.float32)
                given["previous_reward"] = np.array([earned], np.float32)
                given["done"] = np.array([t + 1 == length], np.float32)
            if step.adapts:
                episode = builder.build()
                if pearl and agent.config.context_next_observation:  # the observation after an episode is no input
                    mask = episode.mask.copy()
                    mask[:, :, length - 1] = False
                    episode = dataclasses.replace(episode, mask=mask)
                state = agent.adapt(state, episode)
        return worst

    return play
