from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.maml_trpo import MamlTrpo, MamlTrpoConfig
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.gradient import meta_trust_region
from metarl.learning.gradient.adaptation import PolicyGradientAdaptation, adapted_by_policy_gradient
from metarl.learning.gradient.losses import inner_loss, mean_divergence, surrogate_objective
from metarl.learning.gradient.meta_trust_region import ChunkLinearisation
from metarl.learning.gradient.policy import Samples
from metarl.registry import make_family
from metarl.rollout import collect
from metarl.scripts.reference import maml_trpo as reference
from metarl.seeding import Streams
from metarl.types import MetaBatch, Progress, Spaces, Task

DOUBLE = torch.float64
LR = 0.1


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


@pytest.fixture(params=[(1, 1e-6), (2, 1e-6), (1, 1.3), (2, 1.3)], ids=lambda p: f"{p[0]} inner steps, floor {p[1]}")
def problem(request, make_agent, random_samples, some_spaces: Spaces):
    """A policy, its parameters in float64, samples of three tasks, and a linearisation.

    With the high floor, some deviations of some tasks are projected onto it.
    """
    spaces, (steps, min_std) = some_spaces, request.param
    agent = make_agent(1, spaces, min_std=min_std)
    policy, parameters = agent.policy, agent.tensors()["parameters"].double()
    log_std = parameters[policy.bound.where]
    log_std.clamp_(min=policy.bound.value + 0.01)
    samples = [random_samples(3, 11, spaces, seed) for seed in range(steps + 1)]
    adaptation = PolicyGradientAdaptation(policy, samples[:-1], parameters, LR)
    if min_std > 1.0 and not spaces.choices:
        projected = adaptation.end[:, policy.bound.where] == policy.bound.value
        assert projected.any()
        assert not projected.any(dim=1).all(), "one task stays above"
    return policy, parameters, samples, ChunkLinearisation(policy, adaptation, samples[-1])


def outer(policy, samples, old, parameters: Tensor) -> Tensor:
    """Surrogate and divergence, summed over the tasks, after adaptation from `parameters`: `[2]`."""
    adapted = adapted_by_policy_gradient(policy, samples[:-1], parameters.expand(3, -1), LR)
    new = policy(adapted, samples[-1].observations)
    surrogate = surrogate_objective(new, old, samples[-1])
    return torch.stack([surrogate.sum(), mean_divergence(new, old, samples[-1]).sum()])


def test_the_meta_gradient_agrees_with_finite_differences(problem) -> None:
    policy, parameters, samples, chunk = problem
    numbers = []
    for i in range(len(parameters)):
        unit = torch.zeros_like(parameters)
        unit[i] = 1.0

        def slope(h: float, unit: Tensor = unit) -> Tensor:
            ends = [outer(policy, samples, chunk._old, parameters + s * h * unit)[0] for s in (1, -1)]
            return (ends[0] - ends[1]) / (2 * h)

        numbers.append((4 * slope(5e-5) - slope(1e-4)) / 3)  # Richardson: an error of fourth order
    torch.testing.assert_close(chunk.gradient, torch.stack(numbers), rtol=1e-6, atol=1e-8)


def test_the_curvature_product_agrees_with_finite_differences_of_the_divergence(problem) -> None:
    """Second difference of the mean KL along v: v^T H v; and by polarisation u^T H v."""
    policy, parameters, samples, chunk = problem
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        u, v = (torch.randn(parameters.shape, generator=generator, dtype=DOUBLE) for _ in range(2))

        def second(direction: Tensor, h: float) -> Tensor:
            ends = [outer(policy, samples, chunk._old, parameters + s * h * direction)[1] for s in (1, -1, 0)]
            return (ends[0] + ends[1] - 2 * ends[2]) / h**2

        coarse, fine = ((second(u + v, h) - second(u - v, h)) / 4 for h in (1e-3, 5e-4))
        by_difference = (4 * fine - coarse) / 3
        torch.testing.assert_close(u @ chunk.curvature_product(v), by_difference, rtol=1e-5, atol=1e-6)


def test_gradient_and_curvature_equal_the_plain_loop_with_double_backward(problem, plain) -> None:
    policy, parameters, samples, chunk = problem
    policy = plain(policy)
    gradient, _ = reference.meta_gradient(policy, parameters, samples, LR)
    torch.testing.assert_close(chunk.gradient / 3, gradient)
    old = reference.old_policies(policy, parameters, samples, LR)
    product = reference.curvature_product(policy, parameters, samples, old, LR)
    v = torch.randn(parameters.shape, dtype=DOUBLE)
    torch.testing.assert_close(chunk.curvature_product(v) / 3, product(v))


def test_first_order_would_be_noticed(problem) -> None:
    """The first-order gradient differs, so the test above would notice a missing Hessian."""
    policy, parameters, samples, chunk = problem
    end = adapted_by_policy_gradient(policy, samples[:-1], parameters.expand(3, -1), LR).requires_grad_()
    new = policy(end, samples[-1].observations)
    objective = surrogate_objective(new, new.detach(), samples[-1]).sum()
    (first_order,) = torch.autograd.grad(objective, end)
    assert (first_order.sum(dim=0) - chunk.gradient).norm() > 1e-3 * chunk.gradient.norm()


@pytest.fixture
def real_batch() -> tuple[MamlTrpo, MetaBatch]:
    return make_real_batch()


def make_real_batch(**settings: Any) -> tuple[MamlTrpo, MetaBatch]:
    """A meta-batch of point-robot; some goals are one step away, so that episodes end early."""
    family = make_family("point-robot")
    envs = family.make_envs(4, 5, 20)
    config = MamlTrpoConfig(hidden=(16, 16), action_scale=0.3, **settings)
    agent = MamlTrpo(config, envs.spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    streams = Streams(0)
    goals = ((0.1, 0.1), (-0.1, 0.1), (0.1, -0.1), (0.3, 0.2))
    tasks = [Task.of("point-robot", goal=goal) for goal in goals]
    envs.set_tasks(tasks)
    state = agent.begin(tasks, 5)
    before, state = collect(envs, agent, state, streams)
    after, _ = collect(envs, agent, agent.adapt(state, before), streams)
    return agent, MetaBatch(tuple(tasks), (before, after))


@pytest.mark.parametrize(
    ("min_std", "sign", "ends_at_floor"),
    [(1e-6, 1.0, 0), (0.99, -1.0, 1), (1.0, -1.0, 2), (1.0, 1.0, 0)],
    ids=["free", "steps over the floor", "held at the floor", "leaves the floor"],
)
def test_a_whole_update_equals_the_plain_loops(
    plain, monkeypatch, min_std: float, sign: float, ends_at_floor: int
) -> None:
    """`sign` is the sign of the advantages after adaptation."""
    agent, batch = make_real_batch(min_std=min_std, cg_iterations=5)
    # float64: conjugate gradients amplify rounding errors, in float32 to some thousandths of the step.
    agent.parameters = start = agent.tensors()["parameters"].double()
    samples = [Samples(*(t.double() for t in agent.samples(trajectories))) for trajectories in batch.collects]
    samples[-1] = samples[-1]._replace(advantages=sign * samples[-1].advantages)
    pending = iter(samples)
    monkeypatch.setattr(agent, "samples", lambda _: next(pending))
    expected = reference.update(plain(agent.policy), start, samples, agent.config)
    metrics = agent.meta_update(batch)
    moved = (agent.tensors()["parameters"] - start).norm()
    assert metrics["update/accepted"] == 1.0
    assert moved > 0
    assert (agent.tensors()["parameters"] - expected).norm() < 1e-6 * moved
    log_std = agent.tensors()["parameters"][-2:]
    assert (log_std >= agent.policy.bound.value).all()
    assert (log_std == agent.policy.bound.value).sum() == ends_at_floor


@pytest.mark.parametrize("size", [1, 3, 4])
def test_the_size_of_the_chunks_changes_nothing_but_rounding(real_batch, monkeypatch, size: int) -> None:
    agent, batch = real_batch
    twin = MamlTrpo(agent.config, agent.spaces, device=torch.device("cpu"), rng=np.random.default_rng(1))
    twin.restore(agent.tensors(), agent.counters())
    agent.meta_update(batch)
    chunks = [slice(i, min(i + size, 4)) for i in range(0, 4, size)]
    monkeypatch.setattr(meta_trust_region, "task_chunks", lambda *_: chunks)
    twin.meta_update(batch)
    torch.testing.assert_close(twin.tensors()["parameters"], agent.tensors()["parameters"], rtol=1e-3, atol=1e-5)


def test_a_meta_batch_whose_graphs_do_not_fit_into_memory_makes_the_same_update(real_batch, monkeypatch) -> None:
    agent, batch = real_batch
    twin = MamlTrpo(agent.config, agent.spaces, device=torch.device("cpu"), rng=np.random.default_rng(1))
    twin.restore(agent.tensors(), agent.counters())
    agent.meta_update(batch)
    built: list[int] = []
    build = ChunkLinearisation.__init__

    def counted(self: ChunkLinearisation, *arguments: Any) -> None:
        built.append(1)
        build(self, *arguments)

    monkeypatch.setattr(ChunkLinearisation, "__init__", counted)
    monkeypatch.setattr(meta_trust_region, "fits", lambda num_bytes, device: False)
    twin.meta_update(batch)
    assert len(built) > agent.config.cg_iterations, "built anew for every product"
    torch.testing.assert_close(twin.tensors()["parameters"], agent.tensors()["parameters"], rtol=1e-6, atol=1e-8)


def test_an_update_stays_within_the_trust_region_and_improves(real_batch) -> None:
    agent, batch = real_batch
    for _ in range(3):
        metrics = agent.meta_update(batch)
        assert metrics["update/kl"] <= agent.config.max_kl
        assert metrics["update/surrogate_gain"] > 0 or not metrics["update/accepted"]


def test_when_no_candidate_is_acceptable_the_parameters_stay_and_the_metrics_say_so(real_batch, monkeypatch) -> None:
    agent, batch = real_batch
    monkeypatch.setattr(ChunkLinearisation, "evaluate", lambda self, parameters: torch.tensor([0.0, 1.0]))
    before = agent.tensors()["parameters"].clone()
    metrics = agent.meta_update(batch)
    assert metrics["update/accepted"] == 0.0
    assert metrics["update/backtracks"] == agent.config.line_search_steps
    assert torch.equal(agent.tensors()["parameters"], before)


def test_adapting_is_a_gradient_step_and_leaves_agent_and_old_state_alone(real_batch) -> None:
    agent, batch = real_batch
    state = agent.begin(batch.tasks, 5)
    kept, meta = state.parameters.clone(), agent.tensors()["parameters"].clone()
    adapted = agent.adapt(state, batch.collects[0])
    samples = agent.samples(batch.collects[0])
    leaf = kept.clone().requires_grad_()
    inner_loss(agent.policy(leaf, samples.observations), samples).sum().backward()
    torch.testing.assert_close(adapted.parameters, kept - 0.1 * leaf.grad)
    assert torch.equal(state.parameters, kept)
    assert torch.equal(agent.tensors()["parameters"], meta)
    assert not torch.equal(adapted.parameters[0], adapted.parameters[1]), "each task has its own"


def test_masked_steps_teach_nothing(real_batch) -> None:
    agent, batch = real_batch
    one = batch.collects[0]
    assert not one.mask.all(), "some episodes ended early"
    junk = {"policy_output": np.where(one.mask[..., None], one.extras["policy_output"], 7.0).astype(np.float32)}
    first, second = agent.samples(one), agent.samples(replace(one, extras=junk))
    parameters = agent.tensors()["parameters"].expand(4, -1)
    losses = [inner_loss(agent.policy(parameters, s.observations), s) for s in (first, second)]
    torch.testing.assert_close(*losses)


def test_running_statistics_are_off_by_default_used_when_on_and_saved(tmp_path: Path, real_batch) -> None:
    plain, batch = real_batch
    plain.meta_update(batch)
    assert plain.tensors()["observation_moments.count"].item() == 0

    config = replace(plain.config, normalise_observations=True, normalise_rewards=True)
    agent, twin = (
        MamlTrpo(config, plain.spaces, device=torch.device("cpu"), rng=np.random.default_rng(i)) for i in (1, 2)
    )
    agent.meta_update(batch)
    steps = sum(t.env_steps for t in batch.collects)
    assert agent.tensors()["observation_moments.count"].item() == steps
    assert agent.tensors()["return_moments.count"].item() == steps
    seen = np.concatenate([t.observations[t.mask] for t in batch.collects])
    assert np.allclose(agent.tensors()["observation_moments.mean"], seen.mean(axis=0), atol=1e-6)
    save_checkpoint(tmp_path, agent, Streams(0), Progress(1, 1), keep=2)
    load_newest(tmp_path, twin)
    step_seen = twin._seen(seen[:5])
    assert np.allclose(step_seen, (seen[:5] - seen.mean(axis=0)) / seen.std(axis=0), atol=1e-3)


def test_without_a_baseline_advantages_are_the_normalised_returns(real_batch) -> None:
    agent, batch = real_batch
    bare = MamlTrpo(
        replace(agent.config, baseline="none"), agent.spaces, device=torch.device("cpu"), rng=np.random.default_rng(0)
    )
    one = batch.collects[0]
    samples = bare.samples(one)
    rewards = one.rewards[0].astype(float)
    returns = np.array([[sum(0.99**i * r for i, r in enumerate(row[t:])) for t in range(20)] for row in rewards])
    valid = returns[one.mask[0]]
    by_hand = (valid - valid.mean()) / valid.std()
    assert np.allclose(samples.advantages[0].numpy()[one.mask[0].reshape(-1)], by_hand, atol=1e-4)
