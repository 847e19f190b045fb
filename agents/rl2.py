"""RL2: a recurrent policy that carries its memory through the episodes of a trial and so learns to learn.

Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning" (arXiv:1611.02779), and Wang
et al. 2016, "Learning to reinforcement learn" (arXiv:1611.05763), trained by PPO (Schulman et al. 2017,
arXiv:1707.06347). The page `docs/rl2.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from metarl.config import Layers, RowsOrOwn
from metarl.learning.experience.trials import Trials
from metarl.learning.networks.cells.settings import CellSettings
from metarl.learning.networks.cells.table import cell_size
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.hypernetwork import HypernetworkActorCritic, head_size
from metarl.learning.networks.perceptron import Activation
from metarl.learning.networks.recurrent import CellNetwork, RecurrentActorCritic
from metarl.learning.networks.sequence import unroll
from metarl.learning.ppo.learner import PpoSamples
from metarl.learning.ppo.segments import segments_of, through_segments
from metarl.learning.ppo.trial_agent import TrialAgent
from metarl.learning.ppo.trials import TrialSettings
from metarl.learning.trials.actor import input_size
from metarl.learning.trials.needs import memories_need, networks_need, trials_need
from metarl.learning.trials.settings import trial_steps
from metarl.memory import Need, RunSize, dense_parameters
from metarl.types import Spaces


@dataclass(frozen=True, kw_only=True)
class Rl2Config(CellSettings, TrialSettings):
    """Settings of RL2."""

    encoder: Layers = (64,)
    """Units of each layer before the cell; may be empty."""
    hidden: Layers = ()
    """Units of each layer after the cell, for policy and value separately; their input is the cell's output and input.
    Usually empty, as published, or one layer of 64 to 128. With a hypernetwork, units of each layer that it generates;
    there one or two layers of 64 to 256."""
    head: Literal["mlp", "hypernetwork"] = "mlp"
    """Policy and value function after the cell: layers that read its output, or layers whose weights its output
    generates (RNN+HN) and that read the observation."""
    activation: Activation = "tanh"
    """Activation of the encoder and hidden layers."""
    backpropagation_steps: RowsOrOwn = 0
    """Steps of truncated back-propagation through time; 0 for the whole trial."""
    segment_steps: RowsOrOwn = 0
    """Length of the segments that a trial is split into for parallel training, in steps; 0 for whole trials.
    Faster for long trials. Each segment starts from its trial's memory before the update."""


class Rl2(TrialAgent[Any]):
    """RL2 as a `metarl.agent.MetaAgent`; its state is a `Memory`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Device of the policy and its training.
        rng: Source of the initial parameters and of the minibatches.
    """

    Config: ClassVar[type] = Rl2Config
    summary: ClassVar[str] = "a recurrent policy whose memory spans the episodes of a task (Duan et al. 2016)"
    config: Rl2Config
    network: CellNetwork[Any]

    @classmethod
    def memory_needed(cls, config: Rl2Config, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the network and of whole trials."""
        inputs = (input_size(spaces), *config.encoder)
        cell = cell_size(config, inputs[-1], trial_steps(config, spaces))
        parameters, numbers = dense_parameters(inputs) + cell.parameters, config.units
        if config.head == "hypernetwork":
            more = head_size(config.units, spaces, config.encoder, config.hidden)
            parameters, numbers = parameters + more[0], numbers + more[1]
        else:
            for outputs in (spaces.policy_outputs, 1):
                parameters += dense_parameters((config.units, *config.hidden, outputs))
        remedy = "fewer --agent.units or smaller layers (--agent.encoder, --agent.hidden)"
        return [
            networks_need(parameters, size, remedy),
            trials_need(spaces, size, config.episodes_per_trial, numbers // config.minibatches),
            memories_need(size, cell.memory),
        ]

    def __init__(self, config: Rl2Config, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        kind: Any = HypernetworkActorCritic if config.head == "hypernetwork" else RecurrentActorCritic
        network: CellNetwork[Any] = kind(
            input_size(spaces),
            spaces,
            encoder=config.encoder,
            activation=config.activation,
            cell=config,
            steps=trial_steps(config, spaces),
            hidden=config.hidden,
            policy=config,
            rng=rng,
        )
        super().__init__("rl2", config, spaces, network, device=device, rng=rng)

    def _to_learn_from(self, trials: Trials, samples: PpoSamples) -> tuple[PpoSamples, tuple[Tensor, ...]]:
        """Whole trials, with gradients that may be truncated, or segments of them."""
        x = self._trial_inputs(trials)
        if self.config.segment_steps:
            return segments_of(self.network, x, samples, self.config.segment_steps)
        return samples, (x,)

    def _forward(self, x: Tensor, *memory: Tensor) -> tuple[Distribution, Tensor]:
        if self.config.segment_steps:
            return through_segments(self.network, x, *memory)
        return unroll(self.network, x, self.config.backpropagation_steps)

    def _description(self) -> dict[str, Any]:
        about = super()._description()
        inputs = about.pop("inputs")
        config = self.config
        memory = {**config.description(), "head": config.head}
        return {"inputs": inputs, **memory, "activation": config.activation, **about}
