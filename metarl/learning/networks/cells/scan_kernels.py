"""Linear recurrences over time as compiled loops; `scan` has their equations.

The inner loops run over the numbers of one step, side by side in memory, so that the compiler vectorises them.
"""

from __future__ import annotations

from metarl.learning.device.compiled import compiled
from metarl.types import Floats


@compiled
def gated_forward(first: int, last: int, z: Floats, x: Floats, start: Floats, h: Floats) -> None:
    """Fills `h` `[B, L, H]` for rows from `first` to before `last`, by `h = p + z (c - p)`, p the `h` before.

    Args:
        first: First row.
        last: Row after the last.
        z: Gates, `[B, L, H]`.
        x: Candidates in the second half of the last axis, `[B, L, 2 H]`.
        start: State before the first step, `[B, H]`.
        h: Result.
    """
    steps, units = h.shape[1], h.shape[2]
    for row in range(first, last):
        before = start[row]
        for t in range(steps):
            gate, candidate, state = z[row, t], x[row, t, units:], h[row, t]
            for i in range(units):
                state[i] = before[i] + gate[i] * (candidate[i] - before[i])
            before = state


@compiled
def gated_backward(
    first: int, last: int, z: Floats, x: Floats, start: Floats, h: Floats, dh: Floats, dx: Floats, carried: Floats
) -> None:
    """Gradients of `gated_forward` with respect to the gates' pre-activations, candidates and start.

    Args:
        first: First row.
        last: Row after the last.
        z: Gates, `[B, L, H]`.
        x: Candidates in the second half of the last axis, `[B, L, 2 H]`.
        start: State before the first step, `[B, H]`.
        h: States, `[B, L, H]`.
        dh: Gradient with respect to the states, `[B, L, H]`.
        dx: Result, `[B, L, 2 H]`: gates' pre-activations first, then candidates.
        carried: Result `[B, H]`, zeros before: gradient with respect to the start.
    """
    steps, units = h.shape[1], h.shape[2]
    for row in range(first, last):
        g = carried[row]
        for t in range(steps - 1, -1, -1):
            before = h[row, t - 1] if t else start[row]
            gate, candidate, outer = z[row, t], x[row, t, units:], dh[row, t]
            d_gate, d_candidate = dx[row, t, :units], dx[row, t, units:]
            for i in range(units):
                total = g[i] + outer[i]
                d_candidate[i] = total * gate[i]
                g[i] = total - d_candidate[i]
            for i in range(units):  # a loop of its own: faster than one loop over all arrays
                d_gate[i] = g[i] * gate[i] * (candidate[i] - before[i])


@compiled
def rotated_forward(first: int, last: int, a: Floats, u: Floats, start: Floats, h: Floats) -> None:
    """Fills `h` `[B, L, 2 P]` for rows from `first` to before `last`, by `h = a p + u`, p the `h` before, complex.

    Args:
        first: First row.
        last: Row after the last.
        a: Factors, `[2 P]`. Here and in the other arrays, real and imaginary parts take turns.
        u: Inputs, `[B, L, 2 P]`.
        start: State before the first step, `[B, 2 P]`.
        h: Result.
    """
    steps, size = h.shape[1], h.shape[2] // 2
    for row in range(first, last):
        before = start[row]
        for t in range(steps):
            state, given = h[row, t], u[row, t]
            for i in range(size):
                re, im = before[2 * i], before[2 * i + 1]
                state[2 * i] = a[2 * i] * re - a[2 * i + 1] * im + given[2 * i]
                state[2 * i + 1] = a[2 * i] * im + a[2 * i + 1] * re + given[2 * i + 1]
            before = state


@compiled
def rotated_backward(
    first: int, last: int, a: Floats, start: Floats, h: Floats, dh: Floats, du: Floats, carried: Floats, da: Floats
) -> None:
    """Gradients of `rotated_forward` with respect to inputs, start and factors.

    Args:
        first: First row.
        last: Row after the last.
        a: Factors, `[2 P]`. Here and in the other arrays, real and imaginary parts take turns.
        start: State before the first step, `[B, 2 P]`.
        h: States, `[B, L, 2 P]`.
        dh: Gradient with respect to the states, `[B, L, 2 P]`.
        du: Result, `[B, L, 2 P]`.
        carried: Result `[B, 2 P]`, zeros before: gradient with respect to the start.
        da: Result `[B, 2 P]`, zeros before: gradient with respect to the factors, of each row.
    """
    steps, size = h.shape[1], h.shape[2] // 2
    for row in range(first, last):
        g, d = carried[row], da[row]
        for t in range(steps - 1, -1, -1):
            before = h[row, t - 1] if t else start[row]
            outer, total = dh[row, t], du[row, t]
            for i in range(size):
                re, im = g[2 * i] + outer[2 * i], g[2 * i + 1] + outer[2 * i + 1]
                total[2 * i] = re
                total[2 * i + 1] = im
                d[2 * i] += re * before[2 * i] + im * before[2 * i + 1]
                d[2 * i + 1] += im * before[2 * i] - re * before[2 * i + 1]
                g[2 * i] = a[2 * i] * re + a[2 * i + 1] * im  # the conjugate factor
                g[2 * i + 1] = a[2 * i] * im - a[2 * i + 1] * re
