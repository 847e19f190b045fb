from __future__ import annotations

import numpy as np
import pytest

from metarl.learning.experience.actions import ActionMap
from metarl.types import Spaces


def test_a_bounded_action_becomes_a_feature_between_minus_one_and_one(spaces: Spaces) -> None:
    actions = ActionMap(spaces, 10.0)  # bounds (-1, 1) and (-2, 4)
    assert actions.features == 2
    assert actions.to_environment(np.float32([[10.0, -10.0], [0.0, 5.0], [99.0, 99.0]])).tolist() == [
        [1.0, -2.0],
        [0.0, 2.5],
        [1.0, 4.0],
    ]
    assert actions.to_features(np.float32([[1.0, -2.0], [0.5, 2.5]])).tolist() == [[1.0, -1.0], [0.5, 0.5]]


def test_a_choice_becomes_one_hot_and_is_played_as_it_is(discrete_spaces: Spaces) -> None:
    choice = ActionMap(discrete_spaces, 1.0)
    assert choice.features == 4
    assert choice.to_features(np.float32([[[2.0]], [[0.0]]])).tolist() == [[[0, 0, 1, 0]], [[1, 0, 0, 0]]]
    assert choice.to_environment(np.float32([[3.0]])).tolist() == [[3.0]]
    assert choice.description()["bounded"] == [False]


def test_choices_keep_the_number_that_the_environment_starts_at() -> None:
    choice = ActionMap(Spaces(1, (-1.0,), (1.0,), 5, choices=3), 1.0)
    played = choice.to_environment(np.float32([[0.0], [2.0]]))
    assert played.tolist() == [[-1], [1]]
    assert played.dtype == np.int64
    assert choice.to_features(np.float32([[-1.0], [1.0]])).tolist() == [[1, 0, 0], [0, 0, 1]]
    above = ActionMap(Spaces(1, (5.0,), (7.0,), 5, choices=3), 1.0)
    assert above.to_features(np.zeros((1, 1))).tolist() == [[1, 0, 0]], "padding, which is no choice at all"
    assert (choice.description()["choices"], choice.description()["first_choice"]) == (3, -1)


MIXED = Spaces(
    observation_size=1,
    action_low=(-2.0, -np.inf, 0.5, -np.inf),
    action_high=(4.0, 1.0, np.inf, np.inf),
    horizon=5,
)
"""Two finite bounds, one above, one below, none."""


def test_each_component_is_scaled_and_clipped_by_its_own_bounds() -> None:
    actions = ActionMap(MIXED, 10.0)
    outputs = np.float32([[[5.0, 5.0, 5.0, 5.0], [99.0, -99.0, 99.0, 99.0], [-99.0, 0.5, -99.0, -99.0]]])
    expected = [[[2.5, 1.0, 5.0, 5.0], [4.0, -99.0, 99.0, 99.0], [-2.0, 0.5, 0.5, -99.0]]]
    played = actions.to_environment(outputs)
    assert played.dtype == np.float32
    assert played.tolist() == expected
    features = actions.to_features(np.float32([[2.5, 1.0, 5.0, 5.0], [-2.0, -9.0, 0.5, -9.0]]))
    assert features.dtype == np.float32
    assert features.tolist() == [[0.5, 1.0, 5.0, 5.0], [-1.0, -9.0, 0.5, -9.0]]

    arrays = {name: t.numpy() for name, t in actions.tensors().items()}
    by_arrays = arrays["action_offset"] + arrays["action_factor"] * outputs
    assert np.clip(by_arrays, arrays["action_low"], arrays["action_high"]).tolist() == expected
    assert actions.description()["bounded"] == [True, False, False, False]


def test_bounds_whose_width_is_no_float32_are_no_fault() -> None:
    widest = float(np.finfo(np.float32).max)
    actions = ActionMap(Spaces(1, (-widest,), (widest,), 5), 1.0)
    assert actions.to_environment(np.float32([0.5])).tolist() == pytest.approx([widest / 2])
