"""Asynchronous copies to a GPU, and CUDA graphs of steps that consist of many small kernels."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WARM_UP = 3
"""Calls of a step before it is captured, so that libraries finish their setup at first use."""

KEPT_SHAPES = 3
"""Number of shapes whose graphs a step keeps."""

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
    warm-up and capture make no further ones. The graphs of the last few shapes are kept, since the minibatches of a
    batch may differ by a row.

    Args:
        step: Function from tensors to one tensor. It may change other tensors in place, in the same memory at every
            call. It must neither synchronise with the host nor draw from torch's generators.
    """

    def __init__(self, step: Callable[..., Tensor]) -> None:
        self._step = step
        self._recorded: dict[tuple[torch.Size, ...], _Recording] = {}  # the shapes of the last call are last

    def __call__(self, *inputs: Tensor) -> Tensor:
        """One step.

        Args:
            inputs: Tensors on one device. New shapes cause a new capture.
        """
        if not inputs[0].is_cuda or _one_by_one.get():
            return self._step(*inputs)
        shapes = tuple(t.shape for t in inputs)
        recording = self._recorded.pop(shapes, None) or _Recording()
        self._recorded[shapes] = recording
        while len(self._recorded) > KEPT_SHAPES:
            del self._recorded[next(iter(self._recorded))]
        if recording.calls < WARM_UP:
            recording.calls += 1
            return self._step(*inputs)
        if recording.graph is None:
            self._record(recording, inputs)
        torch._foreach_copy_(recording.inputs, list(inputs))
        assert recording.graph is not None
        recording.graph.replay()
        return recording.output.clone()  # the next replay overwrites it

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplayedStep:
        """A copy of the step that has recorded nothing: a graph would change the tensors of the original."""
        return ReplayedStep(copy.deepcopy(self._step, memo))

    @property
    def recorded(self) -> bool:
        """Whether a graph has been captured."""
        return any(recording.graph is not None for recording in self._recorded.values())

    def _record(self, recording: _Recording, inputs: tuple[Tensor, ...]) -> None:
        recording.inputs = [t.clone() for t in inputs]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # captures, computes nothing
            recording.output = self._step(*recording.inputs)
        recording.graph = graph


@dataclass
class _Recording:
    """The graph of a step for some shapes, its inputs and its output.

    Attributes:
        calls: Calls without a graph.
        graph: The graph once it has been captured.
        inputs: Memory of the graph's inputs.
        output: Memory of the graph's output.
    """

    calls: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    inputs: list[Tensor] = field(default_factory=list)
    output: Tensor = field(default_factory=lambda: torch.empty(0))
