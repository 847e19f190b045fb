"""The base class of agents that learn a model of the dynamics and plan with it at every control step.

At each step an agent

1. adds the transition that has just ended to the window of the last M, so that the newest one counts;
2. adapts the model of each environment to its window, starting from the learned parameters (a subclass says how);
3. plans with that model, starting from the rest of the last plan, and plays the first action.

A meta-update stores the episodes, updates the statistics, and makes gradient steps on windows of successive
transitions of all data, from the last parameters. The loss is that after adaptation. The first iterations are random.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from metarl.agent import MetaAgent
from metarl.config import Count, Layers, NonNegative, Positive, Rounds, Rows, Whole
from metarl.learning.device.gpu import send
from metarl.learning.experience.actions import ActionMap
from metarl.learning.experience.checks import check_episodes, check_step, check_task
from metarl.learning.experience.columns import Columns
from metarl.learning.experience.normalisation import DEVIATION_FLOOR, NORMALISATION, Normaliser
from metarl.learning.experience.trial_replay import TrialReplay
from metarl.learning.experience.trials import pack_trials
from metarl.learning.networks.exported.step import Actions, PolicyStep
from metarl.learning.networks.optimisers import Adam, flat_gradient
from metarl.learning.networks.perceptron import Activation
from metarl.learning.planning.dynamics import Dynamics, Scales, Windows
from metarl.learning.planning.exported import PlanningStep
from metarl.learning.planning.planner import Bounds, PlannerConfig, fresh_plans, planned, shifted
from metarl.learning.planning.scoring import Scorer
from metarl.learning.planning.state import Plans
from metarl.learning.saving import BufferedLearner
from metarl.memory import FLOAT, SAVED, Need, RunSize, dense_parameters
from metarl.rewards import reward_for_planning
from metarl.storage import write_tensors
from metarl.types import Action, MetaBatch, Spaces, Step, Task, Trajectories

MODEL_FORMAT = 1
"""Version of the exported model."""


@dataclass(frozen=True, kw_only=True)
class PlanningConfig(PlannerConfig):
    """Settings of an agent that plans with a model."""

    hidden: Layers = (200, 200)
    """Units of each hidden layer of the model."""
    activation: Activation = "relu"
    """Activation of the model's hidden layers."""
    ensemble: Rounds = 1
    """Models that are trained side by side; a plan is scored by the mean of their predictions."""
    probabilistic: bool = False
    """Train by the negative log-likelihood of a normal distribution instead of the squared error."""
    gradient_steps: Rows = 200
    """Gradient steps per iteration."""
    batch_windows: Rows = 32
    """Windows of successive transitions per gradient step, for each model of the ensemble."""
    learning_rate: Positive = 1e-3
    """Step size of Adam."""
    buffer_episodes: Count = 2000
    """Capacity of the buffer of all data, in episodes; the oldest are overwritten."""
    warmup_iterations: Whole = 1
    """Iterations at the start that play random actions."""
    deviation_floor: NonNegative = DEVIATION_FLOOR
    """Lower bound of the deviations that normalisation divides by, relative to the largest of the same unit."""


ConfigT = TypeVar("ConfigT", bound=PlanningConfig)


class PlanningAgent(BufferedLearner, MetaAgent[Plans], Generic[ConfigT]):
    """Learns a model of the dynamics and plans with it. A subclass defines name, window and adaptation.

    Args:
        config: The settings.
        spaces: Sizes and action bounds, and the declared reward.
        device: Device of the models.
        rng: Source of the initial parameters; the generator of the updates is spawned from it.

    Attributes:
        dynamics: The model, a function of its parameters.
        parameters: Parameters of the ensemble, `[members, P]`, or with those of the adaptation, `[members, P + R]`.
        replay: All episodes so far.
        rng: Generator of the updates.
        iteration: Meta-updates so far.

    Raises:
        ValueError: Actions are discrete or unbounded, or the family declares no reward to plan with.
    """

    needs_reward: ClassVar[bool] = True
    default_settings: ClassVar[Mapping[str, Any]] = {"tasks": 10, "episodes": 1}
    acts_with: ClassVar[tuple[str, ...]] = (
        "config",
        "spaces",
        "recorded",
        "dynamics",
        "parameters",
        "iteration",
        "reward",
        "actions",
        "_device",
        "_observation_moments",
        "_difference_moments",
    )
    config: ConfigT

    def __init__(self, config: ConfigT, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        name = self._name
        self.config, self.spaces, self._device = config, spaces, device
        self.recorded = {}
        self.reward = reward_for_planning(name, spaces.reward)
        self.actions = ActionMap.of_bounded(name, spaces)
        o, a = spaces.observation_size, spaces.action_size
        self.dynamics = Dynamics(o, a, tuple(config.hidden), config.activation, config.probabilistic)
        self.parameters = self._initial(rng).to(device).requires_grad_()
        self._optimiser = Adam([self.parameters], config.learning_rate)
        self._observation_moments, self._difference_moments = (
            Normaliser(o, config.deviation_floor, spaces.observation_units) for _ in range(2)
        )
        if spaces.horizon < self._past + self._future:
            raise ValueError(
                f"{name}: got episodes of {spaces.horizon} steps, expected at least {self._past + self._future}, the "
                "steps of a window; use a longer --horizon or shorter windows"
            )
        columns = Columns(observations=o, actions=a, next_observations=o)
        self.replay: TrialReplay = TrialReplay(config.buffer_episodes, spaces.horizon, columns)
        self.rng, self.iteration = rng.spawn(1)[0], 0

    @classmethod
    def memory_needed(cls, config: Any, spaces: Spaces, size: RunSize) -> list[Need]:
        """Memory of the models, of the plans of a control step, and of the buffer of all data."""
        o, a = spaces.observation_size, spaces.action_size
        rows = size.tasks * size.episodes
        adapted = config.ensemble * cls._numbers(config, spaces) * max(rows, 3 * config.batch_windows)
        plans = rows * config.candidates * config.plan_steps * (2 * config.ensemble * o + 2 * a)
        episode = FLOAT * spaces.horizon * (2 * o + a)
        stored = min(config.buffer_episodes, size.iterations * size.tasks * size.episodes)
        buffer = "a smaller --agent.buffer-episodes"
        return [
            Need("the adapted models", 0 if size.gpu else FLOAT * adapted, "smaller layers (--agent.hidden)"),
            Need("the plans", 0 if size.gpu else FLOAT * plans, "fewer --agent.candidates"),
            Need("the buffer", SAVED * stored * episode, buffer, reserved=config.buffer_episodes * episode),
        ]

    @classmethod
    def _numbers(cls, config: Any, spaces: Spaces) -> int:
        """Parameters of one member of the ensemble."""
        o, a = spaces.observation_size, spaces.action_size
        return dense_parameters((o + a, *config.hidden, o * (2 if config.probabilistic else 1)))

    # Defined by each agent ------------------------------------------------------------------------------

    _name: str
    """Name of the agent, for messages."""

    @property
    @abstractmethod
    def _past(self) -> int:
        """`M`, transitions of the window that a model adapts to; 0 for none."""

    @property
    @abstractmethod
    def _future(self) -> int:
        """`K`, transitions of the loss after them."""

    def _initial(self, rng: np.random.Generator) -> Tensor:
        """Initial parameters of the ensemble; those of the models by default."""
        return self.dynamics.initial(self.config.ensemble, rng)

    @abstractmethod
    def _adapted(self, parameters: Tensor, past: Windows, *, exact: bool) -> Tensor:
        """Models `[n, P]` adapted to the windows `[n, M, ...]`; see `Dynamics.adapted`.

        Args:
            parameters: Rows of `parameters`, one for each window.
            past: The windows.
            exact: Keep the graph.
        """

    # Acting ---------------------------------------------------------------------------------------------

    @property
    def adaptation_steps(self) -> int:
        """0: a model adapts at every control step, not between episodes."""
        return 0

    def episodes_per_adaptation(self, episodes: int) -> int:
        """1: the environments of a task are independent."""
        return 1

    def begin(self, tasks: Sequence[Task], episodes: int) -> Plans:
        """Fresh plans and empty windows; the tasks are not read."""
        m, o, a = len(tasks), self.spaces.observation_size, self.spaces.action_size
        plans = fresh_plans(self.config, self.bounds, m * episodes).view(m, episodes, -1, a)
        rows = plans.new_zeros(m, episodes, 1)
        return Plans(
            plans, rows.expand(-1, -1, o).clone(), rows.new_zeros(m, episodes, self._past, 2 * o + a), rows[..., 0]
        )

    @property
    def bounds(self) -> Bounds:
        """Bounds of a scaled action."""
        one = torch.ones(self.spaces.action_size, dtype=torch.float32, device=self._device)
        return Bounds(-one, one)

    @torch.no_grad()
    def act(self, state: Plans, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, Plans]:
        """Plans with adapted models; random actions while there is no data. A plan has no noise to leave out."""
        m, e = state.count.shape
        check_step(step, self.spaces, m, e)
        state = self.observed(state, step)
        if self.iteration < self.config.warmup_iterations:
            output = rng.uniform(-1.0, 1.0, (m, e, self.spaces.action_size)).astype(np.float32)
            return Action(self.actions.to_environment(output)), state
        first = send(step.first.reshape(-1), self._device)[:, None, None]
        plans = state.plans.flatten(0, 1)
        plans = torch.where(first, fresh_plans(self.config, self.bounds, m * e), shifted(plans, self.bounds))
        plans, _ = planned(self.config, self.scorer(state), plans, self.bounds, rng)
        action = self.actions.to_environment(plans[:, 0].cpu().numpy().reshape(m, e, -1))
        return Action(action), replace(state, plans=plans.view(m, e, *plans.shape[1:]))

    def observed(self, state: Plans, step: Step) -> Plans:
        """The state with the observation, and with the transition that led to it, unless an episode starts."""
        new = send(step.observation, self._device)
        scaled = send(self.actions.to_features(step.previous_action), self._device)
        first = send(step.first, self._device)
        window, count = state.window, torch.where(first, 0.0, (state.count + 1.0).clamp(max=self._past))
        if self._past:
            transition = torch.cat([state.observation, scaled, new], dim=-1)
            window = torch.cat([window[:, :, 1:], transition.unsqueeze(2)], dim=2)
        return replace(state, observation=new, window=window, count=count)

    def scales(self) -> Scales:
        """Statistics of all data so far, on the device."""
        seen, moved = self._observation_moments, self._difference_moments
        arrays = (seen.mean, seen.deviation, moved.mean, moved.deviation)
        return Scales(*(send(array, self._device, torch.float32) for array in arrays))

    def _windows(self, rows: Tensor, mask: Tensor, scales: Scales) -> Windows:
        """Rows `[n, B, O + A + O]` of transitions as inputs and targets of models."""
        o, a = self.spaces.observation_size, self.spaces.action_size
        before, scaled, after = torch.split(rows, [o, a, o], dim=-1)
        return Windows(torch.cat([scales.inputs(before), scaled], dim=-1), scales.targets(before, after), mask)

    def models(self, state: Plans) -> Tensor:
        """The adapted models of each environment, `[N, members, P]`; `[1, members, P]` if none adapts.

        Args:
            state: The state after acting; its windows hold the newest transitions.
        """
        n, members = state.count.numel(), len(self.parameters)
        if not self._past:
            return self.parameters.detach().unsqueeze(0)
        parameters = self.parameters.detach().expand(n, -1, -1)
        age = torch.arange(self._past, 0, -1, device=self._device)
        rows, mask = state.window.flatten(0, 1), (age <= state.count.reshape(-1, 1)).float()
        if members > 1:
            rows, mask = (t.repeat_interleave(members, dim=0) for t in (rows, mask))
        past = self._windows(rows, mask, self.scales())
        return self._adapted(parameters.flatten(0, 1), past, exact=False).view(n, members, -1)

    def scorer(self, state: Plans) -> Scorer:
        """The predicted returns of plans, with the adapted models, from the last observation of each environment."""
        low, high = (send(bound, self._device) for bound in (self.actions.low, self.actions.high))
        start = state.observation.flatten(0, 1)
        return Scorer(self.dynamics, self.models(state), start, self.scales(), self.reward, Bounds(low, high))

    def adapt(self, state: Plans, trajectories: Trajectories) -> Plans:
        """Changes nothing: plans and windows start anew with the next episode."""
        check_episodes(trajectories, self.spaces, *state.count.shape)
        return state

    # Learning -------------------------------------------------------------------------------------------

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """Stores the episodes, updates the statistics, then makes the gradient steps on all data so far."""
        for episodes in (pack_trials([one]) for one in batch.collects):
            self.replay.add(vars(episodes), episodes.mask)
            self._observation_moments.update(episodes.observations, episodes.mask)
            self._difference_moments.update(episodes.next_observations - episodes.observations, episodes.mask)
        self.iteration += 1
        report = {"buffer/episodes": float(self.replay.size)}
        if self.replay.longest < self._past + self._future:  # all episodes ended early
            return report
        scales, losses = self.scales(), []
        for _ in range(self.config.gradient_steps):
            loss = self.meta_loss(self.parameters, *self.draw(scales))
            self._optimiser.step_along(flat_gradient(loss.sum(), [self.parameters]))
            losses.append(loss.detach().mean())
        tenth = -(-len(losses) // 10)
        first, last = (float(torch.stack(part).mean()) for part in (losses[:tenth], losses[-tenth:]))
        return report | {"model/loss_first": first, "model/loss_last": last}

    def draw(self, scales: Scales) -> tuple[Windows, Windows]:
        """The past `[n, M, ...]` and the future `[n, K, ...]` of windows, `n` = members times windows of a batch."""
        past, count = self._past, self.config.ensemble * self.config.batch_windows
        drawn = self.replay.windows(count, past + self._future, self.rng)
        scaled = self.actions.to_features(drawn["actions"])
        rows = send(np.concatenate([drawn["observations"], scaled, drawn["next_observations"]], axis=-1), self._device)
        whole = self._windows(rows, torch.ones(rows.shape[:2], dtype=rows.dtype, device=self._device), scales)
        return Windows(*(t[:, :past] for t in whole)), Windows(*(t[:, past:] for t in whole))

    def meta_loss(self, parameters: Tensor, past: Windows, future: Windows) -> Tensor:
        """Loss of each member on the future after adapting to the past, the mean over its windows, `[members]`.

        Args:
            parameters: `[members, P]`.
            past: `[n, M, ...]`, the windows of a member in one block.
            future: `[n, K, ...]`.
        """
        members = len(parameters)
        if not past.mask.shape[1]:  # all windows of a member go through one model
            joined = Windows(*(t.view(members, -1, *t.shape[2:]) for t in future))
            return self.dynamics.losses(parameters, joined)
        each = parameters.repeat_interleave(len(past.mask) // members, dim=0)
        return self.dynamics.losses(self._adapted(each, past, exact=True), future).view(members, -1).mean(dim=1)

    # Saving ---------------------------------------------------------------------------------------------

    def learned(self) -> dict[str, Tensor]:
        """Parameters, Adam's state and running statistics."""
        saved = {"parameters": self.parameters.detach().cpu().clone()} | self._optimiser.tensors("adam")
        return (
            saved | self._observation_moments.tensors("observations") | self._difference_moments.tensors("differences")
        )

    def _restore_learned(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self.parameters.copy_(tensors["parameters"])
        self._optimiser.restore("adam", tensors)
        self._observation_moments.restore("observations", tensors)
        self._difference_moments.restore("differences", tensors)

    def policy_step(self, state: Plans, task: int = 0, *, sampled: bool = False) -> PolicyStep:
        """One step with an empty window, the same for every task; see `metarl.agent.MetaAgent`.

        The random numbers of the candidates are an input, sampled or not.

        Raises:
            ValueError: There is no data yet, so that actions are random.
        """
        if self.iteration < self.config.warmup_iterations:
            raise ValueError(
                f"{self._name}: got an agent after {self.iteration} iterations, which plays random actions; expected "
                f"at least {self.config.warmup_iterations}, train it longer"
            )
        return PlanningStep(
            self.spaces.observation_size,
            Actions(self.actions.tensors(), self.actions.description()),
            self.config,
            dynamics=self.dynamics,
            parameters=self.parameters.detach().cpu().clone(),
            adapted=lambda parameters, past: self._adapted(parameters, past, exact=False),
            past=self._past,
            scales=Scales(*(t.cpu() for t in self.scales())),
            reward=self.reward,
            bounds=Bounds(*(torch.tensor(bound) for bound in (self.actions.low, self.actions.high))),
        )

    def save_policy(self, state: Plans, path: str | Path, task: int = 0) -> None:
        """Writes the models of one task's first environment, adapted to its window, and a description."""
        check_task(task, len(state.count))
        models = self.models(state.tasks(slice(task, task + 1)))[0].contiguous()
        arrays = {name: t.cpu().clone() for name, t in self.dynamics.networks.layout.split(models).items()}
        arrays |= self._observation_moments.exported("observation")
        arrays |= self._difference_moments.exported("difference")
        about = {
            "format": MODEL_FORMAT,
            "agent": self._name,
            "layers": self.dynamics.networks.depth,
            "activation": self.config.activation,
            "probabilistic": self.config.probabilistic,
            "normalisation": NORMALISATION,
        }
        write_tensors(path, arrays | self.actions.tensors(), about)
