from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents import pearl
from metarl.agents.pearl import Noise, Parameters, Pearl, PearlConfig, PearlNetworks
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.experience.replay import TaskReplay, Transitions
from metarl.registry import make_family
from metarl.rollout import TrajectoryBuilder, collect
from metarl.scripts.reference import pearl as reference
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.types import Action, MetaBatch, Progress, Spaces, Step, Task

CPU = torch.device("cpu")
DOUBLE = torch.float64
SMALL: dict[str, Any] = {
    "latent": 3,
    "encoder_hidden": (6, 5),
    "hidden": (7, 6),
    "gradient_steps": 3,
    "meta_batch": 3,
    "batch": 8,
    "context_batch": 6,
    "warmup_iterations": 0,
    "replay_size": 150,
    "replay_tasks": 8,
}


def small_agent(spaces: Spaces, seed: int = 0, **settings: Any) -> Pearl:
    return Pearl(PearlConfig(**{**SMALL, **settings}), spaces, device=CPU, rng=np.random.default_rng(seed))


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

    def __init__(self, spaces: Spaces, **settings: Any) -> None:
        self.config = PearlConfig(**{**SMALL, "temperature": 0.7, **settings})
        self.networks = PearlNetworks(self.config, spaces)
        rng = np.random.default_rng(3)
        start = self.networks.initial(self.config, rng)
        moved = [t.double() + 0.2 * torch.tensor(rng.standard_normal(t.shape)) for t in start]
        self.p = Parameters(*(t.requires_grad_() for t in moved))
        self.context, self.batch = (random_transitions(rng, 3, b, spaces) for b in (5, 4))
        self.weight = torch.tensor([1.0, 0.4, 2.5], dtype=DOUBLE)
        z, a = self.config.latent, spaces.action_size
        self.noise = Noise(*(torch.tensor(rng.standard_normal(s)) for s in ((3, z), (3, 4, a), (3, 4, a))))

    def infer(self) -> tuple[Tensor, Tensor]:
        return pearl.infer(self.networks, self.p.encoder, self.context, self.weight)

    def latent(self) -> Tensor:
        mean, variance = self.infer()
        return (mean + variance.sqrt() * self.noise.latent).unsqueeze(1)

    def critic_loss(self, latent: Tensor) -> Tensor:
        targets = pearl.critic_targets(self.networks, self.p, self.batch, latent, self.noise.next_action, self.config)
        values = self.networks.critics(self.p.critics, self.batch.observations, self.batch.actions, latent)
        return pearl.critic_loss(values, targets)

    def policy_loss(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        return pearl.policy_loss(self.networks, self.p, self.batch, latent, self.noise.action)

    def reference(self) -> reference.Losses:
        return reference.losses(self.networks, self.p, self.context, self.weight, self.batch, self.noise, self.config)


@pytest.fixture(params=[False, True], ids=["s a r", "s a r s'"])
def problem(request, spaces: Spaces) -> Problem:
    return Problem(spaces, context_next_observation=request.param)


# The belief -----------------------------------------------------------------------------------------------


def test_the_posterior_is_the_product_of_the_gaussians_by_hand() -> None:
    """N(1, 1/2) N(4, 1) N(-2, 1/4): precisions 2 + 1 + 4, mean (2 + 4 - 8) / 7."""
    mean, variance = torch.tensor([[1.0], [4.0], [-2.0]]), torch.tensor([[0.5], [1.0], [0.25]])
    m, v = pearl.posterior(*pearl.natural_parameters(mean, variance, torch.ones(3)))
    assert v.item() == pytest.approx(1 / 7)
    assert m.item() == pytest.approx(-2 / 7)
    m, v = pearl.posterior(*pearl.natural_parameters(mean, variance, torch.tensor([1.0, 0.0, 1.0])))
    assert v.item() == pytest.approx(1 / 6), "a masked factor does not count"
    assert m.item() == pytest.approx(-1.0)
    m, v = pearl.posterior(*pearl.natural_parameters(mean, variance, torch.tensor([3.0])))
    assert v.item() == pytest.approx(1 / 21), "each stands for three"
    assert m.item() == pytest.approx(-2 / 7)


def test_with_no_context_the_posterior_is_the_prior(spaces: Spaces) -> None:
    agent = small_agent(spaces)
    state = agent.begin([Task.of("x", i=i) for i in range(2)], 4)
    mean, variance = pearl.posterior(state.precision, state.weighted_mean)
    assert torch.equal(mean, torch.zeros(2, 4, 3))
    assert torch.equal(variance, torch.ones(2, 4, 3))
    assert not pearl.kl_from_prior(mean, variance).any()


def test_the_posterior_does_not_depend_on_the_order_of_the_context(problem: Problem) -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    shuffled = Transitions(*(t[:, order] for t in problem.context))
    again = pearl.infer(problem.networks, problem.p.encoder, shuffled, problem.weight)
    for one, other in zip(problem.infer(), again, strict=True):
        torch.testing.assert_close(one, other)


def test_every_transition_and_each_of_its_parts_informs_the_posterior(problem: Problem) -> None:
    leaves = [t.clone().requires_grad_() for t in problem.context]
    mean, _ = pearl.infer(problem.networks, problem.p.encoder, Transitions(*leaves), problem.weight)
    gradients = torch.autograd.grad(mean.sum(), leaves, allow_unused=True)
    for gradient in gradients[:3]:
        assert (gradient != 0).any(dim=-1).all()
    assert (gradients[3] is not None) == problem.config.context_next_observation
    assert gradients[4] is None, "the end of an episode is no context"


def test_kl_from_the_prior_is_torchs(problem: Problem) -> None:
    mean, variance = torch.randn(6, 3, dtype=DOUBLE), torch.rand(6, 3, dtype=DOUBLE) + 0.1
    plain = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, variance.sqrt()),
        torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean)),
    )
    torch.testing.assert_close(pearl.kl_from_prior(mean, variance), plain.sum(dim=-1))


# Losses ---------------------------------------------------------------------------------------------------


def test_each_loss_equals_the_plain_loop_over_tasks_and_transitions(problem: Problem) -> None:
    expected, latent = problem.reference(), problem.latent()
    actor_loss, log_prob = problem.policy_loss(latent)
    torch.testing.assert_close(problem.critic_loss(latent), expected.critic)
    torch.testing.assert_close(pearl.kl_from_prior(*problem.infer()).sum(), expected.kl)
    torch.testing.assert_close(actor_loss, expected.policy)
    torch.testing.assert_close(pearl.temperature_loss(problem.p.log_temperature, log_prob, -2.0), expected.temperature)


def test_each_gradient_equals_that_of_the_plain_loop(problem: Problem) -> None:
    expected, latent, p = problem.reference(), problem.latent(), problem.p
    kl = pearl.kl_from_prior(*problem.infer()).sum()
    actor_loss, log_prob = problem.policy_loss(latent)
    pairs = [
        (problem.critic_loss(latent) + 0.1 * kl, expected.critic + 0.1 * expected.kl, [p.encoder, p.critics]),
        (actor_loss, expected.policy, [p.policy]),
        (
            pearl.temperature_loss(p.log_temperature, log_prob, -2.0),
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
    for loss in (problem.critic_loss(latent), pearl.kl_from_prior(*problem.infer()).sum()):
        (gradient,) = torch.autograd.grad(loss, p.encoder, retain_graph=True)
        assert gradient.any()
    actor_loss, log_prob = problem.policy_loss(latent)
    temperature = pearl.temperature_loss(p.log_temperature, log_prob, -2.0)
    for loss, learner in ((actor_loss, "policy"), (temperature, "log_temperature")):
        gradients = torch.autograd.grad(loss, list(p), retain_graph=True, allow_unused=True)
        learns = {name for name, g in zip(p._fields, gradients, strict=True) if g is not None and g.any()}
        assert learns == {learner}
    gradients = torch.autograd.grad(problem.critic_loss(latent), list(p), allow_unused=True)
    learns = {name for name, g in zip(p._fields, gradients, strict=True) if g is not None and g.any()}
    assert learns == {"encoder", "critics"}


def test_a_termination_stops_the_bootstrap_and_a_truncation_does_not(spaces: Spaces) -> None:
    """The only thing stored about an episode's end is `terminated`; with it the target is the reward alone."""
    builder = TrajectoryBuilder(1, 2, replace(spaces, horizon=1), np.zeros((2, 3)))
    builder.add(Action(np.zeros((1, 2, 2), np.float32), {"policy_output": np.zeros((1, 2, 2), np.float32)}),
                np.ones((2, 3)), [0.5, 0.5], [True, False], [False, True])  # fmt: skip
    agent = small_agent(spaces, reward_scale=3.0)
    batch = agent._unpack(torch.tensor(agent._rows(builder.build())).flatten(1, 2))
    latent, noise = torch.zeros(1, 1, 3), torch.zeros(1, 2, 2)
    targets = pearl.critic_targets(agent._networks, agent._parameters, batch, latent, noise, agent.config)
    assert targets[0, 0].item() == pytest.approx(1.5)
    p, nets = agent._parameters, agent._networks
    with torch.no_grad():
        a, log_prob = pearl.squashed_sample(*nets.policy(p.policy, batch.next_observations, latent), noise)
        value = nets.critics(p.targets, batch.next_observations, a, latent).amin(dim=0) - log_prob
    assert targets[0, 1].item() == pytest.approx(1.5 + 0.99 * value[0, 1].item(), rel=1e-5)
    assert abs(targets[0, 1].item() - 1.5) > 1e-3


# The agent in the loop ------------------------------------------------------------------------------------


@pytest.fixture
def point() -> tuple[Any, Any, list[Task]]:
    """Environments of point-robot; some goals are one step away, so that episodes end early."""
    family = make_family("point-robot")
    envs = family.make_envs(4, 3, 20)
    goals = ((0.05, 0.05), (-0.05, 0.05), (0.05, -0.05), (0.3, 0.2))
    return family, envs, [Task.of("point-robot", goal=goal) for goal in goals]


def one_iteration(agent: Pearl, envs: Any, tasks: list[Task], streams: Streams) -> MetaBatch:
    envs.set_tasks(tasks)
    state, trajectories = agent.begin(tasks, envs.episodes), []
    for k in range(agent.adaptation_steps + 1):
        if k:
            state = agent.adapt(state, trajectories[-1])
        collected, state = collect(envs, agent, state, streams)
        trajectories.append(collected)
    return MetaBatch(tuple(tasks), tuple(trajectories))


def test_with_little_memory_the_tasks_take_turns_to_the_same_result(point, monkeypatch) -> None:
    _, envs, tasks = point
    batch = one_iteration(small_agent(envs.spaces), envs, tasks, Streams(0))
    ends = []
    for size in (3, 1):
        chunks = [slice(i, i + size) for i in range(0, 3, size)]
        monkeypatch.setattr(pearl, "chunks_that_fit", lambda *_, chunks=chunks: chunks)
        agent = small_agent(envs.spaces, tune_temperature=True)
        metrics = agent.meta_update(batch)
        ends.append((agent._parameters, metrics))
    for together, one_by_one in zip(ends[0][0], ends[1][0], strict=True):
        torch.testing.assert_close(one_by_one, together, rtol=1e-4, atol=1e-5)
    assert ends[1][1] == pytest.approx(ends[0][1], rel=1e-4)


@pytest.mark.parametrize("tune", [False, True])
def test_a_gradient_step_is_adam_on_these_losses_and_the_targets_follow(point, monkeypatch, tune: bool) -> None:
    """Policy and temperature learn from the critics after their own step, and the targets move by tau."""
    _, envs, tasks = point
    agent = small_agent(envs.spaces, tune_temperature=tune)
    agent._store(one_iteration(agent, envs, tasks, Streams(0)))
    before = Parameters(*(t.detach().clone().requires_grad_() for t in agent._parameters))
    twin = np.random.default_rng(0).spawn(1)[0]
    twin.bit_generator.state = agent._rng.bit_generator.state
    numbers = agent._learn_from(agent._draw(3), [slice(0, 2), slice(2, 3)])
    after = agent._parameters

    slots = twin.choice(4, 3, replace=False)
    chosen, share = agent._context.draw(slots, 6, twin)
    positions = twin.integers(0, agent._replay.sizes[slots, None], size=(3, 8))
    context = agent._unpack(agent._context.gather(chosen))
    weight, batch = torch.tensor(share), agent._unpack(agent._replay.gather(slots, positions))
    noise = Noise(*(torch.tensor(twin.standard_normal(s, dtype=np.float32)) for s in ((3, 3), (3, 8, 2), (3, 8, 2))))
    first = reference.losses(agent._networks, before, context, weight, batch, noise, agent.config)
    gradients = dict(
        zip(
            ("encoder", "critics"),
            torch.autograd.grad(first.critic + 0.1 * first.kl, [before.encoder, before.critics], retain_graph=True),
            strict=True,
        )
    )
    # The same z as above, since the policy's loss uses the one that was drawn before the encoder's step.
    second = reference.losses(
        agent._networks, before._replace(critics=after.critics), context, weight, batch, noise, agent.config
    )
    (gradients["policy"],) = torch.autograd.grad(second.policy, before.policy, retain_graph=True)
    (gradients["log_temperature"],) = torch.autograd.grad(second.temperature, before.log_temperature)
    place = {"encoder": "values.0", "critics": "values.1", "policy": "actions.0", "log_temperature": "actions.1"}
    for name, gradient in gradients.items():
        expected = getattr(before, name).detach().clone().requires_grad_()
        if name != "log_temperature" or tune:
            moments = agent.tensors()[f"adam.{place[name]}.exp_avg"]
            torch.testing.assert_close(moments, 0.1 * gradient, rtol=1e-3, atol=1e-6)
            expected.grad = moments / 0.1
            torch.optim.Adam([expected], lr=3e-4).step()
        torch.testing.assert_close(getattr(after, name), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        after.targets, (0.995 * before.targets + 0.005 * after.critics).detach(), rtol=1e-6, atol=1e-8
    )
    assert numbers[0].item() == pytest.approx(first.critic.item(), rel=1e-4)
    assert numbers[1].item() == pytest.approx(second.policy.item(), rel=1e-4)


def held(buffer: TaskReplay, slot: int) -> np.ndarray:
    return buffer.gather(np.array([slot]), np.arange(buffer.sizes[slot])[None])[0].numpy()


def test_the_replay_gets_every_step_that_happened_and_no_padding(point) -> None:
    _, envs, tasks = point
    agent = small_agent(envs.spaces, replay_size=500, warmup_iterations=9)
    batch = one_iteration(agent, envs, tasks, Streams(0))
    agent.meta_update(batch)
    assert not all(t.mask.all() for t in batch.collects), "some episodes ended early"
    for m, task in enumerate(tasks):
        slot = agent._slots[task]
        happened = np.concatenate([agent._rows(t)[m][t.mask[m]] for t in batch.collects])
        assert np.array_equal(held(agent._replay, slot), happened)


@pytest.mark.parametrize("again", [False, True], ids=["each task once", "tasks twice"])
def test_the_encoder_learns_from_beliefs_like_those_it_will_act_on(point, again: bool) -> None:
    """The divergence reported is that of each trial's own belief after 1 to K + 1 episodes, all of them as likely.

    No parameter moves visibly, and drawing rows blurs the numbers by little: the belief's confidence is that of as
    many rows as there are, whether a task was collected before, and whether it stands twice in the batch.
    """
    _, envs, tasks = point
    agent = small_agent(envs.spaces, learning_rate=1e-12, gradient_steps=400, context_batch=25, meta_batch=4)
    first = one_iteration(agent, envs, tasks, Streams(0))
    batch = one_iteration(agent, envs, [tasks[0], tasks[3]] * 2 if again else tasks, Streams(1))
    agent.config, still = replace(agent.config, gradient_steps=1), agent.config
    agent.meta_update(first)
    agent.config = still
    reported = agent.meta_update(batch)["update/kl"]

    def divergences(collection: MetaBatch, rows: list[int]) -> float:
        """Mean over rows of the collection, their trials, and numbers of episodes."""
        state, found = agent.begin(collection.tasks, 3), []
        for t in collection.collects:
            state = agent.adapt(state, t)
            found.append(pearl.kl_from_prior(*pearl.posterior(state.precision, state.weighted_mean))[rows].mean())
        return float(torch.stack(found).mean())

    newest = (
        [divergences(batch, [0, 2]), divergences(first, [1]), divergences(first, [2]), divergences(batch, [1, 3])]
        if again
        else [divergences(batch, [0, 1, 2, 3])]
    )
    assert reported == pytest.approx(np.mean(newest), rel=0.03)


def test_the_replay_holds_every_collection(point) -> None:
    _, envs, tasks = point
    agent = small_agent(envs.spaces, replay_size=1000, warmup_iterations=9)
    first = one_iteration(agent, envs, tasks, Streams(0))
    second = one_iteration(agent, envs, [tasks[0], tasks[0], tasks[1], tasks[1]], Streams(1))
    agent.meta_update(first)
    agent.meta_update(second)
    steps = lambda batch, m: sum(int(t.mask[m].sum()) for t in batch.collects)  # noqa: E731
    every = [steps(second, 0) + steps(second, 1), steps(second, 2) + steps(second, 3), 0, 0]
    assert agent._replay.sizes[:4].tolist() == [steps(first, m) + every[m] for m in range(4)]


def test_more_tasks_than_the_replay_has_room_for_are_refused_before_anything_is_stored(point) -> None:
    _, envs, tasks = point
    agent = small_agent(envs.spaces, replay_tasks=3)
    batch = one_iteration(agent, envs, tasks, Streams(0))
    with pytest.raises(ValueError, match=r"got 4 training tasks, expected at most replay_tasks = 3.*--train-tasks"):
        agent.meta_update(batch)
    assert not agent._slots
    assert not agent._replay.sizes.any()


def test_no_parameter_moves_during_the_warm_up(point) -> None:
    _, envs, tasks = point
    agent = small_agent(envs.spaces, warmup_iterations=1)
    batch = one_iteration(agent, envs, tasks, Streams(0))
    start = [t.detach().clone() for t in agent._parameters]
    assert "update/kl" not in agent.meta_update(batch)
    assert all(torch.equal(s, t) for s, t in zip(start, agent._parameters, strict=True))
    metrics = agent.meta_update(batch)
    assert all(np.isfinite(v) for v in metrics.values())
    moved = [not torch.equal(s, t) for s, t in zip(start, agent._parameters, strict=True)]
    assert moved == [True, True, True, True, False], "the temperature is fixed unless it is tuned"


def test_adapting_adds_each_episode_to_its_own_environments_posterior(point) -> None:
    _, envs, tasks = point
    agent = small_agent(envs.spaces)
    batch = one_iteration(agent, envs, tasks, Streams(0))
    state = agent.begin(tasks, 3)
    for t in batch.collects[:2]:
        state = agent.adapt(state, t)
    mean, variance = pearl.posterior(state.precision, state.weighted_mean)
    for m in range(4):
        for e in range(3):
            rows = np.concatenate([agent._rows(t)[m, e][t.mask[m, e]] for t in batch.collects[:2]])
            context = agent._unpack(torch.tensor(rows)[None])
            belief = reference.task_posterior(agent._networks, agent._parameters.encoder, context, 0)
            torch.testing.assert_close(mean[m, e], belief.mean, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(variance[m, e], belief.variance, rtol=1e-4, atol=1e-6)
    assert agent.episodes_per_adaptation(3) == 1


def test_z_is_drawn_from_the_posterior_at_the_first_step_and_kept_for_the_episode(spaces: Spaces) -> None:
    agent = small_agent(spaces)
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


def test_actions_of_the_policy_fill_the_bounds_of_the_environment(spaces: Spaces) -> None:
    agent = small_agent(spaces)
    outputs = np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [0.5, -0.5]], dtype=np.float32)
    expected = [[-1, -2], [0, 1], [1, 4], [0.5, -0.5]]
    assert np.allclose(agent._to_environment(outputs), expected)


def test_saved_and_restored_it_goes_on_bit_for_bit(point, tmp_path: Path) -> None:
    _, envs, tasks = point
    settings = {"tune_temperature": True, "replay_size": 90}
    agent, twin = small_agent(envs.spaces, **settings), small_agent(envs.spaces, seed=5, **settings)
    streams = Streams(0)
    for i in range(2):
        agent.meta_update(one_iteration(agent, envs, tasks[i:], streams) if not i else later(agent, tasks, streams))
    assert agent._replay.sizes.max() == 90, "the ring has gone round"
    save_checkpoint(tmp_path, agent, streams, Progress(2, 1), keep=2)
    other = Streams(9)
    twin.meta_update(later(twin, tasks[:2], other))  # what it held before is forgotten
    assert load_newest(tmp_path, twin, other) == (Progress(2, 1), [])
    assert json.loads(json.dumps(agent.counters())) == agent.counters() == twin.counters()
    new = [*tasks[2:], Task.of("point-robot", goal=(0.4, 0.4))]
    results = [one.meta_update(later(one, new, s)) for one, s in ((agent, streams), (twin, other))]
    assert results[0] == results[1]
    mine, theirs = agent.tensors(), twin.tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert agent.counters() == twin.counters()
    assert len(agent._slots) == 5


def test_a_checkpoint_from_before_episodes_were_kept_apart_is_gone_on_with(point) -> None:
    """It holds a ring buffer per trial and says how many trials of each task there are."""
    _, envs, tasks = point
    agent, twin = small_agent(envs.spaces), small_agent(envs.spaces, seed=5)
    agent.meta_update(one_iteration(agent, envs, tasks, Streams(0)))
    tensors, counters = agent.tensors(), {**agent.counters(), "trials": 3}
    contexts = {name: tensors.pop(f"context.{name}") for name in ("rows", "trials", "ends")}
    tensors |= {"context.rows": contexts["rows"].flatten(0, 1), "context.sizes": contexts["ends"][..., -1].flatten()}
    tensors["context.next"] = tensors["context.sizes"]
    twin.restore(tensors, counters)
    assert torch.equal(twin.tensors()["context.rows"], contexts["rows"])
    assert twin.tensors()["context.ends"].tolist() == contexts["ends"][..., -1:].expand(-1, -1, 3).tolist()
    assert all(torch.equal(a, b) for a, b in zip(twin._parameters, agent._parameters, strict=True))
    metrics = twin.meta_update(later(twin, tasks[:2], Streams(1)))
    assert all(np.isfinite(v) for v in metrics.values())


def later(agent: Pearl, tasks: list[Task], streams: Streams) -> MetaBatch:
    envs = make_family("point-robot").make_envs(len(tasks), 3, 20)
    return one_iteration(agent, envs, tasks, streams)


def test_a_checkpoint_of_another_configuration_is_refused_and_nothing_changes(point) -> None:
    _, envs, tasks = point
    agent = small_agent(envs.spaces)
    agent.meta_update(one_iteration(agent, envs, tasks, Streams(0)))
    for settings in ({"hidden": (4,)}, {"replay_size": 50}, {"replay_tasks": 3}):
        other = small_agent(envs.spaces, seed=1, **settings)
        before = other.tensors()
        with pytest.raises(ValueError, match=r"checkpoint of pearl|replay 'replay'"):
            other.restore(agent.tensors(), agent.counters())
        assert all(torch.equal(before[name], t) for name, t in other.tensors().items())


def test_the_seed_decides_the_parameters_and_the_learners_draws(spaces: Spaces) -> None:
    one, same, other = (small_agent(spaces, seed=s) for s in (0, 0, 1))
    assert torch.equal(one._parameters.critics, same._parameters.critics)
    assert not torch.equal(one._parameters.critics, other._parameters.critics)
    assert not torch.equal(one._parameters.critics[0], one._parameters.critics[1]), "two critics, not one twice"
    assert torch.equal(one._parameters.critics, one._parameters.targets)
    assert one.counters() == same.counters() != other.counters()


def test_discrete_and_unbounded_actions_are_refused(spaces: Spaces, discrete_spaces: Spaces) -> None:
    with pytest.raises(ValueError, match=r"pearl: got 4 discrete actions, expected continuous actions"):
        small_agent(discrete_spaces)
    with pytest.raises(ValueError, match=r"pearl: got action bounds .*inf.*expected finite"):
        small_agent(replace(spaces, action_high=(1.0, float("inf"))))


def test_a_saved_policy_can_be_used_without_metarl(point, tmp_path: Path) -> None:
    _, envs, tasks = point
    agent = small_agent(envs.spaces)
    batch = one_iteration(agent, envs, tasks, Streams(0))
    state = agent.adapt(agent.begin(tasks, 3), batch.collects[0])
    agent.save_policy(state, tmp_path / "policy.safetensors", task=2)
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    mean, variance = pearl.posterior(state.precision, state.weighted_mean)
    assert torch.equal(tensors["latent"], mean[2, 0])
    assert torch.equal(tensors["latent_variance"], variance[2, 0])
    observation = torch.tensor([0.3, -0.2])
    x = torch.cat([observation, tensors["latent"]])
    for i in range(3):
        x = x @ tensors[f"weight_{i}"] + tensors[f"bias_{i}"]
        x = torch.relu(x) if i < 2 else x
    with torch.no_grad():
        got, _ = agent._networks.policy(agent._parameters.policy, observation.expand(4, 3, 2), mean)
    torch.testing.assert_close(got[2, 0], x[:2])
    assert description["distribution"] == "tanh-gaussian"
    assert tensors["action_high"].tolist() == pytest.approx([0.1, 0.1])
