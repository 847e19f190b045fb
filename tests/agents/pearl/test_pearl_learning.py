"""PEARL's update: what it stores, what it draws, and the order of a gradient step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.agents import pearl
from metarl.agents.pearl import Parameters
from metarl.learning.experience.replay import TaskReplay
from metarl.learning.networks.context_encoder import kl_from_prior, posterior
from metarl.scripts.reference import pearl as reference
from metarl.scripts.reference.pearl import Noise
from metarl.seeding import Streams
from metarl.types import MetaBatch


def test_with_little_memory_the_tasks_take_turns_to_the_same_result(point, monkeypatch) -> None:
    tasks = point.tasks
    batch = point.iteration(point.agent(), tasks, Streams(0))
    ends = []
    for size in (3, 1):
        chunks = [slice(i, i + size) for i in range(0, 3, size)]
        monkeypatch.setattr(pearl, "chunks_that_fit", lambda *_, chunks=chunks: chunks)
        agent = point.agent(tune_temperature=True)
        metrics = agent.meta_update(batch)
        ends.append((agent.parameters, metrics))
    for together, one_by_one in zip(vars(ends[0][0]).values(), vars(ends[1][0]).values(), strict=True):
        torch.testing.assert_close(one_by_one, together, rtol=1e-4, atol=1e-5)
    assert ends[1][1] == pytest.approx(ends[0][1], rel=1e-4)


@pytest.mark.parametrize("tune", [False, True])
def test_a_gradient_step_is_adam_on_these_losses_and_the_targets_follow(point, monkeypatch, tune: bool) -> None:
    """Policy and temperature learn from the critics after their own step, and the targets move by tau."""
    tasks = point.tasks
    agent = point.agent(tune_temperature=tune)
    agent.buffers.store(point.iteration(agent, tasks, Streams(0)))
    before = Parameters(**{n: t.detach().clone().requires_grad_() for n, t in vars(agent.parameters).items()})
    twin = np.random.default_rng(0).spawn(1)[0]
    twin.bit_generator.state = agent.rng.bit_generator.state
    numbers = agent._gradient_step(agent.draw(3), [slice(0, 2), slice(2, 3)])
    after = agent.parameters
    networks = (agent.encoder, agent.actor_critic)

    slots = twin.choice(4, 3, replace=False)
    chosen, share = agent.buffers.contexts.draw(slots, 6, twin)
    positions = twin.integers(0, agent.buffers.replay.sizes[slots, None], size=(3, 8))
    context = agent.buffers.unpack(agent.buffers.contexts.gather(chosen))
    weight, batch = torch.tensor(share), agent.buffers.unpack(agent.buffers.replay.gather(slots, positions))
    noise = Noise(*(torch.tensor(twin.standard_normal(s, dtype=np.float32)) for s in ((3, 3), (3, 8, 2), (3, 8, 2))))
    first = reference.losses(*networks, before, context, weight, batch, noise, agent.config)
    gradients = dict(
        zip(
            ("encoder", "critics"),
            torch.autograd.grad(first.critic + 0.1 * first.kl, [before.encoder, before.critics], retain_graph=True),
            strict=True,
        )
    )
    # The same z as above, since the policy's loss uses the one that was drawn before the encoder's step.
    second = reference.losses(
        *networks, replace(before, critics=after.critics), context, weight, batch, noise, agent.config
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
    tasks = point.tasks
    agent = point.agent(replay_size=500, warmup_iterations=9)
    batch = point.iteration(agent, tasks, Streams(0))
    agent.meta_update(batch)
    assert not all(t.mask.all() for t in batch.collects), "some episodes ended early"
    for m, task in enumerate(tasks):
        slot = agent.buffers.slots[task]
        happened = np.concatenate([agent.buffers.rows(t)[m][t.mask[m]] for t in batch.collects])
        assert np.array_equal(held(agent.buffers.replay, slot), happened)


@pytest.mark.parametrize("again", [False, True], ids=["each task once", "tasks twice"])
def test_the_encoder_learns_from_beliefs_like_those_it_will_act_on(point, again: bool) -> None:
    """The divergence reported is that of each trial's own belief after 1 to K + 1 episodes, all of them as likely.

    No parameter moves visibly, and drawing rows blurs the numbers by little: the belief's confidence is that of as
    many rows as there are, whether a task was collected before, and whether it stands twice in the batch.
    """
    tasks = point.tasks
    agent = point.agent(learning_rate=1e-12, gradient_steps=400, context_batch=25, meta_batch=4)
    first = point.iteration(agent, tasks, Streams(0))
    batch = point.iteration(agent, [tasks[0], tasks[3]] * 2 if again else tasks, Streams(1))
    agent.config, still = replace(agent.config, gradient_steps=1), agent.config
    agent.meta_update(first)
    agent.config = still
    reported = agent.meta_update(batch)["update/kl"]

    def divergences(collection: MetaBatch, rows: list[int]) -> float:
        """Mean over rows of the collection, their trials, and numbers of episodes."""
        state, found = agent.begin(collection.tasks, 3), []
        for t in collection.collects:
            state = agent.adapt(state, t)
            found.append(kl_from_prior(*posterior(state.precision, state.weighted_mean))[rows].mean())
        return float(torch.stack(found).mean())

    newest = (
        [divergences(batch, [0, 2]), divergences(first, [1]), divergences(first, [2]), divergences(batch, [1, 3])]
        if again
        else [divergences(batch, [0, 1, 2, 3])]
    )
    assert reported == pytest.approx(np.mean(newest), rel=0.03)


def test_the_replay_holds_every_collection(point) -> None:
    tasks = point.tasks
    agent = point.agent(replay_size=1000, warmup_iterations=9)
    first = point.iteration(agent, tasks, Streams(0))
    second = point.iteration(agent, [tasks[0], tasks[0], tasks[1], tasks[1]], Streams(1))
    agent.meta_update(first)
    agent.meta_update(second)
    steps = lambda batch, m: sum(int(t.mask[m].sum()) for t in batch.collects)  # noqa: E731
    every = [steps(second, 0) + steps(second, 1), steps(second, 2) + steps(second, 3), 0, 0]
    assert agent.buffers.replay.sizes[:4].tolist() == [steps(first, m) + every[m] for m in range(4)]


def test_more_tasks_than_the_replay_has_room_for_are_refused_before_anything_is_stored(point) -> None:
    tasks = point.tasks
    agent = point.agent(replay_tasks=3)
    batch = point.iteration(agent, tasks, Streams(0))
    with pytest.raises(ValueError, match=r"got 4 training tasks, expected at most replay_tasks = 3.*--train-tasks"):
        agent.meta_update(batch)
    assert not agent.buffers.slots
    assert not agent.buffers.replay.sizes.any()


def test_no_parameter_moves_during_the_warm_up(point) -> None:
    tasks = point.tasks
    agent = point.agent(warmup_iterations=1)
    batch = point.iteration(agent, tasks, Streams(0))
    start = {name: t.detach().clone() for name, t in vars(agent.parameters).items()}
    assert "update/kl" not in agent.meta_update(batch)
    assert all(torch.equal(start[name], t) for name, t in vars(agent.parameters).items())
    metrics = agent.meta_update(batch)
    assert all(np.isfinite(v) for v in metrics.values())
    moved = {name for name, t in vars(agent.parameters).items() if not torch.equal(start[name], t)}
    assert moved == {"encoder", "policy", "critics", "targets"}, "the temperature is fixed unless it is tuned"
