"""What agents that adapt by gradient steps on a policy have in common: everything around the update itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.agent import MetaAgent
from metarl.config import Layers, NonNegative, Positive, Rounds, UnitInterval
from metarl.finite import check_finite
from metarl.learning.device.gpu import send
from metarl.learning.experience import device_returns, returns
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.normalisation import DEVIATION_FLOOR, NORMALISATION, Normaliser, ReturnScale
from metarl.learning.gradient.losses import adapted_by_policy_gradient
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.learning.networks.perceptron import Activation
from metarl.memory import DOUBLE, FLOAT, Need, RunSize, dense_parameters
from metarl.storage import write_tensors
from metarl.types import Action, Floats, MetaBatch, Spaces, Step, Task, Trajectories


@dataclass(frozen=True, kw_only=True)
class GradientAgentConfig:
    """Settings that every gradient-based agent has: inner loop, advantages, policy, running statistics."""

    inner_lr: NonNegative = 0.1
    """Step size of the inner loop (alpha in the papers); usually 0.01 to 0.5."""
    inner_steps: Rounds = 1
    """Adaptation steps of the inner loop, each after a fresh collect; usually 1 to 3."""
    gamma: UnitInterval = 0.99
    """Discount per step."""
    gae_lambda: UnitInterval = 1.0
    """Decay of generalised advantage estimation; 1 is the return minus the baseline."""
    baseline: Literal["linear", "none"] = "linear"
    """Baseline of the advantages: ridge regression on observation and time per task and collect, or none."""
    baseline_ridge: Positive = 1e-5
    """Regularisation of the linear baseline."""
    hidden: Layers = (64, 64)
    """Units of each hidden layer of the policy."""
    activation: Activation = "tanh"
    """Between the layers of the policy."""
    init_std: Positive = 1.0
    """Standard deviation of the policy's output at the start."""
    min_std: Positive = 1e-6
    """Lower bound of that standard deviation."""
    action_scale: Positive = 1.0
    """Policy output that stands for a full action; 10 is the setting of ProMP, pytorch-maml-rl and garage on MuJoCo."""
    normalise_observations: bool = False
    """Show the policy observations normalised by running statistics."""
    normalise_rewards: bool = False
    """Divide the rewards that the learner sees by the running standard deviation of the return."""
    deviation_floor: NonNegative = DEVIATION_FLOOR
    """Least deviation to divide by: a share of the largest deviation in a unit (observations), of the root mean square
    (returns); 0 for none."""


ConfigT = TypeVar("ConfigT", bound=GradientAgentConfig)


@dataclass(frozen=True)
class AdaptedPolicy:
    """The state of a gradient-based agent: each task's own policy parameters, `[M, P]`.

    Raises:
        NotFiniteError: They are infinite or not a number.
    """

    parameters: Tensor

    def __post_init__(self) -> None:
        check_finite({"parameters": self.parameters}, "adaptation: the adapted parameters")

    def tasks(self, part: slice) -> AdaptedPolicy:
        """The state of some of the tasks."""
        return AdaptedPolicy(self.parameters[part])

    @classmethod
    def join(cls, parts: Sequence[AdaptedPolicy]) -> AdaptedPolicy:
        """The state of all tasks of the parts, in order."""
        return cls(torch.cat([part.parameters for part in parts]))


class GradientAgent(MetaAgent[AdaptedPolicy], ABC, Generic[ConfigT]):
    """Begins with the meta-learned parameters, acts with each task's own, saves and restores them.

    An algorithm is a subclass with its own `meta_update`, and its own `adapt` where that is not MAML's step. What it
    trains beyond the initial parameters and the running statistics, it adds to `tensors` and `restore`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where the meta-update and the policy run.
        rng: Source of the initial parameters.
    """

    Config: ClassVar[type]
    Policy: ClassVar[type[StackedPolicy]] = StackedPolicy
    summary: ClassVar[str]
    default_settings: ClassVar[Mapping[str, Any]] = {"tasks": 20, "episodes": 10}

    def __init__(self, config: ConfigT, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        self.config, self.spaces, self._device = config, spaces, device
        self.recorded = {"policy_output": (spaces.action_size,)}
        self._policy = self.Policy(
            spaces,
            hidden=config.hidden,
            activation=config.activation,
            init_std=config.init_std,
            min_std=config.min_std,
            action_scale=config.action_scale,
        )
        self._parameters = self._policy.initial(rng).to(device)  # [P]
        self._observation_moments = Normaliser(
            spaces.observation_size, config.deviation_floor, spaces.observation_units
        )
        self._return_moments = ReturnScale(config.deviation_floor)

    @classmethod
    def memory_needed(cls, config: ConfigT, spaces: Spaces, size: RunSize) -> list[Need]:
        """The parts of a training that can be large: samples, the linear baseline, each task's own parameters.

        Args:
            config: The settings.
            spaces: Sizes and horizon.
            size: Of the training.
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
        """`K`, the steps of the inner loop."""
        return self.config.inner_steps

    def episodes_per_adaptation(self, episodes: int) -> int:
        """One step pools all episodes of a task."""
        return episodes

    def begin(self, tasks: Sequence[Task], episodes: int) -> AdaptedPolicy:
        """Every task starts from the meta-learned parameters."""
        return AdaptedPolicy(self._parameters.expand(len(tasks), -1).contiguous())

    def act(
        self, state: AdaptedPolicy, step: Step, rng: np.random.Generator, mode: bool = False
    ) -> tuple[Action, AdaptedPolicy]:
        """Samples each row's action from its task's policy."""
        check_step(step, self.spaces, len(state.parameters))
        output = self._policy.sample(state.parameters, self._seen(step.observation), rng, mode)
        return Action(self._policy.to_environment(output), extras={"policy_output": output}), state

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        """One policy-gradient step per task, with step size `inner_lr` (Finn et al. 2017, section 2.2)."""
        samples = [self._samples_for(state, trajectories)]
        return AdaptedPolicy(adapted_by_policy_gradient(self._policy, samples, state.parameters, self.config.inner_lr))

    # Samples and statistics -----------------------------------------------------------------------------

    def _seen(self, observations: np.ndarray) -> np.ndarray:
        """Observations as the policy sees them."""
        return self._observation_moments.normalise(observations) if self.config.normalise_observations else observations

    def _samples_for(self, state: AdaptedPolicy, trajectories: Trajectories) -> Samples:
        """Samples for adapting the tasks of a state."""
        samples = self._samples(trajectories)
        if len(samples.observations) != len(state.parameters):
            raise ValueError(
                f"adapt: got trajectories of {len(samples.observations)} tasks, expected {len(state.parameters)}, as "
                "`begin` was told"
            )
        return samples

    def _samples(self, trajectories: Trajectories) -> Samples:
        """Observations, policy outputs, normalised advantages and weights of one collect, on the device."""
        check_episodes(trajectories, self.spaces, recorded=("policy_output",))
        config, mask = self.config, trajectories.mask
        seen = self._seen(trajectories.observations)
        scale = self._return_moments.scale if config.normalise_rewards else 1.0
        estimate: dict[str, Any] = {
            "rewards": trajectories.rewards / scale,
            "trajectories": trajectories,
            "gamma": config.gamma,
            "lam": config.gae_lambda,
            "ridge": config.baseline_ridge if config.baseline == "linear" else None,
        }
        arrays: dict[str, Floats | Tensor] = {
            "observations": seen,
            "actions": trajectories.extras["policy_output"],
            "weights": mask / mask.sum(axis=(1, 2), keepdims=True),
        }
        if self._device.type == "cuda":
            sent = send(seen, self._device, torch.float32)
            arrays |= {"observations": sent, "advantages": device_returns.policy_advantages(sent, **estimate)}
        else:
            arrays |= {"advantages": returns.policy_advantages(seen, **estimate)}
        return Samples.of(arrays, self._device)

    def _update_statistics(self, trajectories: Sequence[Trajectories]) -> None:
        """To be called after the update, so that they stay as they are within an iteration."""
        for t in trajectories:
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
            "parameters": self._parameters.detach().cpu(),
            **self._observation_moments.tensors("observation_moments"),
            **self._return_moments.tensors("return_moments"),
        }

    def counters(self) -> dict[str, Any]:
        """Nothing: the arrays are all there is."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` gave.

        Raises:
            ValueError: Names or shapes do not fit this agent.
        """
        expected = {name: tuple(t.shape) for name, t in self.tensors().items()}
        got = {name: tuple(t.shape) for name, t in tensors.items()}
        if got != expected:
            raise ValueError(f"checkpoint of {type(self).__name__}: got tensors {got}, expected {expected}")
        self._parameters = self._policy.bound.project_(tensors["parameters"].to(self._device, copy=True))
        self._observation_moments.restore("observation_moments", tensors)
        self._return_moments.restore("return_moments", tensors)

    def save_policy(self, state: AdaptedPolicy, path: str | Path, task: int = 0) -> None:
        """Writes one task's adapted policy: weights, deviation, action bounds, observation statistics."""
        check_task(task, len(state.parameters))
        tensors, description = self._policy.export(state.parameters[task])
        if self.config.normalise_observations:
            tensors |= self._observation_moments.exported("observation")
        description["normalise_observations"] = self.config.normalise_observations
        description["normalisation"] = NORMALISATION
        write_tensors(path, tensors, description)
