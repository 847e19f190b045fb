"""PEARL: infers what the task is from a few episodes, and acts by soft actor-critic on that belief.

Rakelly, Zhou, Quillen, Finn and Levine 2019, "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic
Context Variables" (arXiv:1903.08254), algorithms 1 and 2, on soft actor-critic (Haarnoja et al. 2018,
arXiv:1801.01290 and arXiv:1812.05905). The page `docs/pearl.md` has the equations and every detail that changes a
result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from metarl.agent import MetaAgent
from metarl.config import Count, Layers, NonNegative, Positive, Rounds, Rows, UnitInterval, Units, Whole
from metarl.learning.device.chunks import chunks_that_fit, graph_bytes
from metarl.learning.device.gpu import ReplayedStep, send
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.replay import (
    Slots,
    TaskReplay,
    Transitions,
    TrialContexts,
    transition_rows,
    trials_of_rings,
)
from metarl.learning.networks.flat import Perceptrons, mlp_init
from metarl.learning.networks.optimisers import Adam
from metarl.learning.networks.squashed import squashed_sample
from metarl.memory import FLOAT, LEARNED, SAVED, Need, RunSize, dense_parameters
from metarl.storage import write_tensors
from metarl.tasks import TaskDistribution
from metarl.types import Action, Floats, MetaBatch, Spaces, Step, Task, Trajectories

MIN_VARIANCE = 1e-7
"""Smallest variance of a factor of the posterior."""
LOG_STD_RANGE = (-20.0, 2.0)
"""Bounds of the policy's log standard deviation, before the tanh. A clamp, as published: see `docs/pearl.md`."""


@dataclass(frozen=True, kw_only=True)
class PearlConfig:
    """Settings of PEARL; networks, batches, rates and weights are by default those of oyster for half-cheetah-vel."""

    adaptation_steps: Rounds = 2
    """Episodes after the first (K), each acted with a belief from all episodes before it; usually 1 to 3."""
    latent: Units = 5
    """Components of the task variable z (Z); usually 5 to 10."""
    encoder_hidden: Layers = (200, 200, 200)
    """Units of each hidden layer of the context encoder."""
    hidden: Layers = (300, 300, 300)
    """Units of each hidden layer of the policy and of the two critics."""
    context_next_observation: bool = False
    """Show the encoder the observation after the step too: for tasks that differ in their dynamics."""
    gradient_steps: Rows = 2000
    """Gradient steps per iteration; usually 200 to 4000."""
    meta_batch: Rows = 16
    """Tasks of one gradient step, drawn from those in the replay (all of them while there are fewer)."""
    batch: Rows = 256
    """Transitions per task in one gradient step; usually 64 to 256."""
    context_batch: Rows = 100
    """Transitions that stand for all those of a task's context in one gradient step; usually 64 to 256."""
    warmup_iterations: Whole = 20
    """Iterations that only collect data before the first gradient step; usually enough to meet most training tasks."""
    learning_rate: Positive = 3e-4
    """Step size of Adam, for all networks."""
    gamma: UnitInterval = 0.99
    """Discount per step."""
    reward_scale: Positive = 5.0
    """Factor of the rewards that the critics learn from: the weight of reward against entropy; usually 1 to 100."""
    kl_weight: NonNegative = 0.1
    """Weight of the information bottleneck, KL(posterior || prior) summed over the tasks; usually 0.1 to 1."""
    tau: UnitInterval = 0.005
    """Share of the way that the target critics go to the critics after each gradient step."""
    temperature: Positive = 1.0
    """Weight of the entropy against the scaled reward; where it is tuned automatically, its start."""
    tune_temperature: bool = False
    """Tune the temperature so that the policy's entropy stays at minus the number of action components, in nats."""
    replay_size: Count = 20_000
    """Ring buffer per task for the critics, transitions; older ones are overwritten."""
    replay_tasks: Rows = 100
    """Most training tasks that the replay has room for: at least the run's `train_tasks`."""


@dataclass(frozen=True)
class Belief:
    """The state: what each environment's own episodes say about its task, and the z it acts with.

    The posterior is kept as natural parameters, which are sums over the context: their order does not matter and
    further context only adds to them.

    Attributes:
        precision: Sum of the factors' 1 / variance, `[M, E, Z]`; zero before any context.
        weighted_mean: Sum of the factors' mean / variance, `[M, E, Z]`.
        latent: z of the current episode, `[M, E, Z]`.
    """

    precision: Tensor
    weighted_mean: Tensor
    latent: Tensor

    def tasks(self, part: slice) -> Belief:
        """The state of some of the tasks."""
        return Belief(self.precision[part], self.weighted_mean[part], self.latent[part])

    @classmethod
    def join(cls, parts: Sequence[Belief]) -> Belief:
        """The state of all tasks of the parts, in order."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))


class Parameters(NamedTuple):
    """All that is learned.

    Attributes:
        encoder: `[1, P]`.
        policy: `[1, P]`.
        critics: The two critics, `[2, P]`.
        targets: Their slow copies, `[2, P]`.
        log_temperature: `[1]`.
    """

    encoder: Tensor
    policy: Tensor
    critics: Tensor
    targets: Tensor
    log_temperature: Tensor


class Noise(NamedTuple):
    """Standard normal numbers of one gradient step.

    Attributes:
        latent: `[M, Z]`.
        next_action: `[M, B, A]`.
        action: `[M, B, A]`.
    """

    latent: Tensor
    next_action: Tensor
    action: Tensor


class Drawn(NamedTuple):
    """What one gradient step learns from, of all tasks or of some.

    Attributes:
        context: What z is inferred from, rows of the contexts `[M, context_batch, width]`.
        weight: Transitions of the context that each of its rows stands for, `[M]`.
        batch: What critics and policy learn from, rows of the replay `[M, B, width]`.
        noise: Of z and of the actions.
    """

    context: Tensor
    weight: Tensor
    batch: Tensor
    noise: Noise

    def tasks(self, part: slice) -> Drawn:
        """The same of some of the tasks."""
        noise = Noise(*(t[part] for t in self.noise))
        return Drawn(self.context[part], self.weight[part], self.batch[part], noise)


class PearlNetworks:
    """Encoder, policy and critics as functions of their parameters.

    Args:
        config: The settings.
        spaces: Sizes.
    """

    def __init__(self, config: PearlConfig, spaces: Spaces) -> None:
        o, a, z = spaces.observation_size, spaces.action_size, config.latent
        self._next = config.context_next_observation
        self.encoder_network = Perceptrons((o + a + 1 + o * self._next, *config.encoder_hidden, 2 * z), "relu")
        self.policy_network = Perceptrons((o + z, *config.hidden, 2 * a), "relu")
        self.critic_networks = Perceptrons((o + a + z, *config.hidden, 1), "relu")

    def initial(self, config: PearlConfig, rng: np.random.Generator) -> Parameters:
        """Initial parameters; the targets start equal to the critics."""
        encoder, policy = (mlp_init(each.sizes, rng)[None] for each in (self.encoder_network, self.policy_network))
        critics = torch.stack([mlp_init(self.critic_networks.sizes, rng) for _ in range(2)])
        temperature = torch.tensor([math.log(config.temperature)], dtype=torch.float32)
        return Parameters(encoder, policy, critics, critics.clone(), temperature)

    def factors(self, encoder: Tensor, context: Transitions) -> tuple[Tensor, Tensor]:
        """Mean and variance of each transition's factor of the posterior, `[M, B, Z]` each."""
        columns = [context.observations, context.actions, context.rewards.unsqueeze(-1)]
        if self._next:
            columns.append(context.next_observations)
        mean, raw = self.encoder_network(encoder, _shared(*columns))[0].chunk(2, dim=-1)
        return mean, softplus(raw).clamp_min(MIN_VARIANCE)

    def policy(self, policy: Tensor, observations: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, `[M, B, A]` each.

        Args:
            policy: `[1, P]`.
            observations: `[M, B, O]`.
            latent: `[M, B, Z]` or `[M, 1, Z]`.
        """
        mean, log_std = self.policy_network(policy, _shared(observations, latent))[0].chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def critics(self, critics: Tensor, observations: Tensor, actions: Tensor, latent: Tensor) -> Tensor:
        """Values of both critics, `[2, M, B]`; `actions` in [-1, 1], `latent` as for `policy`."""
        return self.critic_networks(critics, _shared(observations, actions, latent)).squeeze(-1)

    def smaller_value(self, critics: Tensor, observations: Tensor, actions: Tensor, latent: Tensor) -> Tensor:
        """The smaller one of both critics' values, `[M, B]`; arguments as for `critics`, the parameters detached."""
        return self.critic_networks.smallest(critics, _shared(observations, actions, latent))


def _shared(*columns: Tensor) -> list[Tensor]:
    """Columns of inputs that all networks of a kind are shown."""
    return [c.unsqueeze(0) for c in columns]


# The belief -----------------------------------------------------------------------------------------------


def natural_parameters(mean: Tensor, variance: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the context of 1 / variance and mean / variance: the product of Gaussians (section 4.1).

    Args:
        mean: `[..., B, Z]`.
        variance: `[..., B, Z]`.
        weight: How often each factor counts, `[..., B]`, or all of them alike, `[..., 1]`; 0 for padding.
    """
    precision = weight.unsqueeze(-1) / variance
    return precision.sum(dim=-2), (precision * mean).sum(dim=-2)


def posterior(precision: Tensor, weighted_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(z | c); those of the prior, 0 and 1, where there is no context."""
    variance = 1.0 / torch.where(precision > 0, precision, torch.ones_like(precision))
    return weighted_mean * variance, variance


def infer(networks: PearlNetworks, encoder: Tensor, context: Transitions, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(z | c), `[M, Z]` each.

    Args:
        networks: As functions of their parameters.
        encoder: `[1, P]`.
        context: `[M, B, ...]`.
        weight: Transitions that each of a task's rows stands for, `[M]`.
    """
    mean, variance = networks.factors(encoder, context)
    return posterior(*natural_parameters(mean, variance, weight.unsqueeze(-1)))


def kl_from_prior(mean: Tensor, variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) in nats, summed over the last axis."""
    return 0.5 * (variance + mean.square() - 1.0 - variance.log()).sum(dim=-1)


# Losses ---------------------------------------------------------------------------------------------------


def critic_targets(
    networks: PearlNetworks, p: Parameters, batch: Transitions, latent: Tensor, noise: Tensor, config: PearlConfig
) -> Tensor:
    """What the critics are to predict, without history, `[M, B]`.

    `y = scale * r + gamma * (1 - terminated) * (min Q'(s', a', z) - temperature * log pi(a' | s', z))` with a' drawn
    from the policy (arXiv:1812.05905, equations 3 and 5).
    """
    with torch.no_grad():
        mean, log_std = networks.policy(p.policy, batch.next_observations, latent)
        actions, log_prob = squashed_sample(mean, log_std, noise)
        values = networks.smaller_value(p.targets, batch.next_observations, actions, latent)
        soft_values = values - p.log_temperature.exp() * log_prob
        return config.reward_scale * batch.rewards + config.gamma * (1.0 - batch.terminated) * soft_values


def critic_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of each critic `[2, M, B]`, summed over the two."""
    return (values - targets).square().mean(dim=(1, 2)).sum()


def policy_loss(
    networks: PearlNetworks, p: Parameters, batch: Transitions, latent: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean of `temperature * log pi - min Q` over actions drawn anew, and the log-probabilities `[M, B]`.

    Only the policy gets a gradient: neither the critics nor, through z, the encoder (section 5.1).
    """
    latent = latent.detach()
    mean, log_std = networks.policy(p.policy, batch.observations, latent)
    actions, log_prob = squashed_sample(mean, log_std, noise)
    values = networks.smaller_value(p.critics.detach(), batch.observations, actions, latent)
    return (p.log_temperature.exp().detach() * log_prob - values).mean(), log_prob


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Mean of `-temperature * (log pi + target entropy)` (arXiv:1812.05905, equation 18)."""
    return -(log_temperature.exp() * (log_prob.detach() + target_entropy)).mean()


# The agent ------------------------------------------------------------------------------------------------


class Pearl(MetaAgent[Belief]):
    """PEARL as a `metarl.agent.MetaAgent`; its state is a `Belief`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where networks and replay lie.
        rng: Source of the initial parameters; the generator of what the updates draw is spawned from it.

    Raises:
        ValueError: Actions are discrete or unbounded.
    """

    Config: ClassVar[type] = PearlConfig
    summary: ClassVar[str] = "infers the task as a latent variable, off-policy (Rakelly et al. 2019)"
    default_settings: ClassVar[Mapping[str, Any]] = {
        "tasks": 10,
        "episodes": 2,
        "train_tasks": 100,
        "hidden": (128, 128),
        "encoder_hidden": (64, 64),
        "gradient_steps": 400,
        "meta_batch": 8,
        "batch": 64,
        "context_batch": 64,
        "warmup_iterations": 5,
        "learning_rate": 1e-3,
        "reward_scale": 1.0,
    }
    adapts_within_episodes: ClassVar[bool] = False

    @classmethod
    def memory_needed(cls, config: PearlConfig, spaces: Spaces, size: RunSize) -> list[Need]:
        """The parts of a training that can be large: the replay, the contexts, and the networks.

        Args:
            config: The settings.
            spaces: Sizes and horizon.
            size: Of the training.
        """
        o, a, z = spaces.observation_size, spaces.action_size, config.latent
        row = FLOAT * Transitions.width(o, a)
        collected = size.tasks * size.episodes * (config.adaptation_steps + 1) * spaces.horizon
        capacity = config.replay_tasks * config.replay_size
        stored = min(capacity, size.iterations * collected)
        parameters = dense_parameters((o + a + 1, *config.encoder_hidden, 2 * z))
        parameters += dense_parameters((o + z, *config.hidden, 2 * a))
        parameters += 2 * dense_parameters((o + a + z, *config.hidden, 1))
        drawn = config.meta_batch * (config.batch + config.context_batch) * row
        return [
            Need(
                f"the replay, of {capacity:,} transitions with {2 * o:,} numbers each,",
                0 if size.gpu else SAVED * stored * row,
                "a smaller --agent.replay-size N (of each task) or fewer --agent.replay-tasks",
                reserved=0 if size.gpu else capacity * row,
            ),
            Need("the contexts of a collection", row * collected, "fewer --tasks or --episodes"),
            Need(
                f"networks of {parameters:,} parameters",
                FLOAT * parameters if size.gpu else FLOAT * LEARNED * parameters,
                "smaller layers (--agent.hidden, --agent.encoder-hidden)",
            ),
            Need(
                "the transitions of a gradient step",
                0 if size.gpu else drawn,
                "a smaller --agent.batch, --agent.context-batch or --agent.meta-batch",
            ),
        ]

    @classmethod
    def check_distribution(cls, config: PearlConfig, distribution: TaskDistribution, size: RunSize) -> None:
        """Refuses a training that will meet more tasks than the replay has room for.

        Args:
            config: The settings.
            distribution: Where its tasks come from.
            size: Of the training.

        Raises:
            ValueError: It will.
        """
        most = min(size.tasks * size.iterations, config.replay_tasks + 1)
        if len(set(distribution.train_tasks(most))) > config.replay_tasks:
            raise ValueError(
                f"pearl: got more training tasks ({size.tasks} in each of {size.iterations} iterations) than "
                f"replay_tasks = {config.replay_tasks}; draw them from a fixed set (--train-tasks "
                f"{config.replay_tasks}), or raise --agent.replay-tasks"
            )

    def __init__(self, config: PearlConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        if spaces.choices:
            raise ValueError(f"pearl: got {spaces.choices} discrete actions, expected continuous actions")
        self._low, self._high = (np.asarray(b, dtype=np.float32) for b in (spaces.action_low, spaces.action_high))
        if not np.isfinite([self._low, self._high]).all():
            raise ValueError(
                f"pearl: got action bounds {spaces.action_low}, {spaces.action_high}, expected finite ones"
            )
        self.config, self.spaces, self._device = config, spaces, device
        self.recorded = {"policy_output": (spaces.action_size,)}
        self._networks = PearlNetworks(config, spaces)
        self._parameters = Parameters(*(t.to(device) for t in self._networks.initial(config, rng)))
        p = self._parameters
        self._optimisers = {
            name: Adam([t.requires_grad_() for t in tensors], config.learning_rate, fused=True)
            for name, tensors in (("values", (p.encoder, p.critics)), ("actions", (p.policy, p.log_temperature)))
        }
        self._rng = rng.spawn(1)[0]
        width = Transitions.width(spaces.observation_size, spaces.action_size)
        self._replay = TaskReplay(config.replay_tasks, config.replay_size, width, device)
        self._context = TrialContexts(config.adaptation_steps + 1, width, device)
        self._slots: dict[Task, int] = {}
        self._iteration = 0
        self._learn_at_once = ReplayedStep(self._learn_from_tensors)

    @property
    def adaptation_steps(self) -> int:
        """`K`, the episodes after the first."""
        return self.config.adaptation_steps

    def episodes_per_adaptation(self, episodes: int) -> int:
        """Every environment is a trial of its own, and one episode adds to its context."""
        return 1

    def begin(self, tasks: Sequence[Task], episodes: int) -> Belief:
        """Every trial starts with the prior."""
        zeros = torch.zeros(len(tasks), episodes, self.config.latent, dtype=torch.float32, device=self._device)
        return Belief(zeros, zeros, zeros)

    @torch.no_grad()
    def act(self, state: Belief, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, Belief]:
        """Draws z at the start of an episode, and an action from the policy given z (or takes its mode: tanh(mean))."""
        check_step(step, self.spaces, *state.latent.shape[:2])
        if step.first.any():
            mean, variance = posterior(state.precision, state.weighted_mean)
            drawn = mean + variance.sqrt() * self._normal(rng, *mean.shape)
            first = send(step.first, self._device).unsqueeze(-1)
            state = Belief(state.precision, state.weighted_mean, torch.where(first, drawn, state.latent))
        observations = send(step.observation, self._device, torch.float32)
        mean, log_std = self._networks.policy(self._parameters.policy, observations, state.latent)
        noise = 0.0 if mode else log_std.exp() * self._normal(rng, *mean.shape)
        output = torch.tanh(mean + noise).cpu().numpy()
        return Action(self._to_environment(output), extras={"policy_output": output}), state

    @torch.no_grad()
    def adapt(self, state: Belief, trajectories: Trajectories) -> Belief:
        """Multiplies the factors of an episode, or of several, into each environment's posterior."""
        tasks, environments, _ = state.latent.shape
        recordings = check_episodes(trajectories, self.spaces, tasks, environments, recorded=("policy_output",))
        m, e, t = trajectories.shape
        rows = send(self._rows(trajectories), self._device).flatten(1, 2)  # [M, E * T, ...]
        mean, variance = self._networks.factors(self._parameters.encoder, self._unpack(rows))
        mask = send(trajectories.mask, self._device, mean.dtype)
        by_episode = (m, e, t, self.config.latent)
        precision, weighted_mean = natural_parameters(mean.view(by_episode), variance.view(by_episode), mask)
        if recordings > 1:
            apart = (m, recordings, e // recordings, self.config.latent)
            precision, weighted_mean = (sums.view(apart).sum(dim=1) for sums in (precision, weighted_mean))
        return Belief(state.precision + precision, state.weighted_mean + weighted_mean, state.latent)

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Stores what was collected, then makes the gradient steps.

        Raises:
            ValueError: There are more training tasks than the replay has room for.
        """
        self._store(batch)
        self._iteration += 1
        metrics = {
            "replay/tasks": float(len(self._slots)),
            "replay/transitions": float(self._replay.sizes.sum()),
        }
        if self._iteration <= self.config.warmup_iterations:
            return metrics
        tasks = min(self.config.meta_batch, len(self._slots))
        task_bytes = graph_bytes(self.config.batch, self._networks.critic_networks.sizes)
        chunks = chunks_that_fit(tasks, task_bytes, self._device)
        sums = torch.zeros(6, dtype=torch.float32, device=self._device)
        for _ in range(self.config.gradient_steps):
            sums += self._gradient_step(self._draw(tasks), chunks)
        names = ("critic_loss", "policy_loss", "kl", "value", "entropy", "temperature")
        means = (sums / self.config.gradient_steps).tolist()
        return metrics | {f"update/{name}": value for name, value in zip(names, means, strict=True)}

    # Learning -------------------------------------------------------------------------------------------

    def _store(self, batch: MetaBatch[Trajectories]) -> None:
        """Appends every step that happened to the replay, and starts the tasks' contexts anew."""
        new = len(set(batch.tasks) - set(self._slots))
        if len(self._slots) + new > self.config.replay_tasks:
            raise ValueError(
                f"pearl: got {len(self._slots) + new} training tasks, expected at most replay_tasks = "
                f"{self.config.replay_tasks}; raise it, or have a family that draws its tasks draw them from a fixed "
                "set (--train-tasks)"
            )
        slots = np.array([self._slots.setdefault(task, len(self._slots)) for task in batch.tasks], dtype=np.int64)
        rows, masks = [self._rows(t) for t in batch.collects], [t.mask for t in batch.collects]
        for one, mask in zip(rows, masks, strict=True):
            self._replay.add(np.broadcast_to(slots[:, None, None], mask.shape)[mask], one[mask])
        self._context.store(slots, np.stack(rows, axis=2), np.stack(masks, axis=2))

    def _draw(self, tasks: int) -> Drawn:
        """What one gradient step learns from, of so many tasks."""
        c, rng = self.config, self._rng
        slots: Slots = rng.choice(len(self._slots), tasks, replace=False)
        chosen, weight = self._context.draw(slots, c.context_batch, rng)
        batch = self._sample(slots, c.batch)
        actions = (tasks, c.batch, self.spaces.action_size)
        noise = Noise(self._normal(rng, tasks, c.latent), *(self._normal(rng, *actions) for _ in range(2)))
        return Drawn(self._gather(chosen), send(weight, self._device), batch, noise)

    def _gather(self, chosen: Slots) -> Tensor:
        """Rows of contexts, `[tasks, context_batch, width]`."""
        return self._context.gather(chosen)

    def _sample(self, slots: Slots, batch: int) -> Tensor:
        """Rows drawn from some slots of the replay, `[len(slots), batch, width]`."""
        return self._replay.sample(slots, batch, self._rng)

    def _gradient_step(self, drawn: Drawn, chunks: Sequence[slice]) -> Tensor:
        """`_learn_from`, which a GPU is told only once, unless its memory is too small for all tasks at a time."""
        if len(chunks) > 1:
            return self._learn_from(drawn, chunks)
        return self._learn_at_once(drawn.context, drawn.weight, drawn.batch, *drawn.noise)

    def _learn_from(self, drawn: Drawn, chunks: Sequence[slice]) -> Tensor:
        """One step of everything.

        Args:
            drawn: What to learn from.
            chunks: Of the tasks; the gradients of all are added up, of one after the other.

        Returns:
            The numbers that `meta_update` reports, `[6]`.
        """
        p, parts = self._parameters, [drawn.tasks(chunk) for chunk in chunks]
        num_tasks = len(drawn.batch)
        latents, values = zip(*(self._pull_values(part, num_tasks) for part in parts), strict=True)
        self._step("values")
        actions = [self._pull_actions(*one, num_tasks) for one in zip(parts, latents, strict=True)]
        self._step("actions")
        with torch.no_grad():
            p.targets.lerp_(p.critics, self.config.tau)
            (loss, kl, value), (actor_loss, entropy) = (torch.stack(each).sum(dim=0) for each in (values, actions))
            return torch.stack((loss, actor_loss, kl, value, entropy, p.log_temperature.exp().squeeze()))

    def _learn_from_tensors(self, context: Tensor, weight: Tensor, batch: Tensor, *noise: Tensor) -> Tensor:
        """`_learn_from`, from the tensors of all tasks at a time."""
        return self._learn_from(Drawn(context, weight, batch, Noise(*noise)), [slice(len(batch))])

    def _pull_values(self, drawn: Drawn, num_tasks: int) -> tuple[Tensor, Tensor]:
        """Adds the part of some of `num_tasks` tasks to the gradients of critics and encoder.

        Returns:
            Their z, `[M, 1, Z]`, and their part of critic loss, divergence and value, `[3]`.
        """
        c, p = self.config, self._parameters
        context, batch, noise = self._unpack(drawn.context), self._unpack(drawn.batch), drawn.noise
        share = len(batch.rewards) / num_tasks
        mean, variance = infer(self._networks, p.encoder, context, drawn.weight)
        latent = (mean + variance.sqrt() * noise.latent).unsqueeze(1)  # one z per task
        kl = kl_from_prior(mean, variance).sum()
        targets = critic_targets(self._networks, p, batch, latent, noise.next_action, c)
        values = self._networks.critics(p.critics, batch.observations, batch.actions, latent)
        loss = share * critic_loss(values, targets)
        torch.autograd.backward(loss + c.kl_weight * kl, inputs=[p.encoder, p.critics])
        with torch.no_grad():
            return latent.detach(), torch.stack((loss, kl / num_tasks, share * values.mean()))

    def _pull_actions(self, drawn: Drawn, latent: Tensor, num_tasks: int) -> Tensor:
        """Adds the part of some of `num_tasks` tasks, with z `[M, 1, Z]`, to the gradients of policy and temperature.

        Returns:
            Their part of policy loss and entropy, `[2]`.
        """
        p, share = self._parameters, len(latent) / num_tasks
        loss, log_prob = policy_loss(self._networks, p, self._unpack(drawn.batch), latent, drawn.noise.action)
        torch.autograd.backward(share * loss, inputs=[p.policy])
        if self.config.tune_temperature:
            wanting = temperature_loss(p.log_temperature, log_prob, -float(self.spaces.action_size))
            torch.autograd.backward(share * wanting, inputs=[p.log_temperature])
        with torch.no_grad():
            return share * torch.stack((loss, -log_prob.mean()))

    def _step(self, what: Literal["values", "actions"]) -> None:
        """One step of Adam along the gradients that have been added up."""
        self._optimisers[what].step()
        self._optimisers[what].zero_grad()

    # Arrays ---------------------------------------------------------------------------------------------

    def _rows(self, trajectories: Trajectories) -> Floats:
        """The steps as the replay stores them, actions in [-1, 1]."""
        return transition_rows(trajectories, trajectories.extras["policy_output"])

    def _unpack(self, rows: Tensor) -> Transitions:
        return Transitions.unpack(rows, self.spaces.observation_size, self.spaces.action_size)

    def _normal(self, rng: np.random.Generator, *shape: int) -> Tensor:
        """Standard normal numbers on the device, from NumPy: the same on every device."""
        return send(rng.standard_normal(shape, dtype=np.float32), self._device)

    def _to_environment(self, output: Floats) -> Floats:
        """Actions in the environment's unit for outputs in [-1, 1]."""
        centre, half_width = (self._high + self._low) / 2, (self._high - self._low) / 2
        return np.clip(centre + half_width * output, self._low, self._high)

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's state and both buffers."""
        used = len(self._slots)
        buffers = self._replay.tensors("replay", used) | self._context.tensors("context", used)
        return self.learned() | buffers

    def learned(self) -> dict[str, Tensor]:
        """Those of `tensors` that learning changes: all but the experience that is kept."""
        saved = {name: t.detach().cpu().clone() for name, t in self._parameters._asdict().items()}
        for name, optimiser in self._optimisers.items():
            saved |= optimiser.tensors(f"adam.{name}")
        return saved

    def counters(self) -> dict[str, Any]:
        """Iterations done, tasks in the order of their slots, the state of the updates' generator."""
        return {
            "iteration": self._iteration,
            "tasks": [task.to_json() for task in self._slots],
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` and `counters` gave.

        Raises:
            ValueError: Names, shapes, tasks or generator do not fit this agent.
        """
        expected = {name: tuple(t.shape) for name, t in self.learned().items()}
        got = {n: tuple(t.shape) for n, t in tensors.items() if not n.startswith(("replay.", "context."))}
        if got != expected:
            raise ValueError(f"checkpoint of pearl: got tensors {got}, expected {expected}")
        slots = {Task.from_json(task): i for i, task in enumerate(counters["tasks"])}
        iteration = int(counters["iteration"])
        if "trials" in counters:  # written before contexts were kept episode by episode
            trials = max(int(counters["trials"]), 1)
            tensors = {**tensors, **trials_of_rings(tensors, "context", trials, self.adaptation_steps + 1)}
        self._replay.check("replay", tensors, len(slots))
        self._context.check("context", tensors, len(slots))
        self._rng.bit_generator.state = counters["rng"]
        with torch.no_grad():
            for name, tensor in self._parameters._asdict().items():
                tensor.copy_(tensors[name])
        for name, optimiser in self._optimisers.items():
            optimiser.restore(f"adam.{name}", tensors)
        self._replay.restore("replay", tensors)
        self._context.restore("context", tensors)
        self._slots, self._iteration = slots, iteration

    def save_policy(self, state: Belief, path: str | Path, task: int = 0) -> None:
        """Writes the policy, its action bounds, and what was inferred in the first environment of one task.

        The policy's input is the observation followed by `latent` (the posterior's mean); its output is the mean
        and the log standard deviation before the tanh, and -1 and 1 stand for the action bounds.
        """
        check_task(task, len(state.latent))
        mean, variance = (t[task, 0].clone() for t in posterior(state.precision, state.weighted_mean))
        weights = self._networks.policy_network.layout.split(self._parameters.policy.detach().cpu())
        tensors = {name: t[0].clone() for name, t in weights.items()}
        tensors |= {"latent": mean, "latent_variance": variance, "given": mean.clone()}
        tensors |= ActionMap(self.spaces, 1.0).tensors()
        description = {
            "agent": "pearl",
            "distribution": "tanh-gaussian",
            "activation": "relu",
            "layers": self._networks.policy_network.depth,
            "mean": "tanh",
            "choices": 0,
            "action_scale": 1.0,
            "normalise_observations": False,
            "inputs": ["observation", "latent"],
            "outputs": ["mean", "log_std"],
            "log_std_range": list(LOG_STD_RANGE),
        }
        write_tensors(path, tensors, description)
