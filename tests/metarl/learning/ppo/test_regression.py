from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.networks.cells.convolution import Convolution
from metarl.learning.networks.latent_policy import HistoryEncoder
from metarl.learning.networks.modules import hidden_layers
from metarl.learning.ppo.regression import LatentRegression, latent_loss


def encoder(seed: int = 0, units: int = 3) -> HistoryEncoder:
    rng = np.random.default_rng(seed)
    made = HistoryEncoder(hidden_layers((2, units), "relu", rng), Convolution(units, units, 4, rng), 2, rng)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def test_the_loss_by_hand() -> None:
    """Two trials of two steps and of one: errors 1 + 4, 0 + 1, and 9 + 0 over three steps."""
    estimates = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[3.0, 1.0], [7.0, 7.0]]])
    latents = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    weights = torch.tensor([[1.0, 1.0], [1.0, 0.0]]) / 3.0
    assert float(latent_loss(estimates, latents, weights)) == pytest.approx((5.0 + 1.0 + 9.0) / 3.0)


def test_the_gradient_is_that_of_finite_differences() -> None:
    made = encoder().double()
    learner = LatentRegression("rma", made, 1e-3, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x, latents = torch.tensor(rng.standard_normal((2, 5, 2))), torch.tensor(rng.uniform(-1, 1, (2, 2)))
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    made.cell.fresh_memory = lambda rows: torch.zeros(rows, 3, 3, dtype=torch.float64)  # type: ignore[method-assign]
    found = learner._differentiate(mask.sum(), x, latents, mask)
    assert float(found[-1]) == pytest.approx(by_hand(made, x, latents, mask), rel=1e-12)
    at, expected = 1e-6, []
    with torch.no_grad():
        for parameter in made.parameters():
            for i in range(parameter.numel()):
                ends = []
                for change in (at, -at):
                    parameter.view(-1)[i] += change
                    ends.append(by_hand(made, x, latents, mask))
                    parameter.view(-1)[i] -= change
                expected.append((ends[0] - ends[1]) / (2.0 * at))
    assert np.abs(expected).max() > 0.01
    assert found[:-1].numpy() == pytest.approx(np.array(expected), abs=1e-7)


@torch.no_grad()
def by_hand(made: HistoryEncoder, x: torch.Tensor, latents: torch.Tensor, mask: torch.Tensor) -> float:
    """The mean error over the steps that happened, each history on its own."""
    errors = []
    for row, length in enumerate(mask.sum(dim=1).int().tolist()):
        for t in range(length):
            history = x[row : row + 1, : t + 1]
            estimate = made(history, made.cell.fresh_memory(1))[0][0, -1]
            errors.append(float((estimate - latents[row]).square().sum()))
    return float(np.mean(errors))


def test_padding_teaches_nothing_and_the_history_is_learned() -> None:
    """The latent is the mean of the last inputs, which the history shows."""
    rng, ends = np.random.default_rng(0), []
    signs = rng.choice([-0.5, 0.5], size=(16, 2)).astype(np.float32)
    x = torch.tensor(signs[:, None] + 0.3 * rng.standard_normal((16, 8, 2), dtype=np.float32))
    mask = (torch.arange(8) < torch.tensor(rng.integers(4, 9, size=16))[:, None]).float()
    for padding in (0.0, 100.0):
        learner = LatentRegression("rma", encoder(units=16), 1e-2, np.random.default_rng(0))
        padded = torch.where(mask.unsqueeze(2) > 0, x, padding)
        settings = {"epochs": 20, "parts": 4, "step_size": 1e-2}
        reports = [learner.update(padded, torch.tensor(signs), mask, **settings) for _ in range(3)]
        ends.append(learner.tensors())
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    assert reports[-1]["history/loss_last"] < 0.2 * reports[0]["history/loss_first"]
    assert reports[-1]["history/explained_variance"] > 0.7
    assert reports[-1]["history/learning_rate"] == 1e-2


def test_the_share_explained_by_hand() -> None:
    """Estimates of 0 for latents of -1 and 1, of three steps and of one: mean -1/2, variance 3/4, error 1."""
    made = encoder()
    with torch.no_grad():
        for parameter in made.output.parameters():
            parameter.zero_()
    learner = LatentRegression("rma", made, 1e-3, np.random.default_rng(0))
    latents = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    report = learner.update(torch.zeros(2, 3, 2), latents, mask, epochs=1, parts=1, step_size=1e-9)
    assert report["history/loss_first"] == pytest.approx(1.0)
    assert report["history/explained_variance"] == pytest.approx(1.0 - 1.0 / 0.75)
