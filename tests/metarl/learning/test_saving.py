"""Checks that every agent makes before it restores a checkpoint."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.saving import check_tensors, restore_generator


def test_equal_names_and_shapes_pass() -> None:
    check_tensors("a", {"x": torch.zeros(2, 3), "y": torch.ones(1)}, {"y": torch.zeros(1), "x": torch.ones(2, 3)})


@pytest.mark.parametrize(
    ("got", "differs"),
    [({"x": (2, 3)}, "y"), ({"x": (2, 3), "y": (1,), "z": (4,)}, "z"), ({"x": (3, 2), "y": (1,)}, "x")],
)
def test_only_what_differs_is_named(got: dict[str, tuple[int, ...]], differs: str) -> None:
    expected = {"x": torch.zeros(2, 3), "y": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"^checkpoint of a: got tensors made by a run with other .*") as raised:
        check_tensors("a", {name: torch.zeros(shape) for name, shape in got.items()}, expected)
    assert {name for name in "xyz" if f"'{name}'" in str(raised.value)} == {differs}


def test_the_message_is_short_however_much_differs() -> None:
    got, expected = ({f"layer {i}": torch.zeros(size, 3) for i in range(90)} for size in (2, 4))
    said = (
        "checkpoint of a: got tensors made by a run with other sizes: 'layer 0' has the shape (2, 3), expected (4, 3), "
        "the first of 90 that differ"
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        check_tensors("a", {"an extra": torch.zeros(1), **got}, {"an extra": torch.zeros(1), **expected})
    with pytest.raises(ValueError, match="other settings, or by another agent: 'y' has the shape none, expected"):
        check_tensors("a", {}, {"y": torch.zeros(1)})


def test_a_restored_generator_goes_on_with_the_same_numbers() -> None:
    rng, twin = np.random.default_rng(0), np.random.default_rng(1)
    rng.integers(5, dtype=np.int32)  # leaves half a word in the state
    restore_generator("a", twin, rng.bit_generator.state)
    assert twin.integers(100, size=9, dtype=np.int32).tolist() == rng.integers(100, size=9, dtype=np.int32).tolist()


STATE = np.random.default_rng(7).bit_generator.state


@pytest.mark.parametrize(
    "state",
    [
        None,
        3,
        "PCG64",
        {},
        {"bit_generator": "MT19937"},
        {**STATE, "bit_generator": "MT19937"},
        {name: value for name, value in STATE.items() if name != "uinteger"},
        {**STATE, "state": {"state": "x", "inc": 1}},
        {**STATE, "state": {"state": -1, "inc": 1}},
        {**STATE, "state": {"state": 2**200, "inc": 1}},
    ],
)
def test_an_invalid_state_is_refused_and_leaves_the_generator_as_it_was(state: Any) -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    with pytest.raises(ValueError, match=r"^checkpoint of a: got generator .*, expected a PCG64 state$"):
        restore_generator("a", rng, state)
    assert rng.bit_generator.state == before
