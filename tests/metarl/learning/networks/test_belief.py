from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metarl.learning.experience.trial_replay import TrialReplay
from metarl.learning.networks.belief import (
    BeliefEncoder,
    Chosen,
    Decoder,
    Posterior,
    choose_steps,
    kl_from_previous,
    summed_error,
)

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


def test_a_drawn_latent_has_the_beliefs_mean_and_deviation() -> None:
    belief = Posterior(torch.tensor([1.0, -2.0]), torch.tensor([0.0, math.log(9.0)]))
    assert belief.drawn(torch.tensor([0.5, 2.0])).tolist() == pytest.approx([1.5, 4.0])


def test_an_encoder_step_by_step_is_the_encoder_over_the_trial() -> None:
    encoder = BeliefEncoder(3, 2, hidden=(4,), activation="relu", units=5, rng=np.random.default_rng(0))
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    whole, end = encoder(x, encoder.fresh_memory(2))
    memory = encoder.fresh_memory(2)
    for t in range(6):
        belief, memory = encoder(x[:, t : t + 1], memory)
        torch.testing.assert_close(belief.mean[:, 0], whole.mean[:, t])
        torch.testing.assert_close(belief.log_variance[:, 0], whole.log_variance[:, t])
    torch.testing.assert_close(memory, end)
    assert not torch.allclose(whole.mean, whole.log_variance)


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


# The buffer -----------------------------------------------------------------------------------------------


def trials(first: int, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Trials whose rows hold their number and the step, with junk on the padding."""
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    rows = np.stack(np.broadcast_arrays(first + np.arange(len(lengths))[:, None], np.arange(max(lengths))), axis=-1)
    return np.where(mask[..., None], rows, 99.0).astype(np.float32), mask


def content(replay: TrialReplay) -> dict[int, int]:
    """The number of each trial, and its length."""
    rows, mask = replay.sample(100, np.random.default_rng(0))
    assert not rows[~mask].any()
    for row, happened in zip(rows, mask, strict=True):
        assert np.array_equal(row[happened, 1], np.arange(happened.sum()))
        assert len(set(row[happened, 0])) == 1
    return {int(row[0, 0]): int(happened.sum()) for row, happened in zip(rows, mask, strict=True)}


def test_the_buffer_keeps_the_newest_trials_and_no_padding() -> None:
    replay = TrialReplay(4, 6, 2)
    with pytest.raises(ValueError, match="empty buffer"):
        replay.sample(1, np.random.default_rng(0))
    replay.add(*trials(0, [6, 3, 1]))
    assert content(replay) == {0: 6, 1: 3, 2: 1}
    replay.add(*trials(3, [2, 2]))
    assert content(replay) == {1: 3, 2: 1, 3: 2, 4: 2}
    replay.add(*trials(5, [1, 2, 3, 4, 5]))
    assert content(replay) == {6: 2, 7: 3, 8: 4, 9: 5}
    assert replay.size == 4
    with pytest.raises(ValueError, match="7 steps, expected at most 6"):
        replay.add(*trials(0, [7]))


def test_a_sample_is_of_different_trials_and_as_long_as_the_longest() -> None:
    replay = TrialReplay(5, 6, 2)
    replay.add(*trials(0, [2, 3, 2, 1, 3]))
    rng, seen = np.random.default_rng(0), set()
    for _ in range(50):
        rows, mask = replay.sample(2, rng)
        assert rows.shape == (2, mask.sum(axis=1).max(), 2)
        numbers = frozenset(int(n) for n in rows[:, 0, 0])
        assert len(numbers) == 2
        seen.add(numbers)
    assert len(seen) == 10, "every pair"


def test_a_restored_buffer_goes_on_as_the_saved_one() -> None:
    one, other = TrialReplay(4, 6, 2), TrialReplay(4, 6, 2)
    other.add(*trials(50, [6, 6, 6, 6]))
    for batch in ([], [3, 1, 2], [4, 2]):
        if batch:
            one.add(*trials(sum(batch), batch))
        saved = one.tensors("b")
        other.check("b", saved)
        other.restore("b", saved)
        for name, tensor in saved.items():
            assert torch.equal(tensor, other.tensors("b")[name])
    assert saved["b.rows"].shape == (4, 4, 2)
    for replay in (one, other):
        replay.add(*trials(7, [5]))
    assert content(one) == content(other)


@pytest.mark.parametrize(
    "change",
    [
        {"b.next": torch.tensor([4])},
        {"b.next": None},
        {"b.lengths": torch.tensor([3, -1])},
        {"b.lengths": torch.tensor([7, 1])},
        {"b.rows": torch.zeros(2, 3, 5)},
        {"b.rows": torch.zeros(5, 3, 2), "b.lengths": torch.tensor([3] * 5)},
        {"b.rows": torch.zeros(2, 7, 2), "b.lengths": torch.tensor([7, 1])},
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(change: dict[str, torch.Tensor | None]) -> None:
    replay = TrialReplay(4, 6, 2)
    replay.add(*trials(0, [3, 1]))
    tensors = {name: t for name, t in (replay.tensors("b") | change).items() if t is not None}
    with pytest.raises(ValueError, match="at most 4 trials of at most 6 steps with 2 numbers"):
        replay.check("b", tensors)
