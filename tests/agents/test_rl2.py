from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.rl2 import Rl2, Rl2Config
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.experience.trials import pack_trials
from metarl.learning.networks.cells.table import CELLS
from metarl.learning.networks.sequence import unroll
from metarl.registry import make_family
from metarl.rollout import TrajectoryBuilder, collect
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.types import MetaBatch, Progress, Spaces, Step, Task, Trajectories

LENGTHS = [[[5, 2], [1, 5], [3, 4]], [[4, 5], [5, 1], [5, 5]], [[5, 5], [2, 3], [1, 5]]]
"""Steps of the episodes `[K + 1, M, E]`, horizon 5: many end early."""


def make(spaces: Spaces, seed: int = 0, **settings: Any) -> Rl2:
    """A small agent none of whose parameters is zero."""
    config = Rl2Config(**{"units": 8, "encoder": (5,), "episodes_per_trial": 3, **settings})
    agent = Rl2(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: t + 0.3 * torch.randn(t.shape, generator=generator) if name.startswith("parameters") else t
        for name, t in agent.tensors().items()
    }
    agent.restore(tensors, agent.counters())
    return agent


def batch_of(trajectories: list[Trajectories]) -> MetaBatch:
    tasks = tuple(Task.of("noise", number=i) for i in range(len(trajectories[0].mask)))
    return MetaBatch(tasks, tuple(trajectories))


def step_of(agent: Rl2, m: int, e: int, **changes: Any) -> Step:
    """A step in the middle of an episode."""
    rng = np.random.default_rng(8)
    step = Step(
        observation=rng.standard_normal((m, e, agent.spaces.observation_size)).astype(np.float32),
        previous_action=np.full((m, e, agent.spaces.action_size), 1.0, dtype=np.float32),
        previous_reward=np.full((m, e), 2.0, dtype=np.float32),
        first=np.zeros((m, e), dtype=np.bool_),
        live=np.ones((m, e), dtype=np.bool_),
    )
    return replace(step, **changes)


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


MEMORIES: list[dict[str, Any]] = [*({"cell": cell} for cell in CELLS), {"aggregate": "max"}]
MEMORIES += [{"head": "hypernetwork"}, {"head": "hypernetwork", "aggregate": "max", "hidden": (4,)}]


def tolerance(memory: dict[str, Any]) -> float:
    """Rounding; the layers of attention and snail are several, and their random parameters make larger numbers."""
    return 1e-4 if memory.get("cell") in ("attention", "snail") else 1e-5


every_memory = pytest.mark.parametrize("memory", MEMORIES, ids=lambda m: " ".join(map(str, m.values())))


@every_memory
@pytest.mark.parametrize("normalise", [False, True], ids=["raw", "normalised observations"])
def test_learning_reproduces_the_log_probabilities_and_values_of_acting(
    some_spaces: Spaces, play: Callable[..., Any], memory: dict[str, Any], normalise: bool
) -> None:
    agent = make(some_spaces, normalise_observations=normalise, **memory)
    agent.meta_update(batch_of(play(agent, LENGTHS, seed=7)))  # so that there are statistics
    trials = pack_trials(play(agent, LENGTHS))
    samples = agent._samples(trials)
    with torch.no_grad():
        distribution, values = unroll(agent.network, agent._trial_inputs(trials))
    live = samples.mask.bool()
    assert 0 < live.sum() < live.numel(), "some trials are shorter than others"
    off = tolerance(memory)
    torch.testing.assert_close(
        distribution.log_prob(samples.actions)[live], samples.log_probs[live], atol=off, rtol=off
    )
    torch.testing.assert_close(values[live], samples.values[live], atol=off, rtol=off)
    ratio = torch.exp(distribution.log_prob(samples.actions) - samples.log_probs)[live]
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=off, rtol=0)
    assert values[live].std() > 0.05, "the network is no constant"


def test_feedback_is_action_reward_and_done_of_the_step_before_and_nothing_at_the_start(spaces, play) -> None:
    """Bounds (-1, 1) and (-2, 4); the second episode's first step is told of the first one's last."""
    agent = make(spaces, reward_input_scale=0.1)
    trajectories = play(agent, LENGTHS)
    x = agent._trial_inputs(pack_trials(trajectories)).numpy()
    assert not x[:, 0, 3:].any()
    for row, (task, episode) in enumerate(np.ndindex(3, 2)):
        position = 0
        for k, t in enumerate(trajectories):
            for step in range(LENGTHS[k][task][episode]):
                assert np.array_equal(x[row, position, :3], t.observations[task, episode, step])
                if position:
                    from_k, at = (k, step - 1) if step else (k - 1, LENGTHS[k - 1][task][episode] - 1)
                    action = trajectories[from_k].actions[task, episode, at]
                    reward = trajectories[from_k].rewards[task, episode, at]
                    expected = [action[0], (action[1] - 1) / 3, 0.1 * reward, float(step == 0)]
                    assert x[row, position, 3:] == pytest.approx(expected, abs=1e-6)
                position += 1


def test_a_choice_is_fed_back_one_hot_and_none_at_the_start(discrete_spaces: Spaces, play) -> None:
    agent = make(discrete_spaces)
    trajectories = play(agent, LENGTHS)
    x = agent._trial_inputs(pack_trials(trajectories)).numpy()
    assert x.shape[-1] == 3 + 4 + 2
    assert not x[:, 0, 3:].any()
    assert np.array_equal(np.argmax(x[0, 1:5, 3:7], axis=-1), trajectories[0].actions[0, 0, :4, 0])
    assert np.array_equal(x[0, 1:5, 3:7].sum(axis=-1), np.ones(4))


def test_padded_steps_teach_nothing(spaces: Spaces, play) -> None:
    ends = []
    for junk in (0.0, 9.0):
        agent = make(spaces, normalise_observations=True, entropy_weight=0.01)
        polluted = []
        for t in play(agent, LENGTHS):
            pad = ~t.mask
            assert pad.any()
            polluted.append(
                replace(
                    t,
                    actions=np.where(pad[..., None], junk, t.actions),
                    rewards=np.where(pad, junk, t.rewards),
                    extras={
                        k: np.where(pad.reshape(*pad.shape, *[1] * (v.ndim - 3)), junk, v) for k, v in t.extras.items()
                    },
                )
            )
        agent.meta_update(batch_of(polluted))
        ends.append(agent.tensors())
    assert ends[0]["return_moments.count"].item() == np.sum(LENGTHS)
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name


def test_rewards_are_divided_by_the_deviation_of_the_trials_returns(spaces: Spaces, play) -> None:
    agent = make(spaces, gamma=0.5, gae_lambda=1.0, normalise_advantages=False, finite_trials=True)
    trajectories = play(agent, LENGTHS)
    agent.meta_update(batch_of(trajectories))
    trials, returns = pack_trials(trajectories), []
    for rewards, mask in zip(trials.rewards, trials.mask, strict=True):
        real = rewards[mask].astype(float)
        returns.append([sum(0.5**i * r for i, r in enumerate(real[t:])) for t in range(len(real))])
    std = np.concatenate(returns).std()
    assert agent._return_moments.scale == pytest.approx(std)
    targets = agent._samples(trials).targets.numpy()  # with lambda 1 the targets are the returns
    assert targets[0, : len(returns[0])] == pytest.approx(np.array(returns[0]) / std, abs=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm", "mingru", "s5"])
def test_what_a_trial_cut_by_the_clock_had_left_is_the_value_of_going_on(spaces: Spaces, cell: str) -> None:
    agent = make(spaces, episodes_per_trial=2, cell=cell, normalise_rewards=False, gamma=0.5, gae_lambda=0.0)
    rng, state, episodes = np.random.default_rng(0), agent.begin([Task.of("noise")], 2), []
    for k in range(2):
        if k:
            state = agent.adapt(state, episodes[-1])
        builder = TrajectoryBuilder(1, 2, spaces, rng.standard_normal((1, 2, 3)))
        for t in range(spaces.horizon):
            action, state = agent.act(state, builder.step, rng)
            ended = np.array([[False, k == 1 and t == 2]])  # the second row's last episode ends by itself
            seen = rng.standard_normal((1, 2, 3))
            builder.add(action, seen, rng.standard_normal((1, 2)), ended, np.full((1, 2), t == 4) & ~ended)
        episodes.append(builder.build())
    going_on, _ = agent.act(state, builder.step, rng)
    trials = pack_trials(episodes)
    values = agent._final_values(trials)
    assert values[0] == pytest.approx(going_on.extras["value"][0, 0], abs=1e-6)
    targets = agent._samples(trials).targets.numpy()
    assert targets[0, 9] == pytest.approx(trials.rewards[0, 9] + 0.5 * values[0], abs=1e-5)
    assert targets[1, 7] == pytest.approx(trials.rewards[1, 7], abs=1e-5), "a termination leaves nothing to earn"


@pytest.mark.parametrize("span", [0, 1, 4])
def test_gradients_flow_back_through_that_many_steps_of_the_trial(spaces: Spaces, play, span: int) -> None:
    """The value of the tenth step depends on the inputs since the last multiple of the span, and on all for 0."""
    agent = make(spaces, backpropagation_steps=span)
    trials = pack_trials(play(agent, LENGTHS))
    x = agent._trial_inputs(trials).requires_grad_()
    agent._trial_inputs = lambda _: x
    _, inputs = agent._to_learn_from(trials, agent._samples(trials))
    _, values = agent._forward(*(t[:1] for t in inputs))
    values[0, 9].backward()
    reached = np.flatnonzero(x.grad[0].abs().sum(dim=-1).numpy())
    assert reached.tolist() == {0: list(range(10)), 1: [9], 4: [8, 9]}[span]


@pytest.mark.parametrize("cut", [False, True])
def test_targets_are_returns_to_the_end_of_the_trial_or_of_the_episode(spaces: Spaces, play, cut: bool) -> None:
    """With lambda 1 and nothing after an end, by hand: discount 0.5 over the rewards that are left."""
    settings = {"gamma": 0.5, "gae_lambda": 1.0, "finite_trials": True, "normalise_rewards": False}
    agent = make(spaces, episodes_cut_returns=cut, **settings)
    trajectories = play(agent, LENGTHS)
    samples = agent._samples(pack_trials(trajectories))
    for row, (task, episode) in enumerate(np.ndindex(3, 2)):
        pieces = [t.rewards[task, episode][t.mask[task, episode]].astype(float) for t in trajectories]
        pieces = pieces if cut else [np.concatenate(pieces)]
        expected = [sum(0.5**i * r for i, r in enumerate(piece[t:])) for piece in pieces for t in range(len(piece))]
        assert samples.targets[row, : len(expected)].numpy() == pytest.approx(np.array(expected), abs=1e-5)


@every_memory
def test_segments_learn_as_whole_trials_do_until_the_parameters_change(
    some_spaces: Spaces, play, memory: dict[str, Any]
) -> None:
    """The same values, and the gradient of back-propagation cut at the segments; padding and empty ones left out."""
    agent = make(some_spaces, segment_steps=4, **memory)
    trials = pack_trials(play(agent, LENGTHS))
    samples, x = agent._samples(trials), agent._trial_inputs(trials)
    parts, inputs = agent._to_learn_from(trials, samples)
    assert parts.mask.shape[1:] == (4,)
    assert parts.mask.any(dim=1).all()
    assert parts.mask.sum() == samples.mask.sum()
    gradients = []
    for (distribution, values), part in (
        (agent._forward(*inputs), parts),
        (unroll(agent.network, x, 4), samples),
    ):
        happened = part.mask > 0
        log_probs = distribution.log_prob(part.actions)[happened]
        torch.testing.assert_close(log_probs.detach(), part.log_probs[happened], rtol=0.0, atol=tolerance(memory))
        torch.testing.assert_close(values.detach()[happened], part.values[happened], rtol=0.0, atol=tolerance(memory))
        objective = (log_probs * part.advantages[happened] + values[happened].square()).sum()
        gradients.append(torch.autograd.grad(objective, list(agent.network.parameters()), allow_unused=True))
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=tolerance(memory))


@every_memory
def test_a_restored_agent_goes_on_bit_for_bit(
    tmp_path: Path, some_spaces: Spaces, play, memory: dict[str, Any]
) -> None:
    settings = {**memory, "normalise_observations": True}
    agent, twin = make(some_spaces, **settings), make(some_spaces, 5, **settings)
    agent.meta_update(batch_of(play(agent, LENGTHS)))
    save_checkpoint(tmp_path, agent, Streams(0), Progress(1, 1), keep=2)
    assert load_newest(tmp_path, twin)[0] == Progress(1, 1)
    for one in (agent, twin):
        one.meta_update(batch_of(play(one, LENGTHS, seed=3)))
    assert agent.counters() == twin.counters()
    assert agent.tensors()["adam.0.step"].item() == 2 * 5 * 4
    for name, tensor in agent.tensors().items():
        assert torch.equal(tensor, twin.tensors()[name]), name


def test_a_checkpoint_of_another_size_is_refused(spaces: Spaces) -> None:
    agent, other = make(spaces), make(spaces, units=7)
    with pytest.raises(ValueError, match=r"checkpoint of rl2.*made by a run with other sizes: '.*' has the shape"):
        agent.restore(other.tensors(), other.counters())


def test_an_exported_policy_has_network_memory_and_description(tmp_path: Path, spaces: Spaces) -> None:
    agent = make(spaces, normalise_observations=True)
    _, state = agent.act(agent.begin([Task.of("noise")] * 2, 3), step_of(agent, 2, 3), np.random.default_rng(0))
    agent.save_policy(state, tmp_path / "policy.safetensors", task=1)
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    assert torch.equal(tensors["memory"], state.content[None, 3:])
    assert torch.equal(tensors["feedback"], torch.tensor(state.feedback[1]))
    assert torch.equal(tensors["network.policy.log_std"], agent.tensors()["parameters.policy.log_std"])
    assert tensors["action_high"].tolist() == [1.0, 4.0]
    assert "observation.mean" in tensors
    assert json.dumps(description)
    assert (description["format"], description["cell"]) == (1, "gru")


def test_an_agent_that_must_remember_the_first_episode_learns_to(tmp_path: Path) -> None:
    """A bandit of two arms: the first pull is a guess, the second can be right every time (Duan et al., 3.1)."""
    spaces = Spaces(observation_size=1, action_low=(0.0,), action_high=(1.0,), horizon=1, choices=2)
    config = Rl2Config(units=16, encoder=(), learning_rate=0.01, minibatches=2, gamma=1.0, finite_trials=True)
    agent = Rl2(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    rng, m = np.random.default_rng(1), 64
    means = []
    for _ in range(30):
        good = rng.integers(2, size=(m, 1))
        state, trajectories = agent.begin([Task.of("bandit", arm=float(a)) for a in good[:, 0]], 1), []
        for k in range(2):
            if k:
                state = agent.adapt(state, trajectories[-1])
            zeros = np.zeros((m, 1, 1), dtype=np.float32)
            step = Step(zeros, zeros, zeros[..., 0], np.ones((m, 1), np.bool_), np.ones((m, 1), np.bool_))
            action, state = agent.act(state, step, rng)
            reward = (action.environment[..., 0] == good).astype(np.float32)
            trajectories.append(
                Trajectories(
                    all_observations=np.zeros((m, 1, 2, 1), dtype=np.float32),
                    actions=action.environment[:, :, None],
                    rewards=reward[:, :, None],
                    terminated=np.zeros((m, 1, 1), dtype=np.bool_),
                    truncated=np.ones((m, 1, 1), dtype=np.bool_),
                    mask=np.ones((m, 1, 1), dtype=np.bool_),
                    success=None,
                    diverged=np.zeros((m, 1), dtype=np.bool_),
                    extras={name: value[:, :, None] for name, value in action.extras.items()},
                )
            )
        agent.meta_update(batch_of(trajectories))
        means.append([float(t.rewards.mean()) for t in trajectories])
    first, second = np.mean(means[-5:], axis=0)
    assert 0.35 < first < 0.65
    assert second > 0.95


def test_it_trains_and_adapts_further_than_it_was_trained_to_on_a_real_family(spaces: Spaces) -> None:
    family = make_family("point-robot")
    envs, streams = family.make_envs(2, 2, 10), Streams(0)
    agent = make(envs.spaces, episodes_per_trial=2, action_scale=0.3)
    tasks = [Task.of("point-robot", goal=goal) for goal in ((0.1, 0.1), (-0.3, 0.2))]
    envs.set_tasks(tasks)
    state, trajectories = agent.begin(tasks, 2), []
    for k in range(4):
        if k:
            state = agent.adapt(state, trajectories[-1])
        collected, state = collect(envs, agent, state, streams)
        trajectories.append(collected)
    report = agent.meta_update(MetaBatch(tuple(tasks), tuple(trajectories)))
    assert all(np.isfinite(value) for value in report.values())
