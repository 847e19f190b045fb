"""GRU and LSTM over time, forwards and backwards, compiled for the CPU.

Every loop takes four rows through all their steps at once, so that a weight that is loaded is used four times. Rows
beyond the last one repeat it forwards and are zero backwards. A row's numbers do not depend on the rows beside it.
Arrays are contiguous; `B` rows, `L` steps, `H` units, gates in PyTorch's order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import float32
from numba.extending import overload

from metarl.learning.device.compiled import compiled
from metarl.types import Floats

CHUNK = 16
"""Steps of four rows whose outer products are added to the gradients of weights at once, out of a core's cache."""
LARGEST = 87.0
"""Exponents are clamped to this size in float32, where exp neither overflows nor becomes subnormal."""
LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.693359375, -2.12194440054690583e-4
"""log2(e), and the natural logarithm of 2 as a sum of a short number and a small one (Cody and Waite 1980)."""


def exponential(x: float) -> float:
    """`exp(x)`; in float32 by a polynomial, which the compiler vectorises (relative error below 2e-7)."""
    return math.exp(x)


@overload(exponential)
def _exponential(x: Any) -> Any:
    def double(x: Any) -> Any:
        return math.exp(x)

    def single(x: Any) -> Any:
        x = np.float32(-LARGEST) if x < np.float32(-LARGEST) else x
        x = np.float32(LARGEST) if x > np.float32(LARGEST) else x
        k = np.floor(x * np.float32(LOG2_E) + np.float32(0.5))
        r = (x - k * np.float32(LN2_HIGH)) - k * np.float32(LN2_LOW)  # within ln(2) / 2
        p = np.float32(1 / 5040)
        p = p * r + np.float32(1 / 720)
        p = p * r + np.float32(1 / 120)
        p = p * r + np.float32(1 / 24)
        p = p * r + np.float32(1 / 6)
        p = p * r + np.float32(0.5)
        p = p * r + np.float32(1.0)
        p = p * r + np.float32(1.0)
        bits = np.int32((np.int32(k) + np.int32(127)) << np.int32(23))  # those of 2^k: its exponent
        return p * bits.view(np.float32)

    return single if x == float32 else double


@compiled
def add_products(out: Floats, a: Floats, weights: Floats) -> None:
    """Adds `a @ weights` to `out`, for four rows.

    Args:
        out: `[4, N]`.
        a: `[4, K]`.
        weights: `[K, N]`.
    """
    length, width = weights.shape
    o0, o1, o2, o3 = out[0], out[1], out[2], out[3]
    whole = length - length % 4
    for k in range(0, whole, 4):
        a00, a01, a02, a03 = a[0, k], a[0, k + 1], a[0, k + 2], a[0, k + 3]
        a10, a11, a12, a13 = a[1, k], a[1, k + 1], a[1, k + 2], a[1, k + 3]
        a20, a21, a22, a23 = a[2, k], a[2, k + 1], a[2, k + 2], a[2, k + 3]
        a30, a31, a32, a33 = a[3, k], a[3, k + 1], a[3, k + 2], a[3, k + 3]
        for j in range(width):
            w0, w1, w2, w3 = weights[k, j], weights[k + 1, j], weights[k + 2, j], weights[k + 3, j]
            o0[j] += a00 * w0 + a01 * w1 + a02 * w2 + a03 * w3
            o1[j] += a10 * w0 + a11 * w1 + a12 * w2 + a13 * w3
            o2[j] += a20 * w0 + a21 * w1 + a22 * w2 + a23 * w3
            o3[j] += a30 * w0 + a31 * w1 + a32 * w2 + a33 * w3
    for k in range(whole, length):
        for i in range(4):
            for j in range(width):
                out[i, j] += a[i, k] * weights[k, j]


@compiled
def add_outer_products(out: Floats, left: Floats, right: Floats) -> None:
    """Adds `left^T @ right` to `out`.

    Args:
        out: `[M, N]`.
        left: `[K, M]`, a multiple of four rows.
        right: `[K, N]`.
    """
    width, count = right.shape[1], left.shape[1]
    whole = count - count % 4
    for i in range(0, whole, 4):
        o0, o1, o2, o3 = out[i], out[i + 1], out[i + 2], out[i + 3]
        for k in range(0, left.shape[0], 4):
            a00, a01, a02, a03 = left[k, i], left[k + 1, i], left[k + 2, i], left[k + 3, i]
            a10, a11, a12, a13 = left[k, i + 1], left[k + 1, i + 1], left[k + 2, i + 1], left[k + 3, i + 1]
            a20, a21, a22, a23 = left[k, i + 2], left[k + 1, i + 2], left[k + 2, i + 2], left[k + 3, i + 2]
            a30, a31, a32, a33 = left[k, i + 3], left[k + 1, i + 3], left[k + 2, i + 3], left[k + 3, i + 3]
            for j in range(width):
                w0, w1, w2, w3 = right[k, j], right[k + 1, j], right[k + 2, j], right[k + 3, j]
                o0[j] += a00 * w0 + a01 * w1 + a02 * w2 + a03 * w3
                o1[j] += a10 * w0 + a11 * w1 + a12 * w2 + a13 * w3
                o2[j] += a20 * w0 + a21 * w1 + a22 * w2 + a23 * w3
                o3[j] += a30 * w0 + a31 * w1 + a32 * w2 + a33 * w3
    for i in range(whole, count):
        o = out[i]
        for k in range(0, left.shape[0], 4):
            a0, a1, a2, a3 = left[k, i], left[k + 1, i], left[k + 2, i], left[k + 3, i]
            for j in range(width):
                o[j] += a0 * right[k, j] + a1 * right[k + 1, j] + a2 * right[k + 2, j] + a3 * right[k + 3, j]


@compiled
def gru_forward(
    first: int,
    last: int,
    x: Floats,
    input_weights: Floats,
    state_weights: Floats,
    input_bias: Floats,
    state_bias: Floats,
    start: Floats,
    features: Floats,
    kept: Floats,
) -> None:
    """A GRU over time (`metarl.learning.networks.cells.gru.Gru`).

    Args:
        first: First row.
        last: Row after the last one.
        x: Inputs, `[B, L, I]`.
        input_weights: Weights of the input, transposed, `[I, 3 H]`.
        state_weights: Weights of the state, transposed, `[H, 3 H]`.
        input_bias: `[3 H]`.
        state_bias: `[3 H]`.
        start: Initial state, `[B, H]`.
        features: The states after each step are written here, `[B, L, H]`.
        kept: The gates r and z, the candidate n, and the state's part of the candidate before its gate are written
            here, for the derivative, `[B, L, 4 H]`; nothing if it is empty.
    """
    steps, units = features.shape[1], features.shape[2]
    training = kept.size > 0
    one, two = x.dtype.type(1.0), x.dtype.type(2.0)
    state, given = np.empty((4, units), x.dtype), np.empty((4, x.shape[2]), x.dtype)
    by_state, by_input = np.empty((4, 3 * units), x.dtype), np.empty((4, 3 * units), x.dtype)
    for block in range(first, last, 4):
        for i in range(4):
            state[i] = start[min(block + i, last - 1)]
        for t in range(steps):
            for i in range(4):
                given[i] = x[min(block + i, last - 1), t]
                by_state[i], by_input[i] = state_bias, input_bias
            add_products(by_state, state, state_weights)
            add_products(by_input, given, input_weights)
            for i in range(4):
                row = min(block + i, last - 1)
                h, y, gates, v = state[i], features[row, t], by_state[i, : 2 * units], by_input[i]
                r, z, u, n = gates[:units], gates[units:], by_state[i, 2 * units :], v[2 * units :]
                for j in range(2 * units):
                    gates[j] = one / (one + exponential(-(gates[j] + v[j])))
                for j in range(units):
                    n[j] = two / (one + exponential(-two * (n[j] + r[j] * u[j]))) - one
                if training:
                    kept[row, t, : 2 * units] = gates
                    kept[row, t, 2 * units : 3 * units] = n
                    kept[row, t, 3 * units :] = u
                for j in range(units):
                    h[j] = n[j] + z[j] * (h[j] - n[j])
                    y[j] = h[j]


@compiled
def gru_backward(
    first: int,
    last: int,
    group: int,
    gradient: Floats,
    end_gradient: Floats,
    x: Floats,
    input_weights: Floats,
    state_weights: Floats,
    start: Floats,
    features: Floats,
    kept: Floats,
    x_gradient: Floats,
    start_gradient: Floats,
    input_sums: Floats,
    state_sums: Floats,
    input_bias_sums: Floats,
    state_bias_sums: Floats,
) -> None:
    """The derivative of `gru_forward`, from the last step to the first.

    `group` is the number of rows of a group. Inputs, weights (`[3 H, I]` and `[3 H, H]`, not transposed) and initial
    state are those of `gru_forward`, `features` and `kept` as it left them. `gradient` `[B, L, H]` is that of the
    features, and `end_gradient` `[B, H]` a further one of the last state. The gradients of inputs `[B, L, I]` and
    initial state `[B, H]` are written to `x_gradient` and `start_gradient`, unless these are empty. Those of weights
    and biases are added, a sum for each group, to `input_sums` `[G, I, 3 H]` and `state_sums` `[G, H, 3 H]`
    (transposed), `input_bias_sums` and `state_bias_sums` `[G, 3 H]`.
    """
    steps, units, kind = features.shape[1], features.shape[2], gradient.dtype
    one, inputs = kind.type(1.0), x.shape[2]
    carried, of_x = np.empty((4, units), kind), np.empty((4, inputs), kind)
    of_states, of_inputs = np.zeros((4 * CHUNK, 3 * units), kind), np.zeros((4 * CHUNK, 3 * units), kind)
    states, given = np.zeros((4 * CHUNK, units), kind), np.zeros((4 * CHUNK, inputs), kind)
    for block in range(first, last, 4):
        here, into = min(4, last - block), block // group
        input_bias, state_bias = input_bias_sums[into], state_bias_sums[into]
        used = 0
        for i in range(here):
            carried[i] = end_gradient[block + i]
        for t in range(steps - 1, -1, -1):
            of_state, of_input = of_states[used : used + 4], of_inputs[used : used + 4]
            for i in range(here):
                row = block + i
                g, k, c, h = gradient[row, t], kept[row, t], carried[i], states[used + i]
                h[:] = features[row, t - 1] if t else start[row]
                given[used + i] = x[row, t]
                r, z, n, u = k[:units], k[units : 2 * units], k[2 * units : 3 * units], k[3 * units :]
                d_r, d_z, d_u = of_state[i, :units], of_state[i, units : 2 * units], of_state[i, 2 * units :]
                d_n, both = of_input[i, 2 * units :], of_state[i, : 2 * units]
                for j in range(units):
                    d = g[j] + c[j]
                    d_z[j] = d * (h[j] - n[j]) * z[j] * (one - z[j])
                    d_n[j] = d * (one - z[j]) * (one - n[j] * n[j])
                    c[j] = d * z[j]
                for j in range(units):
                    d_u[j] = d_n[j] * r[j]
                    d_r[j] = d_u[j] * u[j] * (one - r[j])
                of_input[i, : 2 * units] = both
                v, w = of_input[i], of_state[i]
                for j in range(3 * units):
                    input_bias[j] += v[j]
                for j in range(3 * units):
                    state_bias[j] += w[j]
            for i in range(here, 4):  # rows that are not there
                of_state[i], of_input[i] = 0.0, 0.0
            if t or start_gradient.size:
                add_products(carried, of_state, state_weights)
            if x_gradient.size:
                of_x[:] = 0.0
                add_products(of_x, of_input, input_weights)
                for i in range(here):
                    x_gradient[block + i, t] = of_x[i]
            used += 4
            if used == 4 * CHUNK or t == 0:
                add_outer_products(state_sums[into], states[:used], of_states[:used])
                add_outer_products(input_sums[into], given[:used], of_inputs[:used])
                used = 0
        if start_gradient.size:
            for i in range(here):
                start_gradient[block + i] = carried[i]


@compiled
def lstm_forward(
    first: int,
    last: int,
    x: Floats,
    input_weights: Floats,
    state_weights: Floats,
    bias: Floats,
    start: Floats,
    inner_start: Floats,
    features: Floats,
    inner_end: Floats,
    kept: Floats,
) -> None:
    """An LSTM over time (`metarl.learning.networks.cells.lstm.Lstm`).

    Arguments as in `gru_forward`, for four gates, with the sum of both biases `[4 H]` as `bias`, the initial and the
    last cell state `[B, H]` as `inner_start` and `inner_end` (written here), and as `kept`, `[B, L, 6 H]`: the gates i,
    f, the candidate g and the gate o, the cell state before the step, and the hyperbolic tangent of the one after it.
    """
    steps, units = features.shape[1], features.shape[2]
    training = kept.size > 0
    one, two, kind = x.dtype.type(1.0), x.dtype.type(2.0), x.dtype
    state, inner, sums = np.empty((4, units), kind), np.empty((4, units), kind), np.empty((4, 4 * units), kind)
    given, squashed = np.empty((4, x.shape[2]), kind), np.empty(units, kind)
    for block in range(first, last, 4):
        for i in range(4):
            state[i] = start[min(block + i, last - 1)]
            inner[i] = inner_start[min(block + i, last - 1)]
        for t in range(steps):
            for i in range(4):
                given[i] = x[min(block + i, last - 1), t]
                sums[i] = bias
            add_products(sums, state, state_weights)
            add_products(sums, given, input_weights)
            for i in range(4):
                row = min(block + i, last - 1)
                h, c, y, s = state[i], inner[i], features[row, t], sums[i]
                both, g, o = s[: 2 * units], s[2 * units : 3 * units], s[3 * units :]
                gate_in, gate_forget = both[:units], both[units:]
                for j in range(2 * units):
                    both[j] = one / (one + exponential(-both[j]))
                for j in range(units):
                    g[j] = two / (one + exponential(-two * g[j])) - one
                    o[j] = one / (one + exponential(-o[j]))
                if training:
                    kept[row, t, : 4 * units] = s
                    kept[row, t, 4 * units : 5 * units] = c
                for j in range(units):
                    c[j] = gate_forget[j] * c[j] + gate_in[j] * g[j]
                    squashed[j] = two / (one + exponential(-two * c[j])) - one
                    h[j] = o[j] * squashed[j]
                    y[j] = h[j]
                if training:
                    kept[row, t, 5 * units :] = squashed
        for i in range(4):
            inner_end[min(block + i, last - 1)] = inner[i]


@compiled
def lstm_backward(
    first: int,
    last: int,
    group: int,
    gradient: Floats,
    end_gradient: Floats,
    inner_end_gradient: Floats,
    x: Floats,
    input_weights: Floats,
    state_weights: Floats,
    start: Floats,
    features: Floats,
    kept: Floats,
    x_gradient: Floats,
    start_gradient: Floats,
    inner_start_gradient: Floats,
    input_sums: Floats,
    state_sums: Floats,
    bias_sums: Floats,
) -> None:
    """The derivative of `lstm_forward`, from the last step to the first.

    Arguments as in `gru_backward`, for four gates, with one sum of biases, and the gradients of the last and the
    initial cell state (written here) as `inner_end_gradient` and `inner_start_gradient`.
    """
    steps, units, kind = features.shape[1], features.shape[2], gradient.dtype
    one, inputs = kind.type(1.0), x.shape[2]
    carried, inner, of_x = np.empty((4, units), kind), np.empty((4, units), kind), np.empty((4, inputs), kind)
    sums, states = np.zeros((4 * CHUNK, 4 * units), kind), np.zeros((4 * CHUNK, units), kind)
    given = np.zeros((4 * CHUNK, inputs), kind)
    for block in range(first, last, 4):
        here, into = min(4, last - block), block // group
        bias, used = bias_sums[into], 0
        for i in range(here):
            carried[i], inner[i] = end_gradient[block + i], inner_end_gradient[block + i]
        for t in range(steps - 1, -1, -1):
            at = sums[used : used + 4]
            for i in range(here):
                row = block + i
                y, k, h, c, d = gradient[row, t], kept[row, t], carried[i], inner[i], at[i]
                states[used + i] = features[row, t - 1] if t else start[row]
                given[used + i] = x[row, t]
                gate_in, gate_forget, g = k[:units], k[units : 2 * units], k[2 * units : 3 * units]
                o, c_before, squashed = k[3 * units : 4 * units], k[4 * units : 5 * units], k[5 * units :]
                d_in, d_forget, d_g, d_o = d[:units], d[units : 2 * units], d[2 * units : 3 * units], d[3 * units :]
                for j in range(units):
                    dh = y[j] + h[j]
                    d_o[j] = dh * squashed[j] * o[j] * (one - o[j])
                    c[j] += dh * o[j] * (one - squashed[j] * squashed[j])
                for j in range(units):
                    d_in[j] = c[j] * g[j] * gate_in[j] * (one - gate_in[j])
                    d_g[j] = c[j] * gate_in[j] * (one - g[j] * g[j])
                    d_forget[j] = c[j] * c_before[j] * gate_forget[j] * (one - gate_forget[j])
                    c[j] *= gate_forget[j]
                for j in range(4 * units):
                    bias[j] += d[j]
            for i in range(here, 4):  # rows that are not there
                at[i] = 0.0
            carried[:] = 0.0
            if t or start_gradient.size:
                add_products(carried, at, state_weights)
            if x_gradient.size:
                of_x[:] = 0.0
                add_products(of_x, at, input_weights)
                for i in range(here):
                    x_gradient[block + i, t] = of_x[i]
            used += 4
            if used == 4 * CHUNK or t == 0:
                add_outer_products(state_sums[into], states[:used], sums[:used])
                add_outer_products(input_sums[into], given[:used], sums[:used])
                used = 0
        if start_gradient.size:
            for i in range(here):
                start_gradient[block + i], inner_start_gradient[block + i] = carried[i], inner[i]
