"""PEARL's state: what it infers from a context, and how it acts on that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.agents.pearl import Belief
from metarl.learning.networks.context_encoder import kl_from_prior, posterior
from metarl.scripts.reference import pearl as reference
from metarl.seeding import Streams
from metarl.types import Spaces, Step, Task


def test_with_no_context_the_posterior_is_the_prior(make_pearl, spaces: Spaces) -> None:
    agent = make_pearl(spaces)
    state = agent.begin([Task.of("x", i=i) for i in range(2)], 4)
    mean, variance = posterior(state.precision, state.weighted_mean)
    assert torch.equal(mean, torch.zeros(2, 4, 3))
    assert torch.equal(variance, torch.ones(2, 4, 3))
    assert not kl_from_prior(mean, variance).any()


@pytest.mark.parametrize("dynamics", [False, True], ids=["s a r", "s a r s'"])
def test_every_transition_and_each_of_its_parts_informs_the_posterior(make_pearl, spaces: Spaces, dynamics) -> None:
    agent, rng = (
        make_pearl(spaces, context_next_observation=dynamics, encoder_hidden=(20, 20)),
        np.random.default_rng(3),
    )
    rows = torch.tensor(rng.standard_normal((3, 5, 10)), dtype=torch.float32, requires_grad=True)
    mean, _ = agent.encoder.infer(agent.parameters.encoder, agent._context(rows), torch.ones(3))
    (gradient,) = torch.autograd.grad(mean.sum(), rows)
    parts = agent.buffers.unpack(gradient)
    for part in (parts.observations, parts.actions, parts.rewards.unsqueeze(-1)):
        assert (part != 0).any(dim=-1).all()
    assert (parts.next_observations != 0).any(dim=-1).all() == dynamics
    assert dynamics or not parts.next_observations.any()
    assert not parts.terminated.any(), "the end of an episode is no context"


def test_a_belief_is_cut_and_joined_along_the_tasks(point) -> None:
    """A worker with a part of the tasks acts as one process with all of them."""
    agent = point.agent()
    batch = point.iteration(agent, point.tasks, Streams(0))
    state = agent.adapt(agent.begin(point.tasks, 3), batch.collects[0])
    state = replace(state, latent=torch.arange(36.0).view(4, 3, 3))
    parts = [state.tasks(slice(0, 1)), state.tasks(slice(1, 4))]
    assert [part.latent.shape for part in parts] == [(1, 3, 3), (3, 3, 3)]
    assert parts[1].latent[0, 0].tolist() == [9.0, 10.0, 11.0]
    joined = Belief.join(parts)
    for name, tensor in vars(state).items():
        assert torch.equal(getattr(joined, name), tensor), name
    assert not torch.equal(Belief.join(parts[::-1]).precision, state.precision), "in order"


def test_adapting_adds_each_episode_to_its_own_environments_posterior(point) -> None:
    tasks = point.tasks
    agent = point.agent()
    batch = point.iteration(agent, tasks, Streams(0))
    state = agent.begin(tasks, 3)
    for t in batch.collects[:2]:
        state = agent.adapt(state, t)
    mean, variance = posterior(state.precision, state.weighted_mean)
    for m in range(4):
        for e in range(3):
            rows = np.concatenate([agent.buffers.rows(t)[m, e][t.mask[m, e]] for t in batch.collects[:2]])
            context = agent.buffers.unpack(torch.tensor(rows)[None])
            belief = reference.task_posterior(agent.encoder, agent.parameters.encoder, context, 0)
            torch.testing.assert_close(mean[m, e], belief.mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(variance[m, e], belief.variance, rtol=1e-4, atol=1e-6)
    assert agent.episodes_per_adaptation(3) == 1


def test_z_is_drawn_from_the_posterior_at_the_first_step_and_kept_for_the_episode(make_pearl, spaces: Spaces) -> None:
    agent = make_pearl(spaces)
    state = agent.begin([Task.of("x")], 4000)
    state = replace(state, precision=state.precision + 4.0, weighted_mean=state.weighted_mean + 8.0)
    flat = np.zeros((1, 4000), dtype=np.float32)
    seen, nothing = np.zeros((1, 4000, 3), np.float32), np.zeros((1, 4000, 2), np.float32)
    first = np.arange(4000)[None] % 2 == 0
    live = np.ones_like(first)
    rng = np.random.default_rng(0)
    action, drawn = agent.act(state, Step(seen, nothing, flat, first, live), rng)
    assert not drawn.latent[0, 1::2].any(), "rows in the middle of an episode keep theirs"
    values = drawn.latent[0, ::2]
    assert torch.allclose(values.mean(dim=0), torch.full((3,), 2.0), atol=0.05)
    assert torch.allclose(values.std(dim=0), torch.full((3,), 0.5), atol=0.03)
    assert not state.latent.any(), "the old state stays as it was"
    _, later = agent.act(drawn, Step(seen, nothing, flat, np.zeros_like(first), live), rng)
    assert torch.equal(later.latent, drawn.latent)
    assert action.environment.shape == (1, 4000, 2)


def test_actions_of_the_policy_fill_the_bounds_of_the_environment(make_pearl, spaces: Spaces) -> None:
    """The modes of policies whose last bias says so; actions are bounded by -1 and 1, and by -2 and 4."""
    agent = make_pearl(spaces)
    nothing, flags = np.zeros((1, 1, 3), np.float32), np.ones((1, 1), dtype=np.bool_)
    step = Step(nothing, np.zeros((1, 1, 2)), np.zeros((1, 1)), flags, flags)
    half = float(np.arctanh(0.5))
    for mean, expected in (((-20.0, -20.0), (-1, -2)), ((0.0, 0.0), (0, 1)), ((20.0, half), (1, 2.5))):
        with torch.no_grad():
            agent.parameters.policy.zero_()
            agent.parameters.policy[0, -4:-2] = torch.tensor(mean)
        action, _ = agent.act(agent.begin([Task.of("x")], 1), step, np.random.default_rng(0), mode=True)
        assert action.environment[0, 0].tolist() == pytest.approx(expected)
        assert action.extras["policy_output"][0, 0].tolist() == pytest.approx(np.tanh(mean).tolist())
