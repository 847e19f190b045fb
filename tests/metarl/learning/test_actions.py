from __future__ import annotations

from dataclasses import replace

import numpy as np

from metarl.learning.actions import ActionMap
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


def test_a_choice_becomes_one_hot_and_unbounded_actions_stay(discrete_spaces: Spaces, spaces: Spaces) -> None:
    choice = ActionMap(discrete_spaces, 1.0)
    assert choice.features == 4
    assert choice.to_features(np.float32([[[2.0]], [[0.0]]])).tolist() == [[[0, 0, 1, 0]], [[1, 0, 0, 0]]]
    assert choice.to_environment(np.float32([[3.0]])).tolist() == [[3.0]]
    unbounded = ActionMap(replace(spaces, action_high=(np.inf, 4.0)), 10.0)
    assert unbounded.to_features(np.float32([[7.0, 5.0]])).tolist() == [[7.0, 5.0]]
