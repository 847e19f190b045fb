from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.feedback import Feedback
from metarl.learning.experience.trials import Trials, last_steps, pack_trials, step_after
from metarl.learning.networks.cells.base import mapped
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.distributions import Gaussian
from metarl.learning.networks.modules import PolicySettings
from metarl.learning.networks.recurrent import RecurrentActorCritic
from metarl.learning.networks.sequence import memories_after_episodes, unroll
from metarl.learning.ppo.learner import PpoSettings
from metarl.learning.ppo.trials import trial_advantages, trial_returns, trial_samples
from metarl.learning.trials.settings import trial_ends
from metarl.types import Spaces, Trajectories


def make(
    spaces: Spaces, cell: str = "gru", encoder: tuple[int, ...] = (4,), hidden: tuple[int, ...] = (), **policy: Any
) -> RecurrentActorCritic:
    network = RecurrentActorCritic(
        5, spaces, encoder=encoder, activation="tanh", cell=CellSettings(cell=cell, units=6), steps=8, hidden=hidden,
        policy=PolicySettings(init_std=0.5, min_std=0.1, **policy), rng=np.random.default_rng(0),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


def plain(network: RecurrentActorCritic, cell: str, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Means `[L, A]` and values `[L]` of one trial by the equations of the cells, step by step in float64."""
    w = {name: p.detach().double().numpy() for name, p in network.named_parameters()}

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a))

    h, c, means, values = np.zeros(6), np.zeros(6), [], []
    for row in x.double().numpy():
        z = np.tanh(w["encoder.0.weight"] @ row + w["encoder.0.bias"])
        a = np.split(w["cell.weight_ih_l0"] @ z + w["cell.bias_ih_l0"], 3 if cell == "gru" else 4)
        b = np.split(w["cell.weight_hh_l0"] @ h + w["cell.bias_hh_l0"], 3 if cell == "gru" else 4)
        if cell == "gru":
            reset, update = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
            h = (1 - update) * np.tanh(a[2] + reset * b[2]) + update * h
        else:
            c = sigmoid(a[1] + b[1]) * c + sigmoid(a[0] + b[0]) * np.tanh(a[2] + b[2])
            h = sigmoid(a[3] + b[3]) * np.tanh(c)
        actor = critic = h
        if "actor.0.weight" in w:
            actor = np.tanh(w["actor.0.weight"] @ np.concatenate([h, z]) + w["actor.0.bias"])
            critic = np.tanh(w["critic.0.weight"] @ np.concatenate([h, z]) + w["critic.0.bias"])
        means.append(w["policy.output.weight"] @ actor + w["policy.output.bias"])
        values.append((w["value.weight"] @ critic + w["value.bias"])[0])
    return np.array(means), np.array(values)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("hidden", [(), (7,)], ids=["heads", "layers"])
@pytest.mark.parametrize("span", [0, 3, 1, 50])
def test_a_trial_unrolled_at_once_or_in_pieces_follows_the_equations(spaces, cell: str, hidden, span: int) -> None:
    network = make(spaces, cell, hidden=hidden)
    x = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1))
    distribution, values = unroll(network, x, span)
    assert isinstance(distribution, Gaussian)
    for row in range(2):
        means, by_hand = plain(network, cell, x[row])
        assert distribution.mean[row].detach().numpy() == pytest.approx(means, abs=1e-5)
        assert values[row].detach().numpy() == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_gradients_flow_back_through_the_span_and_no_further(spaces, cell: str) -> None:
    network = make(spaces, cell)
    reached = {}
    for span in (0, 3):
        x = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
        _, values = unroll(network, x, span)
        values[0, 5].backward()  # the third step of the second piece of three
        reached[span] = x.grad.abs().sum(dim=-1)[0] > 0
    assert reached[0].tolist() == [True] * 6 + [False]
    assert reached[3].tolist() == [False] * 3 + [True] * 3 + [False]


@pytest.mark.parametrize("std", ["shared", "state"])
def test_pieces_join_to_the_deviations_of_the_whole(spaces: Spaces, std: str) -> None:
    network = make(spaces, std=std, mean="tanh", max_std=1.5)
    x = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1))
    whole, pieces = unroll(network, x)[0], unroll(network, x, 3)[0]
    assert whole.log_std.shape == {"shared": (2,), "state": (2, 7, 2)}[std]
    assert (whole.log_std.std(dim=-2).min() > 1e-3) if std == "state" else True
    torch.testing.assert_close(pieces.mean, whole.mean)
    torch.testing.assert_close(pieces.log_std, whole.log_std)
    actions = torch.randn(2, 7, 2, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(pieces.log_prob(actions), whole.log_prob(actions))
    torch.testing.assert_close(pieces.entropy(), whole.entropy())


def test_discrete_pieces_join_and_an_encoder_is_optional(discrete_spaces: Spaces) -> None:
    network = make(discrete_spaces, encoder=())
    x = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1))
    whole, pieces = unroll(network, x)[0], unroll(network, x, 2)[0]
    torch.testing.assert_close(whole.logits, pieces.logits)
    assert whole.logits.shape == (2, 7, 4)


def test_the_cells_start_is_orthogonal_gate_by_gate_and_an_lstm_remembers(spaces: Spaces) -> None:
    before = torch.random.get_rng_state()
    network = RecurrentActorCritic(
        5, spaces, encoder=(4,), activation="tanh", cell=CellSettings(cell="lstm", units=6), steps=8, hidden=(),
        policy=PolicySettings(), rng=np.random.default_rng(0),
    )  # fmt: skip
    assert torch.equal(torch.random.get_rng_state(), before)
    for gate in network.cell.weight_hh_l0.detach().split(6):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    assert network.cell.bias_ih_l0.tolist() == [0.0] * 6 + [1.0] * 6 + [0.0] * 12
    assert [t.shape for t in network.fresh_memory(3)] == [(3, 6), (3, 6)]


def recording(lengths: list[list[int]], base: float) -> Trajectories:
    """Episodes of the given lengths `[M, E]` out of at most 3 steps; rewards count up from `base`."""
    mask = np.arange(3) < np.array(lengths)[..., None]
    rewards = np.where(mask, base + np.arange(3) + 10 * np.arange(mask[..., 0].size).reshape(*mask.shape[:2], 1), 0)
    none = np.zeros_like(mask)
    observations = np.where(np.pad(mask, ((0, 0), (0, 0), (0, 1))), np.pad(rewards, ((0, 0), (0, 0), (0, 1))), -1.0)
    return Trajectories(
        all_observations=observations[..., None],
        actions=-rewards[..., None],
        rewards=rewards,
        terminated=none,
        truncated=none,
        mask=mask,
        success=None,
        diverged=none[..., 0],
        extras={"value": 2 * rewards},
    )


def test_packing_joins_the_episodes_of_each_row_without_gaps() -> None:
    trials = pack_trials([recording([[2, 3], [1, 3]], 1), recording([[3, 1], [1, 3]], 5)])
    assert trials.rewards.tolist() == [
        [1, 2, 5, 6, 7, 0],
        [11, 12, 13, 15, 0, 0],
        [21, 25, 0, 0, 0, 0],
        [31, 32, 33, 35, 36, 37],
    ]
    assert trials.mask.sum(axis=1).tolist() == [5, 4, 2, 6]
    assert trials.over.astype(int).tolist() == [
        [0, 1, 0, 0, 1, 0],
        [0, 0, 1, 1, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 1],
    ]
    assert np.array_equal(trials.observations[..., 0][trials.mask], trials.rewards[trials.mask])
    assert trials.next_observations[1, :4, 0].tolist() == [12, 13, -1, -1], "the end of an episode, not the next start"
    assert np.array_equal(trials.actions[..., 0], -trials.rewards)
    assert np.array_equal(trials.extras["value"], 2 * trials.rewards)


def test_packing_stops_at_the_longest_trial() -> None:
    assert pack_trials([recording([[1, 2]], 1), recording([[1, 1]], 1)]).rewards.shape == (2, 3)


def test_last_steps_are_those_before_the_padding_or_the_end() -> None:
    mask = np.array([[True, True, False], [True, True, True], [False, False, False]])
    assert last_steps(mask).astype(int).tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]


def two_episodes() -> tuple[Trials, np.ndarray]:
    """One trial of two episodes with two steps each, one step of padding; and values."""
    mask = np.array([[True, True, True, True, False]])
    over = np.array([[False, True, False, True, False]])
    rewards = np.array([[1.0, 2.0, 3.0, 4.0, 0.0]])
    trials = Trials(*[rewards[..., None]] * 3, rewards, over, over, mask, {})
    return trials, np.array([[10.0, 20.0, 30.0, 40.0, 0.0]])


def test_advantages_cross_the_end_of_an_episode_and_stop_at_the_trials() -> None:
    trials, values = two_episodes()
    d = [1 + 0.5 * 20 - 10, 2 + 0.5 * 30 - 20, 3 + 0.5 * 40 - 30, 4 - 40]
    a3 = d[3]
    a2 = d[2] + 0.4 * a3
    a1 = d[1] + 0.4 * a2
    a0 = d[0] + 0.4 * a1
    got = trial_advantages(trials.rewards, values, trial_ends(trials, cut_episodes=False), 0.5, 0.8)
    assert got[0].tolist() == pytest.approx([a0, a1, a2, a3, 0.0])


def test_advantages_end_with_each_episode_when_told_to() -> None:
    trials, values = two_episodes()
    d = [1 + 0.5 * 20 - 10, 2 - 20, 3 + 0.5 * 40 - 30, 4 - 40]
    got = trial_advantages(trials.rewards, values, trial_ends(trials, cut_episodes=True), 0.5, 0.8)
    assert got[0].tolist() == pytest.approx([d[0] + 0.4 * d[1], d[1], d[2] + 0.4 * d[3], d[3], 0.0])


def test_a_trial_that_the_clock_cut_is_worth_what_came_after() -> None:
    """The last of two trials ended by itself, and an episode's end inside a trial is no cut."""
    trials, values = two_episodes()
    itself = replace(trials, truncated=np.zeros_like(trials.truncated))
    for one, last in ((trials, 4 + 0.5 * 100 - 40), (itself, 4 - 40)):
        d = [1 + 0.5 * 20 - 10, 2 + 0.5 * 30 - 20, 3 + 0.5 * 40 - 30]
        a2 = d[2] + 0.4 * last
        a1 = d[1] + 0.4 * a2
        got = advantages_of(one, values, cut_episodes=False, final_values=[100.0])
        assert got[0].tolist() == pytest.approx([d[0] + 0.4 * a1, a1, a2, last, 0.0])


def advantages_of(trials: Trials, values: np.ndarray, *, cut_episodes: bool, final_values: list[float]) -> np.ndarray:
    """Advantages as PPO is given them, with discount 0.5 and lambda 0.8."""
    extras = {"policy_output": np.ones((*values.shape, 2)), "log_prob": np.zeros_like(values), "value": values}
    settings = PpoSettings(gamma=0.5, gae_lambda=0.8, normalise_advantages=False)
    ends = trial_ends(trials, cut_episodes)
    samples = trial_samples(
        replace(trials, extras=extras), ends, 1.0, settings, torch.device("cpu"), np.array(final_values)
    )
    return samples.advantages.numpy()


def test_each_episode_that_the_clock_cut_is_worth_what_came_after_as_if_it_were_a_trial_of_its_own() -> None:
    trials, values = two_episodes()
    d = [1 + 0.5 * 20 - 10, 2 + 0.5 * 100 - 20, 3 + 0.5 * 40 - 30, 4 + 0.5 * 200 - 40]
    by_hand = [d[0] + 0.4 * d[1], d[1], d[2] + 0.4 * d[3], d[3]]
    got = advantages_of(trials, values, cut_episodes=True, final_values=[100.0, 200.0])
    assert got[0].tolist() == pytest.approx([*by_hand, 0.0])
    apart = Trials(*(a[:, :4].reshape(2, 2, *a.shape[2:]) for a in list(vars(trials).values())[:-1]), {})
    alone = advantages_of(apart, values[:, :4].reshape(2, 2), cut_episodes=False, final_values=[100.0, 200.0])
    assert alone.tolist() == [pytest.approx(by_hand[:2]), pytest.approx(by_hand[2:])]


def test_an_episode_that_ended_by_itself_inside_a_trial_leaves_nothing() -> None:
    trials, values = two_episodes()
    truncated = trials.truncated & (np.arange(5) == 3)
    d = [1 + 0.5 * 20 - 10, 2 - 20, 3 + 0.5 * 40 - 30, 4 + 0.5 * 200 - 40]
    got = advantages_of(replace(trials, truncated=truncated), values, cut_episodes=True, final_values=[100.0, 200.0])
    assert got[0].tolist() == pytest.approx([d[0] + 0.4 * d[1], d[1], d[2] + 0.4 * d[3], d[3], 0.0])


def test_an_end_that_the_clock_met_too_is_the_tasks_own() -> None:
    one = recording([[2, 3]], 1)
    both = replace(one, terminated=last_steps(one.mask) & np.array([[[True], [False]]]), truncated=last_steps(one.mask))
    assert pack_trials([both]).truncated.tolist() == [[False, False, False], [False, False, True]]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_memories_after_episodes_are_those_of_passing_step_by_step(spaces, cell: str) -> None:
    """Three trials of three episodes of different lengths, two of them padded."""
    network, lengths = make(spaces, cell), [[2, 3, 1], [1, 1, 2], [3, 2, 3]]
    x = torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(1))
    over, expected = np.zeros((3, 8), dtype=np.bool_), []
    for row, steps in enumerate(lengths):
        over[row, np.cumsum(steps) - 1] = True
        memory = network.fresh_memory(1)
        for t in range(sum(steps)):
            memory = mapped(torch.Tensor.detach, network(x[row : row + 1, t : t + 1], memory)[2])
            if over[row, t]:
                expected.append(memory)
    got = memories_after_episodes(network, x, over)
    torch.testing.assert_close(got, mapped(lambda *parts: torch.cat(parts), *expected))
    assert not any(t.requires_grad for t in ([got] if cell == "gru" else got))


def test_going_beyond_a_trial_shows_its_last_observation_and_no_end_there() -> None:
    trials, _ = two_episodes()
    trials = replace(trials, next_observations=trials.observations + 0.5)
    unbounded = Spaces(observation_size=1, action_low=(-np.inf,), action_high=(np.inf,), horizon=3)
    observations, told = Feedback(ActionMap(unbounded, 1.0), reward_scale=1.0).with_bootstrap_step(trials)
    assert observations[0, :, 0].tolist() == [1, 2, 3, 4, 4.5, 0]
    assert told[0, :5].tolist() == [[0, 0, 0], [1, 1, 0], [2, 2, 1], [3, 3, 0], [4, 4, 0]]
    assert step_after(torch.tensor(observations), trials.mask).tolist() == [[4.5]]


def test_going_on_after_an_episode_shows_its_last_observation_and_no_end_there() -> None:
    trials, _ = two_episodes()
    trials = replace(trials, next_observations=trials.observations + 0.5)
    unbounded = Spaces(observation_size=1, action_low=(-np.inf,), action_high=(np.inf,), horizon=3)
    observations, told = Feedback(ActionMap(unbounded, 1.0), reward_scale=10.0).bootstrap_steps(trials, trials.over)
    assert observations.tolist() == [[2.5], [4.5]]
    assert told.tolist() == [[2, 20, 0], [4, 40, 0]]


def test_feedback_is_action_reward_and_end_and_comes_one_step_later(spaces: Spaces, discrete_spaces: Spaces) -> None:
    """Bounds (-1, 1) and (-2, 4); a choice is one-hot."""
    feedback = Feedback(ActionMap(spaces, 1.0), reward_scale=10.0)
    actions, rewards, over = np.array([[[0.5, 4.0], [0, 1]]]), np.array([[3.0, 4.0]]), np.eye(2)[:1]
    assert feedback.of(actions, rewards, over).tolist() == [[[0.5, 1, 30, 1], [0, 0, 40, 0]]]
    assert feedback.along(actions, rewards, over).tolist() == [[[0, 0, 0, 0], [0.5, 1, 30, 1]]]
    choice = Feedback(ActionMap(discrete_spaces, 1.0), 1.0).of(np.array([2.0]), np.array(7.0), np.array(False))
    assert choice.tolist() == [0, 0, 1, 0, 7, 0]


def test_the_next_episode_is_told_of_the_last_step_before_the_padding() -> None:
    unbounded = Spaces(observation_size=1, action_low=(-np.inf,), action_high=(np.inf,), horizon=3)
    told = Feedback(ActionMap(unbounded, 1.0), reward_scale=1.0).at_the_end(recording([[2, 3], [1, 3]], 1))
    assert told.tolist() == [[[-2, 2, 1], [-13, 13, 1]], [[-21, 21, 1], [-33, 33, 1]]]


def test_samples_of_trials_hold_what_acting_recorded_and_advantages_of_scaled_rewards() -> None:
    trials, values = two_episodes()
    extras = {"policy_output": np.ones((1, 5, 2)), "log_prob": -np.ones((1, 5)), "value": values}
    trials = replace(trials, extras=extras)
    settings, cpu = PpoSettings(gamma=1.0, gae_lambda=1.0, normalise_advantages=False), torch.device("cpu")
    samples = trial_samples(trials, trial_ends(trials, False), 2.0, settings, cpu)
    assert samples.targets[0, :4].tolist() == [5.0, 4.5, 3.5, 2.0]
    assert samples.advantages[0, :4].tolist() == [-5.0, -15.5, -26.5, -38.0]
    assert samples.mask.tolist() == [[1, 1, 1, 1, 0]]
    assert samples.log_probs.tolist() == [[-1.0] * 5]
    normalised = trial_samples(trials, trial_ends(trials, False), 2.0, PpoSettings(gamma=1.0, gae_lambda=1.0), cpu)
    assert normalised.advantages[0, :4].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert normalised.advantages[0, 4] == 0


def test_returns_cross_the_end_of_an_episode_unless_told_not_to() -> None:
    trials, _ = two_episodes()
    whole = trial_returns(trials.rewards, trial_ends(trials, cut_episodes=False), 0.5)
    assert whole[0].tolist() == [1 + 0.5 * 4.5, 2 + 0.5 * 5, 3 + 0.5 * 4, 4, 0]
    cut = trial_returns(trials.rewards, trial_ends(trials, cut_episodes=True), 0.5)
    assert cut[0].tolist() == [2, 2, 5, 4, 0]
