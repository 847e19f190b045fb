from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.device.chunks import chunks
from metarl.learning.networks.cells.convolution import Convolution
from metarl.learning.networks.latent_policy import HistoryEncoder
from metarl.learning.networks.modules import hidden_layers
from metarl.learning.ppo import regression
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
        losses = [float(learner.step(padded, torch.tensor(signs), mask, 1e-2)) for _ in range(100)]
        ends.append(learner.tensors())
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    assert losses[-1] < 0.2 * losses[0]


def test_trials_that_do_not_fit_at_once_give_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, latents = (torch.tensor(rng.standard_normal(shape, dtype=np.float32)) for shape in ((5, 6, 2), (5, 2)))
    mask = (torch.arange(6) < torch.tensor([6, 1, 3, 4, 6])[:, None]).float()
    ends = []
    for at_once in (5, 2):
        monkeypatch.setattr(regression, "chunks_that_fit", lambda rows, *_, size=at_once: chunks(rows, size))
        learner = LatentRegression("rma", encoder(), 1e-2, np.random.default_rng(0))
        ends.append((learner.step(x, latents, mask, 1e-2), learner.tensors()["history_adam.0.exp_avg"]))
    for whole, parts in zip(*ends, strict=True):
        torch.testing.assert_close(whole, parts)
