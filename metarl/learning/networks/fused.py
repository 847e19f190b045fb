"""Forward passes of stacked MLPs, with the products of oneDNN where these are faster.

PyTorch multiplies float32 matrices on a CPU by MKL. On AMD's processors with AVX-512 the products of oneDNN, which
PyTorch contains too, are twice as fast (`metarl bench planning` reports both), and one call also adds the bias and
applies the activation. Such a call serves one network. Small layers, GPUs and builds without oneDNN go through one
batched product of all networks instead. The numbers are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from metarl.learning.networks.perceptron import ACTIVATIONS, Activation, Layers, on_cpu

PRODUCT = 2**20
"""Multiplications of a layer from which a call of oneDNN per network is faster than a batched product."""


def _onednn() -> Callable[..., Any] | None:
    """The layer of oneDNN, `activation(x W^T + b)`; None if this build has none."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch has no types
        return None
    found: Callable[..., Any] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return found


LAYER = _onednn()


class FusedMlps:
    """MLPs with constant parameters, prepared for many forward passes without a graph.

    Args:
        layers: Parameters, `n` networks.
        activation: Activation between the layers.
    """

    def __init__(self, layers: Layers, activation: Activation) -> None:
        self._layers, self._activation = layers, activation
        self._apart = [
            list(zip(weight.mT.unbind(), bias.unbind(), strict=True))
            for weight, bias in zip(layers.weights, layers.biases, strict=True)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs `[n, B, out]` for inputs `[n, B, in]`."""
        last, h = len(self._apart) - 1, x
        several: Iterable[Tensor] | None = None  # instead of h, one tensor for each network
        for i, (weight, bias) in enumerate(zip(*self._layers, strict=True)):
            if LAYER is not None and on_cpu(x) and x.dtype == torch.float32 and _large(weight, x.shape[1]):
                name = "none" if i == last else self._activation
                pairs = zip(h if several is None else several, self._apart[i], strict=True)
                several = [LAYER(rows, w, b, name, [], "") for rows, (w, b) in pairs]
                continue
            h = torch.baddbmm(bias.unsqueeze(1), _together(h, several), weight)
            several = None
            if i < last:
                h = ACTIVATIONS[self._activation].replace(h)
        return _together(h, several)


def _large(weight: Tensor, rows: int) -> bool:
    return rows * weight.shape[1] * weight.shape[2] >= PRODUCT


def _together(h: Tensor, several: Iterable[Tensor] | None) -> Tensor:
    return h if several is None else torch.stack(list(several))
