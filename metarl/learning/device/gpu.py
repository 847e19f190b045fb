"""What keeps a GPU busy: arrays sent to it while the host goes on, and a step's kernels launched all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

WARM_UP = 3
"""Calls of a step before it is recorded, in which libraries set up what they set up at their first use."""

_one_by_one: ContextVar[bool] = ContextVar("one_by_one", default=False)


def send(array: NDArray[Any], device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A copy of the array on the device; the host does not wait until a GPU has it.

    Args:
        array: Of any shape.
        device: Where to.
        dtype: Of the copy; the array's own by default.
    """
    # torch.tensor copies into memory aligned the same way every time, so results repeat bit for bit.
    tensor = torch.tensor(array, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@contextmanager
def one_by_one() -> Iterator[None]:
    """Within it a `ReplayedStep` is computed operation by operation, so that each can be seen."""
    token = _one_by_one.set(True)
    try:
        yield
    finally:
        _one_by_one.reset(token)


class ReplayedStep:
    """A step of many small kernels, which a GPU gets with one launch: recorded once, replayed at every call after it.

    The numbers are those of the step itself. Every call is one step: neither warming up nor recording makes another.

    Args:
        step: From tensors to one tensor. What it changes besides, it changes in place, in the same memory at every
            call; it neither makes the host wait for the device nor draws from torch's generators.
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
            inputs: Tensors on one device. Where a shape is another than at the last call, the step is recorded anew.
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
        return self._output.clone()  # the next replay writes over it

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        self._inputs = [t.clone() for t in inputs]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # nothing is computed in here
            self._output = self._step(*self._inputs)
        self._graph = graph
