"""The base class of agents that adapt by policy-gradient steps: all parts except the outer step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from metarl.agent import MetaAgent
from metarl.config import Layers, NonNegative, Positive, Rounds, UnitInterval
from metarl.finite import check_finite
from metarl.learning.device.gpu import send
from metarl.learning.experience import returns
from metarl.learning.experience.advantages import policy_advantages
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.normalisation import DEVIATION_FLOOR, NORMALISATION, Normaliser, ReturnScale
from metarl.learning.gradient.adaptation import adapted_by_policy_gradient
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.learning.networks.exported.step import Actions, MemorylessStep, PolicyStep
from metarl.learning.networks.exported.traceable import Head, NormalisedPolicy, exported_mlp, normalisation
from metarl.learning.networks.perceptron import Activation
from metarl.learning.saving import check_tensors
from metarl.memory import DOUBLE, FLOAT, Need, RunSize, dense_parameters
from metarl.storage import write_tensors
from metarl.types import Action, Floats, MetaBatch, Spaces, Step, Task, Trajectories

POLICY_FORMAT = 1
"""Version of the exported policy: of its arrays and of its description."""


@dataclass(frozen=True, kw_only=True)
class GradientAgentConfig:
    """Settings of every gradient-based agent: inner loop, advantages, policy, running statistics."""

    inner_lr: NonNegative = 0.1
    """Step size of the inner loop (alpha in the papers); usually 0.01 to 0.5."""
    inner_steps: Rounds = 1
    """Adaptation steps of the inner loop, each after a fresh collect; usually 1 to 3."""
    gamma: UnitInterval = 0.99
    """Discount per step."""
    gae_lambda: UnitInterval = 1.0
    """Decay of generalised advantage estimation; with 1 the advantage is the return minus the baseline."""
    baseline: Literal["linear", "none"] = "linear"
    """Baseline of the advantages: ridge regression on observation and time, per task and collect; or none."""
    baseline_ridge: Positive = 1e-5
    """Regularisation of the linear baseline."""
    hidden: Layers = (64, 64)
    """Units of each hidden layer of the policy."""
    activation: Activation = "tanh"
    """Activation of the policy's hidden layers."""
    init_std: Positive = 1.0
    """Standard deviation of the policy's output at the start."""
    min_std: Positive = 1e-6
    """Lower bound of the policy's standard deviation."""
    action_scale: Positive = 1.0
    """Policy output that corresponds to the action bound; 10 in ProMP, pytorch-maml-rl and garage on MuJoCo."""
    normalise_observations: bool = False
    """Normalise the policy's observations by running statistics."""
    normalise_rewards: bool = False
    """Divide rewards by the running standard deviation of the return."""
    deviation_floor: NonNegative = DEVIATION_FLOOR
    """Lower bound of the deviations that normalisation divides by; 0 for none.
    Relative to the largest deviation of the same unit (observations) or to the root mean square (returns)."""


ConfigT = TypeVar("ConfigT", bound=GradientAgentConfig)


@dataclass(frozen=True)
class AdaptedPolicy:
    """The state of a gradient-based agent: policy parameters of each task.

    Args:
        parameters: `[M, P]`.

    Raises:
        NotFiniteError: A parameter is infinite or not a number.
    """

    parameters: Tensor

    def __post_init__(self) -> None:
        check_finite({"parameters": self.parameters}, "adaptation: the adapted parameters")

    def tasks(self, part: slice) -> AdaptedPolicy:
        """The state of some of the tasks."""
        return AdaptedPolicy(self.parameters[part].clone())

    @classmethod
    def join(cls, parts: Sequence[AdaptedPolicy]) -> AdaptedPolicy:
        """The state of all tasks of the parts, in order."""
        return cls(torch.cat([part.parameters for part in parts]))


class GradientAgent(MetaAgent[AdaptedPolicy], ABC, Generic[ConfigT]):
    """Starts a trial with the meta-learned parameters, adapts them per task, acts, saves and restores.

    An algorithm is a subclass with its own `meta_update`, and its own `adapt` if that is not MAML's step. It adds its
    further trained arrays to `tensors` and `restore`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Device of the policy and the meta-update.
        rng: Source of the initial parameters.

    Attributes:
        policy: The policy, a function of its parameters.
        parameters: Meta-learned initial parameters, `[P]`.
        device: Device of the policy and the meta-update.
    """

    Config: ClassVar[type]
    summary: ClassVar[str]
    acts_with: ClassVar[tuple[str, ...]] = ("config", "spaces", "recorded", "policy", "_observation_moments")
    default_settings: ClassVar[Mapping[str, Any]] = {"tasks": 20, "episodes": 10}

    def __init__(self, config: ConfigT, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        self.config, self.spaces, self.device = config, spaces, device
        self.recorded = {"policy_output": (spaces.action_size,)}
        self.policy = StackedPolicy(
            spaces,
            hidden=config.hidden,
            activation=config.activation,
            init_std=config.init_std,
            min_std=config.min_std,
            action_scale=config.action_scale,
        )
        self.parameters = self.policy.initial(rng).to(device)
        self._observation_moments = Normaliser(
            spaces.observation_size, config.deviation_floor, spaces.observation_units
        )
        self._return_moments = ReturnScale(config.deviation_floor)

    @classmethod
    def memory_needed(cls, config: ConfigT, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the samples, the linear baseline and the adapted parameters.

        Args:
            config: The settings.
            spaces: Sizes and horizon.
            size: Size of the training.
        """
        o, collects = spaces.observation_size, config.inner_steps + 1
        steps = size.tasks * size.episodes * spaces.horizon
        parameters = dense_parameters((o, *config.hidden, spaces.policy_outputs))
        needs = [
            Need(
                f"the policy's {parameters:,} parameters of each of {size.tasks:,} tasks",
                DOUBLE * parameters + (0 if size.gpu else FLOAT * 3 * size.tasks * parameters),
                "smaller layers (--agent.hidden) or fewer --tasks",
            )
        ]
        if not size.gpu:
            samples = FLOAT * collects * steps * (o + spaces.action_size + 2)
            needs.append(Need("the samples of an iteration", samples, "fewer --tasks or --episodes"))
        if config.baseline == "linear" and not size.gpu:
            features, fits = returns.baseline_size(o), 2 * config.inner_steps + 1
            per_task = size.episodes * spaces.horizon
            unknowns = per_task if returns.in_dual_form(features, per_task) else features
            needs.append(
                Need(
                    f"the linear baseline, with {features:,} weights for each of {size.tasks:,} tasks,",
                    DOUBLE * (2 * size.tasks * unknowns**2 + steps * features),
                    "--agent.baseline none",
                    fits * size.tasks * (2 / 3 * unknowns**3 + 2 * per_task * features * unknowns),
                )
            )
        return needs

    @abstractmethod
    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """The outer step."""

    @property
    def adaptation_steps(self) -> int:
        """`K`, the number of inner-loop steps."""
        return self.config.inner_steps

    def episodes_per_adaptation(self, episodes: int) -> int:
        """All `E` episodes of a task: one step pools them."""
        return episodes

    def begin(self, tasks: Sequence[Task], episodes: int) -> AdaptedPolicy:
        """The meta-learned parameters for every task."""
        return AdaptedPolicy(self.parameters.expand(len(tasks), -1).contiguous())

    def act(
        self, state: AdaptedPolicy, step: Step, rng: np.random.Generator, mode: bool = False
    ) -> tuple[Action, AdaptedPolicy]:
        """Actions of each row from the policy of its task; see `Actor.act`."""
        check_step(step, self.spaces, len(state.parameters))
        output = self._sample(state, self._seen(step.observation), rng, mode)
        return Action(self.policy.to_environment(output), extras={"policy_output": output}), state

    def _sample(self, state: AdaptedPolicy, observations: Floats, rng: np.random.Generator, mode: bool) -> Floats:
        """Outputs of each task's policy `[M, E, A]` for inputs `[M, E, O]`."""
        return self.policy.sample(state.parameters, observations, rng, mode)

    @property
    def step_size(self) -> float | Tensor:
        """Step size of the inner loop: a number, or one per parameter, `[P]`."""
        return self.config.inner_lr

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        """One policy-gradient step per task (Finn et al. 2017, section 2.2)."""
        samples = [self._samples_for(state, trajectories)]
        return AdaptedPolicy(adapted_by_policy_gradient(self.policy, samples, state.parameters, self.step_size))

    # Samples and statistics -----------------------------------------------------------------------------

    def _seen(self, observations: np.ndarray) -> np.ndarray:
        """Inputs of the policy: observations, normalised if `normalise_observations`."""
        return self._observation_moments.normalise(observations) if self.config.normalise_observations else observations

    def _samples_for(self, state: AdaptedPolicy, trajectories: Trajectories) -> Samples:
        """Samples for the adaptation of a state; raises ValueError if the number of tasks differs."""
        samples = self.samples(trajectories)
        if len(samples.observations) != len(state.parameters):
            raise ValueError(
                f"adapt: got trajectories of {len(samples.observations)} tasks, expected {len(state.parameters)}, the "
                "number of tasks of the state"
            )
        return samples

    def samples(self, trajectories: Trajectories) -> Samples:
        """Observations, policy outputs, normalised advantages and weights of one collect, on the device."""
        check_episodes(trajectories, self.spaces, recorded=("policy_output",))
        config, mask = self.config, trajectories.mask
        observations = send(self._seen(trajectories.observations), self.device, torch.float32)
        advantages = policy_advantages(
            observations,
            trajectories.rewards / (self._return_moments.scale if config.normalise_rewards else 1.0),
            trajectories,
            gamma=config.gamma,
            lam=config.gae_lambda,
            ridge=config.baseline_ridge if config.baseline == "linear" else None,
        )
        arrays = {
            "observations": observations,
            "actions": trajectories.extras["policy_output"],
            "advantages": advantages,
            "weights": mask / mask.sum(axis=(1, 2), keepdims=True),
        }
        return Samples.of(arrays, self.device)

    def update_statistics(self, collects: Sequence[Trajectories]) -> None:
        """Updates the running statistics; call it after the outer step, so that an iteration sees the same ones."""
        for t in collects:
            if self.config.normalise_observations:
                self._observation_moments.update(t.observations, t.mask)
            if self.config.normalise_rewards:
                continues = (~(t.terminated | t.truncated)).astype(np.float64)
                sums = returns.discounted_sums(t.rewards.astype(np.float64), continues, self.config.gamma)
                self._return_moments.update(sums[..., None], t.mask)

    # Saving ---------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and running statistics."""
        return {
            "parameters": self.parameters.detach().cpu(),
            **self._observation_moments.tensors("observation_moments"),
            **self._return_moments.tensors("return_moments"),
        }

    def counters(self) -> dict[str, Any]:
        """Empty: `tensors` holds the whole state of the learner."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores the arrays of `tensors`.

        Raises:
            ValueError: Names or shapes differ from this agent's.
        """
        check_tensors(type(self).__name__, tensors, self.tensors())
        self.parameters = self.policy.bound.project_(tensors["parameters"].to(self.device, copy=True))
        self._observation_moments.restore("observation_moments", tensors)
        self._return_moments.restore("return_moments", tensors)

    def save_policy(self, state: AdaptedPolicy, path: str | Path, task: int = 0) -> None:
        """Writes the adapted policy of one task: weights, deviation, action bounds, observation statistics."""
        check_task(task, len(state.parameters))
        tensors, description = self._export(state, task)
        if self.config.normalise_observations:
            tensors |= self._observation_moments.exported("observation")
        description |= {
            "format": POLICY_FORMAT,
            "normalise_observations": self.config.normalise_observations,
            "normalisation": NORMALISATION,
        }
        write_tensors(path, tensors, description)

    def policy_step(self, state: AdaptedPolicy, task: int = 0, *, sampled: bool = False) -> PolicyStep:
        """One step of the adapted policy of one task; see `metarl.agent.MetaAgent`."""
        tensors, about = self._export(state, task)
        statistics = self._observation_moments.exported("observation") if self.config.normalise_observations else {}
        policy = NormalisedPolicy(
            normalisation(statistics), Head(self._network(tensors, about), tensors.get("log_std"))
        )
        return MemorylessStep(self.spaces.observation_size, Actions(tensors, about), policy, sampled=sampled)

    def _network(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> nn.Module:
        """The network of an exported policy, from its arrays and its description."""
        return exported_mlp(tensors, about["activation"])

    def _export(self, state: AdaptedPolicy, task: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Arrays and description of one task's policy."""
        return self.policy.export(state.parameters[task])
