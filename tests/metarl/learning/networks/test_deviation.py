"""Mean and deviation of the policy, for every agent that is trained by PPO."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.ppo.learner import PpoSettings
from metarl.registry import AGENTS, agent_class, names
from metarl.rollout import TrajectoryBuilder
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.types import MetaBatch, Progress, Spaces, Task, TaskParameter, Trajectories

PPO_AGENTS = [name for name in names(AGENTS) if issubclass(agent_class(name).Config, PpoSettings)]
SMALL: dict[str, dict[str, Any]] = {
    "rl2": {"units": 6, "encoder": (5,), "episodes_per_trial": 2},
    "varibad": {
        "units": 6,
        "encoder": (5,),
        "hidden": (7,),
        "decoder": (6,),
        "episodes_per_trial": 2,
        "vae_updates": 1,
    },
    "rma": {"units": 6, "hidden": (7,), "task_hidden": (5,)},
    "multitask": {"hidden": (5,)},
    "oracle": {"hidden": (5,)},
}
M, E = 3, 8
LENGTHS = np.full((2, M, E), 5)
PLAIN = {"gamma": 0.0, "gae_lambda": 0.0, "learning_rate": 0.02, "minibatches": 1, "entropy_weight": 0.0}
"""Each step for itself, so that nothing but its own noise is paid for."""
Play = Callable[..., list[Trajectories]]


@pytest.fixture(params=PPO_AGENTS)
def name(request) -> str:
    return request.param


def make(name: str, spaces: Spaces, seed: int = 0, **settings: Any) -> Any:
    kind, spaces = agent_class(name), replace(spaces, task_parameters=(TaskParameter("number", 1),))
    config = kind.Config(**{**SMALL[name], **settings})
    return kind(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))


def batch(agent: Any, play: Play, seed: int, price: float = 0.0) -> MetaBatch:
    """Episodes of whole length; rewards are `price` for each nat that the action was improbable, or random.

    The log-probability falls with the square of the noise, whatever the mean: only the deviation can earn more, a
    larger one if the price is above 0, else a smaller one.
    """
    trajectories = play(agent, LENGTHS[: agent.adaptation_steps + 1], seed=seed)
    if price:
        trajectories = [replace(t, rewards=-price * t.extras["log_prob"]) for t in trajectories]
    return MetaBatch(tuple(Task.of("noise", number=i) for i in range(M)), tuple(trajectories))


def spread(agent: Any) -> np.ndarray:
    """Standard deviation of each component."""
    return agent.tensors()["parameters.policy.log_std"].exp().numpy()


def test_there_are_five() -> None:
    assert set(SMALL) <= set(PPO_AGENTS)


@pytest.mark.parametrize("start", [0.02, 0.2], ids=["below the floor", "at the floor"])
def test_a_deviation_restored_at_or_below_its_floor_grows_when_that_pays(
    name: str, spaces: Spaces, play: Play, start: float
) -> None:
    agent = make(name, spaces, min_std=0.2, **PLAIN)
    log_std = torch.full((2,), math.log(start))
    agent.restore({**agent.tensors(), "parameters.policy.log_std": log_std}, agent.counters())
    assert spread(agent) == pytest.approx(0.2)
    assert log_std.exp().tolist() == pytest.approx([start] * 2), "what was handed over is left as it was"
    for seed in range(3):
        report = agent.meta_update(batch(agent, play, seed, 1.0))
    assert (spread(agent) > 0.22).all()
    assert report["policy/std"] == pytest.approx(spread(agent).mean())


def test_a_deviation_that_was_pressed_on_its_floor_comes_back(name: str, spaces: Spaces, play: Play) -> None:
    agent = make(name, spaces, init_std=0.21, min_std=0.2, **PLAIN)
    for seed in range(4):
        agent.meta_update(batch(agent, play, seed, -1.0))
        assert (spread(agent) >= 0.2 - 1e-6).all()
    assert spread(agent) == pytest.approx(0.2)
    for seed in range(8):
        agent.meta_update(batch(agent, play, seed, 1.0))
    assert (spread(agent) > 0.22).all()


def test_a_deviation_that_was_pressed_on_its_upper_bound_comes_back(name: str, spaces: Spaces, play: Play) -> None:
    agent = make(name, spaces, init_std=1.45, max_std=1.5, **PLAIN)
    for seed in range(4):
        agent.meta_update(batch(agent, play, seed, 1.0))
        assert (spread(agent) <= 1.5 + 1e-6).all()
    assert spread(agent) == pytest.approx(1.5)
    for seed in range(8):
        agent.meta_update(batch(agent, play, seed, -1.0))
    assert (spread(agent) < 1.4).all()


PER_STATE = {"std": "state", "mean": "tanh", "min_std": 0.5, "max_std": 1.5, "action_scale": 2.0}


def moved(agent: Any) -> Any:
    """The agent with its policy's weights away from their small start."""
    tensors, generator = agent.tensors(), torch.Generator().manual_seed(3)
    shaken = {
        key: t + 0.7 * torch.randn(t.shape, generator=generator) if key.startswith("parameters.policy.") else t
        for key, t in tensors.items()
    }
    agent.restore(shaken, agent.counters())
    return agent


def test_a_deviation_per_state_is_learnt_from_what_was_acted_with(name: str, spaces: Spaces, play: Play) -> None:
    """One epoch of one minibatch: the policy that learns is still the one that acted, and nothing diverges."""
    agent = moved(make(name, spaces, epochs=1, minibatches=1, **PER_STATE))
    before = agent.tensors()
    report = agent.meta_update(batch(agent, play, 0))
    assert report["update/kl"] == pytest.approx(0.0, abs=1e-9)
    assert 0.5 < report["policy/std"] < 1.5
    for key in ("deviation.weight", "deviation.bias", "output.weight"):
        assert not torch.equal(agent.tensors()[f"parameters.policy.{key}"], before[f"parameters.policy.{key}"])
    assert "parameters.policy.log_std" not in before


def test_with_a_deviation_per_state_it_goes_on_bit_for_bit(name: str, spaces, play: Play, tmp_path: Path) -> None:
    agent, twin = make(name, spaces, **PER_STATE), make(name, spaces, 5, **PER_STATE)
    agent.meta_update(batch(agent, play, 0))
    save_checkpoint(tmp_path, agent, Streams(0), Progress(1, 1), keep=2)
    load_newest(tmp_path, twin)
    for one in (agent, twin):
        one.meta_update(batch(one, play, 1))
    assert agent.counters() == twin.counters()
    assert all(torch.equal(t, twin.tensors()[key]) for key, t in agent.tensors().items())


def head_by_numpy(w: dict[str, np.ndarray], about: dict[str, Any], h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of an exported policy for features `[..., H]`, as the pages of the agents say."""
    mean = h @ w["network.policy.output.weight"].T + w["network.policy.output.bias"]
    if about["mean"] == "tanh":
        mean = about["action_scale"] * np.tanh(mean)
    if about["std"] == "shared":
        return mean, np.exp(w["network.policy.log_std"])
    x = h @ w["network.policy.deviation.weight"].T + w["network.policy.deviation.bias"]
    low = np.log(about["min_std"])
    if not about["max_std"]:
        return mean, np.exp(low + np.log1p(np.exp(x)))
    high = np.log(about["max_std"])
    return mean, np.exp((high + low) / 2 + (high - low) / 2 * x / (1 + np.abs(x)))


@pytest.mark.parametrize(
    "settings",
    [{"min_std": 1.2}, PER_STATE, {"std": "state", "min_std": 0.3}, {"mean": "tanh", "max_std": 0.7}],
    ids=["shared, at its floor", "per state, tanh", "per state, from below", "tanh, at its upper bound"],
)
def test_an_exported_policy_says_how_its_distribution_is_computed(
    name: str, spaces: Spaces, tmp_path: Path, settings: dict[str, Any]
) -> None:
    agent = moved(make(name, spaces, **settings))
    seen: list[Any] = []
    head = agent.network.policy.step
    agent.network.policy.step = lambda features: (seen.append((features.copy(), head(features))), seen[-1][1])[1]
    state = agent.begin([Task.of("noise", number=1)], E)
    rng = np.random.default_rng(0)
    step = TrajectoryBuilder(1, E, spaces, rng.standard_normal((1, E, 3))).step
    _, state = agent.act(state, step, rng)
    agent.save_policy(state, tmp_path / "policy.safetensors")
    tensors, about = read_tensors(tmp_path / "policy.safetensors")
    (features, ours), *_ = seen
    mean, std = head_by_numpy({key: t.numpy() for key, t in tensors.items()}, about, features)
    assert mean == pytest.approx(ours.mean.numpy(), abs=1e-5)
    assert np.broadcast_to(std, mean.shape) == pytest.approx(
        ours.log_std.detach().exp().expand_as(ours.mean).numpy(), abs=1e-5
    )
    assert mean.std() > 0.05
    assert about["std"] == settings.get("std", "shared")


def test_it_learns_to_spread_where_that_pays_and_to_hold_still_where_not(play: Play) -> None:
    """Noise is paid for where the observation is above 0 and costs where it is below: one deviation cannot do both."""
    spaces = Spaces(observation_size=1, action_low=(-9.0,), action_high=(9.0,), horizon=5)
    agent = make("multitask", spaces, **{**PLAIN, "std": "state", "min_std": 0.2, "max_std": 2.0})
    tasks = tuple(Task.of("noise", number=i) for i in range(M))
    for seed in range(25):
        (played,) = play(agent, LENGTHS[:1], seed=seed)
        with torch.no_grad():
            acted, _ = agent.network(torch.tensor(played.observations))
        noise = (torch.tensor(played.extras["policy_output"]) - acted.mean) * torch.exp(-acted.log_std)
        rewards = np.sign(played.observations) * noise.numpy() ** 2
        agent.meta_update(MetaBatch(tasks, (replace(played, rewards=rewards[..., 0]),)))
    with torch.no_grad():
        wide, narrow = agent.network(torch.tensor([[1.0], [-1.0]]))[0].log_std[:, 0].exp().tolist()
    assert wide > 1.2
    assert narrow < 0.8
