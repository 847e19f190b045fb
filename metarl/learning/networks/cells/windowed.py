"""Causal attention over a window of the last steps: over whole sequences, and for single steps from a cache."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from metarl.types import Bools, Floats


def windowed_attention(query: Tensor, key: Tensor, value: Tensor, there: Tensor, window: int, heads: int) -> Tensor:
    """The reads of all heads over a sequence, `[B, L, V]`; time and memory are O(L * window).

        read_t = sum_s softmax_s(q_t k_s / sqrt(d)) v_s,  t - window < s <= t

    A sequence longer than the window is cut into blocks of queries; each reads its own steps and the `window - 1` ones
    before them.

    Args:
        query: `[B, L, heads * d]`.
        key: `[B, P + L, heads * d]`, those of `P` steps before the sequence first.
        value: `[B, P + L, V]`; each head has `V / heads` of the components.
        there: Which of the `P` steps there are, `[B, P]`; `P` is `window - 1` or 0.
        window: Steps that are read, the current one included.
        heads: Number of heads.
    """
    (rows, steps), before = query.shape[:2], there.shape[1]
    if not before and steps <= window:
        q, k, v = (_by_head(t, heads) for t in (query, key, value))
        return scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
    blocks = -(-steps // window)
    size = -(-steps // blocks)  # queries of a block
    span, front, behind = window - 1 + size, window - 1 - before, blocks * size - steps
    query = _by_head(pad(query, (0, 0, 0, behind)).view(rows * blocks, size, -1), heads)  # [B blocks, heads, size, d]
    key, value = (pad(t, (0, 0, front, behind)).unfold(1, span, size) for t in (key, value))  # [B, blocks, V, span]
    key, value = (_by_head(t.flatten(0, 1).transpose(1, 2), heads) for t in (key, value))
    seen = pad(pad(there, (front, 0)), (0, blocks * size), value=True).unfold(1, span, size)  # [B, blocks, span]
    ahead = torch.arange(span, device=key.device) - torch.arange(size, device=key.device).unsqueeze(1)
    band = (ahead >= 0) & (ahead < window)  # [size, span]: a query's own step is its index and `window - 1` more
    mask = (seen.unsqueeze(2) & band).flatten(0, 1).unsqueeze(1)
    read = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return read.transpose(1, 2).reshape(rows, blocks * size, -1)[:, :steps]


def _by_head(x: Tensor, heads: int) -> Tensor:
    """`[B, L, heads * d]` as `[B, heads, L, d]`."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def entries_to_read(count: NDArray[np.int64], window: int) -> tuple[slice, Bools | None]:
    """The entries of a cache that a step reads.

    Args:
        count: Number of entries of each row, the step's own included, `[B]`.
        window: Steps that are read.

    Returns:
        A range of `n` entries that has those of all rows, and which of them a row does not read, `[B, n]`; None if each
        row reads all.
    """
    first = np.maximum(count - window, 0)
    span = slice(int(first.min()), int(count.max()))
    if count.min() == span.stop and first.max() == span.start:
        return span, None
    times = np.arange(span.start, span.stop)
    return span, (times < first[:, None]) | (times >= count[:, None])


def attention_step(query: Floats, keys: Floats, values: Floats, unread: Bools | None, heads: int) -> Floats:
    """The reads of all heads at a single step, `[B, V]`, by NumPy.

    Args:
        query: `[B, heads * d]`.
        keys: `[B, n, heads * d]`.
        values: `[B, n, V]`.
        unread: The steps that a row does not read, `[B, n]`; None if there are none.
        heads: Number of heads.
    """
    rows, steps = keys.shape[:2]
    query = query.reshape(rows, heads, -1, 1)
    scores = (keys.reshape(rows, steps, heads, -1).transpose(0, 2, 1, 3) @ query)[..., 0]  # [B, heads, n]
    scores *= 1.0 / math.sqrt(query.shape[2])
    if unread is not None:
        scores[np.broadcast_to(unread[:, None], scores.shape)] = -np.inf
    scores -= scores.max(axis=2, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=2, keepdims=True)
    read: Floats = scores[:, :, None] @ values.reshape(rows, steps, heads, -1).transpose(0, 2, 1, 3)
    return read.reshape(rows, -1)
