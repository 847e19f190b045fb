"""The losses that PEARL combines, against loops over tasks and transitions with torch's own distributions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.pearl import Parameters, PearlConfig, networks
from metarl.learning.experience.replay import Transitions
from metarl.learning.networks import soft_actor_critic as sac
from metarl.learning.networks.context_encoder import kl_from_prior
from metarl.learning.networks.squashed import squashed_sample
from metarl.rollout import TrajectoryBuilder
from metarl.scripts.reference import pearl as reference
from metarl.scripts.reference.pearl import Noise
from metarl.types import Action, Spaces

DOUBLE = torch.float64


def random_transitions(rng: np.random.Generator, m: int, b: int, spaces: Spaces) -> Transitions:
    o, a = spaces.observation_size, spaces.action_size
    arrays = (
        rng.standard_normal((m, b, o)),
        rng.uniform(-1, 1, (m, b, a)),
        rng.standard_normal((m, b)),
        rng.standard_normal((m, b, o)),
        rng.random((m, b)) < 0.3,
    )
    return Transitions(*(torch.tensor(x, dtype=DOUBLE) for x in arrays))


class Problem:
    """Networks with random float64 parameters, a context, a batch and noise for three tasks."""

    def __init__(self, config: PearlConfig, spaces: Spaces) -> None:
        self.config, (self.encoder, self.nets) = config, networks(config, spaces)
        rng = np.random.default_rng(3)
        start = {"encoder": self.encoder.initial(rng), **vars(self.nets.initial(config.temperature, rng))}
        moved = {name: t.double() + 0.2 * torch.tensor(rng.standard_normal(t.shape)) for name, t in start.items()}
        self.p = Parameters(**{name: t.requires_grad_() for name, t in moved.items()})
        self.context, self.batch = (random_transitions(rng, 3, b, spaces) for b in (5, 4))
        self.weight = torch.tensor([1.0, 0.4, 2.5], dtype=DOUBLE)
        z, a = config.latent, spaces.action_size
        self.noise = Noise(*(torch.tensor(rng.standard_normal(s)) for s in ((3, z), (3, 4, a), (3, 4, a))))

    def infer(self) -> tuple[Tensor, Tensor]:
        columns = [self.context.observations, self.context.actions, self.context.rewards.unsqueeze(-1)]
        columns += [self.context.next_observations] * self.config.context_next_observation
        return self.encoder.infer(self.p.encoder, columns, self.weight)

    def latent(self) -> Tensor:
        mean, variance = self.infer()
        return (mean + variance.sqrt() * self.noise.latent).unsqueeze(1)

    def critic_loss(self, latent: Tensor) -> Tensor:
        c, batch = self.config, self.batch
        next_values = sac.soft_values(self.nets, self.p, batch.next_observations, self.noise.next_action, latent)
        targets = sac.critic_targets(c.reward_scale * batch.rewards, batch.terminated, next_values, c.gamma)
        return sac.critic_loss(self.nets.critics(self.p.critics, batch.observations, batch.actions, latent), targets)

    def policy_loss(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        return sac.policy_loss(self.nets, self.p, self.batch.observations, self.noise.action, latent)

    def reference(self) -> reference.Losses:
        known = (self.encoder, self.nets, self.p, self.context, self.weight, self.batch, self.noise)
        return reference.losses(*known, self.config)


@pytest.fixture(params=[False, True], ids=["s a r", "s a r s'"])
def problem(request, small_config: Callable[..., PearlConfig], spaces: Spaces) -> Problem:
    return Problem(small_config(temperature=0.7, context_next_observation=request.param), spaces)


def test_each_loss_equals_the_plain_loop_over_tasks_and_transitions(problem: Problem) -> None:
    expected, latent = problem.reference(), problem.latent()
    actor_loss, log_prob = problem.policy_loss(latent)
    torch.testing.assert_close(problem.critic_loss(latent), expected.critic)
    torch.testing.assert_close(kl_from_prior(*problem.infer()).sum(), expected.kl)
    torch.testing.assert_close(actor_loss, expected.policy)
    torch.testing.assert_close(sac.temperature_loss(problem.p.log_temperature, log_prob, -2.0), expected.temperature)


def test_each_gradient_equals_that_of_the_plain_loop(problem: Problem) -> None:
    expected, latent, p = problem.reference(), problem.latent(), problem.p
    kl = kl_from_prior(*problem.infer()).sum()
    actor_loss, log_prob = problem.policy_loss(latent)
    pairs = [
        (problem.critic_loss(latent) + 0.1 * kl, expected.critic + 0.1 * expected.kl, [p.encoder, p.critics]),
        (actor_loss, expected.policy, [p.policy]),
        (
            sac.temperature_loss(p.log_temperature, log_prob, -2.0),
            expected.temperature,
            [p.log_temperature],
        ),
    ]
    for got, plain, leaves in pairs:
        torch.testing.assert_close(
            torch.autograd.grad(got, leaves, retain_graph=True), torch.autograd.grad(plain, leaves, retain_graph=True)
        )


def test_the_encoder_learns_from_the_critics_and_the_bottleneck_and_not_from_the_policy(problem: Problem) -> None:
    p, latent = problem.p, problem.latent()
    for loss in (problem.critic_loss(latent), kl_from_prior(*problem.infer()).sum()):
        (gradient,) = torch.autograd.grad(loss, p.encoder, retain_graph=True)
        assert gradient.any()
    actor_loss, log_prob = problem.policy_loss(latent)
    temperature = sac.temperature_loss(p.log_temperature, log_prob, -2.0)
    for loss, learner in ((actor_loss, "policy"), (temperature, "log_temperature")):
        gradients = torch.autograd.grad(loss, list(vars(p).values()), retain_graph=True, allow_unused=True)
        learns = {name for name, g in zip(vars(p), gradients, strict=True) if g is not None and g.any()}
        assert learns == {learner}
    gradients = torch.autograd.grad(problem.critic_loss(latent), list(vars(p).values()), allow_unused=True)
    learns = {name for name, g in zip(vars(p), gradients, strict=True) if g is not None and g.any()}
    assert learns == {"encoder", "critics"}


def test_a_terminal_step_stops_the_bootstrap_and_a_truncation_does_not(make_pearl, spaces: Spaces) -> None:
    """The only thing stored about an episode's end is `terminated`; with it the target is the reward alone."""
    builder = TrajectoryBuilder(1, 2, replace(spaces, horizon=1), np.zeros((2, 3)))
    builder.add(Action(np.zeros((1, 2, 2), np.float32), {"policy_output": np.zeros((1, 2, 2), np.float32)}),
                np.ones((2, 3)), [0.5, 0.5], [True, False], [False, True])  # fmt: skip
    agent = make_pearl(spaces)
    batch = agent.buffers.unpack(torch.tensor(agent.buffers.rows(builder.build())).flatten(1, 2))
    latent, noise = torch.zeros(1, 1, 3), torch.zeros(1, 2, 2)
    p, nets = agent.parameters, agent.actor_critic
    next_values = sac.soft_values(nets, p, batch.next_observations, noise, latent)
    targets = sac.critic_targets(3.0 * batch.rewards, batch.terminated, next_values, 0.99)
    assert targets[0, 0].item() == pytest.approx(1.5)
    with torch.no_grad():
        a, log_prob = squashed_sample(*nets.policy(p.policy, batch.next_observations, latent), noise)
        value = nets.critics(p.targets, batch.next_observations, a, latent).amin(dim=0) - log_prob
    assert targets[0, 1].item() == pytest.approx(1.5 + 0.99 * value[0, 1].item(), rel=1e-5)
    assert abs(targets[0, 1].item() - 1.5) > 1e-3
