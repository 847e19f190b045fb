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
from metarl.learning.device.gpu import ReplayedStep
from metarl.learning.networks.latent_policy import HistoryEncoder
from metarl.learning.networks.optimisers import Adam, flat_gradient
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
    """A history encoder, its Adam state, and the generator that draws its trials from a buffer.

    On a GPU the gradients of a step are one launch, once its shapes have repeated (`ReplayedStep`).

    Args:
        name: Name of the agent, for messages.
        encoder: The encoder.
        learning_rate: Step size of Adam.
        rng: The generator. Its state is part of the checkpoint.

    Attributes:
        rng: The generator.
    """

    def __init__(self, name: str, encoder: HistoryEncoder, learning_rate: float, rng: np.random.Generator) -> None:
        self._name, self._encoder, self.rng = name, encoder, rng
        self._parameters = dict(encoder.named_parameters())
        self._adam = Adam(self._parameters.values(), learning_rate, fused=True)
        self._differentiated = ReplayedStep(self._differentiate)

    def step(self, x: Tensor, latents: Tensor, mask: Tensor, step_size: float) -> Tensor:
        """One step of Adam that decreases the mean loss over the steps of whole trials.

        Args:
            x: Inputs of the encoder, `[B, L, I]`.
            latents: Latent of each trial's task, `[B, Z]`.
            mask: `[B, L]`, 1 on steps that happened, which come first, else 0.
            step_size: Step size of Adam.

        Returns:
            The loss before the step, `[1]`.
        """
        units = sum(p.numel() for p in self._parameters.values() if p.ndim == 1)
        steps = mask.sum()
        parts = [
            self._differentiated(steps, x[some], latents[some], mask[some])
            for some in chunks_that_fit(len(x), graph_bytes(x.shape[1], (units,)), x.device)
        ]
        total = torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0]
        self._adam.step_size = step_size
        self._adam.step_along(total[:-1])
        return total[-1:]

    def _differentiate(self, steps: Tensor, x: Tensor, latents: Tensor, mask: Tensor) -> Tensor:
        """Gradient of the loss of some of the trials, which have `steps` steps together, and that loss, `[P + 1]`."""
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
        return {"history_generator": self.rng.bit_generator.state}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores what `tensors` and `counters` returned; names and shapes have been checked.

        Raises:
            ValueError: The counters are not those of this learner; nothing is changed then.
        """
        restore_generator(self._name, self.rng, counters.get("history_generator"))
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[f"history.{name}"])
        self._adam.restore("history_adam", tensors)
