"""Scans by compiled loops and by doubling, against plain loops over time in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from metarl.learning.networks.cells.scan import gated_scan, rotated_scan, scan_by_doubling

ROWS, SIZE = 3, 6
LENGTHS = [1, 2, 3, 8, 37]
every_length = pytest.mark.parametrize("length", LENGTHS)
both_ways = pytest.mark.parametrize("doubling", [False, True], ids=["loops", "doubling"])


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def plain(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """`h_t = a_t h_{t-1} + b_t`, step by step."""
    h, states = start, []
    for factor, summand in zip(a.unbind(1), b.unbind(1), strict=True):
        h = factor * h + summand
        states.append(h)
    return torch.stack(states, dim=1)


def plain_gated(x: Tensor, start: Tensor) -> Tensor:
    gates, candidates = x.chunk(2, dim=-1)
    z = 1.0 / (1.0 + torch.exp(-gates))
    return plain(1.0 - z, z * candidates, start)


def plain_rotated(a: Tensor, u: Tensor, start: Tensor) -> Tensor:
    factor, inputs, begin = (torch.complex(t[..., ::2], t[..., 1::2]) for t in (a, u, start))
    states = plain(factor.expand(inputs.shape), inputs, begin)
    return torch.stack([states.real, states.imag], dim=-1).flatten(-2)


def gated_case(length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Arguments of `gated_scan`."""
    return [random(ROWS, length, 2 * SIZE, seed=1, dtype=dtype), random(ROWS, SIZE, seed=2, dtype=dtype)]


def rotated_case(length: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Arguments of `rotated_scan`; the factors' magnitude is 0.5 to 0.95."""
    radius, angle = 0.5 + 0.09 * torch.arange(SIZE, dtype=torch.float64), torch.arange(SIZE, dtype=torch.float64)
    a = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1).flatten().to(dtype)
    return [a, random(ROWS, length, 2 * SIZE, seed=3, dtype=dtype), random(ROWS, 2 * SIZE, seed=4, dtype=dtype)]


CASES: list[tuple[Callable[..., Tensor], Callable[..., Tensor], Callable[..., list[Tensor]]]] = [
    (gated_scan, plain_gated, gated_case),
    (rotated_scan, plain_rotated, rotated_case),
]
every_scan = pytest.mark.parametrize(("scan", "slow", "case"), CASES, ids=["gated", "rotated"])


def gradients(states: Tensor, arguments: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a random projection of the states."""
    return torch.autograd.grad((states * random(*states.shape, seed=5, dtype=states.dtype)).sum(), arguments)


@every_length
@every_scan
@both_ways
def test_states_and_gradients_are_those_of_a_plain_loop(scan, slow, case, length: int, doubling: bool) -> None:
    arguments = [t.requires_grad_() for t in case(length)]
    states, expected = scan(*arguments, doubling=doubling), slow(*arguments)
    torch.testing.assert_close(states, expected, atol=1e-10, rtol=1e-10)
    pairs = zip(gradients(states, arguments), gradients(expected, arguments), strict=True)
    for gradient, wanted in pairs:
        torch.testing.assert_close(gradient, wanted, atol=1e-10, rtol=1e-10)


@every_scan
@both_ways
def test_gradients_are_finite_differences(scan, slow, case, doubling: bool) -> None:
    arguments = [t.requires_grad_() for t in case(5)]
    assert torch.autograd.gradcheck(lambda *given: scan(*given, doubling=doubling), arguments)


@every_scan
def test_both_ways_agree_in_single_precision_over_many_steps(scan, slow, case) -> None:
    arguments = [t.requires_grad_() for t in case(1000, torch.float32)]
    loops, doubled = (scan(*arguments, doubling=doubling) for doubling in (False, True))
    assert loops.dtype == doubled.dtype == torch.float32
    torch.testing.assert_close(loops, doubled, atol=1e-4, rtol=1e-4)
    for one, other in zip(gradients(loops, arguments), gradients(doubled, arguments), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


@every_scan
def test_the_number_of_threads_changes_no_bit(scan, slow, case) -> None:
    arguments = [t.requires_grad_() for t in case(9)]
    one = scan(*arguments, doubling=False)
    expected = one, *gradients(one, arguments)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = scan(*arguments, doubling=False)
        results = two, *gradients(two, arguments)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


@every_scan
@both_ways
def test_arguments_stay_as_they_are_and_may_be_views(scan, slow, case, doubling: bool) -> None:
    arguments = case(7)
    copies = [t.clone() for t in arguments]
    views = [t.repeat_interleave(2, dim=-1)[..., ::2] for t in arguments]
    torch.testing.assert_close(scan(*views, doubling=doubling), slow(*copies), atol=1e-10, rtol=1e-10)
    scan(*(t.requires_grad_() for t in arguments), doubling=doubling).sum().backward()
    assert all(torch.equal(a, b) for a, b in zip(arguments, copies, strict=True))


@every_length
def test_doubling_with_factors_that_change_by_hand(length: int) -> None:
    """With factors t and inputs 0 but for a start of 1, the states are factorials."""
    a = torch.arange(1, length + 1, dtype=torch.float64).view(1, -1, 1)
    states = scan_by_doubling(a, torch.zeros_like(a), torch.ones(1, 1, dtype=torch.float64))
    torch.testing.assert_close(states.flatten(), torch.cumprod(a.flatten(), dim=0), rtol=1e-12, atol=0.0)
