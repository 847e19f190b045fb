"""Recurrent SAC: targets, padding, which loss changes what, acting, replay, and resuming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.recurrent_sac import Minibatch, RecurrentSac, RecurrentSacConfig
from metarl.learning.networks import soft_actor_critic as sac
from metarl.memory import RunSize
from metarl.rollout import TrajectoryBuilder
from metarl.storage import read_tensors
from metarl.types import MetaBatch, Spaces, Task, Trajectories

Play = Callable[..., list[Trajectories]]
LENGTHS = [[[3, 5]], [[5, 2]]]
"""Steps `[K + 1, M, E]` with a horizon of 5: trial 0 ends by its time limit, trial 1 by termination."""
TASKS = (Task.of("noise", number=0),)
SMALL: dict[str, Any] = {"units": 6, "hidden": (7, 5), "gradient_steps": 2, "warmup_iterations": 0, "batch_trials": 2}
SMALL |= {"observation_embedding": 5, "action_embedding": 4, "reward_embedding": 3, "normalise_observations": True}


def built(spaces: Spaces, seed: int = 0, **settings: Any) -> RecurrentSac:
    """A small agent whose parameters are all different from zero."""
    config = RecurrentSacConfig(**{**SMALL, **settings})
    agent = RecurrentSac(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))
    noise = torch.Generator().manual_seed(seed)
    changed = {
        name: t + 0.3 * torch.randn(t.shape, generator=noise)
        for name, t in agent.tensors().items()
        if name.startswith(("encoders", "policy", "critics", "targets"))
    }
    agent.restore({**agent.tensors(), **changed}, agent.counters())
    return agent


def filled(agent: RecurrentSac, play: Play, lengths: Any = LENGTHS, seed: int = 0) -> MetaBatch[Trajectories]:
    """Experience of the agent."""
    return MetaBatch(TASKS, tuple(play(agent, lengths, seed=seed, tasks=list(TASKS))))


def learned(agent: RecurrentSac) -> dict[str, Tensor]:
    """Parameters without those of Adam and without statistics."""
    return {n: t for n, t in agent.learned().items() if not n.startswith(("adam", "observation_moments"))}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the groups of parameters that differ, encoders by their role."""
    return {".".join(n.split(".")[:2]) for n, t in before.items() if not t.equal(after[n])}


@pytest.mark.parametrize(
    ("settings", "ends"),
    [
        ({}, {0: [7], 1: []}),
        ({"finite_trials": True}, {0: [], 1: []}),
        ({"episodes_cut_returns": True}, {0: [7], 1: [4]}),
        ({"episodes_cut_returns": True, "finite_trials": True}, {0: [], 1: []}),
    ],
    ids=["trials", "finite trials", "episodes", "finite episodes"],
)
def test_targets_bootstrap_where_a_return_goes_on(
    spaces: Spaces, play: Play, settings: dict[str, bool], ends: dict[int, list[int]]
) -> None:
    """Critics that return the first number of the observation make every target a formula of rewards and observations.

    `ends` has the steps of each trial that bootstrap from the episode's own last observation.
    """
    agent = built(spaces, gamma=0.9, reward_scale=2.0, hidden=(1,), normalise_observations=False, **settings)
    with torch.no_grad():
        layers = agent.actor_critic.critic_networks.layers(agent.parameters.targets)
        for array in (*layers[0], *layers[1]):
            array.zero_()
        layers[0][0][:, agent.config.units + spaces.action_size] = 1.0  # after features and action
        layers[1][0][:] = 100.0
        layers[0][1][:] = 1.0
        layers[1][1][:] = -100.0
        agent.parameters.log_temperature.fill_(-np.inf)
    batch = filled(agent, play)
    agent.replay.add(*stored(batch))
    drawn, trials = agent.draw()
    targets = agent.targets(drawn, agent._features("actor", drawn.inputs), trials).numpy()
    seen = [int(n) for n in trials.mask.sum(axis=1)]
    assert sorted(seen) == [7, 8]
    for row, steps in enumerate(seen):
        which = 0 if steps == 8 else 1  # trial 0 has 3 + 5 steps, trial 1 5 + 2
        for t in range(steps):
            last = t == steps - 1 or (agent.config.episodes_cut_returns and trials.over[row, t])
            if not last:
                value = trials.observations[row, t + 1, 0]  # also after a terminal step, if the return goes on
            elif t in ends[which]:
                value = trials.next_observations[row, t, 0]
            else:
                value = 0.0
            assert targets[row, t] == pytest.approx(2.0 * trials.rewards[row, t] + 0.9 * value, abs=2e-5)


def stored(batch: MetaBatch[Trajectories]) -> tuple[Any, Any]:
    """The arguments of `TrialReplay.add`."""
    from metarl.learning.experience.trials import pack_trials

    trials = pack_trials(batch.collects)
    return vars(trials), trials.mask


def test_padding_has_no_influence(spaces: Spaces, play: Play) -> None:
    agent, twin = built(spaces), built(spaces)
    agent.replay.add(*stored(filled(agent, play)))
    drawn, trials = agent.draw()
    padding = drawn.mask == 0
    assert padding.any()
    beyond = torch.cat([torch.zeros(len(padding), 1, dtype=torch.bool), padding], dim=1)  # of the L + 1 inputs
    other = Minibatch(
        *(torch.where((beyond if i == 0 else padding).view(*t.shape[:2], *[1] * (t.ndim - 2)), 7.0, t)
          for i, t in enumerate(drawn[:-3])),
        drawn.mask, *(torch.where(padding.unsqueeze(-1), 7.0, t) for t in drawn[-2:]),
    )  # fmt: skip
    assert not other.inputs.equal(drawn.inputs)
    torch.testing.assert_close(twin._gradient_step(other, trials), agent._gradient_step(drawn, trials))
    mine, theirs = learned(agent), learned(twin)
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-5, atol=1e-7)


ACTOR, CRITIC, TARGETS = {"policy", "encoders.actor"}, {"critics", "encoders.critic"}, {"targets", "encoders.target"}


def test_each_loss_changes_its_own_networks_only(spaces: Spaces, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    def after_a_step(**replaced: Any) -> set[str]:
        agent = built(spaces)
        agent.replay.add(*stored(filled(agent, play)))
        before = learned(agent)
        with monkeypatch.context() as patch:
            for name, function in replaced.items():
                patch.setattr(sac, name, function)
            agent._gradient_step(*agent.draw())
        return changed(before, learned(agent))

    loss = sac.policy_loss

    def no_policy_loss(*arguments: Any, **more: Any) -> tuple[Tensor, Tensor]:
        value, log_prob = loss(*arguments, **more)
        return 0.0 * value.detach(), log_prob.detach()

    def no_critic_loss(values: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        return 0.0 * values.detach().sum()

    def no_temperature_loss(*arguments: Any) -> Tensor:
        return torch.zeros(())

    assert after_a_step() == ACTOR | CRITIC | TARGETS | {"log_temperature"}
    assert after_a_step(policy_loss=no_policy_loss) == CRITIC | TARGETS | {"log_temperature"}
    without = after_a_step(critic_loss=no_critic_loss, temperature_loss=no_temperature_loss)
    assert without == ACTOR | TARGETS, "the targets still move to the critics"


def test_targets_move_to_the_critics_by_tau(spaces: Spaces, play: Play) -> None:
    agent = built(spaces, tau=0.25)
    agent.replay.add(*stored(filled(agent, play)))
    before = learned(agent)
    agent._gradient_step(*agent.draw())
    after = learned(agent)
    pairs = {"targets": "critics"}
    pairs |= {n: n.replace("target", "critic") for n in after if n.startswith("encoders.target")}
    assert len(pairs) > 5
    for slow, fast in pairs.items():
        torch.testing.assert_close(after[slow], 0.75 * before[slow] + 0.25 * after[fast])


def test_a_fixed_temperature_stays(spaces: Spaces, play: Play) -> None:
    agent = built(spaces, tune_temperature=False, temperature=0.3)
    assert agent.meta_update(filled(agent, play))["update/temperature"] == pytest.approx(0.3)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_learning_passes_through_the_memories_of_acting(spaces: Spaces, play: Play, cell: str) -> None:
    agent = built(spaces, cell=cell)
    agent._observation_moments.update(np.random.default_rng(3).normal(1.0, 2.0, (50, 3)), np.ones(50, dtype=np.bool_))
    batch = filled(agent, play)
    state = agent.begin(TASKS, 2)
    for episode in batch.collects:
        builder = TrajectoryBuilder(1, 2, spaces, episode.observations[:, :, 0])
        for t in range(spaces.horizon):
            if not builder.unfinished:
                break
            action, state = agent.act(state, builder.step, np.random.default_rng(0))
            taken = replace(action, environment=episode.actions[:, :, t])
            ends = (a[:, :, t] for a in (episode.terminated, episode.truncated))
            builder.add(taken, episode.next_observations[:, :, t], episode.rewards[:, :, t], *ends)
        state = agent.adapt(state, builder.build())
    acted = state.content if cell == "gru" else state.content[0]
    agent.replay.add(*stored(batch))
    drawn, trials = agent.draw()
    features = agent._features("actor", drawn.inputs)
    for row, steps in enumerate(trials.mask.sum(axis=1)):
        trial = 0 if steps == 8 else 1
        torch.testing.assert_close(features[row, steps - 1], acted[trial], rtol=1e-5, atol=1e-6)


def test_a_step_equals_a_pass_and_the_sample_follows_the_policy(spaces: Spaces) -> None:
    agent, rng = built(spaces), np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((4000, 7)), dtype=torch.float32)
    memory = torch.tensor(rng.standard_normal((4000, 6)), dtype=torch.float32)
    with torch.no_grad():
        features, after = agent.network(x.unsqueeze(1), memory)
        mean, log_std = agent.actor_critic.policy(agent.parameters.policy, features[:, 0], x[:, :3])
        chosen, kept = agent._choose(x, memory, np.random.default_rng(1), True)
        drawn, _ = agent._choose(x, memory, np.random.default_rng(1), False)
    torch.testing.assert_close(kept, after, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(chosen["policy_output"], torch.tanh(mean).numpy(), rtol=1e-4, atol=1e-6)
    output = drawn["policy_output"].astype(np.float64)
    assert np.abs(output).max() <= 1.0
    noise = (np.arctanh(np.clip(output, -0.999999, 0.999999)) - mean.numpy()) / np.exp(log_std.numpy())
    inner = np.abs(output) < 0.99
    expected = np.random.default_rng(1).standard_normal(noise.shape, dtype=np.float32)
    np.testing.assert_allclose(noise[inner], expected[inner], atol=2e-2)


def test_the_replay_keeps_the_newest_trials_in_order(spaces: Spaces, play: Play) -> None:
    agent = built(spaces, buffer_trials=3)
    batches = [filled(agent, play, seed=seed) for seed in range(2)]
    reports = [agent.meta_update(batch) for batch in batches]
    assert [report["buffer/trials"] for report in reports] == [2.0, 3.0]
    rewards = np.concatenate([stored(batch)[0]["rewards"][:, 0] for batch in batches])  # of each trial's first step
    columns, _ = agent.replay.sample(3, np.random.default_rng(0))
    assert sorted(columns["rewards"][:, 0].tolist()) == sorted(rewards[1:].tolist())
    rows = agent.tensors()["buffer.rows"]
    first_rewards = rows[:, 0, spaces.observation_size + spaces.action_size]
    assert first_rewards.tolist() == [rewards[3], rewards[1], rewards[2]], "the oldest is overwritten"


def test_the_estimate_of_the_buffer_is_its_size(spaces: Spaces) -> None:
    agent = built(spaces, buffer_trials=40)
    needs = RecurrentSac.memory_needed(agent.config, spaces, RunSize(tasks=1, episodes=2, iterations=1000))
    (buffer,) = [need for need in needs if need.reserved]
    assert buffer.reserved == agent.replay._rows.nbytes


def test_warm_up_only_collects(spaces: Spaces, play: Play) -> None:
    agent = built(spaces, warmup_iterations=1)
    before = learned(agent)
    assert agent.meta_update(filled(agent, play)) == {"buffer/trials": 2.0}
    assert not changed(before, learned(agent))
    assert "update/critic_loss" in agent.meta_update(filled(agent, play))
    assert changed(before, learned(agent)) == ACTOR | CRITIC | TARGETS | {"log_temperature"}


def test_a_restored_agent_goes_on_as_if_uninterrupted(spaces: Spaces, play: Play) -> None:
    agent, other = built(spaces), built(spaces, seed=5)
    agent.meta_update(filled(agent, play))
    other.restore(agent.tensors(), agent.counters())
    for seed in (1, 2):
        batches = [filled(one, play, seed=seed) for one in (agent, other)]
        assert agent.meta_update(batches[0]) == other.meta_update(batches[1])
    mine, theirs = agent.tensors(), other.tensors()
    assert all(t.equal(theirs[name]) for name, t in mine.items())
    assert agent.counters() == other.counters()


def test_a_checkpoint_that_does_not_fit_changes_nothing(spaces: Spaces, play: Play) -> None:
    agent, larger = built(spaces), built(spaces, units=7)
    before = agent.tensors()
    with pytest.raises(ValueError, match="checkpoint of recurrent-sac: got tensors"):
        agent.restore(larger.tensors(), larger.counters())
    with pytest.raises(ValueError, match="checkpoint of recurrent-sac: got generator"):
        agent.restore(built(spaces, seed=1).tensors(), {"iteration": 3, "rng": {}})
    assert all(t.equal(before[name]) for name, t in agent.tensors().items())
    assert agent.iteration == 0


def test_other_than_bounded_continuous_actions_are_refused(spaces: Spaces, discrete_spaces: Spaces) -> None:
    with pytest.raises(ValueError, match="recurrent-sac: got 4 discrete actions, expected continuous actions"):
        built(discrete_spaces)
    with pytest.raises(ValueError, match=r"recurrent-sac: got action bounds .* expected finite"):
        built(replace(spaces, action_high=(1.0, np.inf)))


def test_the_acting_part_acts_as_the_agent_does_and_has_no_critics(spaces: Spaces, play: Play) -> None:
    agent = built(spaces)
    part = agent.acting_part()
    assert not hasattr(part, "encoders")
    assert part.parameters.critics.numel() == part.parameters.targets.numel() == 0
    for mine, theirs in zip(play(agent, LENGTHS), play(part, LENGTHS), strict=True):
        assert np.array_equal(mine.actions, theirs.actions)


def test_an_exported_policy_acts_without_metarl(spaces: Spaces, tmp_path: Path) -> None:
    """A reader of the file that computes with NumPy alone chooses the modes of the agent, over two episodes."""
    agent, rng = built(spaces, reward_input_scale=0.5), np.random.default_rng(0)
    agent._observation_moments.update(rng.normal(1.0, 2.0, (50, 3)), np.ones(50, dtype=np.bool_))
    state = agent.begin(TASKS, 1)
    path = tmp_path / "policy.safetensors"
    agent.save_policy(state, path)
    arrays, about = read_tensors(path)
    w = {name: tensor.numpy() for name, tensor in arrays.items()}
    memory, told = w["memory"][0, 0], w["feedback"][0]

    def act(observation: np.ndarray) -> np.ndarray:
        nonlocal memory
        seen = np.clip((observation - w["observation.mean"]) / w["observation.deviation"], -10, 10)
        parts = (seen, told[:-2], told[-2:])
        layers = [(w[f"encoder.embeddings.{i}.weight"], w[f"encoder.embeddings.{i}.bias"]) for i in range(3)]
        x = np.concatenate([np.maximum(a @ part + b, 0) for part, (a, b) in zip(parts, layers, strict=True)])
        inputs = np.split(w["encoder.cell.weight_ih_l0"] @ x + w["encoder.cell.bias_ih_l0"], 3)
        states = np.split(w["encoder.cell.weight_hh_l0"] @ memory + w["encoder.cell.bias_hh_l0"], 3)
        reset, update = (1 / (1 + np.exp(-inputs[i] - states[i])) for i in (0, 1))
        memory = (1 - update) * np.tanh(inputs[2] + reset * states[2]) + update * memory
        x = np.concatenate([memory, seen])
        for i in range(about["layers"]):
            x = x @ w[f"weight_{i}"] + w[f"bias_{i}"]
            x = np.maximum(x, 0) if i < about["layers"] - 1 else x
        mean = np.tanh(x[: spaces.action_size])
        return np.clip(w["action_offset"] + w["action_factor"] * mean, w["action_low"], w["action_high"])

    assert (about["mean"], about["inputs"]) == ("tanh", "features of the encoder, observation")
    for _ in range(2):
        seen = rng.standard_normal(3).astype(np.float32)
        builder = TrajectoryBuilder(1, 1, spaces, seen, agent.recorded)
        while builder.unfinished:
            action, state = agent.act(state, builder.step, rng, mode=True)
            assert act(seen) == pytest.approx(action.single(), rel=1e-4, abs=1e-5)
            reward, seen = float(rng.standard_normal()), rng.standard_normal(3).astype(np.float32)
            builder.add(action, seen, reward, False, False)
            scaled = 2 * (action.single() - w["action_low"]) / (w["action_high"] - w["action_low"]) - 1
            told = np.concatenate([scaled, [about["reward_input_scale"] * reward, float(not builder.unfinished)]])
        state = agent.adapt(state, builder.build())
    assert np.abs(memory).max() > 0.01
