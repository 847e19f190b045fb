from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.varibad import Varibad, VaribadConfig
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.experience.trials import pack_trials
from metarl.learning.networks.vae import TrialTensors, choose_steps
from metarl.registry import make_family
from metarl.rollout import TrajectoryBuilder, collect
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.types import MetaBatch, Progress, Spaces, Step, Task, Trajectories

LENGTHS = [[[5, 2], [1, 5], [3, 4]], [[4, 5], [5, 1], [5, 5]], [[5, 5], [2, 3], [1, 5]]]
"""Steps of the episodes `[K + 1, M, E]`, horizon 5: many end early."""
SMALL = {"units": 6, "encoder": (5,), "hidden": (7,), "decoder": (6, 4), "latent": 2, "episodes_per_trial": 3}
SMALL |= {"vae_updates": 2, "vae_trials": 4, "elbo_terms": 5, "decoded_steps": 4}


def make(spaces: Spaces, seed: int = 0, **settings: Any) -> Varibad:
    """A small agent none of whose parameters is zero."""
    config = VaribadConfig(**{**SMALL, **settings})
    agent = Varibad(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: t + 0.3 * torch.randn(t.shape, generator=generator) if name.startswith(("parameters.", "vae.")) else t
        for name, t in agent.tensors().items()
    }
    agent.restore(tensors, agent.counters())
    return agent


def batch_of(trajectories: list[Trajectories]) -> MetaBatch:
    tasks = tuple(Task.of("noise", number=i) for i in range(len(trajectories[0].mask)))
    return MetaBatch(tasks, tuple(trajectories))


def step_of(agent: Varibad, m: int, e: int, **changes: Any) -> Step:
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


def learnt(agent: Varibad, prefix: str) -> dict[str, torch.Tensor]:
    return {name: t for name, t in agent.tensors().items() if name.startswith(prefix)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[bool]:
    assert one.keys() == other.keys()
    return [torch.equal(t, other[name]) for name, t in one.items()]


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


@pytest.mark.parametrize("normalise", [False, True], ids=["raw", "normalised"])
def test_training_infers_the_beliefs_that_were_acted_on(some_spaces: Spaces, play, normalise: bool) -> None:
    agent = make(some_spaces, normalise_observations=normalise, normalise_belief=normalise, reward_input_scale=0.5)
    agent.meta_update(batch_of(play(agent, LENGTHS, seed=7)))  # so that there are statistics
    trials = pack_trials(play(agent, LENGTHS))
    assert 0 < trials.mask.sum() < trials.mask.size, "some trials are shorter than others"
    tensors = agent._trial_tensors(vars(trials), trials.mask)
    encoder = agent.vae.encoder
    with torch.no_grad():
        inferred, _ = encoder(tensors.inputs, encoder.fresh_memory(len(trials.mask)))
        seen = agent._seen(trials.observations)
        x = agent.network.joined(*(torch.tensor(a) for a in (seen, trials.extras["belief"])))
        distribution, values = agent.network.actor_critic(x)
    beliefs = torch.cat(inferred, dim=-1).numpy()[trials.mask]
    assert beliefs == pytest.approx(trials.extras["belief"][trials.mask], abs=1e-5)
    assert beliefs.std(axis=0).min() > 0.01, "the belief is no constant"
    log_probs = distribution.log_prob(torch.tensor(trials.extras["policy_output"]))
    assert log_probs.numpy()[trials.mask] == pytest.approx(trials.extras["log_prob"][trials.mask], abs=1e-5)
    assert values.numpy()[trials.mask] == pytest.approx(trials.extras["value"][trials.mask], abs=1e-5)


def test_the_policy_acts_on_the_belief_after_this_steps_observation(spaces: Spaces) -> None:
    agent = make(spaces)
    state = agent.begin([Task.of("noise")], 1)
    step = step_of(agent, 1, 1, first=np.ones((1, 1), dtype=np.bool_))
    action, after = agent.act(state, step, np.random.default_rng(0))
    encoder = agent.vae.encoder
    with torch.no_grad():
        belief = torch.cat(encoder.belief(after.content.cell), dim=-1)
        x = torch.cat([torch.tensor(step.observation[0]), belief], dim=-1)
        _, value = agent.network.actor_critic(x)
    assert action.extras["belief"][0] == pytest.approx(belief.numpy(), abs=1e-6)
    assert np.array_equal(action.extras["belief"][0], after.content.belief.numpy())
    assert action.extras["value"][0] == pytest.approx(value.numpy(), abs=1e-6)


def slow_elbo(agent: Varibad, trials: TrialTensors, noise: torch.Tensor) -> list[list[float]]:
    """The bound's parts by a double loop over prefixes and steps, each prefix encoded from its own start."""
    vae, results = agent.vae, []
    for b, length in enumerate(trials.mask.sum(dim=1).int().tolist()):
        rewards = observations = kl = 0.0
        before_mean, before_variance = torch.zeros(2), torch.ones(2)
        for t in range(length):
            prefix = trials.inputs[b : b + 1, : t + 1]
            beliefs, _ = vae.encoder(prefix, vae.encoder.fresh_memory(1))
            mean, variance = beliefs.mean[0, -1], beliefs.log_variance[0, -1].exp()
            ratio = variance / before_variance
            kl += float((0.5 * (ratio - ratio.log() - 1 + (mean - before_mean) ** 2 / before_variance)).sum())
            before_mean, before_variance = mean, variance
            latent = (mean + variance.sqrt() * noise[b, t])[None, None]
            for i in range(length):
                o, a, after = (x[b, i] for x in (trials.observations, trials.actions, trials.next_observations))
                seen = torch.cat([after, o, a]) if agent.config.reward_sees_transition else after
                rewards += float((vae.reward(latent, seen[None, None]) - trials.rewards[b, i]).square().sum())
                if vae.transition is not None:
                    predicted = vae.transition(latent, torch.cat([o, a])[None, None])
                    observations += float((predicted - after).square().sum())
        results.append([rewards, observations, kl])
    return results


@pytest.mark.parametrize("transitions", [0.0, 0.7])
@pytest.mark.parametrize("sees_transition", [False, True])
@torch.no_grad()
def test_the_bound_is_that_of_a_slow_loop_over_prefixes_and_steps(
    some_spaces: Spaces, play, transitions: float, sees_transition: bool
) -> None:
    agent = make(some_spaces, transition_weight=transitions, reward_sees_transition=sees_transition)
    packed = pack_trials(play(agent, LENGTHS))
    trials = agent._trial_tensors(vars(packed), packed.mask)
    everything = choose_steps(packed.mask, 0, torch.device("cpu"), np.random.default_rng(0))
    noise = torch.randn(*packed.mask.shape, 2, generator=torch.Generator().manual_seed(0))
    elbo = agent.vae.elbo(trials, everything, everything, noise)
    slow = torch.tensor(slow_elbo(agent, trials, noise))
    for part, expected in zip(elbo, slow.T, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-3)
    assert (elbo.observations > 0).all() == bool(transitions)
    expected = (3 * slow[:, 0] + 0.7 * slow[:, 1] + 0.2 * slow[:, 2]).mean()
    torch.testing.assert_close(elbo.loss(3.0, 0.7, 0.2), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_some_prefixes_and_steps_estimate_the_whole_bound_without_bias(spaces: Spaces, play) -> None:
    agent = make(spaces)
    packed = pack_trials(play(agent, LENGTHS))
    trials, cpu, rng = agent._trial_tensors(vars(packed), packed.mask), torch.device("cpu"), None
    everything = choose_steps(packed.mask, 0, cpu, np.random.default_rng(0))
    noise = torch.randn(*packed.mask.shape, 2, generator=torch.Generator().manual_seed(0))
    whole = agent.vae.elbo(trials, everything, everything, noise)
    rng, estimates = np.random.default_rng(1), []
    for _ in range(1500):
        prefixes, decoded = (choose_steps(packed.mask, count, cpu, rng) for count in (4, 3))
        part = agent.vae.elbo(trials, prefixes, decoded, prefixes.of(noise))
        torch.testing.assert_close(part.kl, whole.kl)
        estimates.append(part.rewards)
    stacked = torch.stack(estimates)
    error = stacked.std(dim=0) / len(stacked) ** 0.5
    assert ((stacked.mean(dim=0) - whole.rewards).abs() < 4 * error).all()
    assert (error < 0.03 * whole.rewards).all()


def test_the_policys_learning_never_reaches_the_encoder_nor_the_other_way_round(spaces: Spaces, play) -> None:
    agent = make(spaces, vae_updates=0)
    trajectories = play(agent, LENGTHS)
    policy, vae = learnt(agent, "parameters."), learnt(agent, "vae.")
    report = agent.meta_update(batch_of(trajectories))
    assert all(same(vae, learnt(agent, "vae.")))
    assert not any(same(policy, learnt(agent, "parameters.")))
    assert all(p.grad is None for p in agent.vae.parameters())
    assert not any(name.startswith("vae/") for name in report)

    agent = make(spaces)
    trials = pack_trials(trajectories)
    agent._replay.add(vars(trials), trials.mask)
    agent._update_vae()
    assert all(same(policy, learnt(agent, "parameters.")))
    assert not any(same(vae, learnt(agent, "vae.")))


def test_padded_steps_teach_nothing(spaces: Spaces, play) -> None:
    ends = []
    for junk in (0.0, 9.0):
        agent = make(spaces, normalise_observations=True, transition_weight=1.0)
        polluted = []
        for t in play(agent, LENGTHS):
            pad = ~t.mask
            assert pad.any()
            after_end = np.concatenate([np.zeros_like(pad[..., :1]), pad], axis=-1)  # [M, E, T + 1]
            polluted.append(
                replace(
                    t,
                    all_observations=np.where(after_end[..., None], t.all_observations + junk, t.all_observations),
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
    assert ends[0]["belief_moments.count"].item() == np.sum(LENGTHS)
    assert all(same(*ends))


def test_longer_padding_changes_no_bound(spaces: Spaces, play) -> None:
    """The same short trial, alone or beside a longer one."""
    agent = make(spaces)
    packed = pack_trials(play(agent, LENGTHS))
    mask, arrays = packed.mask, {k: v for k, v in vars(packed).items() if k != "extras"}
    short = int(mask.sum(axis=1).argmin())
    length = int(mask[short].sum())
    parts = []
    noise = torch.randn(1, mask.shape[1], 2, generator=torch.Generator().manual_seed(0))
    for stop in (length, mask.shape[1]):
        one = {name: array[short : short + 1, :stop] for name, array in arrays.items()}
        m = one["mask"]
        everything = choose_steps(m, 0, torch.device("cpu"), np.random.default_rng(0))
        with torch.no_grad():
            parts.append(agent.vae.elbo(agent._trial_tensors(one, m), everything, everything, noise[:, :stop]))
    assert length < mask.shape[1]
    for one, other in zip(*parts, strict=True):
        torch.testing.assert_close(one, other)


def test_rewards_are_divided_by_the_deviation_of_the_trials_returns(spaces: Spaces, play, monkeypatch) -> None:
    agent = make(
        spaces, gamma=0.5, gae_lambda=1.0, normalise_advantages=False, finite_trials=True, normalise_belief=False
    )
    trajectories, seen = play(agent, LENGTHS), []
    monkeypatch.setattr(
        agent._learner, "update", lambda samples, inputs, _: seen.append((samples, inputs)) or {"update/entropy": 0.0}
    )
    agent.meta_update(batch_of(trajectories))
    trials, returns = pack_trials(trajectories), []
    for rewards, mask in zip(trials.rewards, trials.mask, strict=True):
        real = rewards[mask].astype(float)
        returns += [sum(0.5**i * r for i, r in enumerate(real[t:])) for t in range(len(real))]
    [(samples, inputs)] = seen
    assert samples.targets.numpy() == pytest.approx(np.array(returns) / np.std(returns), abs=1e-5)
    with torch.no_grad():
        distribution, values = agent._forward(*inputs)
    torch.testing.assert_close(distribution.log_prob(samples.actions), samples.log_probs)
    torch.testing.assert_close(values, samples.values)


@pytest.mark.parametrize("normalise", [False, True])
def test_what_a_trial_cut_by_the_clock_had_left_is_the_value_of_going_on(spaces: Spaces, play, normalise) -> None:
    agent = make(spaces, episodes_per_trial=1, normalise_belief=normalise, normalise_observations=normalise)
    agent.meta_update(batch_of(play(agent, LENGTHS[:1])))  # so that there are statistics
    rng, state = np.random.default_rng(0), agent.begin([Task.of("noise")], 2)
    builder = TrajectoryBuilder(1, 2, spaces, rng.standard_normal((1, 2, 3)))
    for t in range(spaces.horizon):
        action, state = agent.act(state, builder.step, rng)
        seen, never = rng.standard_normal((1, 2, 3)), np.zeros((1, 2), dtype=np.bool_)
        builder.add(action, seen, rng.standard_normal((1, 2)), never, np.full((1, 2), t == 4))
    going_on, _ = agent.act(state, builder.step, rng)
    values = agent._final_values(pack_trials([builder.build()]))
    assert values == pytest.approx(going_on.extras["value"][0], abs=1e-6)


@pytest.mark.parametrize("transitions", [0.0, 1.0])
def test_a_restored_agent_goes_on_bit_for_bit(tmp_path: Path, some_spaces: Spaces, play, transitions: float) -> None:
    settings = {"normalise_observations": True, "transition_weight": transitions, "buffer_trials": 8}
    agent, twin = make(some_spaces, **settings), make(some_spaces, 5, **settings)
    agent.meta_update(batch_of(play(agent, LENGTHS)))
    save_checkpoint(tmp_path, agent, Streams(0), Progress(1, 1), keep=2)
    assert load_newest(tmp_path, twin)[0] == Progress(1, 1)
    assert all(same(agent.tensors(), twin.tensors()))
    for one in (agent, twin):
        one.meta_update(batch_of(play(one, LENGTHS, seed=3)))
    assert agent.counters() == twin.counters()
    assert all(same(agent.tensors(), twin.tensors()))
    assert agent.tensors()["buffer.lengths"].shape == (8,)


def test_a_checkpoint_that_does_not_fit_is_refused(spaces: Spaces, play) -> None:
    agent, other = make(spaces), make(spaces, units=7)
    with pytest.raises(ValueError, match=r"checkpoint of varibad.*made by a run with other sizes: '.*' has the shape"):
        agent.restore(other.tensors(), other.counters())
    with pytest.raises(ValueError, match="checkpoint of varibad: got generator"):
        agent.restore(agent.tensors(), {**agent.counters(), "vae_generator": {"bit_generator": "MT19937"}})
    full, small = make(spaces), make(spaces, buffer_trials=5)
    full.meta_update(batch_of(play(full, LENGTHS)))
    with pytest.raises(ValueError, match="at most 5 trials"):
        small.restore(full.tensors(), full.counters())


def test_an_exported_policy_has_networks_memory_and_description(tmp_path: Path, spaces: Spaces) -> None:
    agent = make(spaces, normalise_observations=True)
    _, state = agent.act(agent.begin([Task.of("noise")] * 2, 3), step_of(agent, 2, 3), np.random.default_rng(0))
    agent.save_policy(state, tmp_path / "policy.safetensors", task=1)
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    assert torch.equal(tensors["memory"], state.content.cell[None, 3:])
    assert torch.equal(tensors["network.policy.log_std"], agent.tensors()["parameters.policy.log_std"])
    assert torch.equal(tensors["encoder.mean.weight"], agent.tensors()["vae.encoder.mean.weight"])
    assert tensors["action_high"].tolist() == [1.0, 4.0]
    assert {"observation.mean", "belief.mean"} <= tensors.keys()
    assert json.dumps(description)
    assert (description["format"], description["agent"]) == (1, "varibad")


def bandit_trials(agent: Varibad, good: np.ndarray, rng: np.random.Generator) -> list[Trajectories]:
    """Two pulls of a bandit of two arms, each an episode of one step; `good` is `[M, 1]`."""
    m = len(good)
    state, trajectories = agent.begin([Task.of("bandit", arm=float(a)) for a in good[:, 0]], 1), []
    for k in range(2):
        if k:
            state = agent.adapt(state, trajectories[-1])
        zeros = np.zeros((m, 1, 1), dtype=np.float32)
        step = Step(zeros, zeros, zeros[..., 0], np.ones((m, 1), np.bool_), np.ones((m, 1), np.bool_))
        action, state = agent.act(state, step, rng)
        trajectories.append(
            Trajectories(
                all_observations=np.zeros((m, 1, 2, 1), dtype=np.float32),
                actions=action.environment[:, :, None],
                rewards=(action.environment[..., 0] == good).astype(np.float32)[:, :, None],
                terminated=np.zeros((m, 1, 1), dtype=np.bool_),
                truncated=np.ones((m, 1, 1), dtype=np.bool_),
                mask=np.ones((m, 1, 1), dtype=np.bool_),
                success=None,
                diverged=np.zeros((m, 1), dtype=np.bool_),
                extras={name: value[:, :, None] for name, value in action.extras.items()},
            )
        )
    return trajectories


def test_an_agent_that_must_infer_the_good_arm_learns_to() -> None:
    """The first pull of two arms is a guess; the belief then knows, and the second can be right every time."""
    spaces = Spaces(observation_size=1, action_low=(0.0,), action_high=(1.0,), horizon=1, choices=2)
    config = VaribadConfig(
        **{**SMALL, "units": 16, "hidden": (16,), "decoder": (16,), "episodes_per_trial": 2},
        **{"learning_rate": 0.01, "vae_learning_rate": 0.01, "minibatches": 2, "gamma": 1.0, "finite_trials": True},
    )
    config = replace(config, vae_updates=10, vae_trials=64, kl_weight=0.01)
    agent = Varibad(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    rng, means = np.random.default_rng(1), []
    for _ in range(40):
        trajectories = bandit_trials(agent, rng.integers(2, size=(64, 1)), rng)
        agent.meta_update(batch_of(trajectories))
        means.append([float(t.rewards.mean()) for t in trajectories])
    first, second = np.mean(means[-5:], axis=0)
    assert 0.35 < first < 0.65
    assert second > 0.9


def test_it_trains_on_a_real_family_and_refuses_trials_longer_than_it_was_made_for(spaces: Spaces) -> None:
    family = make_family("point-robot")
    envs, streams = family.make_envs(2, 2, 10), Streams(0)
    config = VaribadConfig(**{**SMALL, "episodes_per_trial": 2})
    agent = Varibad(config, envs.spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    tasks = [Task.of("point-robot", goal=goal) for goal in ((0.1, 0.1), (-0.3, 0.2))]
    envs.set_tasks(tasks)
    state, trajectories = agent.begin(tasks, 2), []
    for k in range(3):  # acting goes on further than training
        if k:
            state = agent.adapt(state, trajectories[-1])
        collected, state = collect(envs, agent, state, streams)
        trajectories.append(collected)
    report = agent.meta_update(batch_of(trajectories[:2]))
    assert all(np.isfinite(value) for value in report.values())
    with pytest.raises(ValueError, match="30 steps, expected at most 20"):
        agent.meta_update(batch_of(trajectories))


def test_a_latent_that_has_collapsed_to_the_prior_is_not_blown_up(spaces: Spaces) -> None:
    """Its mean and log-variance tremble by 1e-4, beside a latent that varies by 2."""
    agent = make(spaces)
    sign = np.array([1.0, -1.0, 1.0, -1.0])[:, None]
    beliefs = sign * np.array([2.0, 1e-4, 0.5, 1e-4])
    agent._belief_moments.update(beliefs, np.ones(4, dtype=np.bool_))
    x = agent.network.joined(torch.zeros(4, 3), torch.tensor(beliefs))
    assert x[:, 3:].numpy() == pytest.approx(sign * np.array([1.0, 0.005, 1.0, 0.01]), rel=1e-5)
    all_collapsed = make(spaces)
    all_collapsed._belief_moments.update(beliefs * [5e-5, 1.0, 2e-4, 1.0], np.ones(4, dtype=np.bool_))
    assert all_collapsed._belief_moments.deviation == pytest.approx([0.01] * 4)
