from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metarl.learning.device.chunks import chunks, graph_bytes
from metarl.learning.networks.distributions import Distribution, Gaussian
from metarl.learning.ppo import learner as ppo
from metarl.learning.ppo.learner import (
    PpoLearner,
    PpoSamples,
    PpoSettings,
    clipped_surrogate_loss,
    clipped_value_loss,
    minibatches,
    normalise_over_steps,
    step_size,
    value_loss,
)


def test_the_clipped_surrogate_agrees_with_hand_arithmetic() -> None:
    """Ratios 1.5, 0.5, 1.5, 0.5, 1.1 with clip 0.2: a gain is capped, a loss is not."""
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5, 1.1])
    advantages = torch.tensor([2.0, 2.0, -2.0, -2.0, 3.0])
    by_hand = [1.2 * 2.0, 0.5 * 2.0, 1.5 * -2.0, 0.8 * -2.0, 1.1 * 3.0]
    old = torch.tensor([-1.0, -2.0, -0.5, -3.0, -0.1])
    weights = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25])
    loss = clipped_surrogate_loss(old + ratio.log(), old, advantages, weights, 0.2)
    assert float(loss) == pytest.approx(-float(np.dot(weights.numpy(), by_hand)), rel=1e-5)


def test_a_ratio_beyond_the_clip_has_no_gradient_where_it_would_gain() -> None:
    log_probs = torch.log(torch.tensor([1.5, 0.5, 1.5, 0.5])).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, -1.0, 1.0])
    clipped_surrogate_loss(log_probs, torch.zeros(4), advantages, torch.full((4,), 0.25), 0.2).backward()
    assert log_probs.grad.tolist() == pytest.approx([0.0, 0.0, 0.375, -0.125])


def test_value_losses_agree_with_hand_arithmetic() -> None:
    values, old, targets = torch.tensor([3.0, 0.5, 1.0]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 0.0, 4.0])
    weights = torch.tensor([0.5, 0.25, 0.25])
    assert float(value_loss(values, targets, weights)) == pytest.approx(0.5 * 1.0 + 0.25 * 0.25 + 0.25 * 9.0)
    # Held within 0.2 of the old estimate: 1.2, 0.8, 1.0; the worse of the two counts.
    expected = 0.5 * 1.0 + 0.25 * 0.64 + 0.25 * 9.0
    assert float(clipped_value_loss(values, old, targets, weights, 0.2)) == pytest.approx(expected)


def test_minibatches_cover_every_row_once_an_epoch_in_an_order_of_the_generators() -> None:
    parts = list(minibatches(10, 4, 3, np.random.default_rng(0)))
    assert [len(p) for p in parts] == [3, 3, 2, 2] * 3
    epochs = [np.concatenate(parts[i : i + 4]) for i in (0, 4, 8)]
    assert all(sorted(e) == list(range(10)) for e in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    again = list(minibatches(10, 4, 3, np.random.default_rng(0)))
    assert all(np.array_equal(a, b) for a, b in zip(parts, again, strict=True))
    assert [len(p) for p in minibatches(2, 4, 1, np.random.default_rng(0))] == [1, 1]


def test_an_annealed_step_size_falls_in_a_line_to_zero() -> None:
    assert [step_size(0.4, True, i / 4) for i in range(4)] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert step_size(0.4, False, 0.75) == 0.4


@pytest.mark.parametrize("progress", [1.0, -0.1, float("nan")])
def test_a_share_of_the_run_outside_its_range_is_refused(progress: float) -> None:
    with pytest.raises(ValueError, match=rf"MetaBatch.progress: got {progress}, expected .*>= 0 and < 1"):
        step_size(0.4, True, progress)


def test_advantages_are_normalised_over_the_steps_that_happened() -> None:
    mask = np.array([[True, True, False], [True, True, False]])
    got = normalise_over_steps(np.array([[1.0, 2.0, 99.0], [3.0, 6.0, -99.0]]), mask)
    std = np.sqrt((4 + 1 + 0 + 9) / 4)
    assert got == pytest.approx(np.array([[-2, -1, 0], [0, 3, 0]]) / std)


class OneNumber(nn.Module):
    """A policy with mean `a x` and deviation 1, and a value `b x`."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(-0.2))

    def forward(self, x: Tensor) -> tuple[Distribution, Tensor]:
        return Gaussian((self.a * x).unsqueeze(-1), torch.zeros(1)), self.b * x


def problem(seed: int = 0) -> tuple[OneNumber, Tensor, PpoSamples]:
    rng = np.random.default_rng(seed)
    network, x = OneNumber(), torch.tensor(rng.standard_normal((6, 4)), dtype=torch.float32)
    mask = (rng.random((6, 4)) < 0.7) | (np.arange(4) == 0)
    actions = torch.tensor(rng.standard_normal((6, 4, 1)), dtype=torch.float32)
    with torch.no_grad():
        distribution, values = network(x)
        log_probs = distribution.log_prob(actions)
    advantages, targets = (torch.tensor(rng.standard_normal((6, 4)), dtype=torch.float32) for _ in range(2))
    return network, x, PpoSamples(actions, log_probs, values, advantages, targets, torch.tensor(mask).float())


PLAIN = PpoSettings(learning_rate=1e-2, epochs=1, minibatches=1, max_gradient_norm=0.0, value_weight=0.5)


def test_one_step_goes_down_the_gradient_that_hand_arithmetic_gives() -> None:
    """At ratio 1: d/da of minus mean A log p is minus mean A (u - a x) x; of 0.5 mean (b x - y)^2 it is mean."""
    network, x, samples = problem()
    weights = (samples.mask / samples.mask.sum()).numpy()
    u, a, b = samples.actions[..., 0].numpy(), 0.3, -0.2
    slope_a = -(weights * samples.advantages.numpy() * (u - a * x.numpy()) * x.numpy()).sum()
    slope_b = (weights * (b * x.numpy() - samples.targets.numpy()) * x.numpy()).sum()
    report = PpoLearner(network, PLAIN, np.random.default_rng(0)).update(samples, (x,))
    assert report["update/gradient_norm"] == pytest.approx(np.hypot(slope_a, slope_b), rel=1e-4)
    # Adam's first step is the learning rate against the sign of the gradient, but for its epsilon.
    assert float(network.a.detach()) == pytest.approx(a - 1e-2 * np.sign(slope_a), abs=1e-5)
    assert float(network.b.detach()) == pytest.approx(b - 1e-2 * np.sign(slope_b), abs=1e-5)


def test_gradients_are_shortened_and_the_entropy_bonus_widens_the_policy() -> None:
    class Deviation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_std = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> tuple[Distribution, Tensor]:
            return Gaussian(torch.zeros(len(x), 4, 1), self.log_std), torch.zeros(len(x), 4)

    network = Deviation()
    _, x, samples = problem()
    samples = samples._replace(advantages=torch.zeros(6, 4))
    settings = replace(PLAIN, entropy_weight=0.1, value_weight=0.0, epochs=5)
    learner = PpoLearner(network, settings, np.random.default_rng(0))
    report = learner.update(samples, (x,))
    assert float(network.log_std.detach()) == pytest.approx(5 * 1e-2, rel=1e-2)
    assert report["update/gradient_norm"] == pytest.approx(0.1, rel=1e-5)

    first, x, samples = problem()
    short = PpoLearner(first, replace(PLAIN, max_gradient_norm=1e-3), np.random.default_rng(0))
    short.update(samples, (x,))
    moments = short.tensors()
    squared = sum(float((moments[f"adam.{i}.exp_avg"] / 0.1).square()) for i in range(2))
    assert np.sqrt(squared) == pytest.approx(1e-3, rel=1e-3)


def test_padded_steps_teach_nothing() -> None:
    results = []
    for junk in (0.0, 50.0):
        network, x, samples = problem()
        pad = samples.mask == 0
        assert pad.any()
        polluted = [torch.where(pad, torch.full_like(t, junk), t) for t in samples[1:5]]
        learner = PpoLearner(network, replace(PLAIN, epochs=2, minibatches=2), np.random.default_rng(0))
        report = learner.update(PpoSamples(samples.actions, *polluted, samples.mask), (x,))
        results.append((learner.tensors(), report))
    assert all(torch.equal(results[0][0][name], results[1][0][name]) for name in results[0][0])
    assert results[0][1] == results[1][1]


def test_rows_of_a_minibatch_that_do_not_fit_at_once_teach_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for at_once in (6, 2, 1):
        asked = []

        def fitting(rows: int, row_bytes: int, device: torch.device, at_once=at_once, asked=asked) -> list[slice]:
            asked.append((rows, row_bytes))
            return chunks(rows, at_once)

        monkeypatch.setattr(ppo, "chunks_that_fit", fitting)
        network, x, samples = problem()
        settings = replace(PLAIN, epochs=3, minibatches=2, entropy_weight=0.1, value_clip=0.05, max_gradient_norm=0.1)
        seen: list[int] = []

        def counted(rows: Tensor, seen: list[int] = seen, network: OneNumber = network) -> tuple[Distribution, Tensor]:
            seen.append(len(rows))
            return network(rows)

        learner = PpoLearner(network, settings, np.random.default_rng(0), counted)
        report = learner.update(samples, (x,))
        assert asked == [(3, graph_bytes(4, (1,)))], "three rows of four steps; at least one unit"
        assert sum(seen) == 3 * 6
        assert max(seen) == min(at_once, 3)
        results.append((learner.tensors(), report))
    (whole, told), *others = results
    for tensors, report in others:
        for name, t in whole.items():
            torch.testing.assert_close(tensors[name], t, rtol=1e-5, atol=1e-7)
        assert report == pytest.approx(told, rel=1e-4, abs=1e-6)


def test_the_clip_of_values_stops_them_beyond_it() -> None:
    """Targets far above: only Adam's momentum moves a value on that is a clip away from its old estimate."""
    moved = []
    for clip in (0.0, 0.01):
        network, x, samples = problem()
        samples = samples._replace(advantages=torch.zeros(6, 4), targets=samples.values + 5.0)
        learner = PpoLearner(network, replace(PLAIN, epochs=20, value_clip=clip), np.random.default_rng(0))
        learner.update(samples, (x,))
        change = (network(x)[1].detach() - samples.values)[samples.mask > 0]
        moved.append(float(change.abs().max()))
    assert moved[1] < 0.02 < 0.4 < moved[0]


def test_a_restored_learner_goes_on_bit_for_bit() -> None:
    network, x, samples = problem()
    settings = replace(PLAIN, epochs=3, minibatches=3)
    learner = PpoLearner(network, settings, np.random.default_rng(0))
    learner.update(samples, (x,))
    twin_network, _, _ = problem()
    twin = PpoLearner(twin_network, settings, np.random.default_rng(99))
    twin.restore(learner.tensors(), {**learner.counters(), "iteration": 1})  # older checkpoints count iterations too
    assert learner.tensors()["adam.0.step"].item() == 9
    learner.update(samples, (x,))
    twin.update(samples, (x,))
    assert all(torch.equal(a, twin.tensors()[name]) for name, a in learner.tensors().items())
    assert learner.counters() == twin.counters()


@pytest.mark.parametrize(
    "counters",
    [
        {},
        {"iteration": 1},
        {"generator": {}},
        {"generator": {"bit_generator": "MT19937"}},
    ],
)
def test_counters_of_another_kind_are_refused_and_change_nothing(counters) -> None:
    network, _, _ = problem()
    learner = PpoLearner(network, PLAIN, np.random.default_rng(0))
    before = learner.counters()
    with pytest.raises(ValueError, match="expected"):
        learner.restore({name: t + 1 for name, t in learner.tensors().items()}, counters)
    assert learner.counters() == before
    assert float(network.a.detach()) == pytest.approx(0.3)
