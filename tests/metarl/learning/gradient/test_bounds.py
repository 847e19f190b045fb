from __future__ import annotations

import math

import pytest
import torch

from metarl.learning.gradient.bounds import LowerBound

BOUND = LowerBound(slice(1, 4), -1.0)


def test_the_projection_raises_what_lies_below_and_nothing_else() -> None:
    parameters = torch.tensor([[-5.0, -5.0, -1.0, 0.5, -5.0], [0.0, 1.0, -1.5, math.nan, 2.0]])
    assert BOUND.broken(parameters).tolist() == [[True, False, False], [False, True, False]]
    assert BOUND.project_(parameters) is parameters
    assert parameters[0].tolist() == [-5.0, -1.0, -1.0, 0.5, -5.0]
    assert parameters[1, :3].tolist() == [0.0, 1.0, -1.0]
    assert parameters[1, 3].isnan(), "what is no number stays none"
    assert not BOUND.broken(parameters).any()


@pytest.mark.parametrize("min_std", [1e-6, 0.1, 0.5, 0.7])
def test_what_was_projected_keeps_the_bound_in_float32_too(min_std: float) -> None:
    bound = LowerBound(slice(0, 1), math.log(min_std))
    parameters = bound.project_(torch.tensor([-99.0]))
    assert not bound.broken(parameters).any()
    assert bound.held(parameters, torch.tensor([-1.0])).all()


def test_held_is_what_lies_at_the_bound_and_is_to_go_below() -> None:
    parameters = torch.tensor([-1.0, -1.0, -1.0, 0.5, -1.0])
    ascent = torch.tensor([-1.0, -1.0, 1.0, -1.0, -1.0])
    held = BOUND.held(parameters, ascent)
    assert held.tolist() == [True, False, False]
    assert BOUND.clear_(ascent, held).tolist() == [-1.0, 0.0, 1.0, -1.0, -1.0]
