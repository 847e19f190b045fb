"""Layers of torch modules evaluated by NumPy, for the few rows and many calls of acting on a CPU.

NumPy's operations start several times faster than torch's, and its hyperbolic tangent is faster as well. The parameters
are read where torch keeps them, so nothing has to be kept up to date. Tests hold every function to the torch module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from weakref import ref

import numpy as np
from torch import nn

from metarl.types import Floats

PURGE = 64
"""Number of layers from which views of layers that are gone are dropped."""
GELU_SCALE = math.sqrt(2.0 / math.pi)
_views: dict[int, tuple[ref[nn.Module], list[int], tuple[Floats, ...]]] = {}  # by the layer's id


def views(layer: nn.Module) -> tuple[Floats, ...]:
    """The numbers of a layer's parameters on the CPU, without a copy: matrices transposed, in the layer's order.

    They are kept as long as the parameters stay at their places in memory. (A dictionary by id is faster than one by
    weak references.)
    """
    places = [parameter.data_ptr() for parameter in layer._parameters.values() if parameter is not None]
    kept = _views.get(id(layer))
    if kept is None or kept[0]() is not layer or kept[1] != places:
        if len(_views) >= PURGE:
            for key in [key for key, (of, _, _) in _views.items() if of() is None]:
                del _views[key]
        arrays = tuple(parameter.detach().numpy().T for parameter in layer.parameters(recurse=False))
        kept = _views[id(layer)] = ref(layer), places, arrays
    return kept[2]


def affine(layer: nn.Module, x: Floats) -> Floats:
    """The output of a linear layer for inputs `[B, I]`."""
    weight, bias = views(layer)
    y = x @ weight
    y += bias
    return y


def through_layers(layers: Iterable[nn.Module], x: Floats) -> Floats:
    """The output of `metarl.learning.networks.modules.hidden_layers` for inputs `[B, I]`."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = affine(layer, x)
        elif isinstance(layer, nn.Tanh):
            np.tanh(x, out=x)
        else:
            np.maximum(x, 0.0, out=x)
    return x


def logistic_(x: Floats) -> Floats:
    """The logistic function, in place, by the hyperbolic tangent: `(1 + tanh(x / 2)) / 2`."""
    x *= 0.5
    np.tanh(x, out=x)
    x += 1.0
    x *= 0.5
    return x


def standardised(x: Floats) -> Floats:
    """Layer norm without scale and shift, of `[B, H]`, as torch's with its default of 1e-5 under the root."""
    share = 1.0 / x.shape[1]
    y = x - share * np.add.reduce(x, axis=1, keepdims=True)
    variances = share * np.einsum("bh,bh->b", y, y)
    variances += 1e-5
    y /= np.sqrt(variances)[:, None]
    return y


def gelu_(x: Floats) -> Floats:
    """The Gaussian error linear unit in its form with the hyperbolic tangent, in place (arXiv:1606.08415)."""
    inner = x * x
    inner *= 0.044715 * GELU_SCALE
    inner += GELU_SCALE
    inner *= x
    np.tanh(inner, out=inner)
    inner += 1.0
    x *= 0.5
    x *= inner
    return x


def normalised(layer: nn.LayerNorm, x: Floats) -> Floats:
    """The output of a layer norm for inputs `[B, I]`."""
    weight, bias = views(layer)
    y = standardised(x)
    y *= weight
    y += bias
    return y
