"""Linear recurrences over time, `h_t = a_t h_{t-1} + b_t`, with their own derivatives.

The derivative is the same recurrence, backwards: with y_t the gradient of the loss with respect to h_t on its own, the
total gradient is `g_t = y_t + a_{t+1} g_{t+1}`; that of b_t is g_t, that of a_t is `g_t h_{t-1}`, that of the start is
`a_1 g_1`. With complex numbers, factors are conjugated. There are two ways to compute a scan: loops over time that are
compiled for the CPU; and on a GPU doubling (Hillis and Steele 1986, "Data Parallel Algorithms"), `log2 L` operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def gated_scan(x: Tensor, start: Tensor, *, doubling: bool) -> Tensor:
    """States of a gated recurrence, `h_t = (1 - z_t) h_{t-1} + z_t c_t` with `z_t` the logistic function of gates.

    Args:
        x: Pre-activations of the gates, and candidates c, `[B, L, 2 H]`.
        start: State before the first step, `[B, H]`.
        doubling: By doubling, on any device, instead of compiled loops on the CPU.

    Returns:
        The states, `[B, L, H]`.
    """
    states: Tensor = _Gated.apply(x, start, doubling)  # type: ignore[no-untyped-call]
    return states


def rotated_scan(a: Tensor, u: Tensor, start: Tensor, *, doubling: bool) -> Tensor:
    """States of a complex recurrence with constant factors, `h_t = a h_{t-1} + u_t`.

    All arguments are real: the last axis has the real and imaginary part of the first number, then of the second ...

    Args:
        a: Factors, `[2 P]`.
        u: Inputs, `[B, L, 2 P]`.
        start: State before the first step, `[B, 2 P]`.
        doubling: By doubling, on any device, instead of compiled loops on the CPU.

    Returns:
        The states, `[B, L, 2 P]`.
    """
    states: Tensor = _Rotated.apply(a, u, start, doubling)  # type: ignore[no-untyped-call]
    return states


def scan_by_doubling(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """States `h_t = a_t h_{t-1} + b_t`, `[B, L, H]`, real or complex, by `log2 L` operations on whole arrays.

    After the pass with distance d, `b_t` is the state at t that `2 d` steps give from zero, and `a_t` is the product of
    their factors.

    Args:
        a: Factors, `[B, L, H]`, or `[1, 1, H]` if they are constant.
        b: Inputs, `[B, L, H]`; not changed.
        start: State before the first step, `[B, H]`.
    """
    b = torch.cat([a[:, :1] * start.unsqueeze(1) + b[:, :1], b[:, 1:]], dim=1)
    length, constant, distance = b.shape[1], a.shape[1] == 1, 1
    while distance < length:
        late = a if constant else a[:, distance:]
        b = torch.cat([b[:, :distance], torch.addcmul(b[:, distance:], late, b[:, :-distance])], dim=1)
        a = a * a if constant else torch.cat([a[:, :distance], late * a[:, :-distance]], dim=1)
        distance *= 2
    return b


class _Gated(torch.autograd.Function):
    """`gated_scan`."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, start: Tensor, doubling: bool) -> Tensor:
        x, start, units = x.contiguous(), start.contiguous(), start.shape[1]
        z = x[..., :units].sigmoid()
        if doubling:
            h = scan_by_doubling(1.0 - z, z * x[..., units:], start)
        else:
            h = torch.empty_like(z)
            _loop("gated_forward", z, x, start, h)
        ctx.save_for_backward(z, x, start, h)
        ctx.doubling = doubling  # type: ignore[attr-defined]
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, Tensor, None]:
        z, x, start, h = ctx.saved_tensors
        if ctx.doubling:
            g = _gradients(1.0 - z, dh)
            kept, through = (1.0 - z) * g, z * g
            candidates = x[..., start.shape[1] :]
            return torch.cat([kept * z * (candidates - _before(h, start)), through], dim=-1), kept[:, 0], None
        dx, carried = torch.empty_like(x), torch.zeros_like(start)
        _loop("gated_backward", z, x, start, h, dh.contiguous(), dx, carried)
        return dx, carried, None


class _Rotated(torch.autograd.Function):
    """`rotated_scan`."""

    @staticmethod
    def forward(ctx: FunctionCtx, a: Tensor, u: Tensor, start: Tensor, doubling: bool) -> Tensor:
        a, u, start = (t.contiguous() for t in (a, u, start))
        if doubling:
            h = _real(scan_by_doubling(_complex(a)[None, None], _complex(u), _complex(start)))
        else:
            h = torch.empty_like(u)
            _loop("rotated_forward", a, u, start, h)
        ctx.save_for_backward(a, start, h)
        ctx.doubling = doubling  # type: ignore[attr-defined]
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        a, start, h = ctx.saved_tensors
        if ctx.doubling:
            conjugate = _complex(a).conj()
            g = _gradients(conjugate[None, None], _complex(dh))
            da = (g * _complex(_before(h, start)).conj()).sum((0, 1))
            return _real(da), _real(g), _real(conjugate * g[:, 0]), None
        du, (carried, da) = torch.empty_like(h), torch.zeros(2, *start.shape, dtype=h.dtype)
        _loop("rotated_backward", a, start, h, dh.contiguous(), du, carried, da)
        return da.sum(0), du, carried, None


def _gradients(a: Tensor, dh: Tensor) -> Tensor:
    """Total gradients `g_t = y_t + a_{t+1} g_{t+1}` by doubling, with y `dh` `[B, L, H]`; `a` as `scan_by_doubling`."""
    later = a.roll(-1, dims=1)  # the last factor meets the zero that comes after the last step
    return scan_by_doubling(later.flip(1), dh.flip(1), torch.zeros_like(dh[:, 0])).flip(1)


def _before(h: Tensor, start: Tensor) -> Tensor:
    """The state before each step, `[B, L, H]`."""
    return torch.cat([start.unsqueeze(1), h[:, :-1]], dim=1)


def _complex(x: Tensor) -> Tensor:
    """Complex numbers `[..., P]`, for real and imaginary parts in turn `[..., 2 P]`."""
    return torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous())


def _real(x: Tensor) -> Tensor:
    """The inverse of `_complex`."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2)


def _loop(name: str, *tensors: Tensor) -> None:
    """Calls a loop of `scan_kernels` with the tensors' numbers for all rows; the last tensor has an axis of rows.

    Tensors are contiguous, as a loop is compiled for each layout of its arguments that it meets.
    """
    from metarl.learning.device.compiled import over_rows  # when needed: Numba takes 0.2 s to import
    from metarl.learning.networks.cells import scan_kernels

    arrays = (tensor.detach().numpy() for tensor in tensors)
    over_rows(getattr(scan_kernels, name), len(tensors[-1]), 1, *arrays)
