from __future__ import annotations

import math

import pytest
import torch

from metarl.learning.gradient.losses import inner_loss, mean_divergence, probability_ratio, surrogate_objective
from metarl.learning.gradient.policy import Samples
from metarl.learning.networks.distributions import Gaussian

OLD = Gaussian(torch.tensor([[[0.0], [0.0], [0.0]]]), torch.zeros(1, 1, 1))
NEW = Gaussian(torch.tensor([[[1.0], [2.0], [9.0]]]), torch.zeros(1, 1, 1))
SAMPLES = Samples(
    observations=torch.zeros(1, 3, 1),
    actions=torch.tensor([[[1.0], [0.0], [5.0]]]),
    advantages=torch.tensor([[2.0, -1.0, 4.0]]),
    weights=torch.tensor([[0.5, 0.5, 0.0]]),
)


def test_ratio_surrogate_and_divergence_by_hand() -> None:
    """Log-ratios of unit normals: (a^2 - (a - mean)^2) / 2; divergence: mean^2 / 2. The last step is masked."""
    ratios = [math.exp(0.5), math.exp(-2.0)]
    assert probability_ratio(NEW, OLD.log_prob(SAMPLES.actions), SAMPLES)[0, :2].tolist() == pytest.approx(ratios)
    surrogate = 0.5 * 2.0 * ratios[0] - 0.5 * ratios[1]
    assert surrogate_objective(NEW, OLD, SAMPLES).tolist() == pytest.approx([surrogate])
    assert mean_divergence(NEW, OLD, SAMPLES).tolist() == pytest.approx([0.5 * 0.5 + 0.5 * 2.0])


def test_inner_loss_is_minus_the_weighted_mean_of_log_probability_times_advantage() -> None:
    log_prob = [-0.5 * math.log(2 * math.pi), -2.0 - 0.5 * math.log(2 * math.pi)]
    expected = -(0.5 * 2.0 * log_prob[0] - 0.5 * log_prob[1])
    assert inner_loss(NEW, SAMPLES).tolist() == pytest.approx([expected])
