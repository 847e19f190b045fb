"""The variational auto-encoder of VariBAD: decoders, and the evidence lower bound that trains encoder and decoders.

Zintgraf et al. 2020 (arXiv:1910.08348), section 3. The bound is a sum over the prefixes of a trial: the belief after
each prefix predicts every step of the trial, past and future. The terms of this double sum can be drawn at random, with
weights that leave its expectation unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metarl.learning.device.gpu import ReplayedStep, send
from metarl.learning.networks.belief import BeliefEncoder, Posterior
from metarl.learning.networks.modules import HIDDEN_GAIN, linear
from metarl.learning.networks.optimisers import Adam, flat_gradient
from metarl.learning.saving import restore_generator
from metarl.types import Bools


class Decoder(nn.Module):
    """An MLP (ReLU) for every pair of a latent and a step.

    The first layer is linear in the pair, so it is applied to latents and steps separately, and the results are added.
    Only the later layers are computed pair by pair.

    Args:
        latent: `Z`.
        inputs: Numbers that describe a step, `S`.
        hidden: Units of each hidden layer.
        outputs: Size of the output.
        rng: Source of the initial weights.
    """

    def __init__(
        self, latent: int, inputs: int, hidden: tuple[int, ...], outputs: int, rng: np.random.Generator
    ) -> None:
        super().__init__()
        self._columns = [latent, inputs]
        sizes = (latent + inputs, *hidden, outputs)
        gains = [HIDDEN_GAIN] * len(hidden) + [1.0]
        self.layers = nn.ModuleList(
            linear(i, o, gain, rng) for (i, o), gain in zip(pairwise(sizes), gains, strict=True)
        )

    def forward(self, latents: Tensor, steps: Tensor) -> Tensor:
        """Outputs `[B, P, D, outputs]` for latents `[B, P, Z]` and steps `[B, D, S]`."""
        first, others = self.layers[0], self.layers[1:]
        assert isinstance(first, nn.Linear)
        of_latents, of_steps = torch.split(first.weight, self._columns, dim=1)
        by_latent = functional.linear(latents, of_latents).unsqueeze(2)  # [B, P, 1, hidden]
        x = by_latent + functional.linear(steps, of_steps, first.bias).unsqueeze(1)
        for layer in others:
            x = layer(functional.relu(x))
        return x


def kl_from_previous(beliefs: Posterior) -> Tensor:
    """KL(q_t || q_{t-1}) in nats along a trial, `[B, L]`; before the first step the belief is N(0, 1).

    For two normal distributions it is `(log v' - log v + (v + (m - m')^2) / v' - 1) / 2`, summed over the latent.

    Args:
        beliefs: `[B, L, Z]`.
    """
    before = Posterior(*(torch.cat([torch.zeros_like(t[:, :1]), t[:, :-1]], dim=1) for t in beliefs))
    ratio = torch.exp(beliefs.log_variance - before.log_variance)
    distance = (beliefs.mean - before.mean).square() * torch.exp(-before.log_variance)
    return 0.5 * (before.log_variance - beliefs.log_variance + ratio + distance - 1.0).sum(dim=-1)


class Chosen(NamedTuple):
    """Some steps of each trial, with weights.

    Attributes:
        steps: Indices of the steps, `[B, n]`.
        weight: `[B, n]`, 0 on padding; the weighted sum over the chosen steps has the sum over all steps of the trial
            as its expectation.
    """

    steps: Tensor
    weight: Tensor

    def of(self, values: Tensor) -> Tensor:
        """The chosen steps of `[B, L, ...]`: `[B, n, ...]`."""
        index = self.steps.reshape(*self.steps.shape, *[1] * (values.ndim - 2))
        return values.gather(1, index.expand(*self.steps.shape, *values.shape[2:]))


def choose_steps(mask: Bools, count: int, device: torch.device, rng: np.random.Generator) -> Chosen:
    """Draws steps of each trial uniformly without replacement.

    Args:
        mask: `[B, L]`, True on the steps that happened.
        count: Steps per trial; 0 takes all of them with weight 1 and draws nothing.
        device: Device of the result.
        rng: Source of the choice.
    """
    if count == 0 or count >= mask.shape[1]:
        index, weight = np.broadcast_to(np.arange(mask.shape[1]), mask.shape), mask.astype(np.float32)
    else:
        index = np.argsort(rng.random(mask.shape) + ~mask, axis=1)[:, :count]  # padding comes last
        happened = mask.sum(axis=1, keepdims=True)
        weight = np.take_along_axis(mask, index, axis=1) * (happened / np.clip(happened, 1, count))
    return Chosen(send(index, device), send(weight, device, torch.float32))


def summed_error(outputs: Tensor, targets: Tensor, prefixes: Chosen, decoded: Chosen) -> Tensor:
    """Sum over prefixes and steps of the squared errors, `[B]`.

    Args:
        outputs: `[B, P, D, X]`, the prediction of each step from the latent drawn after each prefix.
        targets: `[B, D, X]`.
        prefixes: The `P` prefixes.
        decoded: The `D` steps.
    """
    errors = (outputs - targets.unsqueeze(1)).square().sum(dim=-1)  # [B, P, D]
    return torch.einsum("bp,bpd,bd->b", prefixes.weight, errors, decoded.weight)


class TrialTensors(NamedTuple):
    """Whole trials as inputs and targets of encoder and decoders.

    Attributes:
        inputs: Inputs of the encoder, `[B, L, I]`.
        observations: Observations before each step, `[B, L, O]`.
        actions: Actions as features, `[B, L, F]`.
        next_observations: Observations after each step, `[B, L, O]`.
        rewards: `[B, L, 1]`.
        mask: `[B, L]`, 1 on steps that happened, else 0.
    """

    inputs: Tensor
    observations: Tensor
    actions: Tensor
    next_observations: Tensor
    rewards: Tensor
    mask: Tensor


class Elbo(NamedTuple):
    """The parts of the bound, each summed over the prefixes of a trial, `[B]`.

    Attributes:
        rewards: Squared errors of the decoded rewards, summed over the trial's steps too.
        observations: Squared errors of the decoded next observations, likewise; zero without a transition decoder.
        kl: KL of each belief from the one before, in nats.
    """

    rewards: Tensor
    observations: Tensor
    kl: Tensor

    def loss(self, reward_weight: float, transition_weight: float, kl_weight: float) -> Tensor:
        """Minus the bound (sections 3.1 and 3.2 of the paper), up to a constant; mean over the trials."""
        errors = reward_weight * self.rewards + transition_weight * self.observations
        return (errors + kl_weight * self.kl).mean()

    def means(self, mask: Tensor) -> list[Tensor]:
        """Metrics: error per pair of prefix and step, KL per step; means over the trials (`mask` `[B, L]`)."""
        steps = mask.sum(dim=1)
        pairs = steps.square()
        return [(self.rewards / pairs).mean(), (self.observations / pairs).mean(), (self.kl / steps).mean()]


class Vae(nn.Module):
    """Encoder and decoders.

    Args:
        encoder: The encoder.
        observation: `O`.
        action: Features of an action.
        hidden: Units of each hidden layer of the decoders.
        reward_sees_transition: Add observation and action to the reward decoder's input, which is the next observation.
        transitions: Decode next observations too.
        rng: Source of the initial weights of the decoders.
    """

    def __init__(
        self,
        encoder: BeliefEncoder,
        observation: int,
        action: int,
        *,
        hidden: tuple[int, ...],
        reward_sees_transition: bool,
        transitions: bool,
        rng: np.random.Generator,
    ) -> None:
        super().__init__()
        self.encoder, latent = encoder, encoder.mean.out_features
        self._sees_transition = reward_sees_transition
        seen = observation + (observation + action if reward_sees_transition else 0)
        self.reward = Decoder(latent, seen, hidden, 1, rng)
        self.transition = Decoder(latent, observation + action, hidden, observation, rng) if transitions else None

    def elbo(self, trials: TrialTensors, prefixes: Chosen, decoded: Chosen, noise: Tensor) -> Elbo:
        """The parts of the bound, estimated from some prefixes and steps.

        Args:
            trials: `[B, L, ...]`.
            prefixes: The `P` prefixes of each trial whose belief is decoded.
            decoded: The `D` steps of each trial that they decode.
            noise: Standard normal, `[B, P, Z]`: one latent per prefix.
        """
        beliefs, _ = self.encoder(trials.inputs, self.encoder.fresh_memory(len(trials.inputs)))
        kl = torch.where(trials.mask > 0, kl_from_previous(beliefs), 0.0).sum(dim=1)
        latents = type(beliefs)(*(prefixes.of(t) for t in beliefs)).drawn(noise)
        before = torch.cat([decoded.of(trials.observations), decoded.of(trials.actions)], dim=-1)
        after = decoded.of(trials.next_observations)
        seen = torch.cat([after, before], dim=-1) if self._sees_transition else after
        rewards = summed_error(self.reward(latents, seen), decoded.of(trials.rewards), prefixes, decoded)
        if self.transition is None:
            return Elbo(rewards, torch.zeros_like(rewards), kl)
        return Elbo(rewards, summed_error(self.transition(latents, before), after, prefixes, decoded), kl)


REPORTED = ("loss", "reward_error", "observation_error", "kl")
"""Metrics of a step of `VaeLearner`."""


class VaeLearner:
    """A variational auto-encoder, its Adam state, and the generator of its training's random numbers.

    On a GPU the gradients of a step are one launch, once its shapes have repeated (`ReplayedStep`).

    Args:
        vae: Encoder and decoders.
        weights: Weights of the loss, as in `Elbo.loss`: of rewards, transitions and KL.
        learning_rate: Step size of Adam.
        rng: The generator. Its state is part of the checkpoint.

    Attributes:
        rng: The generator.
    """

    def __init__(
        self, vae: Vae, weights: tuple[float, float, float], learning_rate: float, rng: np.random.Generator
    ) -> None:
        self._vae, self._weights, self.rng = vae, weights, rng
        self._parameters = dict(vae.named_parameters())
        self._adam = Adam(self._parameters.values(), learning_rate, fused=True)
        self._differentiated = ReplayedStep(self._differentiate)

    def step(self, trials: TrialTensors, mask: Bools, elbo_terms: int, decoded_steps: int, step_size: float) -> Tensor:
        """One step of Adam that decreases the loss, estimated from prefixes, steps and latents drawn at random.

        Args:
            trials: `[B, L, ...]`.
            mask: `[B, L]`, True on the steps that happened, in the host's memory.
            elbo_terms: Prefixes of each trial; 0 for all.
            decoded_steps: Steps of each trial; 0 for all.
            step_size: Step size.

        Returns:
            The numbers of `REPORTED`, `[4]`.
        """
        device = trials.mask.device
        prefixes, decoded = (choose_steps(mask, count, device, self.rng) for count in (elbo_terms, decoded_steps))
        latent = self._vae.encoder.mean.out_features
        noise = self.rng.standard_normal((*prefixes.steps.shape, latent), dtype=np.float32)
        total = self._differentiated(*trials, *prefixes, *decoded, send(noise, device))
        self._adam.step_size = step_size
        self._adam.step_along(total[: -len(REPORTED)])
        return total[-len(REPORTED) :]

    def _differentiate(self, *tensors: Tensor) -> Tensor:
        """Gradient of the loss and the numbers of `REPORTED`, `[P + 4]`, from the tensors of `Vae.elbo`."""
        *of_trials, prefixes, prefix_weight, steps, step_weight, noise = tensors
        trials = TrialTensors(*of_trials)
        elbo = self._vae.elbo(trials, Chosen(prefixes, prefix_weight), Chosen(steps, step_weight), noise)
        loss = elbo.loss(*self._weights)
        gradient = flat_gradient(loss, list(self._parameters.values()))
        with torch.no_grad():
            return torch.cat([gradient, torch.stack([loss, *elbo.means(trials.mask)])])

    def tensors(self) -> dict[str, Tensor]:
        """Parameters (`vae.NAME`) and Adam's state of each (`vae_adam`)."""
        parameters = {f"vae.{name}": p.detach().cpu().clone() for name, p in self._parameters.items()}
        return parameters | self._adam.tensors("vae_adam")

    def counters(self) -> dict[str, Any]:
        """The state of the generator."""
        return {"vae_generator": self.rng.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned; names and shapes have been checked.

        Raises:
            ValueError: The counters are not those of this learner; nothing is changed then.
        """
        restore_generator("varibad", self.rng, counters.get("vae_generator"))
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"vae.{name}"])
        self._adam.restore("vae_adam", tensors)
