"""One step of a policy as a module that can be traced: the same inputs, outputs and kinds of numbers for every agent.

    (observation, previous action, previous reward, done, memory) -> (action, memory)

All are vectors of float32. The memory is zeros at the start of a trial, and its first number counts the steps of the
trial. While that is 0, previous action, previous reward and done are ignored.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from metarl.deviations import CLIP
from metarl.learning.networks.distributions import Categorical, Distribution

Noise = Literal["normal", "gumbel"]
"""Distribution of the numbers that a sampled action is computed from: standard normal, or standard Gumbel."""


class Part(NamedTuple):
    """Successive numbers of a memory.

    Attributes:
        name: Name, such as `hidden state`.
        size: How many.
        meaning: One line.
    """

    name: str
    size: int
    meaning: str


STEPS = Part("steps", 1, "steps since the start of the trial")


class Given(NamedTuple):
    """The inputs of a step, one row each; zeros instead of the last step's in the first step of a trial.

    Attributes:
        observation: `[1, O]`, in the environment's unit.
        action: The previous action as an input of networks, `[1, F]`: scaled to [-1, 1], or one-hot.
        reward: The previous reward, `[1, 1]`.
        done: 1 if the previous step ended its episode, `[1, 1]`.
        steps: Steps of the trial before this one, `[1, 1]`.
        memory: The memory without the steps, `[1, S]`.
        noise: Random numbers, `[1, n]`; none if actions are modes.
    """

    observation: Tensor
    action: Tensor
    reward: Tensor
    done: Tensor
    steps: Tensor
    memory: Tensor
    noise: Tensor

    @property
    def first(self) -> Tensor:
        """Whether this is the first step of an episode, `[1, 1]`."""
        return (self.steps == 0) | (self.done > 0)

    @property
    def feedback(self) -> Tensor:
        """Previous action, reward and done, `[1, F + 2]`."""
        return torch.cat([self.action, self.reward, self.done], dim=1)


class Normalise(nn.Module):
    """`clip((x - mean) / deviation, -10, 10)` of the first inputs, with float64 statistics; the others pass.

    The mean is subtracted in two parts, float32 each, so that no precision is lost next to float64.

    Args:
        statistics: `NAME.mean` and `NAME.deviation`, `[size]` float64.
    """

    def __init__(self, statistics: Mapping[str, Tensor]) -> None:
        super().__init__()
        mean, deviation = (statistics[key] for key in sorted(statistics, key=lambda key: key.endswith(".deviation")))
        self.coarse, self.fine, self.deviation = mean.float(), (mean - mean.float()).float(), deviation.float()

    def forward(self, x: Tensor) -> Tensor:
        """Normalised inputs `[..., I]`."""
        size = len(self.coarse)
        seen = ((x[..., :size] - self.coarse) - self.fine) / self.deviation
        return torch.cat([seen.clamp(-CLIP, CLIP), x[..., size:]], dim=-1)


class Actions(nn.Module):
    """The map from policy outputs to actions of the environment, and from these to network inputs.

    Args:
        tensors: `action_low`, `action_high`, `action_offset`, `action_factor` of an exported policy, `[A]` each.
        about: `choices`, `first_choice`, `action_scale` and `bounded` of its description.
    """

    def __init__(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        super().__init__()
        self.low, self.high, self.offset, self.factor = (
            tensors[f"action_{name}"].clone() for name in ("low", "high", "offset", "factor")
        )
        self.choices, self.first_choice = int(about["choices"]), int(about["first_choice"])
        width = (self.factor * float(about["action_scale"])).clamp_min(1e-6)
        self.bounded = torch.tensor(about["bounded"])
        self.width = torch.where(self.bounded, width, torch.ones_like(width))

    def to_environment(self, output: Tensor) -> Tensor:
        """Actions `[..., A]` for outputs `[..., A]`; of discrete actions, for the index of the choice `[..., 1]`."""
        if self.choices:
            return output + self.first_choice
        return torch.minimum(torch.maximum(self.offset + self.factor * output, self.low), self.high)

    def to_features(self, action: Tensor) -> Tensor:
        """Network inputs `[1, F]` for actions `[1, A]`."""
        if self.choices:
            index = (action - self.first_choice).clamp(0, self.choices - 1)
            return (index == torch.arange(self.choices, dtype=action.dtype)).to(action.dtype)
        return (action - self.offset) / self.width


class PolicyStep(nn.Module, ABC):
    """One step of a policy; a subclass defines `_act`.

    A robot that runs it has to give raw observations in the order and the units of training, at the rate of training,
    and the action that its motors received after all limits; actions are clipped to the bounds of training already.

    Args:
        observation_size: `O`.
        actions: The map of the actions.
        parts: Parts of the memory after its first number.
        adapts: Whether the step adapts to the task by its memory, from zeros. Otherwise its parameters are adapted.
        noise: Number of random numbers that a step needs; 0 for none.

    Attributes:
        distribution: Distribution of the random numbers.
    """

    def __init__(
        self,
        observation_size: int,
        actions: Actions,
        parts: Sequence[Part] = (),
        *,
        adapts: bool = False,
        noise: int = 0,
    ) -> None:
        super().__init__()
        self.observation_size, self.actions, self.adapts = observation_size, actions, adapts
        self.parts, self.noise = (STEPS, *parts), noise
        self.distribution: Noise = "gumbel" if actions.choices else "normal"

    @property
    def sizes(self) -> dict[str, int]:
        """The inputs in order, with the length of each."""
        a = len(self.actions.low)
        sizes = {"observation": self.observation_size, "previous_action": a, "previous_reward": 1, "done": 1}
        sizes["memory"] = sum(part.size for part in self.parts)
        return sizes | ({"noise": self.noise} if self.noise else {})

    def forward(
        self,
        observation: Tensor,
        previous_action: Tensor,
        previous_reward: Tensor,
        done: Tensor,
        memory: Tensor,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """One step.

        Args:
            observation: `[O]`, in the environment's units.
            previous_action: The action that the environment received last, `[A]`.
            previous_reward: Its reward, `[1]`.
            done: 1 if that was the last step of an episode, else 0, `[1]`.
            memory: `[S]`, zeros at the start of a trial.
            noise: Random numbers, `[n]`, if the step needs any.

        Returns:
            The action `[A]` in the environment's units, and the memory after the step.
        """
        steps, rest = memory[:1].unsqueeze(0), memory[1:].unsqueeze(0)
        features = self.actions.to_features(previous_action.unsqueeze(0))
        given = Given(
            observation=observation.unsqueeze(0),
            action=_if_started(steps, features),
            reward=_if_started(steps, previous_reward.unsqueeze(0)),
            done=_if_started(steps, done.unsqueeze(0)),
            steps=steps,
            memory=rest,
            noise=observation.new_zeros(1, 0) if noise is None else noise.unsqueeze(0),
        )
        action, after = self._act(given)
        return action[0], torch.cat([steps + 1.0, after], dim=1)[0]

    @abstractmethod
    def _act(self, given: Given) -> tuple[Tensor, Tensor]:
        """Action `[1, A]` in the environment's unit, and memory `[1, S]` after the step."""


def _if_started(steps: Tensor, value: Tensor) -> Tensor:
    """A value `[1, n]`, or zeros in the first step of a trial."""
    return torch.where(steps > 0, value, torch.zeros_like(value))


class DistributionStep(PolicyStep):
    """One step of a policy that gives a distribution; a subclass defines `_choose`.

    Args:
        observation_size: `O`.
        actions: The map of the actions.
        parts: As in `PolicyStep`.
        adapts: As there.
        sampled: Sample the distribution by random numbers that are given, instead of taking its mode.
        squashed: Whether outputs pass through a tanh after the noise.
    """

    def __init__(
        self,
        observation_size: int,
        actions: Actions,
        parts: Sequence[Part] = (),
        *,
        adapts: bool = False,
        sampled: bool = False,
        squashed: bool = False,
    ) -> None:
        noise = (actions.choices or len(actions.low)) if sampled else 0
        super().__init__(observation_size, actions, parts, adapts=adapts, noise=noise)
        self._sampled, self._squashed = sampled, squashed

    def _act(self, given: Given) -> tuple[Tensor, Tensor]:
        distribution, memory = self._choose(given)
        return self.actions.to_environment(self._output(distribution, given.noise)), memory

    def _output(self, distribution: Distribution, noise: Tensor) -> Tensor:
        """The policy's output `[1, A]`: its mode, or a sample (`metarl.learning.networks.distributions.sample`)."""
        if isinstance(distribution, Categorical):
            scores = distribution.logits + noise if self._sampled else distribution.logits
            return scores.argmax(dim=-1, keepdim=True).to(scores.dtype)
        output = distribution.mean
        if self._sampled:
            output = output + distribution.log_std.exp() * noise[:, -output.shape[1] :]
        return torch.tanh(output) if self._squashed else output

    @abstractmethod
    def _choose(self, given: Given) -> tuple[Distribution, Tensor]:
        """The distribution of the policy's output `[1, ...]`, and the memory `[1, S]` after the step."""


class MemorylessStep(DistributionStep):
    """A policy without memory.

    Args:
        observation_size: `O`.
        actions: The map of the actions.
        policy: Maps inputs `[1, O + G]` to distributions.
        given: Inputs after the observation that describe the task, `[G]`; none by default.
        sampled: As in `DistributionStep`.
    """

    def __init__(
        self,
        observation_size: int,
        actions: Actions,
        policy: nn.Module,
        *,
        given: Tensor | None = None,
        sampled: bool,
    ) -> None:
        super().__init__(observation_size, actions, sampled=sampled)
        self.policy, self.given = policy, given

    def _choose(self, given: Given) -> tuple[Distribution, Tensor]:
        told = [] if self.given is None else [self.given.unsqueeze(0)]
        return self.policy(torch.cat([given.observation, *told], dim=1)), given.memory
