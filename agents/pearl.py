"""PEARL: infers the task as a latent variable from a few episodes, and acts by soft actor-critic given that variable.

Rakelly, Zhou, Quillen, Finn and Levine 2019, "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic
Context Variables" (arXiv:1903.08254), algorithms 1 and 2, on soft actor-critic
(`metarl.learning.networks.soft_actor_critic`). Equations and details: `docs/pearl.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from metarl.agent import MetaAgent
from metarl.config import Count, Layers, NonNegative, Positive, Rounds, Rows, UnitInterval, Units, Whole
from metarl.learning.device.chunks import chunks_that_fit, graph_bytes
from metarl.learning.device.gpu import ReplayedStep, send, standard_normal
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.task_buffers import Minibatch, TaskBuffers
from metarl.learning.networks import soft_actor_critic as sac
from metarl.learning.networks.context_encoder import ContextEncoder, kl_from_prior, natural_parameters, posterior
from metarl.learning.networks.exported.inferring import PosteriorStep
from metarl.learning.networks.exported.step import Actions, PolicyStep
from metarl.learning.networks.exported.traceable import TwoOutputs, exported_mlp
from metarl.learning.networks.optimisers import Adam
from metarl.learning.saving import check_tensors, restore_generator
from metarl.memory import FLOAT, LEARNED, Need, RunSize, dense_parameters
from metarl.storage import write_tensors
from metarl.tasks import TaskDistribution
from metarl.types import Action, MetaBatch, Spaces, Step, Task, Trajectories

METRICS = ("critic_loss", "policy_loss", "kl", "value", "entropy", "temperature")  # of a gradient step


@dataclass(frozen=True, kw_only=True)
class PearlConfig:
    """Settings of PEARL; the defaults are those of oyster, the authors' code, for half-cheetah-vel."""

    adaptation_steps: Rounds = 2
    """Episodes after the first (K), each with a belief from all earlier episodes; usually 1 to 3."""
    latent: Units = 5
    """Components of the task variable z (Z); usually 5 to 10."""
    encoder_hidden: Layers = (200, 200, 200)
    """Units of each hidden layer of the context encoder."""
    hidden: Layers = (300, 300, 300)
    """Units of each hidden layer of the policy and of the two critics."""
    context_next_observation: bool = False
    """Add the next observation to the encoder's input, for tasks that differ in their dynamics."""
    gradient_steps: Rows = 2000
    """Gradient steps per iteration; usually 200 to 4000."""
    meta_batch: Rows = 16
    """Tasks per gradient step, drawn from the replay; all tasks if it holds fewer."""
    batch: Rows = 256
    """Transitions per task in one gradient step; usually 64 to 256."""
    context_batch: Rows = 100
    """Transitions sampled from each task's context in one gradient step; usually 64 to 256."""
    warmup_iterations: Whole = 20
    """Iterations that only collect data before the first gradient step; enough for most training tasks to occur."""
    learning_rate: Positive = 3e-4
    """Step size of Adam for all networks."""
    gamma: UnitInterval = 0.99
    """Discount per step."""
    reward_scale: Positive = 5.0
    """Factor on the rewards in the critics' targets, which weights reward against entropy; usually 1 to 100."""
    kl_weight: NonNegative = 0.1
    """Weight of the information bottleneck, KL(posterior || prior) summed over the tasks; usually 0.1 to 1."""
    tau: UnitInterval = 0.005
    """Fraction by which the target critics move to the critics after each gradient step."""
    temperature: Positive = 1.0
    """Weight of the entropy against the scaled reward; the initial value if the temperature is tuned."""
    tune_temperature: bool = False
    """Tune the temperature towards a policy entropy of minus the number of action components, in nats."""
    replay_size: Count = 20_000
    """Transitions in the replay buffer of each task; the oldest are overwritten."""
    replay_tasks: Rows = 100
    """Capacity of the replay, in training tasks: at least the run's `train_tasks`."""


@dataclass(frozen=True)
class Belief:
    """The state: the posterior over z from each environment's own episodes, and the z of the current episode.

    The posterior is kept as natural parameters. These are sums over the context, so its order does not matter, and more
    context is added to them.

    Attributes:
        precision: Sum of the factors' 1 / variance, `[M, E, Z]`; zero before any context.
        weighted_mean: Sum of the factors' mean / variance, `[M, E, Z]`.
        latent: Variable z of the current episode, `[M, E, Z]`.
    """

    precision: Tensor
    weighted_mean: Tensor
    latent: Tensor

    def tasks(self, part: slice) -> Belief:
        """The state of some of the tasks."""
        return Belief(*(getattr(self, f.name)[part].clone() for f in fields(self)))

    @classmethod
    def join(cls, parts: Sequence[Belief]) -> Belief:
        """The state of all tasks of the parts, in order."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def networks(config: PearlConfig, spaces: Spaces) -> tuple[ContextEncoder, sac.ActorCritic]:
    """The encoder, and policy and critics with z as context, as functions of their parameters."""
    o, a, z = spaces.observation_size, spaces.action_size, config.latent
    encoder = ContextEncoder(o + a + 1 + o * config.context_next_observation, config.encoder_hidden, z)
    return encoder, sac.ActorCritic(o, a, config.hidden, context_size=z)


@dataclass(frozen=True)
class Parameters(sac.ActorCriticParameters):
    """All learned parameters: those of soft actor-critic, and the encoder's `[1, P]`."""

    encoder: Tensor


class Pearl(MetaAgent[Belief]):
    """PEARL as a `metarl.agent.MetaAgent`; its state is a `Belief`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Device of networks and replay.
        rng: Source of the initial parameters; the generator of the updates is spawned from it.

    Attributes:
        encoder: The context encoder.
        actor_critic: Policy and critics.
        parameters: The current parameters of all networks, changed in place.
        optimisers: Adam of encoder and critics ("values"), and of policy and temperature ("actions").
        buffers: Replay and contexts of the training tasks.
        rng: Generator of the updates.
        iteration: Meta-updates so far, warm-up included.

    Raises:
        ValueError: Actions are discrete or unbounded.
    """

    Config: ClassVar[type] = PearlConfig
    acts_with: ClassVar[tuple[str, ...]] = (
        "config",
        "spaces",
        "recorded",
        "device",
        "actor_critic",
        "parameters",
        "_actions",
    )
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

    @classmethod
    def memory_needed(cls, config: PearlConfig, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the buffers, the networks and a minibatch."""
        encoder, actor_critic = networks(config, spaces)
        every = (encoder.network, actor_critic.policy_network, *[actor_critic.critic_networks] * 2)
        parameters = sum(dense_parameters(network.sizes) for network in every)
        drawn = config.meta_batch * (config.batch + config.context_batch) * TaskBuffers.row_bytes(spaces)
        layers = "smaller layers (--agent.hidden, --agent.encoder-hidden)"
        smaller = "a smaller --agent.batch, --agent.context-batch or --agent.meta-batch"
        buffers = (config.replay_tasks, config.replay_size, config.adaptation_steps + 1)
        return [
            *TaskBuffers.memory_needed(*buffers, spaces, size),
            Need(f"networks of {parameters:,} parameters", FLOAT * parameters * (1 if size.gpu else LEARNED), layers),
            Need("the transitions of a gradient step", 0 if size.gpu else drawn, smaller),
        ]

    @classmethod
    def check_distribution(cls, config: PearlConfig, distribution: TaskDistribution, size: RunSize) -> None:
        """Raises ValueError if a training has more tasks than the replay can hold."""
        TaskBuffers.check_distribution("pearl", config.replay_tasks, distribution, size)

    def __init__(self, config: PearlConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        self._actions = ActionMap.of_bounded("pearl", spaces)
        self.config, self.spaces, self.device, self.iteration = config, spaces, device, 0
        self.recorded = {"policy_output": (spaces.action_size,)}
        self.encoder, self.actor_critic = networks(config, spaces)
        start = {"encoder": self.encoder.initial(rng), **vars(self.actor_critic.initial(config.temperature, rng))}
        p = self.parameters = Parameters(**{name: t.to(device) for name, t in start.items()})
        self.optimisers = {
            name: Adam([t.requires_grad_() for t in tensors], config.learning_rate, fused=True)
            for name, tensors in (("values", (p.encoder, p.critics)), ("actions", (p.policy, p.log_temperature)))
        }
        self.rng = rng.spawn(1)[0]
        episodes = config.adaptation_steps + 1
        self.buffers = TaskBuffers(config.replay_tasks, config.replay_size, episodes, spaces, device)
        self._learn_at_once = ReplayedStep(lambda *tensors: self._gradient_step(Minibatch(*tensors), [slice(None)]))

    def acting_part(self) -> Pearl:
        """As `metarl.agent.Actor.acting_part`, with the policy as the only network."""
        part, none = cast(Pearl, super().acting_part()), torch.empty(0)
        part.parameters = replace(self.parameters, critics=none, targets=none, encoder=none)
        return part

    @property
    def adaptation_steps(self) -> int:
        """`K`, the episodes after the first."""
        return self.config.adaptation_steps

    def episodes_per_adaptation(self, episodes: int) -> int:
        """1: every environment is a separate trial and adds one episode to its context."""
        return 1

    def begin(self, tasks: Sequence[Task], episodes: int) -> Belief:
        """The prior for every trial."""
        zeros = torch.zeros(len(tasks), episodes, self.config.latent, dtype=torch.float32, device=self.device)
        return Belief(zeros, zeros, zeros)

    @torch.no_grad()
    def act(self, state: Belief, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, Belief]:
        """Samples z at the start of an episode, and an action given z (its mode is tanh(mean))."""
        check_step(step, self.spaces, *state.latent.shape[:2])
        if step.first.any():
            mean, variance = posterior(state.precision, state.weighted_mean)
            drawn = mean + variance.sqrt() * standard_normal(rng, mean.shape, self.device)
            first = send(step.first, self.device).unsqueeze(-1)
            state = Belief(state.precision, state.weighted_mean, torch.where(first, drawn, state.latent))
        observations = send(step.observation, self.device, torch.float32)
        mean, log_std = self.actor_critic.policy(self.parameters.policy, observations, state.latent)
        noise = 0.0 if mode else log_std.exp() * standard_normal(rng, mean.shape, self.device)
        output = torch.tanh(mean + noise).cpu().numpy()
        return Action(self._actions.to_environment(output), extras={"policy_output": output}), state

    @torch.no_grad()
    def adapt(self, state: Belief, trajectories: Trajectories) -> Belief:
        """Multiplies the factors of one episode, or of several joined ones, into each environment's posterior."""
        tasks, environments, _ = state.latent.shape
        recordings = check_episodes(trajectories, self.spaces, tasks, environments, recorded=("policy_output",))
        rows = send(self.buffers.rows(trajectories), self.device)
        mean, variance = self.encoder.factors(self.parameters.encoder, self._context(rows.flatten(1, 2)))
        mask = send(trajectories.mask, self.device, mean.dtype)
        by_episode = (*trajectories.shape, self.config.latent)
        precision, weighted_mean = natural_parameters(mean.view(by_episode), variance.view(by_episode), mask)
        if recordings > 1:
            apart = (tasks, recordings, environments, self.config.latent)
            precision, weighted_mean = (sums.view(apart).sum(dim=1) for sums in (precision, weighted_mean))
        return Belief(state.precision + precision, state.weighted_mean + weighted_mean, state.latent)

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Stores the collected episodes, then makes the gradient steps.

        Raises:
            ValueError: There are more training tasks than the replay can hold.
        """
        c, metrics = self.config, self.buffers.store(batch)
        self.iteration += 1
        if self.iteration <= c.warmup_iterations:
            return metrics
        tasks = min(c.meta_batch, len(self.buffers.slots))
        chunks = chunks_that_fit(tasks, graph_bytes(c.batch, self.actor_critic.critic_networks.sizes), self.device)
        sums = torch.zeros(len(METRICS), dtype=torch.float32, device=self.device)
        for _ in range(c.gradient_steps):
            drawn = self.draw(tasks)
            sums += self._learn_at_once(*drawn) if len(chunks) == 1 else self._gradient_step(drawn, chunks)
        means = (sums / c.gradient_steps).tolist()
        return metrics | {f"update/{name}": value for name, value in zip(METRICS, means, strict=True)}

    def draw(self, tasks: int) -> Minibatch:
        """Draws the data of one gradient step for this number of tasks."""
        c, buffers = self.config, self.buffers
        drawn = buffers.draw(tasks, c.batch, c.context_batch, self.rng)
        actions = (tasks, c.batch, self.spaces.action_size)
        noise = (standard_normal(self.rng, shape, self.device) for shape in ((tasks, c.latent), actions, actions))
        context, weight = buffers.contexts.gather(drawn.context), send(drawn.weight, self.device)
        return Minibatch(context, weight, buffers.replay.gather(drawn.slots, drawn.positions), *noise)

    def _gradient_step(self, drawn: Minibatch, chunks: Sequence[slice]) -> Tensor:
        """One gradient step: encoder and critics, then policy and temperature, then the targets.

        Every chunk of tasks adds its share of the gradients. Returns the numbers of `METRICS`, `[6]`.
        """
        p, parts = self.parameters, [Minibatch(*(t[chunk] for t in drawn)) for chunk in chunks]
        num_tasks = len(drawn.batch)
        latents, values = zip(*(self._backward_values(part, num_tasks) for part in parts), strict=True)
        self.optimisers["values"].step(clear=True)
        actions = [self._backward_actions(*one, num_tasks) for one in zip(parts, latents, strict=True)]
        self.optimisers["actions"].step(clear=True)
        with torch.no_grad():
            p.targets.lerp_(p.critics, self.config.tau)
            (loss, kl, value), (actor_loss, entropy) = (torch.stack(each).sum(dim=0) for each in (values, actions))
            return torch.stack((loss, actor_loss, kl, value, entropy, p.log_temperature.exp().squeeze()))

    def _backward_values(self, drawn: Minibatch, num_tasks: int) -> tuple[Tensor, Tensor]:
        """Adds gradients of critics and encoder; returns z `[M, 1, Z]`, and critic loss, KL and value `[3]`."""
        c, p, actor_critic, batch = self.config, self.parameters, self.actor_critic, self.buffers.unpack(drawn.batch)
        share = len(batch.rewards) / num_tasks
        mean, variance = self.encoder.infer(p.encoder, self._context(drawn.context), drawn.weight)
        latent = (mean + variance.sqrt() * drawn.latent_noise).unsqueeze(1)  # one z per task
        kl = kl_from_prior(mean, variance).sum()
        next_values = sac.soft_values(actor_critic, p, batch.next_observations, drawn.next_noise, latent)
        targets = sac.critic_targets(c.reward_scale * batch.rewards, batch.terminated, next_values, c.gamma)
        values = actor_critic.critics(p.critics, batch.observations, batch.actions, latent)
        loss = share * sac.critic_loss(values, targets)
        torch.autograd.backward(loss + c.kl_weight * kl, inputs=[p.encoder, p.critics])
        with torch.no_grad():
            return latent.detach(), torch.stack((loss, kl / num_tasks, share * values.mean()))

    def _backward_actions(self, drawn: Minibatch, latent: Tensor, num_tasks: int) -> Tensor:
        """Adds gradients of policy and temperature, given z `[M, 1, Z]`; returns policy loss and entropy `[2]`."""
        p, observations = self.parameters, self.buffers.unpack(drawn.batch).observations
        share = len(latent) / num_tasks
        loss, log_prob = sac.policy_loss(self.actor_critic, p, observations, drawn.action_noise, latent)
        torch.autograd.backward(share * loss, inputs=[p.policy])
        if self.config.tune_temperature:
            temperature = sac.temperature_loss(p.log_temperature, log_prob, -float(self.spaces.action_size))
            torch.autograd.backward(share * temperature, inputs=[p.log_temperature])
        with torch.no_grad():
            return share * torch.stack((loss, -log_prob.mean()))

    def _context(self, rows: Tensor) -> list[Tensor]:
        """The encoder's input, from rows of the contexts."""
        return self.buffers.unpack(rows).inputs(self.config.context_next_observation)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's state, and both buffers."""
        return self.learned() | self.buffers.tensors()

    def learned(self) -> dict[str, Tensor]:
        """The arrays of `tensors` without the buffers."""
        saved = {name: t.detach().cpu().clone() for name, t in vars(self.parameters).items()}
        for name, optimiser in self.optimisers.items():
            saved |= optimiser.tensors(f"adam.{name}")
        return saved

    def counters(self) -> dict[str, Any]:
        """Iterations done, tasks in the order of their slots, and the state of the updates' generator."""
        return {"iteration": self.iteration, **self.buffers.counters(), "rng": self.rng.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned.

        Raises:
            ValueError: Names, shapes, tasks or generator do not fit this agent; nothing is changed then.
        """
        check_tensors("pearl", {n: t for n, t in tensors.items() if not TaskBuffers.owns(n)}, self.learned())
        self.buffers.check(tensors, counters)
        iteration = int(counters["iteration"])
        restore_generator("pearl", self.rng, counters["rng"])
        with torch.no_grad():
            for name, parameter in vars(self.parameters).items():
                parameter.copy_(tensors[name])
        for name, optimiser in self.optimisers.items():
            optimiser.restore(f"adam.{name}", tensors)
        self.buffers.restore(tensors, counters)
        self.iteration = iteration

    def policy_step(self, state: Belief, task: int = 0, *, sampled: bool = False) -> PolicyStep:
        """One step from the prior, the same for every task; see `metarl.agent.MetaAgent`."""
        (policy, about), p = self.actor_critic.export(self.parameters.policy), self.parameters
        encoder = {n: t[0].clone() for n, t in self.encoder.network.layout.split(p.encoder.detach().cpu()).items()}
        return PosteriorStep(
            self.spaces.observation_size,
            Actions(self._actions.tensors(), self._actions.description()),
            TwoOutputs(exported_mlp(policy, "relu"), about["log_std_range"]),
            exported_mlp(encoder, "relu"),
            self.config.latent,
            sees_next=self.config.context_next_observation,
            sampled=sampled,
        )

    def save_policy(self, state: Belief, path: str | Path, task: int = 0) -> None:
        """Writes the policy, its action bounds, and the posterior of the first environment of one task.

        The policy maps observation and `latent` (the posterior's mean) to mean and log standard deviation before the
        tanh; after the tanh, -1 and 1 stand for the action bounds.
        """
        check_task(task, len(state.latent))
        mean, variance = (t[task, 0].clone() for t in posterior(state.precision, state.weighted_mean))
        tensors, description = self.actor_critic.export(self.parameters.policy)
        tensors |= {"latent": mean, "latent_variance": variance, "given": mean.clone(), **self._actions.tensors()}
        description |= {"format": 1, "agent": "pearl", "normalise_observations": False}
        write_tensors(path, tensors, description | {"inputs": ["observation", "latent"]})
