from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metarl.learning.networks.belief import Posterior
from metarl.learning.networks.vae import Chosen, Decoder, choose_steps, kl_from_previous, summed_error

CPU = torch.device("cpu")
MASK = np.arange(6) < np.array([6, 4, 1])[:, None]


def test_kl_of_consecutive_beliefs_by_hand() -> None:
    """N(1, 4) from N(0, 1): (0 - ln 4 + 4 + 1 - 1) / 2; then N(3, 1) from N(1, 4): (ln 4 + 1/4 + 4/4 - 1) / 2."""
    beliefs = Posterior(torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[math.log(4)], [0.0]]]))
    expected = [(4 - math.log(4)) / 2, (math.log(4) + 0.25) / 2]
    assert kl_from_previous(beliefs)[0].tolist() == pytest.approx(expected)


def test_kl_is_that_of_torch_summed_over_the_latent() -> None:
    generator = torch.Generator().manual_seed(0)
    beliefs = Posterior(*(torch.randn(2, 5, 3, generator=generator) for _ in range(2)))
    normals = [Normal(beliefs.mean[:, t], (0.5 * beliefs.log_variance[:, t]).exp()) for t in range(5)]
    before = [Normal(torch.zeros(2, 3), torch.ones(2, 3)), *normals[:-1]]
    expected = torch.stack([kl_divergence(q, p).sum(dim=-1) for q, p in zip(normals, before, strict=True)], dim=1)
    torch.testing.assert_close(kl_from_previous(beliefs), expected)


@pytest.mark.parametrize("hidden", [(), (7,), (7, 4)])
def test_a_decoder_is_a_perceptron_on_each_joined_pair(hidden: tuple[int, ...]) -> None:
    decoder = Decoder(2, 3, hidden, 2, np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter += torch.randn(parameter.shape, generator=generator)
    latents, steps = torch.randn(2, 4, 2, generator=generator), torch.randn(2, 5, 3, generator=generator)
    outputs = decoder(latents, steps)
    assert outputs.shape == (2, 4, 5, 2)
    for b, p, d in np.ndindex(2, 4, 5):
        x = torch.cat([latents[b, p], steps[b, d]])
        for i, layer in enumerate(decoder.layers):
            x = layer.weight @ (x.clamp_min(0.0) if i else x) + layer.bias
        torch.testing.assert_close(outputs[b, p, d], x)


def test_all_steps_are_taken_once_each_and_nothing_is_drawn() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 6, 9):
        chosen = choose_steps(MASK, count, CPU, rng)
        assert chosen.steps.tolist() == [list(range(6))] * 3
        assert np.array_equal(chosen.weight.numpy(), MASK)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_chosen_steps_are_different_ones_that_happened_while_there_are_enough() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        chosen = choose_steps(MASK, 3, CPU, rng)
        assert [len(set(row)) for row in chosen.steps.tolist()] == [3, 3, 3]
        assert (chosen.steps[0] < 6).all()
        assert (chosen.steps[1] < 4).all()
        assert chosen.steps[2, 0] == 0
        torch.testing.assert_close(chosen.weight, torch.tensor([[2.0] * 3, [4 / 3] * 3, [1.0, 0.0, 0.0]]))


def test_a_sum_over_chosen_steps_has_the_whole_sum_as_its_mean() -> None:
    rng = np.random.default_rng(1)
    values = torch.tensor(rng.standard_normal((3, 6)) * 3, dtype=torch.float32)
    sums = []
    for _ in range(4000):
        chosen = choose_steps(MASK, 2, CPU, rng)
        sums.append((chosen.weight * chosen.of(values)).sum(dim=1))
    mean, error = torch.stack(sums).mean(dim=0), torch.stack(sums).std(dim=0) / 4000**0.5
    whole = torch.where(torch.tensor(MASK), values, 0.0).sum(dim=1)
    assert ((mean - whole).abs() < 4 * error + 1e-4).all()
    assert error[0] > 0.01, "it is a random number"


def test_every_pair_of_steps_may_be_chosen() -> None:
    rng = np.random.default_rng(0)
    seen = {tuple(sorted(choose_steps(MASK[1:2], 2, CPU, rng).steps[0].tolist())) for _ in range(200)}
    assert seen == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


def test_errors_are_summed_over_prefixes_steps_and_components_with_their_weights() -> None:
    """Errors 1, 2 / 3, 0 with two components each; prefix weights 2, 1; step weights 1, 5."""
    outputs = torch.tensor([[[[1.0, 1.0], [0.0, 4.0]], [[3.0, 0.0], [2.0, 2.0]]]])
    targets = torch.tensor([[[0.0, 0.0], [2.0, 2.0]]])
    prefixes, decoded = (Chosen(torch.tensor([[0, 1]]), torch.tensor([w])) for w in ([2.0, 1.0], [1.0, 5.0]))
    assert summed_error(outputs, targets, prefixes, decoded).tolist() == [2 * (2 + 5 * 8) + (9 + 5 * 0)]
