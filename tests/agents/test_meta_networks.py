from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import metarl
from metarl.agents.meta_networks import FastWeightState, MetaNetworks, MetaNetworksConfig
from metarl.finite import NotFiniteError
from metarl.learning.gradient.losses import mean_divergence, surrogate_objective
from metarl.learning.gradient.policy import Samples
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.fast_weights import NORM_FLOOR
from metarl.memory import RunSize, check_memory
from metarl.types import MetaBatch, Spaces, Task, Trajectories

DOUBLE = torch.float64
M, E, T = 3, 2, 5
TASKS = tuple(Task.of("noise", number=i) for i in range(M))
LENGTHS = [[[5, 2], [1, 5], [3, 4]], [[4, 5], [5, 1], [5, 5]], [[5, 5], [2, 3], [1, 5]]]
"""Steps of the episodes `[K + 1, M, E]`."""
PAGE = (Path(__file__).parents[2] / "docs" / "exported-policies.md").read_text(encoding="utf-8")


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


def make(spaces: Spaces, *, perturbed: bool = True, **settings: Any) -> MetaNetworks:
    """A small agent; if perturbed, none of its parameters is zero."""
    config = MetaNetworksConfig(**{"hidden": (4, 3), "representation": (3,), "key_size": 2, "writer": (3,), **settings})
    agent = MetaNetworks(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    if perturbed:
        generator = torch.Generator().manual_seed(0)
        agent.parameters += 0.2 * torch.randn(agent.parameters.shape, generator=generator)
        agent.writer += 0.5 * torch.randn(agent.writer.shape, generator=generator)
    return agent


def in_double(agent: MetaNetworks) -> MetaNetworks:
    agent.parameters, agent.writer = agent.parameters.double(), agent.writer.double()
    return agent


# Against the plain way --------------------------------------------------------------------------------------


class Plain:
    """The agent's equations for one task, observation by observation, with a matrix of fast weights for each."""

    def __init__(self, agent: MetaNetworks, meta_parameters: Tensor) -> None:
        slow, representation = agent.policy.layout, agent._representation.layout
        parts = torch.split(meta_parameters, [slow.size, representation.size, len(agent.writer)])
        self.arrays = {name: t[0] for name, t in slow.split(parts[0][None]).items()}
        self.representation = {name: t[0] for name, t in representation.split(parts[1][None]).items()}
        self.writer, self.scale = parts[2], agent.config.inner_lr
        self.weights = [name for name in self.arrays if name != "log_std"]
        self.keys: list[Tensor] = []
        self.values: list[list[Tensor]] = []
        self.units = agent.config.writer[0]

    def represent(self, x: Tensor) -> Tensor:
        r = self.representation
        return torch.tanh(x @ r["weight_0"] + r["bias_0"]) @ r["weight_1"] + r["bias_1"]

    def output(self, x: Tensor) -> Tensor:
        """Mean or logits for one observation `[O]`."""
        fast: list[Tensor] = []
        if self.keys:
            query = self.represent(x)
            sizes = [torch.sqrt((query @ query + NORM_FLOOR) * (key @ key + NORM_FLOOR)) for key in self.keys]
            cosines = [query @ key / size for key, size in zip(self.keys, sizes, strict=True)]
            attention = torch.softmax(torch.stack(cosines), dim=0)
            fast = [sum(a * v[i] for a, v in zip(attention, self.values, strict=True)) for i in range(6)]
        for i in range(3):
            z = x @ self.arrays[f"weight_{i}"] + self.arrays[f"bias_{i}"]
            z_fast = x @ fast[2 * i] + fast[2 * i + 1] if fast else torch.zeros_like(z)
            x = z + z_fast if i == 2 else torch.tanh(z) + torch.tanh(z_fast)
        return x

    def log_prob(self, x: Tensor, action: Tensor) -> Tensor:
        output = self.output(x)
        if "log_std" in self.arrays:
            std = self.arrays["log_std"].exp()
            return torch.distributions.Normal(output, std).log_prob(action).sum()
        return torch.log_softmax(output, dim=0)[int(action.item())]

    def write(self, episodes: list[tuple[Tensor, Tensor, Tensor]], *, exact: bool) -> None:
        """One entry for each episode of observations, actions and advantages, without its padding."""
        entries = []
        for observations, actions, advantages in episodes:
            shared = self.arrays
            self.arrays = {name: t.clone() for name, t in shared.items()}  # the memory stays as it is
            steps = [self.log_prob(x, a) * b for x, a, b in zip(observations, actions, advantages, strict=True)]
            arrays = [self.arrays[name] for name in self.weights]
            gradients = torch.autograd.grad(-torch.stack(steps).mean(), arrays, create_graph=True)
            self.arrays = shared
            key = torch.stack([self.represent(x) for x in observations]).mean(dim=0)
            entries.append((key, [self.written(g if exact else g.detach()) for g in gradients]))
        for key, value in entries:
            self.keys.append(key)
            self.values.append(value)

    def written(self, gradient: Tensor) -> Tensor:
        linear, rest = self.writer[:3], self.writer[3:]
        u, c, v, d = torch.split(rest, [2 * self.units, self.units, self.units, 1])
        numbers = []
        for g in gradient.flatten():
            big = abs(g.item()) >= math.exp(-10)
            z = torch.stack([g.abs().log() / 10, g.sign()] if big else [torch.full_like(g, -1.0), math.exp(10) * g])
            hidden = torch.tanh(z @ u.view(2, -1) + c)
            numbers.append(self.scale * (linear[0] * g + linear[1:] @ z + hidden @ v + d[0]))
        return torch.stack(numbers).view(gradient.shape)


def episodes_of(samples: Samples, task: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Observations, actions and advantages of each episode's steps."""
    found = []
    for e in range(E):
        part = slice(e * T, (e + 1) * T)
        happened = samples.weights[task, part] > 0
        found.append(tuple(t[task, part][happened] for t in samples[:3]))
    return found


def experience(random_samples: Callable[..., Samples], spaces: Spaces, steps: int) -> list[Samples]:
    samples = [random_samples(M, E * T, spaces, seed) for seed in range(steps + 1)]
    counts = torch.stack([s.weights.view(M, E, T).gt(0).sum(dim=2) for s in samples])
    assert counts.min() >= 1
    assert counts.min() < counts.max() <= T, "episodes of different lengths"
    return samples


def plain_objective(agent: MetaNetworks, samples: list[Samples], meta_parameters: Tensor) -> Tensor:
    """The surrogate's value, up to a constant, whose gradient at the old parameters is that of the surrogate."""
    total = []
    for task in range(M):
        plain = Plain(agent, meta_parameters)
        for one in samples[:-1]:
            plain.write(episodes_of(one, task), exact=not agent.config.first_order)
        last = samples[-1]
        for x, a, advantage, weight in zip(*(t[task] for t in last), strict=True):
            total.append(weight * advantage * plain.log_prob(x, a))
    return torch.stack(total).sum()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_is_that_of_a_loop_over_tasks_episodes_and_steps(
    random_samples, some_spaces: Spaces, steps: int, first_order: bool
) -> None:
    agent = in_double(make(some_spaces, inner_steps=steps, first_order=first_order))
    samples = experience(random_samples, some_spaces, steps)
    found = agent.objective(samples, [E] * (steps + 1)).gradient
    leaf = agent.meta_parameters.requires_grad_()
    (expected,) = torch.autograd.grad(plain_objective(agent, samples, leaf), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for part in torch.split(found, [agent.policy.layout.size, agent._representation.layout.size, len(agent.writer)]):
        assert part.norm() > 1e-4, "every part has a gradient"


@pytest.mark.parametrize("steps", [1, 2])
def test_the_gradient_agrees_with_finite_differences(random_samples, some_spaces: Spaces, steps: int) -> None:
    agent = in_double(make(some_spaces, inner_steps=steps))
    chunk = agent.objective(experience(random_samples, some_spaces, steps), [E] * (steps + 1))
    start, numbers = agent.meta_parameters, []
    for i in range(len(start)):
        unit = torch.zeros_like(start)
        unit[i] = 1.0

        def slope(h: float, unit: Tensor = unit) -> Tensor:
            return (chunk.evaluate(start + h * unit)[0] - chunk.evaluate(start - h * unit)[0]) / (2 * h)

        numbers.append((4 * slope(5e-6) - slope(1e-5)) / 3)  # Richardson: an error of fourth order
    torch.testing.assert_close(chunk.gradient, torch.stack(numbers), rtol=1e-6, atol=1e-7)


def test_the_curvature_agrees_with_finite_differences_of_the_divergence(random_samples, some_spaces: Spaces) -> None:
    agent = in_double(make(some_spaces))
    chunk, start = agent.objective(experience(random_samples, some_spaces, 1), [E, E]), agent.meta_parameters
    generator = torch.Generator().manual_seed(0)
    u, v = (0.1 * torch.randn(start.shape, generator=generator, dtype=DOUBLE) for _ in range(2))

    def second(direction: Tensor, h: float) -> Tensor:
        return sum(chunk.evaluate(start + s * h * direction)[1] for s in (1, -1)) / h**2

    coarse, fine = ((second(u + v, h) - second(u - v, h)) / 4 for h in (1e-3, 5e-4))
    torch.testing.assert_close(u @ chunk.curvature_product(v), (4 * fine - coarse) / 3, rtol=1e-4, atol=1e-7)


# Acting and adapting ----------------------------------------------------------------------------------------


def test_episodes_that_end_early_write_by_the_steps_that_happened(some_spaces: Spaces, play) -> None:
    agent = make(some_spaces)
    (trajectories,) = play(agent, LENGTHS[:1])
    samples, memory = agent.samples(trajectories), agent.adapt(agent.begin(TASKS, E), trajectories).memory
    assert memory.keys.shape == (M, E, 2)
    for task in range(M):
        plain = Plain(agent, agent.meta_parameters.requires_grad_())
        plain.write(episodes_of(samples, task), exact=False)
        for e in range(E):
            torch.testing.assert_close(memory.keys[task, e], plain.keys[e], rtol=1e-4, atol=1e-5)
            expected = torch.cat([t.flatten() for t in plain.values[e]])
            torch.testing.assert_close(memory.values[task, e], expected, rtol=1e-4, atol=1e-5)


def test_what_is_padding_does_not_count(some_spaces: Spaces, play) -> None:
    agent = make(some_spaces)
    (trajectories,) = play(agent, LENGTHS[:1])
    memory = agent.adapt(agent.begin(TASKS, E), trajectories).memory
    trajectories.observations[~trajectories.mask] = 7.0
    again = agent.adapt(agent.begin(TASKS, E), trajectories).memory
    assert all(torch.equal(one, other) for one, other in zip(memory, again, strict=True))


def distribution(agent: MetaNetworks, state: FastWeightState, observations: np.ndarray) -> Distribution:
    seen = torch.tensor(observations, dtype=state.parameters.dtype).flatten(1, 2)
    return agent.distribution(state.parameters, state.memory, seen)


def test_it_acts_by_slow_weights_first_and_with_the_memory_after(some_spaces: Spaces, play) -> None:
    agent = make(some_spaces)
    (trajectories,) = play(agent, LENGTHS[:1])
    observations, before = trajectories.observations, agent.begin(TASKS, E)
    after = agent.adapt(before, trajectories)
    slow = agent.policy(before.parameters[:, : agent.policy.layout.size], torch.tensor(observations).flatten(1, 2))
    torch.testing.assert_close(tuple(distribution(agent, before, observations)), tuple(slow))
    assert (distribution(agent, after, observations)[0] - slow[0]).abs().max() > 1e-3
    builder = metarl.TrajectoryBuilder(M, E, some_spaces, observations[:, :, 0], agent.recorded)
    for state in (before, after):
        action, kept = agent.act(state, builder.step, np.random.default_rng(0), mode=True)
        expected = distribution(agent, state, observations[:, :, :1])[0]
        output = torch.tensor(action.extras["policy_output"])
        torch.testing.assert_close(output, expected if not some_spaces.choices else expected.argmax(-1, True).float())
        assert kept is state


def test_what_acted_is_what_the_meta_update_differentiates(some_spaces: Spaces, play) -> None:
    """The divergence of the adapted policy from that of the outer objective is zero, also after two steps."""
    agent = make(some_spaces, inner_steps=2)
    trajectories = play(agent, LENGTHS)
    samples = [agent.samples(t) for t in trajectories]
    state = agent.begin(TASKS, E)
    for one in trajectories[:-1]:
        state = agent.adapt(state, one)
    assert state.memory.keys.shape[1] == 2 * E
    acted = distribution(agent, state, trajectories[-1].observations)
    chunk = agent.objective(samples, [E] * 3)
    assert mean_divergence(chunk._old, acted, samples[-1]).max() < 1e-6
    gain = surrogate_objective(acted, acted, samples[-1]).sum()
    assert chunk.evaluate(agent.meta_parameters)[0].item() == pytest.approx(gain.item(), abs=1e-5)


def test_a_memory_is_cut_joined_and_checked(some_spaces: Spaces, play) -> None:
    agent = make(some_spaces)
    (trajectories,) = play(agent, LENGTHS[:1])
    state = agent.adapt(agent.begin(TASKS, E), trajectories)
    pieces = [state.tasks(slice(0, 1)), state.tasks(slice(1, M))]
    joined = FastWeightState.join(pieces)
    assert all(torch.equal(one, other) for one, other in zip(joined.memory, state.memory, strict=True))
    assert torch.equal(pieces[1].memory.values, state.memory.values[1:])
    assert not torch.equal(state.memory.values[0], state.memory.values[1])
    with pytest.raises(NotFiniteError, match="memory of fast weights"):
        FastWeightState(state.parameters, state.memory._replace(values=state.memory.values / 0.0))


def test_a_part_that_acts_needs_no_writer(spaces: Spaces, play) -> None:
    agent = make(spaces)
    (trajectories,) = play(agent, LENGTHS[:1])
    state, part = agent.adapt(agent.begin(TASKS, E), trajectories), agent.acting_part()
    assert not hasattr(part, "writer")
    builder = metarl.TrajectoryBuilder(M, E, spaces, trajectories.observations[:, :, 0], agent.recorded)
    one, other = (each.act(state, builder.step, np.random.default_rng(0))[0] for each in (agent, part))
    assert np.array_equal(one.environment, other.environment)


def test_it_starts_close_to_mamls_step(spaces: Spaces, play) -> None:
    """All attention weights are near 1 / E, so the fast weights are near a gradient step on all episodes."""
    agent = make(spaces, perturbed=False, inner_lr=1e-3)
    (trajectories,) = play(agent, LENGTHS[:1])
    state, samples = agent.adapt(agent.begin(TASKS, E), trajectories), agent.samples(trajectories)
    leaf = state.parameters[:, : agent.policy.layout.size].clone().requires_grad_()
    per_episode = samples.weights.view(M, E, T)
    per_episode = (per_episode / per_episode.sum(dim=2, keepdim=True) / E).flatten(1)
    new = agent.policy(leaf, samples.observations)
    loss = -(per_episode * new.log_prob(samples.actions) * samples.advantages).sum()
    (gradient,) = torch.autograd.grad(loss, leaf)
    size = agent._slow.layout.size
    torch.testing.assert_close(state.memory.values.mean(dim=1), -1e-3 * gradient[:, :size], rtol=1e-4, atol=1e-7)


# Learning, saving -------------------------------------------------------------------------------------------


def test_a_deviation_pressed_on_its_floor_stays_there_and_comes_back(spaces: Spaces) -> None:
    """Rewards of the squared noise of the policy's output, times a price."""
    agent = make(spaces, perturbed=False, init_std=0.2, min_std=0.2, baseline="none")

    def update(seed: int, price: float) -> float:
        rng, state, trajectories = np.random.default_rng(seed), agent.begin(TASKS, 8), list[Trajectories]()
        for k in range(2):
            if k:
                state = agent.adapt(state, trajectories[-1])
            builder = metarl.TrajectoryBuilder(M, 8, spaces, rng.standard_normal((M, 8, 3)), agent.recorded)
            for t in range(1, T + 1):
                mean, log_std = distribution(agent, state, builder.step.observation[:, :, None])
                action, _ = agent.act(state, builder.step, rng)
                noise = (action.extras["policy_output"] - mean.view(M, 8, -1).numpy()) / log_std.exp().numpy()
                reward = price * np.square(noise).sum(axis=-1)
                builder.add(action, rng.standard_normal((M, 8, 3)), reward, np.zeros((M, 8), dtype=bool), t == T)
            trajectories.append(builder.build())
        agent.meta_update(MetaBatch(TASKS, tuple(trajectories)))
        return float(agent.parameters[agent.policy.bound.where].exp().min())

    for seed in range(3):
        assert update(seed, -1.0) == pytest.approx(0.2, abs=1e-6)
    assert [update(seed, 1.0) for seed in range(4)][-1] > 0.205


def test_a_saved_agent_goes_on_bit_for_bit(some_spaces: Spaces, play) -> None:
    agent, twin = make(some_spaces), make(some_spaces, perturbed=False)
    agent.meta_update(MetaBatch(TASKS, tuple(play(agent, LENGTHS[:2]))))
    twin.restore(agent.tensors(), agent.counters())
    for one in (agent, twin):
        one.meta_update(MetaBatch(TASKS, tuple(play(one, LENGTHS[1:]))))
    mine, theirs = agent.tensors(), twin.tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(t, theirs[name]) for name, t in mine.items())
    with pytest.raises(ValueError, match="writer"):
        agent.restore({**mine, "writer": mine["writer"][:-1]}, {})


def test_the_initial_weights_come_from_the_given_generator_alone(spaces: Spaces) -> None:
    before, made = torch.get_rng_state(), [make(spaces, perturbed=False).meta_parameters for _ in range(2)]
    assert torch.equal(*made)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_update_improves_the_surrogate_within_the_trust_region(some_spaces: Spaces, play) -> None:
    agent = make(some_spaces, normalise_observations=True)
    before = agent.meta_parameters
    metrics = agent.meta_update(MetaBatch(TASKS, tuple(play(agent, LENGTHS[:2]))))
    assert metrics["update/accepted"] == 1.0
    assert metrics["update/surrogate_gain"] > 0.0
    assert 0.0 < metrics["update/kl"] <= agent.config.max_kl
    changed = agent.meta_parameters != before
    parts = [agent.policy.layout.size, agent._representation.layout.size, len(agent.writer)]
    assert all(part.any() for part in torch.split(changed, parts))


@pytest.mark.parametrize("entries", [0, E])
def test_numpy_alone_reproduces_the_mode(
    entries: int, spaces: Spaces, play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader of docs/exported-policies.md, before adaptation and after."""
    agent = make(spaces, normalise_observations=True)
    agent.meta_update(MetaBatch(TASKS, tuple(play(agent, LENGTHS[:2]))))
    (trajectories,) = play(agent, LENGTHS[:1])
    state = agent.begin(TASKS, E)
    if entries:
        state = agent.adapt(state, trajectories)
    monkeypatch.chdir(tmp_path)
    agent.save_policy(state, "adapted.safetensors", task=1)
    with safe_open("adapted.safetensors", framework="np") as file:
        assert file.get_tensor("keys").shape == (entries, 2)
        assert json.loads(file.metadata()["metarl"])["representation_layers"] == 2
    (reader,) = re.findall(r"```python\n([^`]*class MetaNetworksPolicy.*?)```", PAGE, re.DOTALL)
    lines: dict[str, Any] = {}
    exec(reader, lines)
    policy = lines["MetaNetworksPolicy"]("adapted.safetensors")
    for seen in np.random.default_rng(0).uniform(-3, 3, (5, 3)).astype(np.float32):
        step = metarl.TrajectoryBuilder(1, 1, spaces, seen, agent.recorded).step
        asked = agent.act(state.tasks(slice(1, 2)), step, np.random.default_rng(0), mode=True)[0].single()
        assert policy.act(seen) == pytest.approx(asked, rel=1e-4, abs=1e-5)


def test_the_memory_of_fast_weights_is_counted() -> None:
    spaces = Spaces(observation_size=17, action_low=(-1.0,) * 6, action_high=(1.0,) * 6, horizon=10)
    config = MetaNetworksConfig(hidden=(100, 100), inner_steps=2)
    needs = MetaNetworks.memory_needed(config, spaces, RunSize(tasks=3, episodes=40, iterations=1))
    (stored,) = (need for need in needs if need.what == "the memory of 80 entries for each of 3 tasks")
    assert stored.num_bytes == 4 * 3 * 80 * (18 * 100 + 101 * 100 + 101 * 6 + 16)
    (read,) = (need for need in needs if need.what == "reading a memory of 80 entries")
    assert read.num_bytes == 4 * (40 * 10) * 80 * 100
    with pytest.raises(ValueError, match=r"fewer --episodes or smaller layers"):
        check_memory([stored], free=1e6, in_all=1e30)
    on_gpu = MetaNetworks.memory_needed(config, spaces, RunSize(tasks=3, episodes=40, iterations=1, gpu=True))
    assert stored not in on_gpu
