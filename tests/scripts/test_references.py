"""The plain version of an agent makes the same updates as the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.pearl import Pearl
from metarl.agents.promp import Promp
from metarl.agents.recurrent_sac import RecurrentSac
from metarl.agents.rl2 import Rl2
from metarl.agents.varibad import Varibad
from metarl.scripts.reference.agents import REFERENCES, reference
from metarl.types import MetaBatch, Spaces, Task, Trajectories

LENGTHS = [[[5, 2], [1, 5], [3, 4]], [[4, 5], [5, 1], [5, 5]], [[5, 5], [2, 3], [1, 5]]]
"""Steps of the episodes `[K + 1, M, E]`, horizon 5: many end early."""
TASKS = tuple(Task.of("noise", number=i) for i in range(3))
Play = Callable[..., list[Trajectories]]


def twins(name: str, fast: type, spaces: Spaces, **settings: Any) -> tuple[Any, Any]:
    """An agent with nonzero parameters, and its plain version."""
    agent: Any = fast(fast.Config(**settings), spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    tensors = {
        key: t + 0.3 * torch.randn(t.shape, generator=generator)
        if key.startswith(("parameters", "vae.", "encoder", "policy", "critics", "targets"))
        else t
        for key, t in agent.tensors().items()
    }
    agent.restore(tensors, agent.counters())
    return agent, reference(name)(agent)


def assert_close(got: Mapping[str, Any], expected: Mapping[str, Any], rtol: float, atol: float) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            got[name], value, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


def assert_same_updates(agent: Any, plain: Any, play: Play, lengths: Any = LENGTHS) -> list[dict[str, float]]:
    """Compares checkpoints and metrics of both after two updates from the same experience."""
    reports = []
    for i in range(2):
        start = learnt(agent)
        batch = MetaBatch(TASKS, tuple(play(agent, lengths, seed=i, tasks=list(TASKS))))
        assert not all(t.mask.all() for t in batch.collects), "some episodes end early"
        reports.append(agent.meta_update(batch))
        assert_close(plain.meta_update(batch), reports[-1], rtol=1e-4, atol=1e-5)
        assert_close(learnt(plain), learnt(agent), rtol=1e-5, atol=1e-6)
        assert_close(plain.tensors(), agent.tensors(), rtol=1e-4, atol=1e-5)
        assert plain.counters() == agent.counters()
        still = {name for name, t in learnt(agent).items() if t.equal(start[name])}
        assert still <= {"log_temperature"}
    return reports


def learnt(agent: Any) -> dict[str, torch.Tensor]:
    """Tensors that change by gradient steps."""
    others = (
        "adam",
        "vae_adam",
        "observation_moments",
        "return_moments",
        "belief_moments",
        "buffer",
        "replay",
        "context",
    )
    return {name: t.clone() for name, t in agent.tensors().items() if not name.startswith(others)}


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request: pytest.FixtureRequest, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


@pytest.mark.parametrize(("steps", "min_std"), [(1, 1e-6), (2, 1e-6), (2, 1.0)])
def test_promp(some_spaces: Spaces, play: Play, steps: int, min_std: float) -> None:
    settings = {"hidden": (5, 4), "lr": 0.02, "clip": 0.1, "inner_kl_penalty": 0.5, "normalise_rewards": True}
    agent, plain = twins("promp", Promp, some_spaces, inner_steps=steps, min_std=min_std, **settings)
    for report in assert_same_updates(agent, plain, play, LENGTHS[: steps + 1]):
        assert min(report["update/clipped"], report["update/inner_kl"], report["update/kl"]) > 1e-3
    state, trajectories = agent.begin(TASKS, 2), play(agent, LENGTHS[:1])[0]
    for _ in range(2):  # in the second round each task has its own parameters
        one, other = agent.adapt(state, trajectories), plain.adapt(state, trajectories)
        torch.testing.assert_close(other.parameters, one.parameters)
        assert not other.parameters.requires_grad
        state = one


SEGMENTS = [{}, {"segment_steps": 4}, {"backpropagation_steps": 3}, {"episodes_cut_returns": True}]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("settings", SEGMENTS, ids=["whole trials", "segments", "truncated gradients", "cut"])
def test_rl2(some_spaces: Spaces, play: Play, cell: str, settings: dict[str, int]) -> None:
    small = {"units": 6, "encoder": (5,), "hidden": (4,), "episodes_per_trial": 3, "epochs": 3, "minibatches": 3}
    agent, plain = twins("rl2", Rl2, some_spaces, cell=cell, normalise_observations=True, **small, **settings)
    assert_same_updates(agent, plain, play)
    for one, other in zip(play(agent, LENGTHS, seed=9), play(plain, LENGTHS, seed=9), strict=True):
        assert_close(
            {k: torch.tensor(v) for k, v in other.extras.items()},
            {k: torch.tensor(v) for k, v in one.extras.items()},
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize(("transitions", "cut"), [(0.0, False), (0.7, False), (0.0, True)])
def test_varibad(some_spaces: Spaces, play: Play, transitions: float, cut: bool) -> None:
    small = {"units": 6, "encoder": (5,), "hidden": (7,), "decoder": (6, 4), "latent": 2, "episodes_per_trial": 3}
    small |= {"vae_updates": 5, "vae_trials": 4, "elbo_terms": 5, "decoded_steps": 4}
    agent, plain = twins(
        "varibad", Varibad, some_spaces, transition_weight=transitions, episodes_cut_returns=cut, **small
    )
    assert_same_updates(agent, plain, play)


@pytest.mark.parametrize("tune", [False, True])
@pytest.mark.parametrize("dynamics", [False, True], ids=["s a r", "s a r s'"])
def test_pearl(spaces: Spaces, play: Play, tune: bool, dynamics: bool) -> None:
    small = {"latent": 3, "encoder_hidden": (6, 5), "hidden": (7, 6), "replay_tasks": 8, "warmup_iterations": 0}
    small |= {"gradient_steps": 5, "meta_batch": 2, "batch": 8, "context_batch": 6, "replay_size": 40}
    agent, plain = twins(
        "pearl", Pearl, spaces, tune_temperature=tune, temperature=0.7, context_next_observation=dynamics, **small
    )
    assert_same_updates(agent, plain, play)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"episodes_cut_returns": True}, {"finite_trials": True}, {"tune_temperature": False}],
    ids=["trials", "cut", "finite", "fixed temperature"],
)
def test_recurrent_sac(spaces: Spaces, play: Play, cell: str, settings: dict[str, bool]) -> None:
    small = {"units": 6, "hidden": (7, 5), "episodes_per_trial": 3, "warmup_iterations": 0, "gradient_steps": 2}
    small |= {"observation_embedding": 5, "action_embedding": 4, "reward_embedding": 3, "batch_trials": 4}
    small |= {"temperature": 0.7, "reward_scale": 2.0, "tau": 0.1, "gamma": 0.9, "normalise_observations": True}
    agent, plain = twins("recurrent-sac", RecurrentSac, spaces, cell=cell, **small, **settings)
    assert_same_updates(agent, plain, play)


@pytest.mark.parametrize("agent", ["reptile", "nonsense"])
def test_an_agent_without_a_plain_version_is_refused(agent: str) -> None:
    with pytest.raises(ValueError, match=rf"got agent '{agent}', expected one of {', '.join(REFERENCES)}"):
        reference(agent)
