"""RMA: a policy on a latent of the task, told in the first phase of training, estimated from the history in the second.

Kumar et al. 2021, "RMA: Rapid Motor Adaptation for Legged Robots" (arXiv:2107.04034): PPO (Schulman et al. 2017,
arXiv:1707.06347) of the policy together with an encoder of the task's parameters, then regression of the latent from
the history of the policy's own steps. The page `docs/rma.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from metarl.config import Count, Layers, Positive, Rounds, Rows, RowsOrOwn, Shrinking, Units
from metarl.learning.device.gpu import send
from metarl.learning.experience.columns import Columns
from metarl.learning.experience.normalisation import Normaliser
from metarl.learning.experience.told import check_told, told_inputs, told_tasks
from metarl.learning.experience.trial_replay import TrialReplay
from metarl.learning.experience.trials import Trials, pack_trials
from metarl.learning.networks.cells.base import Cell
from metarl.learning.networks.cells.convolution import Convolution
from metarl.learning.networks.cells.gru import Gru
from metarl.learning.networks.cells.settings import CellSettings, CellSize
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.exported.traceable import InferringPolicy
from metarl.learning.networks.latent_policy import HistoryEncoder, LatentMemory, LatentPolicy, TaskEncoder
from metarl.learning.networks.modules import ActorCritic, hidden_layers
from metarl.learning.networks.optimisers import step_size
from metarl.learning.networks.perceptron import Activation
from metarl.learning.ppo.learner import PpoSamples
from metarl.learning.ppo.regression import LatentRegression
from metarl.learning.ppo.trial_agent import TrialAgent
from metarl.learning.ppo.trials import TrialSettings
from metarl.learning.saving import check_tensors, restore_generator
from metarl.learning.trials.actor import Memory, input_size
from metarl.learning.trials.needs import columns_need, memories_need, networks_need, trials_need
from metarl.learning.trials.settings import trial_ends, trial_steps
from metarl.memory import Need, RunSize, dense_parameters
from metarl.types import Bools, Floats, MetaBatch, Spaces, Task, Trajectories

HISTORY_STEPS = 50
"""Steps of the history, as published."""


@dataclass(frozen=True, kw_only=True)
class RmaConfig(TrialSettings):
    """Settings of RMA."""

    anneal: bool = False
    """Decrease each step size linearly to zero over its phase of the run."""
    episodes_cut_returns: bool = True
    """End each return with its episode instead of at the end of the trial: the policy has no memory in phase 1."""
    hidden: Layers = (64, 64)
    """Units of each hidden layer, of the policy and of the value function."""
    activation: Activation = "tanh"
    """Activation of the hidden layers of policy, value function and encoder of the task."""
    latent: Units = 8
    """Components of the latent of the task (Z); usually 4 to 16."""
    task_hidden: Layers = (64,)
    """Units of each hidden layer of the encoder of the task's parameters; may be empty."""
    phase_two: Shrinking = 0.6
    """Fraction of the iterations after which phase 2 begins: the history encoder learns, all else is frozen."""
    history_encoder: Literal["conv", "gru"] = "conv"
    """Encoder of the history: convolutions over its last steps, or a GRU over the whole trial."""
    history_steps: Rounds = HISTORY_STEPS
    """Steps of the history that the convolutions see (H), the current one included; usually 10 to 50."""
    units: Units = 32
    """Units of the history encoder: of both layers on each step, and of each convolution or the GRU."""
    history_rewards: bool = True
    """The history holds rewards and ends of episodes too, for tasks that differ in their rewards.
    Without them, as published, the trained agent reads neither."""
    history_learning_rate: Positive = 1e-3
    """Step size of Adam for the history encoder; usually 3e-4 to 3e-3."""
    history_updates: RowsOrOwn = 40
    """Steps of Adam on the history encoder per iteration of phase 2; usually 20 to 100."""
    history_trials: Rows = 10
    """Trials per step of Adam, drawn from the buffer (all of them if it holds fewer)."""
    buffer_trials: Count = 2000
    """Capacity of the buffer of phase 2, in trials; the oldest are overwritten."""


class Rma(TrialAgent[LatentMemory]):
    """RMA as a `metarl.agent.MetaAgent`; its state is a `Memory`.

    Only a trial of `begin_training` in phase 1 is told the task's parameters, as a latent; a trial of `begin` never is.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments, and the declared task parameters.
        device: Device of the networks and their training.
        rng: Source of the initial parameters and of PPO's minibatches; the generator of the minibatches of phase 2 is
            spawned from it.

    Raises:
        ValueError: The spaces declare no task parameters, or a setting has no effect.
    """

    Config: ClassVar[type] = RmaConfig
    summary: ClassVar[str] = "a policy on a latent of the task, then its estimate from the history (Kumar et al. 2021)"
    config: RmaConfig
    network: LatentPolicy

    @classmethod
    def memory_needed(cls, config: RmaConfig, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the networks, of whole trials, and of the histories."""
        seen, told = _seen(spaces), told_inputs(spaces.task_parameters)
        units, cell = config.units, _cell_size(config)
        parameters = dense_parameters((_read(config, spaces), units, units)) + cell.parameters
        parameters += dense_parameters((told.size, *config.task_hidden, config.latent))
        for last in (spaces.policy_outputs, 1):
            parameters += dense_parameters((seen + config.latent, *config.hidden, last))
        remedy = "fewer --agent.units or smaller layers (--agent.hidden, --agent.task-hidden)"
        return [
            networks_need(parameters, size, remedy),
            columns_need(trial_steps(config, spaces), size, config.buffer_trials, _columns(spaces).width),
            trials_need(spaces, size, config.episodes_per_trial, config.latent),
            memories_need(size, cell.memory),
        ]

    def __init__(self, config: RmaConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        if config.history_encoder != "conv" and config.history_steps != HISTORY_STEPS:
            raise ValueError(
                f"history_steps: got {config.history_steps} with history_encoder {config.history_encoder!r}, which "
                "remembers the whole trial; leave it out, or use conv"
            )
        check_told("rma", spaces.task_parameters)
        self._told = told_inputs(spaces.task_parameters)
        self._told_moments = Normaliser(len(self._told.units), config.deviation_floor, self._told.units)
        z, read = config.latent, _read(config, spaces)
        task_encoder = TaskEncoder(self._told.size, config.task_hidden, config.activation, z, rng)
        policy = ActorCritic(
            _seen(spaces) + z, spaces, hidden=config.hidden, activation=config.activation, policy=config, rng=rng
        )
        layers = hidden_layers((read, config.units, config.units), "relu", rng)
        encoder = HistoryEncoder(layers, _cell(config, rng), z, rng)
        network = LatentPolicy(task_encoder, encoder, policy, seen=_seen(spaces), read=read)
        learns = nn.ModuleDict({**dict(policy.named_children()), "task_encoder": task_encoder})
        super().__init__("rma", config, spaces, network, learns=learns, device=device, rng=rng)
        self._regression = LatentRegression("rma", encoder, config.history_learning_rate, rng.spawn(1)[0])
        self._statistics["told_moments"] = self._told_moments
        self.recorded = {**self.recorded, "latent": (z,), "given": ()}
        self._replay = TrialReplay(config.buffer_trials, trial_steps(config, spaces), _columns(spaces))

    # Acting ---------------------------------------------------------------------------------------------

    def begin_training(self, tasks: Sequence[Task], episodes: int, progress: float = 0.0) -> Memory[LatentMemory]:
        """A new trial: in phase 1 with the latent of each task's parameters, in phase 2 as `begin`.

        Raises:
            ValueError: A task lacks a declared parameter, or the parameter has another size.
        """
        if self._in_phase_two(progress):
            return self.begin(tasks, episodes)
        told = np.repeat(told_tasks("rma", tasks, self.spaces.task_parameters), episodes, axis=0)
        with torch.inference_mode():
            content = self.network.told_memory(self._told_seen(told))
        return Memory(content, self._feedback.at_the_start(len(tasks), episodes), content)

    def _recorded(self, content: LatentMemory) -> Mapping[str, Tensor]:
        """The latent that the action was computed from, and whether it was given."""
        return {"latent": content.latent, "given": content.given.float()}

    # Training -------------------------------------------------------------------------------------------

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Phase 1: PPO of policy and encoder of the task. Phase 2: regression of the latent from the history.

        Raises:
            ValueError: A trial of phase 1 was begun by `begin`, or a task lacks a declared parameter.
        """
        trials = pack_trials(batch.collects)
        told = told_tasks("rma", batch.tasks, self.spaces.task_parameters)  # [M, D]
        told = np.repeat(told, len(trials.mask) // len(told), axis=0)
        along = np.broadcast_to(told[:, None], (*trials.mask.shape, told.shape[1]))
        trials = replace(trials, extras={**trials.extras, "told": along})
        if self._in_phase_two(batch.progress):
            return {"phase": 2.0} | self._regress(trials, batch.progress)
        if not trials.extras["given"][trials.mask].all():
            raise ValueError(
                "rma: got a trial that was begun by begin, expected begin_training(tasks, episodes, progress) in "
                f"phase 1, while progress is below phase_two = {self.config.phase_two:g}"
            )
        report = self._learn(trials, batch.progress / self.config.phase_two)
        if self.config.normalise_observations:  # after the update, so that acting and learning see the same inputs
            self._observation_moments.update(trials.observations, trials.mask)
            self._told_moments.update(along[..., : len(self._told.units)], trials.mask)
        return {"phase": 1.0} | report

    def _in_phase_two(self, progress: float) -> bool:
        return progress >= self.config.phase_two

    def _to_learn_from(self, trials: Trials, samples: PpoSamples) -> tuple[PpoSamples, tuple[Tensor, ...]]:
        """Single steps: observation and previous action `[B, S]`, inputs about the task `[B, D]`."""
        x = self._trial_inputs(trials)[samples.mask.bool()][:, : self.network.seen]
        return samples.rows(samples.mask.bool()), (x, self._told_seen(trials.extras["told"][trials.mask]))

    def _forward(self, x: Tensor, *memory: Tensor) -> tuple[Distribution, Tensor]:
        """Policy and values of single steps, with gradients into the encoder of the task."""
        return self.network.acting(x, self.network.task_encoder(*memory))

    @torch.no_grad()
    def _final_values(self, trials: Trials) -> Floats:
        """Values after the last step of each return, as if the episode went on."""
        ends = trial_ends(trials, self.config.episodes_cut_returns)
        x = self._inputs(*self._feedback.bootstrap_steps(trials, ends))
        values = self._forward(x, self._told_seen(trials.extras["told"][ends]))[1]
        return np.asarray(values.cpu().numpy(), dtype=np.float64)

    def _regress(self, trials: Trials, progress: float) -> dict[str, float]:
        """Adam on the error of the estimated latents; policy, encoder of the task and statistics stay the same."""
        config, start, told = self.config, self.config.phase_two, trials.extras["told"]
        self._replay.add({**vars(trials), "told": told}, trials.mask)
        size = step_size(config.history_learning_rate, config.anneal, (progress - start) / (1.0 - start))
        losses = torch.zeros(1, dtype=torch.float32, device=self._device)
        for _ in range(config.history_updates):
            columns, mask = self._replay.sample(config.history_trials, self._regression.rng)
            losses += self._regression.step(*self._histories(columns, mask), size)
        latents = self._latents(told)[trials.mask].astype(np.float64)
        error = np.square(trials.extras["latent"][trials.mask] - latents).sum(axis=1).mean()
        report = {
            "history/error": float(error),
            "history/explained_variance": float(1.0 - error / max(latents.var(axis=0).sum(), 1e-12)),
            "buffer/trials": float(self._replay.size),
        }
        if config.history_updates:
            report |= {"history/loss": float(losses) / config.history_updates, "history/learning_rate": size}
        return report

    def _histories(self, columns: Mapping[str, Floats], mask: Bools) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs of the history encoder `[B, L, I]`, latents `[B, Z]` and mask `[B, L]` of trials of the buffer."""
        feedback = self._feedback.along(columns["actions"], columns["rewards"], columns["over"])
        x = self._inputs(columns["observations"], feedback)[..., : self.network.read].contiguous()
        latents = send(self._latents(columns["told"][:, 0]), self._device)
        return x, latents, send(mask, self._device, torch.float32)

    @torch.no_grad()
    def _latents(self, told: Floats) -> Floats:
        """Latents `[..., Z]` of inputs about tasks `[..., D]`."""
        latents: Floats = self.network.task_encoder(self._told_seen(told)).cpu().numpy()
        return latents

    def _told_seen(self, told: Floats) -> Tensor:
        """Inputs about tasks `[..., D]` as their encoder sees them: numbers normalised, on the device."""
        if self.config.normalise_observations:
            numbers, codes = np.split(told, [len(self._told.units)], axis=-1)
            told = np.concatenate([self._told_moments.normalise(numbers), codes], axis=-1)
        return send(told, self._device, torch.float32)

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, Adam's states, running statistics and the buffer."""
        return self.learned() | self._replay.tensors("buffer")

    def learned(self) -> dict[str, Tensor]:
        """The arrays of `tensors` that learning changes: all except the buffer."""
        return super().tensors() | self._regression.tensors()

    def counters(self) -> dict[str, Any]:
        """States of the generators of both phases."""
        return super().counters() | self._regression.counters()

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned.

        Raises:
            ValueError: Names, shapes or generators do not fit this agent; nothing is changed then.
        """
        check_tensors("rma", {k: t for k, t in tensors.items() if not k.startswith("buffer.")}, self.learned())
        self._replay.check("buffer", tensors)
        restore_generator("rma", np.random.default_rng(0), counters.get("generator"))  # before anything is changed
        self._regression.restore(tensors, counters)
        self._restore(tensors, counters)
        self._replay.restore("buffer", tensors)

    def _traceable(self) -> nn.Module:
        network = self.network
        return InferringPolicy(network.encoder, network.actor_critic, seen=network.seen, read=network.read)

    def _description(self) -> dict[str, Any]:
        config, about = self.config, super()._description()
        window = {"history_steps": config.history_steps} if config.history_encoder == "conv" else {}
        history = about.pop("inputs") if config.history_rewards else "observation, previous action"
        return {
            "encoder_inputs": history,
            "inputs": "observation, previous action, latent",
            "history_encoder": config.history_encoder,
            **window,
            "activation": config.activation,
            "encoder_activation": "relu",
            **about,
        }


def _seen(spaces: Spaces) -> int:
    """`S`, inputs of policy and value function besides the latent: observation and previous action."""
    return spaces.observation_size + spaces.policy_outputs


def _columns(spaces: Spaces) -> Columns:
    """A step in the buffer: what the history encoder reads, and the inputs about the task."""
    told = told_inputs(spaces.task_parameters).size
    return Columns(observations=spaces.observation_size, actions=spaces.action_size, rewards=0, over=0, told=told)


def _read(config: RmaConfig, spaces: Spaces) -> int:
    """Inputs of the history encoder at a step."""
    return input_size(spaces) if config.history_rewards else _seen(spaces)


def _cell(config: RmaConfig, rng: np.random.Generator) -> Cell[Any]:
    """The cell of the history encoder."""
    if config.history_encoder == "gru":
        return Gru(config.units, config.units, rng)
    return Convolution(config.units, config.units, config.history_steps, rng)


def _cell_size(config: RmaConfig) -> CellSize:
    """Size of the cell of the history encoder."""
    if config.history_encoder == "gru":
        return Gru.size(CellSettings(units=config.units), config.units, 1)
    return Convolution.size(config.units, config.units, config.history_steps)
