from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.rma import Rma, RmaConfig
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.evaluation import evaluate
from metarl.learning.trials.actor import Memory
from metarl.registry import make_family
from metarl.rollout import TrajectoryBuilder
from metarl.sampling import LocalSampler
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.training import meta_train
from metarl.types import MetaBatch, Progress, Spaces, Step, Task, TaskParameter, Trajectories

LENGTHS = np.array([[[5, 2], [1, 5], [3, 4]], [[4, 5], [5, 1], [5, 5]]])
"""Steps of the episodes `[K + 1, M, E]`, horizon 5: many end early."""
TASKS = tuple(Task.of("noise", goal=(0.5 * i, 1.0 - i), mass=2.0 + i, kind=i % 2) for i in range(3))
TOLD = (TaskParameter("goal", 2), TaskParameter("mass", 1), TaskParameter("kind", 1, ((0.0,), (1.0,))))
SMALL: dict[str, Any] = {"units": 6, "hidden": (7,), "task_hidden": (5,), "latent": 2, "history_steps": 4}
SMALL |= {"history_updates": 3, "history_trials": 4, "buffer_trials": 8}
LATE = 0.6
ROOT = Path(__file__).resolve().parents[2]


def make(spaces: Spaces, seed: int = 0, told: tuple[TaskParameter, ...] = TOLD, **settings: Any) -> Rma:
    """A small agent none of whose parameters is zero."""
    config = RmaConfig(**{**SMALL, **settings})
    agent = Rma(config, replace(spaces, task_parameters=told), device=torch.device("cpu"), rng=rng_of(seed))
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: t + 0.3 * torch.randn(t.shape, generator=generator) if name.startswith(("param", "history.")) else t
        for name, t in agent.tensors().items()
    }
    agent.restore(tensors, agent.counters())
    return agent


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def play(agent: Rma, state: Memory[Any], seed: int = 0) -> list[Trajectories]:
    """Trials in a world of noise, from a state."""
    rng, o, found = rng_of(seed), agent.spaces.observation_size, list[Trajectories]()
    for length in LENGTHS:
        if found:
            state = agent.adapt(state, found[-1])
        builder = TrajectoryBuilder(3, 2, agent.spaces, rng.standard_normal((3, 2, o)), agent.recorded)
        for t in range(1, length.max() + 1):
            action, state = agent.act(state, builder.step, rng)
            seen, reward, over = rng.standard_normal((3, 2, o)), rng.standard_normal((3, 2)), length == t
            builder.add(action, seen, reward, over & (t < 5), over & (t == 5))
        found.append(builder.build())
    return found


def trained(agent: Rma, progress: float, seed: int = 0) -> dict[str, float]:
    """An update on trials of noise at that progress of the run."""
    trials = play(agent, agent.begin_training(TASKS, 2, progress), seed)
    return agent.meta_update(MetaBatch(TASKS, tuple(trials), progress))


def changed(agent: Rma, before: dict[str, torch.Tensor]) -> set[str]:
    """First parts of the names of tensors that changed."""
    after = agent.tensors()
    assert after.keys() == before.keys()
    return {name.rpartition(".")[0] for name, t in after.items() if not torch.equal(t, before[name])}


def step_of(agent: Rma, m: int, e: int, seed: int = 8) -> Step:
    """A step in the middle of an episode."""
    rng = rng_of(seed)
    shape = (m, e, agent.spaces.action_size)
    return Step(
        observation=rng.standard_normal((m, e, agent.spaces.observation_size), dtype=np.float32),
        previous_action=np.full(shape, 1.0, dtype=np.float32),
        previous_reward=np.full((m, e), 2.0, dtype=np.float32),
        first=np.zeros((m, e), dtype=np.bool_),
        live=np.ones((m, e), dtype=np.bool_),
    )


# Who is told the task -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [{}, {"history_encoder": "gru", "history_steps": 50}, {"normalise_observations": True}]
)
def test_in_phase_one_a_trial_of_training_acts_on_the_latent_of_its_task(spaces: Spaces, settings: Any) -> None:
    agent = make(spaces, **settings)
    trained(agent, 0.0)  # so that there are statistics
    state, step = agent.begin_training(TASKS, 2, 0.3), step_of(agent, 3, 2)
    action, after = agent.act(state, step, rng_of(0), mode=True)
    numbers = np.array([[*t["goal"], *t["mass"]] for t in TASKS])
    if settings.get("normalise_observations"):
        numbers = agent._told_moments.normalise(numbers)
    codes = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    told = torch.tensor(np.concatenate([numbers, codes], axis=1), dtype=torch.float32)
    with torch.no_grad():
        latents = agent.network.task_encoder(told).repeat_interleave(2, dim=0)
        x = agent._inputs(step.observation, agent._feedback.while_acting(step, state.feedback)).view(6, -1)
        expected = agent.network.actor_critic(torch.cat([x[:, :5], latents], dim=1))[0].mean
    assert action.extras["policy_output"].reshape(6, 2) == pytest.approx(expected.numpy(), abs=1e-5)
    torch.testing.assert_close(after.content.latent, latents)
    assert action.extras["given"].all()


@pytest.mark.parametrize("encoder", ["conv", "gru"])
def test_evaluation_and_phase_two_never_read_the_task(spaces: Spaces, encoder: str) -> None:
    agent = make(spaces, history_encoder=encoder, history_steps=50, normalise_observations=True)
    others = (*TASKS[::-1][:2], Task.of("another"))
    trained(agent, 0.0)

    def actions(state: Memory[Any]) -> list[np.ndarray]:
        return [t.extras["policy_output"] for t in play(agent, state)]

    shown = [actions(agent.begin(tasks, 2)) for tasks in (TASKS, others)]
    shown += [actions(agent.begin_training(tasks, 2, LATE)) for tasks in (TASKS, others)]
    for other in shown[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(shown[0], other, strict=True))
    told = [actions(agent.begin_training(tasks, 2, 0.0)) for tasks in (TASKS, TASKS[::-1])]
    assert not np.array_equal(told[0][0], told[1][0]), "in phase 1 the tasks tell"


def test_an_evaluation_is_the_same_whatever_tasks_the_agent_is_shown() -> None:
    family = make_family("point-robot")
    tasks, returns = family.distribution.held_out(4), []
    for shown in (tasks, tasks[::-1]):
        twin = make(family.spaces(), told=family.spaces().task_parameters, history_steps=10)
        begin = twin.begin
        twin.begin = lambda _, episodes, begin=begin, shown=shown: begin(shown, episodes)  # type: ignore[method-assign]
        returns.append(evaluate(twin, family, tasks, Streams(0), episodes=2).returns)
    assert np.array_equal(*returns)


def test_the_loop_of_training_tells_the_tasks_in_phase_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    family, streams, begun = make_family("point-robot"), Streams(0), list[tuple[float, bool]]()
    agent = make(family.spaces(5), told=family.spaces().task_parameters, phase_two=0.5)
    begin = agent.begin_training

    def noted(tasks: Any, episodes: int, progress: float = 0.0) -> Memory[Any]:
        state = begin(tasks, episodes, progress)
        begun.append((progress, bool(state.content.given.all())))
        return state

    monkeypatch.setattr(agent, "begin_training", noted)
    sampler = LocalSampler(family.make_envs(3, 2, 5))
    reports = list(meta_train(agent, sampler, family.distribution, streams, iterations=4))
    assert begun == [(0.0, True), (0.25, True), (0.5, False), (0.75, False)]
    assert [report.metrics["phase"] for report in reports] == [1.0, 1.0, 2.0, 2.0]


def test_a_trial_that_was_not_told_is_refused_in_phase_one_and_learned_from_in_phase_two(spaces: Spaces) -> None:
    agent = make(spaces)
    trials = tuple(play(agent, agent.begin(TASKS, 2)))
    with pytest.raises(ValueError, match=r"rma: got a trial that was begun by begin, expected begin_training"):
        agent.meta_update(MetaBatch(TASKS, trials, 0.59))
    assert agent.meta_update(MetaBatch(TASKS, trials, LATE))["phase"] == 2.0


@pytest.mark.parametrize("how", ["begin_training", "meta_update"])
def test_a_task_with_other_parameters_is_refused(spaces: Spaces, how: str) -> None:
    agent, wrong = make(spaces), (*TASKS[:2], Task.of("noise", goal=(1.0, 2.0)))
    trials = tuple(play(agent, agent.begin_training(TASKS, 2)))
    with pytest.raises(ValueError, match="rma: got a task of 'noise' with 0 numbers of 'mass', expected 1"):
        _ = agent.begin_training(wrong, 2) if how == "begin_training" else agent.meta_update(MetaBatch(wrong, trials))


def test_what_cannot_be_built_is_refused(spaces: Spaces) -> None:
    with pytest.raises(ValueError, match=r"rma: got spaces without task_parameters, expected .*train it again"):
        make(spaces, told=())
    with pytest.raises(ValueError, match=r"history_steps: got 4 with history_encoder 'gru', .*leave it out"):
        make(spaces, history_encoder="gru")


# Phases ---------------------------------------------------------------------------------------------------------


def test_phase_one_trains_policy_value_and_encoder_of_the_task_and_nothing_else(spaces: Spaces) -> None:
    agent = make(spaces, normalise_observations=True)
    before = agent.tensors()
    report = trained(agent, 0.59)
    assert report["phase"] == 1.0
    moved = changed(agent, before)
    assert {"parameters.task_encoder.layers.0", "parameters.task_encoder.output"} <= moved
    assert {"parameters.actor.0", "parameters.critic.0"} <= moved
    assert {"observation_moments", "told_moments", "return_moments"} <= moved
    assert not any(name.startswith("history") for name in moved)


@pytest.mark.parametrize("encoder", ["conv", "gru"])
def test_phase_two_trains_the_encoder_of_the_history_and_leaves_the_rest_bit_for_bit(
    spaces: Spaces, encoder: str
) -> None:
    agent = make(spaces, normalise_observations=True, history_encoder=encoder, history_steps=50)
    trained(agent, 0.3)
    before, counters = agent.tensors(), agent.counters()
    report = trained(agent, LATE, seed=1)
    assert report["phase"] == 2.0
    moved = changed(agent, before)
    assert {"history.layers.0", "history.output"} <= moved
    assert all(name.startswith(("history", "buffer")) for name in moved)
    assert agent.counters()["generator"] == counters["generator"]


def test_the_gradient_of_ppo_in_the_encoder_of_the_task_is_that_of_finite_differences(spaces: Spaces) -> None:
    agent = make(spaces)
    learner, rng = agent._learner, rng_of(3)
    for module in (agent.network.actor_critic, agent.network.task_encoder):
        module.double()
    actions, x, told = (torch.tensor(rng.standard_normal((6, n))) for n in (2, 5, 5))
    noise, values, advantages, targets = torch.tensor(rng.standard_normal((4, 6)))
    log_probs = agent._forward(x, told)[0].log_prob(actions).detach() + 0.01 * noise
    samples = (actions, log_probs, values, advantages, targets, torch.ones(6, dtype=torch.float64))
    weight = agent.network.task_encoder.output.weight
    at = sum(p.numel() for n, p in learner._parameters.items() if not n.startswith("task_encoder.output"))
    found = learner._differentiate(torch.tensor(6.0), *samples, x, told)[at : at + weight.numel()]

    def loss() -> float:
        policy, value, entropy, *_ = learner._differentiate(torch.tensor(6.0), *samples, x, told)[-5:].tolist()
        return policy + 0.5 * value - agent.config.entropy_weight * entropy

    expected, h = [], 1e-6
    for entry in weight.data.view(-1).split(1):
        ends = []
        for change in (h, -h):
            entry += change
            ends.append(loss())
            entry -= change
        expected.append((ends[0] - ends[1]) / (2 * h))
    assert np.abs(expected).max() > 1e-3
    assert found.numpy() == pytest.approx(np.array(expected), abs=1e-7)


class InOrder:
    """Draws everything, in order."""

    def choice(self, size: int, count: int, replace: bool) -> np.ndarray:
        """The first numbers."""
        return np.arange(count)


def test_the_regression_is_given_the_history_as_it_was_while_acting(spaces: Spaces) -> None:
    """The latents that acting used are those of the encoder over the packed trials, on all steps that happened."""
    agent = make(spaces, normalise_observations=True, reward_input_scale=0.5, history_updates=0)
    trained(agent, 0.0)
    trials = play(agent, agent.begin_training(TASKS, 2, LATE))
    report = agent.meta_update(MetaBatch(TASKS, tuple(trials), LATE))
    x, latents, mask = agent._histories(*agent._replay.sample(6, InOrder()))  # type: ignore[arg-type]
    with torch.no_grad():
        estimates, _ = agent.network.encoder(x, agent.network.encoder.cell.fresh_memory(len(x)))
    numbers, errors, targets = np.array([[*t["goal"], *t["mass"]] for t in TASKS]), [], []
    for row, (m, e) in enumerate(np.ndindex(3, 2)):
        acted = np.concatenate([trials[k].extras["latent"][m, e, : LENGTHS[k, m, e]] for k in range(2)])
        assert mask[row].sum() == len(acted)
        assert estimates[row, : len(acted)].numpy() == pytest.approx(acted, abs=1e-5)
        code = [1.0 - m % 2, float(m % 2)]
        told = torch.tensor([*agent._told_moments.normalise(numbers[m]), *code], dtype=torch.float32)
        expected = agent.network.task_encoder(told).detach().numpy()
        assert latents[row].numpy() == pytest.approx(expected, abs=1e-6)
        errors += list(np.square(acted - expected).sum(axis=1))
        targets += [expected] * len(acted)
    assert report["history/error"] == pytest.approx(np.mean(errors), rel=1e-4)
    explained = 1.0 - np.mean(errors) / np.array(targets).var(axis=0).sum()
    assert report["history/explained_variance"] == pytest.approx(explained, rel=1e-3)
    assert report["buffer/trials"] == 6
    assert "history/loss" not in report


def test_without_rewards_the_trained_agent_reads_none(spaces: Spaces) -> None:
    for rewards, same in ((False, True), (True, False)):
        agent = make(spaces, history_rewards=rewards)
        step = step_of(agent, 3, 2)
        shown = [
            agent.act(agent.begin(TASKS, 2), replace(step, previous_reward=np.full((3, 2), r, np.float32)), rng_of(0))
            for r in (0.0, 5.0)
        ]
        outputs = [action.extras["policy_output"] for action, _ in shown]
        assert np.array_equal(*outputs) is same


def test_step_sizes_fall_to_zero_in_each_phase(spaces: Spaces) -> None:
    agent = make(spaces, anneal=True, learning_rate=1e-3, history_learning_rate=1e-2)
    first = [trained(agent, p)["update/learning_rate"] for p in (0.0, 0.3)]
    assert first == pytest.approx([1e-3, 5e-4])
    second = [trained(agent, p)["history/learning_rate"] for p in (LATE, 0.8)]
    assert second == pytest.approx([1e-2, 5e-3])


# Saving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", [0.0, LATE])
@pytest.mark.parametrize("encoder", ["conv", "gru"])
def test_a_restored_agent_goes_on_bit_for_bit(
    tmp_path: Path, discrete_spaces: Spaces, progress: float, encoder: str
) -> None:
    settings: dict[str, Any] = {"history_encoder": encoder, "history_steps": 50, "normalise_observations": True}
    agent, twin = (make(discrete_spaces, seed, **settings) for seed in (0, 5))
    for at in (0.0, LATE):
        trained(agent, at)
    save_checkpoint(tmp_path, agent, Streams(0), Progress(1, 1), keep=2)
    load_newest(tmp_path, twin)
    for one in (agent, twin):
        trained(one, progress, seed=3)
    assert agent.counters() == twin.counters()
    assert all(torch.equal(tensor, twin.tensors()[name]) for name, tensor in agent.tensors().items())


@pytest.mark.parametrize("wrong", ["generator", "history_generator"])
def test_a_checkpoint_that_does_not_fit_changes_nothing(spaces: Spaces, wrong: str) -> None:
    agent, other = make(spaces), make(spaces, 1)
    before = agent.tensors()
    with pytest.raises(ValueError, match="expected a PCG64 state"):
        agent.restore(other.tensors(), {**other.counters(), wrong: None})
    with pytest.raises(ValueError, match="checkpoint of rma: got tensors"):
        agent.restore({}, other.counters())
    with pytest.raises(ValueError, match="buffer 'buffer': got arrays"):
        agent.restore({n: t for n, t in other.tensors().items() if n != "buffer.next"}, other.counters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.tensors().items())


def test_an_exported_policy_holds_the_history_and_not_the_task(tmp_path: Path, spaces: Spaces) -> None:
    agent = make(spaces)
    _, state = agent.act(agent.begin(TASKS, 2), step_of(agent, 3, 2), rng_of(0))
    agent.save_policy(state, tmp_path / "policy.safetensors", task=2)
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    assert torch.equal(tensors["memory"], state.content.cell[4:])
    assert {name.split(".")[0] for name in tensors} >= {"network", "encoder", "feedback"}
    assert not any("task_encoder" in name for name in tensors)
    assert description["inputs"] == "observation, previous action, latent"
    assert description["history_steps"] == 4


@pytest.mark.parametrize("settings", [{}, {"history_rewards": False, "history_steps": 20, "mean": "tanh"}])
def test_numpy_alone_reproduces_a_trial(spaces: Spaces, read_within_a_trial: Any, settings: dict[str, Any]) -> None:
    pages = [(ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("exported-policies", "rma")]
    blocks = [re.findall(r"```python\n(.*?)```", page, re.DOTALL) for page in pages]
    lines: dict[str, Any] = {}
    exec(next(block for block in blocks[0] if "class Rl2Policy:" in block) + blocks[1][0], lines)
    agent = make(spaces, normalise_observations=True, **settings)
    trained(agent, 0.0)
    read_within_a_trial(agent, lines["RmaPolicy"], rng_of(0))


# Learning -------------------------------------------------------------------------------------------------------


def test_it_learns_to_recognise_what_only_the_transitions_show() -> None:
    """The next observation is the sign times the action, and so is the reward: after a step the history tells."""
    one = Spaces(observation_size=1, action_low=(-1.0,), action_high=(1.0,), horizon=6)
    settings: dict[str, Any] = {"history_rewards": False, "units": 16, "hidden": (16,), "history_steps": 6}
    settings |= {"learning_rate": 0.01, "history_trials": 32, "buffer_trials": 500}
    told = (TaskParameter("sign", 1),)
    agent = make(one, told=told, **settings, history_learning_rate=0.01, history_updates=30, episodes_per_trial=1)
    rng, iterations = rng_of(0), 40

    def episode(begun: Memory[Any], signs: np.ndarray) -> Trajectories:
        builder, state = TrajectoryBuilder(8, 8, one, np.zeros((8, 8, 1))), begun
        for t in range(6):
            action, state = agent.act(state, builder.step, rng)
            outcome = np.clip(action.environment[..., 0], -1, 1) * signs[:, None]
            builder.add(action, outcome[..., None], outcome, False, t == 5)
        return builder.build()

    for i in range(iterations):
        signs = rng.choice([-1.0, 1.0], size=8)
        tasks = tuple(Task.of("sign", sign=s) for s in signs)
        trial = episode(agent.begin_training(tasks, 8, i / iterations), signs)
        agent.meta_update(MetaBatch(tasks, (trial,), i / iterations))
        if i == 23:  # the last iteration of phase 1
            assert trial.rewards.mean() > 0.5
            blind = episode(agent.begin(tasks, 8), signs)
            assert blind.rewards[:, :, 1:].mean() < 0.3, "the encoder of the history is untrained"
    final = episode(agent.begin(tasks, 8), signs)
    assert final.rewards[:, :, 2:].mean() > 0.5
