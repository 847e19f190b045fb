"""Regression of latents from histories: the second phase of rapid motor adaptation.

Kumar et al. 2021 (arXiv:2107.04034), section III-B.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metarl.learning.device.chunks import chunks_that_fit, graph_bytes
from metarl.learning.device.gpu import ReplayedStep, send
from metarl.learning.networks.latent_policy import HistoryEncoder
from metarl.learning.networks.optimisers import Adam, flat_gradient
from metarl.learning.ppo.learner import minibatches
from metarl.learning.saving import restore_generator


def latent_loss(estimates: Tensor, latents: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of `|z_hat - z|^2`.

    Args:
        estimates: `z_hat`, `[B, L, Z]`.
        latents: `z` of each row's task, `[B, Z]`.
        weights: Weight of each step, `[B, L]`; the sum is 1.
    """
    return (weights * (estimates - latents.unsqueeze(1)).square().sum(dim=-1)).sum()


class LatentRegression:
    """A history encoder, its Adam state, and the generator that draws the minibatches.

    On a GPU the gradients of a minibatch are one launch, once its shapes have repeated (`ReplayedStep`).

    Args:
        name: Name of the agent, for messages.
        encoder: The encoder.
        learning_rate: Step size of Adam.
        rng: Source of the minibatches. Its state is part of the checkpoint.
    """

    def __init__(self, name: str, encoder: HistoryEncoder, learning_rate: float, rng: np.random.Generator) -> None:
        self._name, self._encoder, self._rng = name, encoder, rng
        self._parameters = dict(encoder.named_parameters())
        self._adam = Adam(self._parameters.values(), learning_rate, fused=True)
        self._differentiated = ReplayedStep(self._differentiate)

    def update(
        self, x: Tensor, latents: Tensor, mask: Tensor, *, epochs: int, parts: int, step_size: float
    ) -> dict[str, float]:
        """Makes all epochs of one iteration.

        Args:
            x: Inputs of the encoder along whole trials, `[B, L, I]`.
            latents: Latent of each trial's task, `[B, Z]`.
            mask: `[B, L]`, 1 on steps that happened, which come first, else 0.
            epochs: Passes over the trials.
            parts: Minibatches of trials per pass, one step of Adam each.
            step_size: Step size of Adam.

        Returns:
            The loss, mean over the minibatches of the first epoch (which have not been learned from yet, except by the
            steps before theirs) and of the last; its share of the variance of the latents over all steps; the step
            size.
        """
        losses, parts = [], min(parts, len(x))
        self._adam.step_size = step_size
        units = sum(p.numel() for p in self._parameters.values() if p.ndim == 1)
        at_once = chunks_that_fit(-(-len(x) // parts), graph_bytes(x.shape[1], (units,)), x.device)[0].stop
        for index in minibatches(len(x), parts, epochs, self._rng):
            rows = send(index, x.device)
            steps = mask[rows].sum().clamp_min(1.0)
            sums = [self._differentiated(steps, x[i], latents[i], mask[i]) for i in torch.split(rows, at_once)]
            total = torch.stack(sums).sum(dim=0) if len(sums) > 1 else sums[0]
            self._adam.step_along(total[:-1])
            losses.append(total[-1:])
        of_steps = torch.cat(losses)
        first, last = torch.stack([of_steps[:parts].mean(), of_steps[-parts:].mean()]).tolist()
        weights = (mask.sum(dim=1) / mask.sum()).unsqueeze(1)
        spread = (weights * (latents - (weights * latents).sum(dim=0)).square()).sum()
        return {
            "history/loss_first": first,
            "history/loss_last": last,
            "history/explained_variance": 1.0 - first / max(float(spread), 1e-12),
            "history/learning_rate": step_size,
        }

    def _differentiate(self, steps: Tensor, x: Tensor, latents: Tensor, mask: Tensor) -> Tensor:
        """Gradient of the loss of some trials of a minibatch with `steps` steps, and that loss, `[P + 1]`."""
        estimates, _ = self._encoder(x, self._encoder.cell.fresh_memory(len(x)))
        loss = latent_loss(estimates, latents, mask / steps)
        gradient = flat_gradient(loss, list(self._parameters.values()))
        return torch.cat([gradient, loss.detach().unsqueeze(0)])

    def tensors(self) -> dict[str, Tensor]:
        """Parameters (`history.NAME`) and Adam's state of each (`history_adam`)."""
        parameters = {f"history.{name}": p.detach().cpu().clone() for name, p in self._parameters.items()}
        return parameters | self._adam.tensors("history_adam")

    def counters(self) -> dict[str, Any]:
        """The state of the generator."""
        return {"history_generator": self._rng.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned; names and shapes have been checked.

        Raises:
            ValueError: The counters are not those of this learner; nothing is changed then.
        """
        restore_generator(self._name, self._rng, counters.get("history_generator"))
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"history.{name}"])
        self._adam.restore("history_adam", tensors)
