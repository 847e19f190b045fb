from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.gradient.policy import StackedPolicy, task_chunks
from metarl.learning.networks.distributions import Categorical, sample
from metarl.types import Spaces


def make(spaces: Spaces, **changes: object) -> StackedPolicy:
    settings = {"hidden": (4,), "activation": "tanh", "init_std": 0.5, "min_std": 0.1, "action_scale": 1.0, **changes}
    return StackedPolicy(spaces, **settings)


def test_an_output_of_the_action_scale_is_a_full_action(spaces: Spaces) -> None:
    policy = make(spaces, action_scale=10.0)  # bounds (-1, 1) and (-2, 4)
    outputs = np.array([[0.0, 0.0], [10.0, 10.0], [5.0, -5.0], [99.0, -99.0]], dtype=np.float32)
    assert policy.to_environment(outputs).tolist() == [[0.0, 1.0], [1.0, 4.0], [0.5, -0.5], [1.0, -2.0]]


def test_only_unbounded_components_are_the_outputs(spaces: Spaces) -> None:
    half = Spaces(spaces.observation_size, (-1.0, -np.inf), (1.0, np.inf), spaces.horizon)
    assert make(half, action_scale=10.0).to_environment(np.float32([[5.0, 5.0]])).tolist() == [[0.5, 5.0]]


def test_unbounded_actions_are_the_outputs(spaces: Spaces) -> None:
    unbounded = Spaces(spaces.observation_size, (-np.inf,) * 2, (np.inf,) * 2, spaces.horizon)
    outputs = np.array([[3.0, -7.0]], dtype=np.float32)
    assert make(unbounded, action_scale=10.0).to_environment(outputs).tolist() == outputs.tolist()


def test_samples_follow_the_distribution(spaces: Spaces) -> None:
    policy = make(spaces)
    parameters = policy.initial(np.random.default_rng(0))[None]
    observations = np.ones((1, 20_000, 3), dtype=np.float32)
    drawn = policy.sample(parameters, observations, np.random.default_rng(1))
    mean = policy(parameters, torch.tensor(observations)).mean[0, 0].numpy()
    assert drawn.dtype == np.float32
    assert np.allclose(drawn[0].mean(axis=0), mean, atol=0.02)
    assert np.allclose(drawn[0].std(axis=0), 0.5, atol=0.02)


def test_the_deviation_has_a_floor(spaces: Spaces, discrete_spaces: Spaces) -> None:
    policy = make(spaces, init_std=0.05)
    parameters = policy.initial(np.random.default_rng(0))[None]
    assert policy(parameters, torch.zeros(1, 1, 3)).log_std.exp().flatten().tolist() == pytest.approx([0.1, 0.1])
    assert policy.std(parameters[0]) == pytest.approx(0.1)
    parameters[0] = -50.0
    assert (policy.bound.project_(parameters) == -50.0).sum() == policy.layout.size - 2
    assert policy.std(parameters[0]) == pytest.approx(0.1)
    logits = make(discrete_spaces)
    parameters = torch.full((1, logits.layout.size), -50.0)
    assert (logits.bound.project_(parameters) == -50.0).all()


def test_chunks_cover_every_task_once() -> None:
    for m, b in ((1, 10), (20, 2000), (7, 100_000), (640, 10)):
        chunks = task_chunks(m, b, (17, 64, 64, 6), torch.device("cpu"))
        assert [i for c in chunks for i in range(c.start, c.stop)] == list(range(m))


def test_choices_are_drawn_with_their_probabilities(discrete_spaces: Spaces) -> None:
    logits = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])).expand(1, 40_000, 4)
    drawn = sample(Categorical(logits), np.random.default_rng(0))
    assert drawn.shape == (1, 40_000, 1)
    assert np.allclose(np.bincount(drawn.astype(int).ravel()) / 40_000, [0.1, 0.2, 0.3, 0.4], atol=0.01)
    policy = make(discrete_spaces)
    assert np.array_equal(policy.to_environment(drawn), drawn)
    assert policy.to_environment(drawn).dtype == np.int64
    assert policy(policy.initial(np.random.default_rng(0))[None], torch.zeros(1, 2, 3)).logits.shape == (1, 2, 4)
