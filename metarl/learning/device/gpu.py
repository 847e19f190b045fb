"""Asynchronous copies to a GPU, and CUDA graphs of steps that consist of many small kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WARM_UP = 3
"""Calls of a step before it is captured, so that libraries finish their setup at first use."""

_one_by_one: ContextVar[bool] = ContextVar("one_by_one", default=False)


def send(array: NDArray[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A copy of the array on the device; the host does not wait for the transfer to a GPU.

    Args:
        array: An array of any shape.
        device: Device of the copy.
        dtype: Type of the copy; by default that of the array.
    """
    # The copy of torch.tensor has the same memory alignment every time, so results repeat bit for bit.
    tensor = torch.tensor(array, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def standard_normal(rng: np.random.Generator, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Standard normal float32 numbers of a NumPy generator, sent to the device: the same numbers on every device."""
    return send(rng.standard_normal(shape, dtype=np.float32), device)


@contextmanager
def one_by_one() -> Iterator[None]:
    """A context in which each `ReplayedStep` runs without a CUDA graph, so that a profiler sees every operation."""
    token = _one_by_one.set(True)
    try:
        yield
    finally:
        _one_by_one.reset(token)


class ReplayedStep:
    """A step of many small kernels as a CUDA graph: captured once, then replayed with a single launch per call.

    The numbers are those of the step itself, which runs without a graph on a CPU. Every call makes exactly one step;
    warm-up and capture make no further ones.

    Args:
        step: Function from tensors to one tensor. It may change other tensors in place, in the same memory at every
            call. It must neither synchronise with the host nor draw from torch's generators.
    """

    def __init__(self, step: Callable[..., Tensor]) -> None:
        self._step = step
        self._shapes: tuple[torch.Size, ...] = ()
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """One step.

        Args:
            inputs: Tensors on one device. New shapes cause a new capture.
        """
        if not inputs[0].is_cuda or _one_by_one.get():
            return self._step(*inputs)
        shapes = tuple(t.shape for t in inputs)
        if shapes != self._shapes:
            self._shapes, self._calls, self._graph = shapes, 0, None
        if self._calls < WARM_UP:
            self._calls += 1
            return self._step(*inputs)
        if self._graph is None:
            self._record(inputs)
        torch._foreach_copy_(self._inputs, list(inputs))
        assert self._graph is not None
        self._graph.replay()
        return self._output.clone()  # the next replay overwrites it

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [t.clone() for t in inputs]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # captures, computes nothing
            self._output = self._step(*self._inputs)
        self._graph = graph
