"""A lower bound on the time of a computation: its matrix products alone, with the same shapes, on this device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from metarl.learning.device import compiled
from metarl.learning.device.gpu import one_by_one
from metarl.scripts.bench.stopwatch import Stopwatch

LEFT = {
    torch.ops.aten.mm.default: 0,
    torch.ops.aten.bmm.default: 0,
    torch.ops.aten.addmm.default: 1,
    torch.ops.aten.baddbmm.default: 1,
}
"""Matrix products of PyTorch, with the position of the left factor among the arguments."""
PRODUCTS = {
    **{product: product for product in LEFT},
    torch.ops.aten.mm.out: torch.ops.aten.mm.default,
    torch.ops.aten.bmm.out: torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm.out: torch.ops.aten.baddbmm.default,
    torch.ops.aten.baddbmm_.default: torch.ops.aten.baddbmm.default,
}
"""Matrix products and their variants with an output argument, mapped to the product to time."""

REPEATS = 20
"""Largest number of repetitions when a product is timed."""

Layout = tuple[tuple[int, ...], tuple[int, ...]]
Product = tuple[Any, tuple[Layout, ...]]
"""An operation, with shape and strides of each of its tensors."""


class ProductRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch declares no types here
    """Counts all matrix products in its context, backward passes included.

    Attributes:
        counts: Number of calls of each product.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[Product] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Counts the call and runs it."""
        if func in PRODUCTS:
            self.counts[PRODUCTS[func], tuple((tuple(a.shape), a.stride()) for a in args if isinstance(a, Tensor))] += 1
        return func(*args, **(kwargs or {}))


def products_of(work: Callable[[], Any]) -> Counter[Product]:
    """The matrix products of a computation, with their counts.

    The products of a compiled recurrence over time count as one product over all its rows and steps.
    """
    with one_by_one(), ProductRecorder() as recorder:
        run = compiled.over_rows

        def counted(loop: Any, rows: int, together: int, *arguments: Any) -> None:
            recorder.counts.update(products_of_loop(loop.__name__, arguments))
            run(loop, rows, together, *arguments)

        with mock.patch.object(compiled, "over_rows", counted):
            work()
    return recorder.counts


def products_of_loop(name: str, arguments: Sequence[Any]) -> list[Product]:
    """The products of a compiled loop with its arguments; none for a loop that has no products.

    Args:
        name: Name of the loop.
        arguments: Its arguments after the range of rows.
    """
    if name in ("gru_forward", "lstm_forward"):
        x, of_x, of_h = arguments[:3]  # [B, L, I], [I, gates], [H, gates]
        rows = x.shape[0] * x.shape[1]
        shapes = [((rows, w.shape[0]), w.shape) for w in (of_x, of_h)]
    elif name in ("gru_backward", "lstm_backward"):
        at, x_gradient, start_gradient = (3, 9, 10) if name == "gru_backward" else (4, 10, 11)
        x, of_x, of_h = arguments[at : at + 3]  # [B, L, I], [gates, I], [gates, H]
        rows = x.shape[0] * x.shape[1]
        steps = rows if arguments[start_gradient].size else rows - x.shape[0]
        shapes = [((len(w), rows), (rows, w.shape[1])) for w in (of_x, of_h)] + [((steps, len(of_h)), of_h.shape)]
        shapes += [((rows, len(of_x)), of_x.shape)] if arguments[x_gradient].size else []
    else:
        return []
    return [(torch.ops.aten.mm.default, tuple((shape, (shape[1], 1)) for shape in pair)) for pair in shapes]


def flops(products: Counter[Product]) -> int:
    """Floating-point operations of matrix products, two for each multiplication and addition."""
    total = 0
    for (function, layouts), count in products.items():
        left, right = (shape for shape, _ in layouts[LEFT[function] :][:2])
        batch = left[0] if len(left) == 3 else 1
        total += 2 * count * batch * left[-2] * left[-1] * right[-1]
    return total


def products_seconds(products: Counter[Product], device: torch.device) -> float:
    """Seconds of the products alone, one shape after another: the sum of mean times count.

    Args:
        products: From `products_of`.
        device: Device to time them on.
    """
    stopwatch, seconds = Stopwatch(device), 0.0
    for (function, layouts), count in products.items():
        tensors = _random(layouts, device)
        repeats = min(count, REPEATS)

        def again(function: Any = function, tensors: list[Tensor] = tensors, repeats: int = repeats) -> None:
            for _ in range(repeats):
                function(*tensors)

        again()
        seconds += stopwatch(again) / repeats * count
    return seconds


def products_error(products: Counter[Product], device: torch.device) -> float:
    """Relative error of the products for standard normal factors, in the device's format for float32.

    It is the largest `|float32 - float64| / |float64|` over the shapes, in the norm of the whole result.

    Args:
        products: From `products_of`.
        device: Device to compute them on.
    """
    largest = 0.0
    for function, layouts in products:
        tensors = _random(layouts, device)
        exact = function(*(t.double() for t in tensors))
        largest = max(largest, float((function(*tensors).double() - exact).norm() / exact.norm()))
    return largest


def _random(layouts: tuple[Layout, ...], device: torch.device) -> list[Tensor]:
    return [torch.randn(_extent(*layout), device=device).as_strided(*layout) for layout in layouts]


def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Size of the memory, in numbers, that a tensor of that layout spans."""
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
