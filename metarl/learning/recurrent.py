"""Recurrent policies over whole trials: the network, the packing of episodes into trials, advantages across them.

A trial is all episodes that one environment plays of one task, in order. Packing moves the steps that happened to
the front, so that a recurrence over a packed trial passes through the memories that acting passed through, and
padding, all at the end, never touches them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from metarl.config import Positive, Rounds
from metarl.learning.actions import ActionMap
from metarl.learning.actor_critic import PolicyHead, PolicySettings, hidden_layers, linear
from metarl.learning.cells import PARTS, Cell, Remembering, memory_after, recurrent_cell, through
from metarl.learning.distributions import Distribution, joined
from metarl.learning.perceptron import Activation
from metarl.learning.ppo import PpoSamples, PpoSettings, normalise_over_steps
from metarl.learning.returns import discounted_sums, generalised_advantages
from metarl.types import Bools, Floats, Spaces, Step, Trajectories


class RecurrentActorCritic(nn.Module):
    """Encoder, recurrent cell, and on its output a policy and a value.

    With `hidden` layers, policy and value have a perceptron each, on the cell's output joined with its input: what
    only depends on the present then need not pass through the memory.

    Args:
        inputs: Size of the input, `I`.
        spaces: Sizes of the actions.
        encoder: Units of each layer before the cell; there may be none.
        activation: After each of them.
        cell: `gru` (Cho et al. 2014, arXiv:1406.1078) or `lstm` (Hochreiter and Schmidhuber 1997).
        units: `H`, size of the memory.
        hidden: Units of each layer after the cell, of policy and value each; there may be none.
        policy: Settings of the policy's deviation and mean.
        rng: Source of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        spaces: Spaces,
        *,
        encoder: tuple[int, ...],
        activation: Activation,
        cell: Cell,
        units: int,
        hidden: tuple[int, ...],
        policy: PolicySettings,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        self.inputs, self.units, self._cell = inputs, units, cell
        sizes = (inputs, *encoder)
        self.encoder = hidden_layers(sizes, activation, rng)
        self.cell = recurrent_cell(cell, sizes[-1], units, rng)
        joined = (units + sizes[-1] if hidden else units, *hidden)
        self.actor, self.critic = (hidden_layers(joined, activation, rng) for _ in range(2))
        self.policy = PolicyHead(joined[-1], spaces, policy, rng=rng)
        self.value = linear(joined[-1], 1, 1.0, rng)

    def fresh_memory(self, rows: int) -> Tensor:
        """The memory at the start of a trial: zeros `[S, rows, H]`, with `S` = 2 for the LSTM and 1 for the GRU."""
        return torch.zeros(PARTS[self._cell], rows, self.units, dtype=torch.float32, device=self.value.weight.device)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """Goes on from a memory over `L` steps.

        Args:
            x: `[B, L, I]`.
            memory: `[S, B, H]`.

        Returns:
            The policy at each step, the values `[B, L]`, and the memory after the last step.
        """
        encoded = self.encoder(x)
        features, memory = through(self.cell, encoded, memory)
        if len(self.actor):
            features = torch.cat([features, encoded], dim=-1)
        return self.policy(self.actor(features)), self.value(self.critic(features)).squeeze(-1), memory

    def memory_after(self, x: Tensor, memory: Tensor, steps: Tensor) -> Tensor:
        """The memory `[S, B, H]` after the first `steps` `[B]` of each row of `[B, L, I]`."""
        return memory_after(self.cell, self.encoder(x), memory, steps)


def unroll(network: RecurrentActorCritic, x: Tensor, span: int = 0) -> tuple[Distribution, Tensor]:
    """Policy and values over whole packed trials, from a fresh memory.

    Args:
        network: The network.
        x: `[B, L, I]`.
        span: Steps that gradients flow back through; 0 for the whole trial. The values are the same.

    Returns:
        The policy at each step, and the values `[B, L]`.
    """
    memory = network.fresh_memory(len(x))
    distributions, values = [], []
    for piece in torch.split(x, span or x.shape[1], dim=1):
        distribution, value, memory = network(piece, memory.detach())
        distributions.append(distribution)
        values.append(value)
    return joined(distributions), torch.cat(values, dim=1)


def memories_before_segments(network: RecurrentActorCritic, x: Tensor, span: int) -> Tensor:
    """The memory that each segment of `span` steps starts from, `[S, B * P, H]`, when trials pass from a fresh one.

    Args:
        network: The network; no gradient is kept.
        x: `[B, L, I]`.
        span: Steps of a segment; there are `P` in a trial, ordered as in `in_segments`.
    """
    memory, memories = network.fresh_memory(len(x)), []
    with torch.no_grad():
        for piece in torch.split(x, span, dim=1):
            memories.append(memory)
            memory = network(piece, memory)[2]
    return torch.stack(memories, dim=2).flatten(1, 2)


def memories_after_episodes(network: Remembering, x: Tensor, over: Bools) -> Tensor:
    """The memory after each episode's last step, `[S, B * (K + 1), H]`, when trials pass from a fresh one.

    All steps pass through the network once, episode after episode.

    Args:
        network: The network; no gradient is kept.
        x: `[B, L, I]`, packed trials.
        over: `[B, L]`, True on the last step of each episode; all trials have `K + 1` episodes. The memories are in
            the order of these steps, trial after trial.
    """
    ends = np.nonzero(over)[1].reshape(len(over), -1)  # [B, K + 1]
    lengths = np.diff(ends, axis=1, prepend=-1)
    rows, memory, memories = torch.arange(len(x)).unsqueeze(1), network.fresh_memory(len(x)), []
    with torch.no_grad():
        for end, length in zip(ends.T, lengths.T, strict=True):
            steps = (end - length)[:, None] + np.arange(1, length.max() + 1)  # [B, T], beyond shorter episodes' ends
            episode = x[rows, torch.tensor(np.minimum(steps, x.shape[1] - 1))]
            memory = network.memory_after(episode, memory, torch.tensor(length))
            memories.append(memory)
    return torch.stack(memories, dim=2).flatten(1, 2)


def in_segments(steps: Tensor, span: int) -> Tensor:
    """Trials `[B, L, ...]` as segments `[B * P, span, ...]`, those of a trial after one another, padded with zeros."""
    rows, length, *rest = steps.shape
    padding = steps.new_zeros(rows, -length % span, *rest)
    return torch.cat([steps, padding], dim=1).reshape(-1, span, *rest)


@dataclass(frozen=True)
class Trials:
    """The episodes of each environment in order, without gaps: `B = M * E` trials of up to `L` steps.

    Args:
        observations: `[B, L, O]`, before each step.
        next_observations: `[B, L, O]`, after each step: at the end of an episode its last one, not the next's first.
        actions: `[B, L, A]`, as the environment received them.
        rewards: `[B, L]`.
        over: `[B, L]`, True on the last step of each episode.
        truncated: `[B, L]`, True where the clock ended it, and it did not end by itself.
        mask: `[B, L]`, True on the steps that happened, which come first.
        extras: What the agent added while acting, each `[B, L, ...]`.
    """

    observations: Floats
    next_observations: Floats
    actions: Floats
    rewards: Floats
    over: Bools
    truncated: Bools
    mask: Bools
    extras: Mapping[str, Floats]


def pack_trials(trajectories: Sequence[Trajectories]) -> Trials:
    """Joins the collects of a meta-batch along time and moves the steps that happened to the front.

    Args:
        trajectories: One per episode of the trial, each `[M, E, T, ...]`.
    """
    rows = trajectories[0].mask.shape[0] * trajectories[0].mask.shape[1]

    def joined(arrays: Sequence[Floats]) -> Floats:
        long = np.concatenate(arrays, axis=2)  # [M, E, (K + 1) * T, ...]
        return long.reshape(rows, *long.shape[2:])

    mask = joined([t.mask for t in trajectories])
    order = np.argsort(~mask, axis=1, kind="stable")[:, : mask.sum(axis=1).max()]

    def packed(arrays: Sequence[Floats]) -> Floats:
        long = joined(arrays)
        return np.take_along_axis(long, order.reshape(*order.shape, *[1] * (long.ndim - 2)), axis=1)

    return Trials(
        observations=packed([t.observations for t in trajectories]),
        next_observations=packed([t.next_observations for t in trajectories]),
        actions=packed([t.actions for t in trajectories]),
        rewards=packed([t.rewards for t in trajectories]),
        over=packed([last_steps(t.mask) for t in trajectories]),
        truncated=packed([t.truncated & ~t.terminated for t in trajectories]),
        mask=packed([t.mask for t in trajectories]),
        extras={key: packed([t.extras[key] for t in trajectories]) for key in trajectories[0].extras},
    )


@dataclass(frozen=True, kw_only=True)
class TrialSettings(PpoSettings):
    """What the agents that act and learn in trials have in common."""

    episodes_per_trial: Rounds = 2
    """Episodes of one task that a memory lives through; usually 2 to 10."""
    reward_input_scale: Positive = 1.0
    """Factor of the previous reward where it is an input, and there alone; Meta-World+ uses 0.1."""
    episodes_cut_returns: bool = False
    """Let the learner's returns end with each episode, in place of going on to the end of the trial."""
    finite_trials: bool = False
    """Treat the end of a trial as terminal (bandits, whose steps are counted), and the end of each episode with
    episodes_cut_returns. Otherwise bootstrap from the value function where the time limit ended the return."""


@dataclass(frozen=True)
class Memory:
    """The state of an agent that remembers.

    Args:
        cell: The recurrent cell's memory of each row, `[S, M * E, H]` (`S` = 2 for the LSTM, 1 for the GRU).
        feedback: Inputs about the step before the next episode's first, `[M, E, F]`; zeros at the start of a trial.
        before: The cell's memory at that step, before the episode; None for `cell`.
    """

    cell: Tensor
    feedback: Floats
    before: Tensor | None = None

    @property
    def rows(self) -> tuple[int, int]:
        """`(M, E)`."""
        m, e, _ = self.feedback.shape
        return m, e


class Feedback:
    """What a network that remembers is told of the step before: action, reward, whether the episode ended there.

    Args:
        actions: Makes inputs of actions.
        reward_scale: Factor of the reward.

    Attributes:
        size: `F`, numbers that it consists of.
    """

    def __init__(self, actions: ActionMap, reward_scale: float) -> None:
        self._actions, self._reward_scale = actions, reward_scale
        self.size = actions.features + 2

    def of(self, action: Floats, reward: Floats, done: Bools | Floats) -> Floats:
        """The inputs, `[..., F]`: actions `[..., A]` as the environment received them, the other two `[...]`."""
        told = (self._actions.to_features(action), self._reward_scale * reward[..., None], done[..., None])
        return np.concatenate(told, axis=-1, dtype=np.float32)

    def at_the_start(self, num_tasks: int, episodes: int) -> Floats:
        """Nothing has happened yet in a new trial: zeros, `[M, E, F]`."""
        return np.zeros((num_tasks, episodes, self.size), dtype=np.float32)

    def while_acting(self, step: Step, before_the_episode: Floats) -> Floats:
        """At the first step of an episode what was carried over, `[M, E, F]`; then what the last step brought."""
        going_on = self.of(step.previous_action, step.previous_reward, np.zeros_like(step.first))
        return np.where(step.first[..., None], before_the_episode, going_on)

    def at_the_end(self, trajectories: Trajectories) -> Floats:
        """What the next episode's first step is told: the last action, its reward, and that the episode is over."""
        last = trajectories.mask.sum(axis=2) - 1  # [M, E]
        action = np.take_along_axis(trajectories.actions, last[..., None, None], axis=2)[:, :, 0]
        reward = np.take_along_axis(trajectories.rewards, last[..., None], axis=2)[:, :, 0]
        return self.of(action, reward, np.ones_like(reward))

    def along(self, actions: Floats, rewards: Floats, over: Bools | Floats) -> Floats:
        """The inputs at each step of packed trials, `[B, L, F]`, from what each step was and brought, `[B, L, ...]`."""
        return one_step_later(self.of(actions, rewards, over))

    def beyond(self, trials: Trials) -> tuple[Floats, Floats]:
        """Observations `[B, L + 1, O]` and inputs `[B, L + 1, F]` of trials with one more step after the last.

        There the last episode goes on, as if no clock had cut it: for what there was still to earn.
        """
        rows, steps = np.arange(len(trials.mask)), trials.mask.sum(axis=1)
        observations, actions, rewards, over = (
            np.concatenate([a, np.zeros_like(a[:, :1])], axis=1)
            for a in (trials.observations, trials.actions, trials.rewards, trials.over)
        )
        observations[rows, steps] = trials.next_observations[rows, steps - 1]
        over[rows, steps - 1] = False
        return observations, self.along(actions, rewards, over)

    def going_on(self, trials: Trials, at: Bools) -> tuple[Floats, Floats]:
        """Observations `[C, O]` and inputs `[C, F]` of one more step after each of the `C` steps where `at` is True.

        There the episode goes on, as if no clock had cut it.
        """
        never = np.zeros(np.count_nonzero(at))
        return trials.next_observations[at], self.of(trials.actions[at], trials.rewards[at], never)


def one_step_later(values: Floats) -> Floats:
    """What was known one step before, `[B, L, ...]`: zeros at the start of a trial."""
    later = np.zeros_like(values)
    later[:, 1:] = values[:, :-1]
    return later


def last_steps(mask: Bools) -> Bools:
    """True on the last step that happened along the last axis; the mask has no gaps."""
    after = np.zeros_like(mask)
    after[..., :-1] = mask[..., 1:]
    return mask & ~after


def trial_ends(trials: Trials, cut_episodes: bool) -> Bools:
    """Where a return ends, `[B, L]`: at the trial's last step, or at every episode's."""
    return trials.over if cut_episodes else last_steps(trials.mask)


def trial_advantages(
    rewards: Floats,
    values: Floats,
    ends: Bools,
    gamma: float,
    lam: float,
    cut: Bools | None = None,
    final_values: Floats | None = None,
) -> Floats:
    """Generalised advantages over trials, `[B, L]`: the return goes on into the next episode unless it ends.

    Args:
        rewards: `[B, L]`.
        values: Of the memory and observation before each step, `[B, L]`, zero on padding.
        ends: `[B, L]`, as `trial_ends` has them.
        gamma: Discount per step.
        lam: Decay of the multi-step estimators.
        cut: Ends that are time limits, after which there was more to earn, `[B, L]`; none by default.
        final_values: What there was to earn after each end, in the order of `ends`; counts where `cut` is True.
    """
    next_values = np.zeros_like(values)
    next_values[:, :-1] = values[:, 1:]
    if cut is None or final_values is None:
        return generalised_advantages(rewards, values, next_values, ends, np.zeros_like(ends), gamma, lam)
    next_values[ends] = final_values
    return generalised_advantages(rewards, values, next_values, ends & ~cut, cut, gamma, lam)


def trial_returns(rewards: Floats, ends: Bools, gamma: float) -> Floats:
    """Discounted returns over trials, `[B, L]`; the arguments are as in `trial_advantages`."""
    return discounted_sums(rewards, (~ends).astype(np.float64), gamma)


def step_after(values: Tensor, mask: Bools) -> Tensor:
    """What stands right after each trial's last step, `[B, ...]`, of `[B, L + 1, ...]`."""
    return values[torch.arange(len(mask)), torch.tensor(mask.sum(axis=1))]


def trial_samples(
    trials: Trials,
    ends: Bools,
    reward_scale: float,
    settings: PpoSettings,
    device: torch.device,
    final_values: Floats | None = None,
) -> PpoSamples:
    """What PPO learns from whole trials, `[B, L, ...]`, on the device.

    Args:
        trials: With what acting recorded: `policy_output`, `log_prob`, `value`.
        ends: As `trial_ends` has them.
        reward_scale: What the rewards are divided by.
        settings: Discount and estimator.
        device: Where to.
        final_values: What there was to earn after each end, in the order of `ends`, had the clock not cut it; by
            default an end is that of a problem of finite length, after which there is nothing.
    """
    values = trials.extras["value"].astype(np.float64)
    rewards = trials.rewards / reward_scale
    cut = ends & trials.truncated
    advantages = trial_advantages(rewards, values, ends, settings.gamma, settings.gae_lambda, cut, final_values)
    arrays = {
        "actions": trials.extras["policy_output"],
        "log_probs": trials.extras["log_prob"],
        "values": values,
        "targets": advantages + values,
        "advantages": normalise_over_steps(advantages, trials.mask) if settings.normalise_advantages else advantages,
        "mask": trials.mask,
    }
    return PpoSamples.of(arrays, device)
