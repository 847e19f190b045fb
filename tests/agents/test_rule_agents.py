"""Agents with a learned update rule: exact derivatives, several steps, saved state, memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.gbml import Gbml, data_statistics
from metarl.agents.meta_lstm import MetaLstm
from metarl.learning.gradient.autograd_adaptation import RuleAgent, RuleState
from metarl.learning.gradient.meta_trust_region import ChunkLinearisation, RebuiltLinearisation, linearise
from metarl.learning.gradient.policy import Samples
from metarl.learning.gradient.trust_region import DivergenceCurvature
from metarl.learning.networks.cells.base import leaves
from metarl.memory import FLOAT, RunSize
from metarl.types import MetaBatch, Spaces, Task

DOUBLE = torch.float64
KINDS: dict[str, type[Any]] = {"meta-lstm": MetaLstm, "gbml": Gbml}
M, B = 3, 11


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


@pytest.fixture(params=sorted(KINDS))
def kind(request) -> Any:
    return KINDS[request.param]


def make(kind: Any, spaces: Spaces, *, noise: float = 0.3, **settings: Any) -> RuleAgent[Any]:
    """An agent in float64 whose rule is far from its start."""
    config = kind.Config(hidden=(5, 4), rule_units=3, **settings)
    agent: RuleAgent[Any] = kind(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    agent.parameters = agent.parameters.double() + 0.1 * torch.randn(
        agent.parameters.shape, generator=generator, dtype=DOUBLE
    )
    agent.own = agent.own.double() + noise * torch.randn(agent.own.shape, generator=generator, dtype=DOUBLE)
    return agent


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("min_std", [1e-6, 1.0])
def test_the_jacobian_agrees_with_finite_differences(
    random_samples, kind: Any, some_spaces: Spaces, steps: int, min_std: float
) -> None:
    """With the high floor some deviations are projected."""
    agent = make(kind, some_spaces, inner_steps=steps, min_std=min_std)
    at = agent._meta_parameters
    adaptation = agent._adaptation([random_samples(M, B, some_spaces, seed) for seed in range(steps)])
    rng = torch.Generator().manual_seed(1)
    for part in (slice(0, len(agent.parameters)), slice(len(agent.parameters), None)):
        v = torch.zeros_like(at)
        v[part] = torch.randn(v[part].shape, generator=rng, dtype=DOUBLE)

        def slope(h: float, v: Tensor = v) -> Tensor:
            return (adaptation.adapted_from(at + h * v) - adaptation.adapted_from(at - h * v)) / (2 * h)

        by_difference = (4 * slope(5e-7) - slope(1e-6)) / 3  # Richardson; small, since log|g| bends fast
        forwards = adaptation.jvp(v)
        assert forwards.norm() > 1e-3
        torch.testing.assert_close(forwards, by_difference, rtol=1e-5, atol=1e-6)
        w = torch.randn(forwards.shape, generator=rng, dtype=DOUBLE)
        torch.testing.assert_close(adaptation.vjp(w) @ v, (w * forwards).sum(), rtol=1e-10, atol=1e-10)


def test_the_curvature_is_the_divergences(random_samples, kind: Any, some_spaces: Spaces) -> None:
    """`u J^T F J v` with J column by column."""
    agent = make(kind, some_spaces, inner_steps=2)
    *before, last = (random_samples(M, B, some_spaces, seed) for seed in range(3))
    adaptation = agent._adaptation(before)
    chunk = ChunkLinearisation(agent.policy, adaptation, last)
    columns = [adaptation.jvp(unit) for unit in torch.eye(len(agent._meta_parameters), dtype=DOUBLE)]
    v = torch.randn(len(columns), generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    fisher = DivergenceCurvature(agent.policy.linearise(adaptation.end, last.observations), last.weights)
    image = fisher.product(sum((x * c for x, c in zip(v, columns, strict=True)), torch.zeros_like(columns[0])))
    expected = torch.stack([(c * image).sum() for c in columns])
    torch.testing.assert_close(chunk.curvature_product(v), expected, rtol=1e-9, atol=1e-10)


def test_the_first_order_takes_loss_and_gradient_as_constants(random_samples, kind: Any, spaces: Spaces) -> None:
    exact, first = (make(kind, spaces, first_order=flag) for flag in (False, True))
    samples = [random_samples(M, B, spaces, 0)]
    p, w = len(exact.parameters), torch.ones(M, len(exact.parameters), dtype=DOUBLE)
    one, other = (agent._adaptation(samples) for agent in (exact, first))
    torch.testing.assert_close(one.end, other.end)
    torch.testing.assert_close(one.vjp(w)[p:], other.vjp(w)[p:])  # the rule's own: one step, so no difference
    assert (one.vjp(w)[:p] - other.vjp(w)[:p]).abs().max() > 1e-3


@pytest.fixture
def played(kind: Any, some_spaces: Spaces, play) -> Any:
    config = kind.Config(hidden=(6,), rule_units=3, inner_steps=2)
    agent = kind(config, some_spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    return agent, play(agent, [[[4, 3], [2, 5], [5, 5]]] * 3)


def adapted(agent: Any, trajectories: list[Any]) -> RuleState:
    state = agent.begin([Task.of("noise")] * M, 2)
    for one in trajectories:
        state = agent.adapt(state, one)
    return state


def test_adapting_is_what_the_meta_update_differentiates(played) -> None:
    agent, trajectories = played
    state = adapted(agent, trajectories[:2])
    expected = agent._adaptation([agent.samples(one) for one in trajectories[:2]]).end
    torch.testing.assert_close(state.parameters, expected)
    assert not any(t.requires_grad for t in (state.parameters, *leaves(state.memory)))


def test_adapting_in_chunks_of_tasks_changes_nothing(played, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, trajectories = played
    whole = adapted(agent, trajectories[:2])
    monkeypatch.setattr(
        "metarl.learning.gradient.autograd_adaptation.task_chunks", lambda *_: [slice(0, 1), slice(1, M)]
    )
    parts = adapted(agent, trajectories[:2])
    torch.testing.assert_close(whole.parameters, parts.parameters)
    for one, other in zip(leaves(whole.memory), leaves(parts.memory), strict=True):
        torch.testing.assert_close(one, other)


def test_an_update_moves_policy_and_rule_and_a_restored_agent_repeats_it(played, kind: Any) -> None:
    agent, trajectories = played
    saved = {name: t.clone() for name, t in agent.tensors().items()}
    batch = MetaBatch(tuple(Task.of("noise", number=i) for i in range(M)), tuple(trajectories))
    other = kind(agent.config, agent.spaces, device=torch.device("cpu"), rng=np.random.default_rng(7))
    other.restore(saved, {})
    metrics = agent.meta_update(batch)
    assert metrics == other.meta_update(batch)
    assert metrics["update/accepted"] == 1.0
    assert metrics["rule/norm"] == pytest.approx(float(agent.own.norm()))
    after = agent.tensors()
    for name in ("parameters", "rule"):
        assert torch.equal(after[name], other.tensors()[name])
        assert not torch.equal(after[name], saved[name])
    with pytest.raises(ValueError, match="rule"):
        other.restore({**saved, "rule": saved["rule"][:-1]}, {})


def test_the_size_of_a_rule_is_what_it_takes(random_samples, kind: Any, spaces: Spaces) -> None:
    config = kind.Config(inner_steps=2)
    agent = kind(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    size, p = kind.rule_size(config, spaces), len(agent.parameters)
    assert len(agent.own) == size.own
    state = agent.begin([Task.of("noise")] * M, 2)
    assert sum(t.numel() for t in leaves(state.memory)) == M * p * size.memory
    kept: dict[int, Tensor] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        adaptation = agent._adaptation([random_samples(M, B, spaces, seed, torch.float32) for seed in (0, 1)])
        adaptation.jvp(torch.zeros_like(agent._meta_parameters))
    held = sum(t.untyped_storage().nbytes() for t in kept.values()) / FLOAT / M / p
    assert 0.95 < held / (2 * size.graph) < 1.3


def test_the_memory_of_a_run_includes_the_rules(kind: Any, spaces: Spaces) -> None:
    def needed(tasks: int, *, gpu: bool = False, **settings: Any) -> int:
        size = RunSize(tasks=tasks, episodes=2, iterations=1, gpu=gpu)
        return int(kind.memory_needed(kind.Config(**settings), spaces, size)[-1].num_bytes)

    rule = kind.rule_size(kind.Config(), spaces)
    parameters = 4 * 64 + 65 * 64 + 65 * 2
    assert needed(3) - needed(2) == FLOAT * parameters * rule.memory
    assert needed(2, inner_steps=2) - needed(2) == FLOAT * parameters * rule.graph
    assert needed(2, gpu=True) == 4 * FLOAT * rule.own


def test_tasks_that_do_not_fit_together_are_linearised_one_after_the_other(
    random_samples, kind: Any, spaces: Spaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule's graph counts when it is decided what fits."""
    agent = make(kind, spaces)
    asked: list[int] = []

    def fits(num_bytes: int, device: torch.device) -> bool:
        asked.append(num_bytes)
        return not asked[1:]

    monkeypatch.setattr("metarl.learning.gradient.meta_trust_region.fits", fits)
    samples = [random_samples(M, B, spaces, seed) for seed in (0, 1)]
    (kept,) = linearise(agent.policy, agent._adaptation, samples)
    (again,) = linearise(agent.policy, agent._adaptation, samples, agent._task_bytes)
    assert isinstance(again, RebuiltLinearisation)
    rule = agent.rule_size(agent.config, spaces)
    assert asked[1] - asked[0] == M * FLOAT * len(agent.parameters) * (rule.memory + rule.graph)
    v = torch.ones_like(agent._meta_parameters)
    torch.testing.assert_close(again.gradient, kept.gradient)
    torch.testing.assert_close(again.curvature_product(v), kept.curvature_product(v))


@pytest.mark.parametrize("choices", [0, 3])
def test_the_statistics_of_the_data_by_hand(choices: int) -> None:
    observations = torch.tensor([[[1.0], [3.0], [9.0]]], dtype=DOUBLE)
    actions = torch.tensor([[[0.0], [2.0], [1.0]]], dtype=DOUBLE)
    samples = Samples(
        observations, actions, torch.tensor([[1.0, -1.0, 5.0]]).double(), torch.tensor([[0.5, 0.5, 0.0]]).double()
    )
    expected = {
        0: [2.0, 1.0, 1.0, 1.0, -1.0, -1.0],  # mean, deviation, product with the advantage: observation, action
        3: [2.0, 0.5, 0.0, 0.5, 1.0, 0.5, 0.0, 0.5, -1.0, 0.5, 0.0, -0.5],
    }
    torch.testing.assert_close(data_statistics(samples, choices), torch.tensor([expected[choices]], dtype=DOUBLE))
