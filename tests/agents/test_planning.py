"""mb-mpc, grbal and rebal: what the planner sees, what the model adapts to, and learning on a small line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces as gym_spaces

from metarl.agent import MetaAgent
from metarl.agents.grbal import Grbal, GrbalConfig
from metarl.agents.mb_mpc import MbMpc, MbMpcConfig
from metarl.agents.rebal import Rebal, RebalConfig, after_transitions
from metarl.agents.rl2 import Rl2
from metarl.learning.planning.dynamics import Windows
from metarl.registry import make_family, reward_for
from metarl.rewards import DeclaredReward
from metarl.rollout import collect
from metarl.runs import RunConfig, TrainConfig
from metarl.sampling import LocalSampler
from metarl.seeding import Streams
from metarl.tasks import ContinuousTasks, Family, uniform
from metarl.training import meta_train
from metarl.types import Action, Floats, MetaBatch, Step, Task
from metarl.vector import TaskVecEnv

HORIZON = 12
SMALL: dict[str, Any] = {
    "hidden": (16,),
    "activation": "tanh",
    "gradient_steps": 60,
    "batch_windows": 16,
    "learning_rate": 1e-2,
    "plan_steps": 4,
    "candidates": 60,
    "rounds": 3,
    "elites": 6,
}
AGENTS: dict[str, tuple[type[Any], Any]] = {
    "mb-mpc": (MbMpc, MbMpcConfig(**SMALL, window=6)),
    "grbal": (Grbal, GrbalConfig(**SMALL, past=3, future=3, inner_lr=0.1)),
    "rebal": (Rebal, RebalConfig(**SMALL, past=3, future=3, units=8)),
    "ensemble": (Grbal, GrbalConfig(**SMALL, past=3, future=3, inner_lr=0.01, ensemble=2, probabilistic=True)),
}


def near_zero(observations: Any, actions: Any, following: Any, task: Mapping[str, Any]) -> Any:
    """The closer to the origin the better."""
    return -abs(following[..., 0])


class Line(TaskVecEnv):
    """Points on a line that a task's gain, of either sign, moves by the action; they start 1 away from the origin."""

    def __init__(self, num_tasks: int, episodes: int, horizon: int) -> None:
        box = gym_spaces.Box(-np.inf, np.inf, (1,), np.float64), gym_spaces.Box(-0.5, 0.5, (1,), np.float32)
        super().__init__(num_tasks, episodes, horizon, *box)
        self._x, self._gain = np.zeros((self.num_envs, 1)), np.zeros((self.num_envs, 1))

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self._gain = self.task_values(tasks, "gain")

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self._x[rows] = rng.choice([-1.0, 1.0], (len(rows), 1))

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Any, Any, dict[str, np.ndarray]]:
        self._x[rows] += self._gain[rows] * actions
        never = np.zeros(len(rows), dtype=np.bool_)
        return -np.abs(self._x[rows, 0]), never, never, {}

    def _observe(self, rows: np.ndarray) -> Floats:
        return self._x[rows]


def line(low: float = 0.5, high: float = 1.0) -> Family:
    gain = uniform("gain", low, high, meaning="displacement by an action of 1")
    return Family(
        name="line",
        summary="go to the origin",
        distribution=ContinuousTasks("line", (gain,)),
        horizon=HORIZON,
        make_envs=Line,
        reward=DeclaredReward(near_zero),
    )


def built(name: str, family: Family | None = None, **changes: Any) -> Any:
    kind, config = AGENTS[name]
    spaces = (family or line()).spaces()
    return kind.build(replace(config, **changes), spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))


def trained(name: str, family: Family, iterations: int = 4, **changes: Any) -> tuple[Any, list[dict[str, float]]]:
    agent = built(name, family, **changes)
    sampler = LocalSampler(family.make_envs(6, 2, family.horizon))
    reports = meta_train(agent, sampler, family.distribution, Streams(1), iterations=iterations)
    return agent, [report.metrics for report in reports]


def held_out_return(agent: MetaAgent[Any], family: Family) -> float:
    tasks = family.distribution.held_out(8)
    envs = family.make_envs(len(tasks), 1, family.horizon)
    envs.set_tasks(tasks)
    return float(collect(envs, agent, agent.begin(tasks, 1), Streams(3))[0].returns().mean())


def steps_along(observations: Floats, actions: Floats, first: int = 0) -> list[Step]:
    """The inputs of `act` along given observations `[T + 1, O]` and actions `[T, A]`, in one row."""
    zero = np.zeros_like(actions[:1])
    return [
        Step(
            observation=observations[None, None, t].astype(np.float32),
            previous_action=np.concatenate([zero, actions])[None, None, t].astype(np.float32),
            previous_reward=np.zeros((1, 1), dtype=np.float32),
            first=np.full((1, 1), t == first),
            live=np.ones((1, 1), dtype=bool),
        )
        for t in range(len(observations))
    ]


@pytest.mark.parametrize("name", AGENTS)
def test_planning_with_the_learned_model_beats_random_actions(name: str) -> None:
    family = line()
    agent, metrics = trained(name, family)
    assert metrics[0]["return/0"] < -8.0, "random actions"
    assert metrics[-1]["return/0"] > -4.0, "the best is near -2.5: the first steps are needed to arrive"
    assert held_out_return(agent, family) > -4.0
    assert metrics[-1]["model/loss_last"] < metrics[0]["model/loss_first"]


def test_the_model_that_adapts_plans_where_the_sign_of_the_gain_differs() -> None:
    """No single model fits gains of both signs, and the last transitions tell the sign."""
    gain = uniform("gain", -1.0, 1.0, meaning="displacement by an action of 1")
    signs = replace(gain, transform=lambda u: np.where(u < 0.5, -1.0, 1.0) * (0.7 + 0.3 * u))
    family = replace(line(), distribution=ContinuousTasks("line", (signs,)))
    changes = {"gradient_steps": 150, "hidden": (32,), "plan_std": 0.7}
    names = ("mb-mpc", "grbal", "rebal")
    returns = {name: held_out_return(trained(name, family, 5, **changes)[0], family) for name in names}
    assert returns["grbal"] > returns["mb-mpc"] + 2.0
    assert returns["rebal"] > returns["mb-mpc"] + 2.0


def test_the_newest_transition_is_in_the_window_and_older_ones_leave_it() -> None:
    agent = built("grbal", warmup_iterations=0)
    observations, actions = np.arange(6.0)[:, None], 0.1 * np.arange(5.0)[:, None]
    state = agent.begin([Task.of("line", gain=1.0)], 1)
    for t, step in enumerate(steps_along(observations, actions)):
        _, state = agent.act(state, step, np.random.default_rng(0))
        assert state.count.item() == min(t, 3)
        rows = state.window[0, 0, 3 - min(t, 3) :]
        begun = np.arange(max(t - 3, 0), t)
        assert np.allclose(rows[:, 0], begun)
        assert np.allclose(rows[:, 1], 0.2 * begun), "scaled to [-1, 1]"
        assert np.allclose(rows[:, 2], begun + 1)
    _, state = agent.act(state, steps_along(observations, actions)[0], np.random.default_rng(0))
    assert state.count.item() == 0, "an episode starts without those of the last one"


def test_the_model_that_plans_is_the_one_adapted_from_the_learned_parameters() -> None:
    """Each step adapts anew, by one gradient step on the transitions so far."""
    agent, _ = trained("grbal", line(), 2)
    state = agent.begin([Task.of("line", gain=1.0)], 1)
    observations, actions = np.array([[1.0], [0.8], [0.5]]), np.array([[-0.2], [-0.3]])
    for step in steps_along(observations, actions):
        _, state = agent.act(state, step, np.random.default_rng(0))
    scales = agent.scales()
    before, after = (torch.tensor(observations[None, rows], dtype=torch.float32) for rows in (slice(2), slice(1, 3)))
    scaled = torch.tensor(actions[None] / 0.5, dtype=torch.float32)
    data = Windows(torch.cat([scales.inputs(before), scaled], dim=-1), scales.targets(before, after), torch.ones(1, 2))
    model, rates = agent.parameters.detach().split([agent.dynamics.networks.layout.size, agent.dynamics.rates.size], 1)
    assert not torch.allclose(rates, torch.ones_like(rates), atol=1e-3), "factors on the step size are learned"
    expected = agent.dynamics.adapted(model, data, 0.1 * 2 / 3, rates, exact=False)  # 2 of 3 transitions
    assert torch.allclose(agent.models(state)[0], expected, atol=1e-6)
    assert not torch.allclose(expected, model, atol=1e-4)


def test_each_environment_has_its_own_model_and_plan() -> None:
    agent, _ = trained("grbal", line(), 2)
    family = line()
    tasks = family.distribution.held_out(3)
    envs = family.make_envs(3, 2, HORIZON)
    envs.set_tasks(tasks)
    _, state = collect(envs, agent, agent.begin(tasks, 2), Streams(0))
    models = agent.models(state)
    assert models.shape == (6, 1, agent.dynamics.networks.layout.size)
    assert len({tuple(row) for row in models.flatten(1).tolist()}) == 6
    for m in range(3):
        part = agent.models(state.tasks(slice(m, m + 1)))
        assert torch.allclose(part, models[2 * m : 2 * m + 2], atol=1e-6)
    joined = type(state).join([state.tasks(slice(0, 1)), state.tasks(slice(1, 3))])
    assert all(torch.equal(a, b) for a, b in zip(vars(joined).values(), vars(state).values(), strict=True))


@pytest.mark.parametrize("name", AGENTS)
def test_training_goes_on_from_the_last_parameters_and_acting_uses_the_new_ones(name: str) -> None:
    agent, metrics = trained(name, line(), 1)
    family = line()
    sampler = LocalSampler(family.make_envs(6, 2, HORIZON))
    before = agent.parameters.detach().clone()
    list(meta_train(agent, sampler, family.distribution, Streams(2), iterations=1))
    assert not torch.equal(agent.parameters.detach(), before)
    tasks = family.distribution.held_out(1)
    models = agent.models(agent.begin(tasks, 1))[0]
    assert torch.equal(models, agent.parameters.detach()[:, : models.shape[1]]), "an empty window adapts nothing"
    again = agent.meta_update(MetaBatch(tuple(tasks), ()))
    new = metrics[0]["model/loss_first"]
    assert again["model/loss_first"] < (new + again["model/loss_last"]) / 2, "a warm start, not a new one"


@pytest.mark.parametrize("name", AGENTS)
def test_the_loss_that_is_reported_and_minimised_is_the_one_after_adaptation(name: str) -> None:
    agent, _ = trained(name, line(), 2)
    past, future = agent.draw(agent.scales())
    loss = agent.meta_loss(agent.parameters, past, future)
    members = len(agent.parameters)
    assert loss.shape == (members,)
    for member in range(members):
        parts = []
        for i in range(16):
            row = slice(16 * member + i, 16 * member + i + 1)
            flat = agent.parameters.detach()[member : member + 1]
            if past.mask.shape[1]:
                flat = agent._adapted(flat, Windows(*(t[row] for t in past)), exact=False)
            parts.append(agent.dynamics.losses(flat, Windows(*(t[row] for t in future))).item())
        assert loss[member].item() == pytest.approx(np.mean(parts), rel=1e-4, abs=1e-6)


def test_the_past_of_a_window_comes_right_before_its_future() -> None:
    agent, _ = trained("grbal", line(), 1)
    unit = agent.scales()._replace(mean=torch.zeros(1), deviation=torch.ones(1))
    past, future = agent.draw(unit)
    moved = [w.targets * unit.difference_deviation + unit.difference_mean for w in (past, future)]
    assert torch.allclose(past.inputs[:, -1, 0] + moved[0][:, -1, 0], future.inputs[:, 0, 0], atol=1e-5)
    assert past.inputs.shape == (16, 3, 2)
    assert future.inputs.shape == (16, 3, 2)


@pytest.mark.parametrize("name", AGENTS)
def test_a_restored_agent_goes_on_as_the_saved_one(name: str, tmp_path: Any) -> None:
    family = line()
    agent, _ = trained(name, family, 2)
    other = built(name, family)
    other.restore(agent.tensors(), agent.counters())
    for one in (agent, other):
        sampler = LocalSampler(family.make_envs(6, 2, HORIZON))
        list(meta_train(one, sampler, family.distribution, Streams(5), iterations=2))
    for key, tensor in agent.tensors().items():
        assert torch.equal(tensor, other.tensors()[key]), key
    with pytest.raises(ValueError, match="got tensors"):
        built(name, family, hidden=(5,)).restore(agent.tensors(), agent.counters())
    assert not [key for key in agent.learned() if key.startswith("buffer")]
    agent.save_policy(agent.begin(family.distribution.held_out(2), 1), tmp_path / "model.safetensors", task=1)
    assert (tmp_path / "model.safetensors").stat().st_size > 0


def test_actions_are_within_the_bounds_and_a_seed_fixes_them() -> None:
    agent, _ = trained("grbal", line(), 2)
    family = line()
    tasks = family.distribution.held_out(2)
    played = []
    for seed in (0, 0, 1):
        envs = family.make_envs(2, 2, HORIZON)
        envs.set_tasks(tasks)
        played.append(collect(envs, agent, agent.begin(tasks, 2), Streams(seed))[0].actions)
    assert np.array_equal(played[0], played[1])
    assert not np.array_equal(played[0], played[2])
    assert abs(played[0]).max() <= 0.5


def test_episodes_that_all_end_early_train_nothing() -> None:
    agent = built("grbal")
    family = line()
    envs = family.make_envs(1, 1, HORIZON)
    tasks = family.distribution.held_out(1)
    envs.set_tasks(tasks)
    episode, _ = collect(envs, agent, agent.begin(tasks, 1), Streams(0))
    short = replace(episode, mask=episode.mask & (np.arange(HORIZON) < 5))
    before = agent.parameters.detach().clone()
    assert agent.meta_update(MetaBatch(tuple(tasks), (short,))) == {"buffer/episodes": 1.0}
    assert torch.equal(agent.parameters.detach(), before)


def test_what_cannot_be_planned_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match="grbal: got a family that declares no reward function, expected one"):
        built("grbal", make_family("hopper-gravity"))
    with pytest.raises(ValueError, match="mb-mpc: got a family whose reward depends on the task's goal, expected"):
        built("mb-mpc", make_family("point-robot"))
    with pytest.raises(
        ValueError, match="grbal: got episodes of 12 steps, expected at least 40, the steps of a window"
    ):
        built("grbal", past=20, future=20)


def test_a_worker_gets_models_and_no_buffer() -> None:
    agent, _ = trained("grbal", line(), 2)
    part = pickle.loads(pickle.dumps(agent.acting_part()))
    assert not hasattr(part, "replay")
    state = agent.begin([Task.of("line", gain=1.0)], 1)
    step = steps_along(np.ones((2, 1)), np.zeros((1, 1)))[0]
    mine, theirs = (one.act(state, step, np.random.default_rng(0))[0] for one in (agent, part))
    assert isinstance(mine, Action)
    assert np.array_equal(mine.environment, theirs.environment)


def test_the_recurrent_network_is_an_lstm_and_skips_what_does_not_count() -> None:
    rows, size, units = 2, 4, 3
    rng = np.random.default_rng(0)
    inputs, targets = (torch.tensor(rng.standard_normal((rows, size, n))) for n in (2, 1))
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    weights = [torch.tensor(rng.standard_normal(shape)) for shape in ((rows, 3, 12), (rows, 3, 12), (rows, 12))]
    mine = after_transitions(*weights, Windows(inputs, targets, mask))
    for n in range(rows):
        cell = torch.nn.LSTM(3, units, batch_first=True, dtype=torch.float64)
        with torch.no_grad():
            cell.weight_ih_l0.copy_(weights[0][n].T)
            cell.weight_hh_l0.copy_(weights[1][n].T)
            cell.bias_ih_l0.copy_(weights[2][n])
            cell.bias_hh_l0.zero_()
            x = torch.cat([inputs, targets], dim=-1)[n : n + 1, mask[n] > 0]
            _, (h, _) = cell(x)
        assert torch.allclose(mine[n], h[0, 0], rtol=0, atol=1e-12)
    nothing = Windows(inputs, targets, torch.zeros_like(mask))
    assert not after_transitions(*weights, nothing).any()


def test_the_state_of_the_recurrent_network_is_an_input_of_the_first_layer() -> None:
    agent = built("rebal")
    parameters = agent.parameters.detach().double()
    rng = np.random.default_rng(0)
    data = Windows(
        *(torch.tensor(rng.standard_normal((1, 3, n))) for n in (2, 1)), torch.ones(1, 3, dtype=torch.float64)
    )
    model = agent._adapted(parameters, data, exact=False)
    rule = agent._rule.split(parameters[:, model.shape[1] :].contiguous())
    h = after_transitions(rule["input"], rule["recurrent"], rule["bias"], data)
    first = agent.dynamics.networks.layers(parameters[:, : model.shape[1]].contiguous())
    expected = torch.tanh(data.inputs[0] @ first.weights[0][0] + h @ rule["shift"][0] + first.biases[0])
    expected = expected @ first.weights[1][0] + first.biases[1]
    loss = (expected - data.targets[0]).square().mean()
    assert agent.dynamics.losses(model, data).item() == pytest.approx(loss.item(), abs=1e-12)
    with pytest.raises(ValueError, match="rebal: got a model without hidden layers"):
        built("rebal", hidden=())


def test_a_run_that_is_read_again_takes_the_reward_from_its_family(tmp_path: Path) -> None:
    spaces = make_family("half-cheetah-breaking").spaces(50)
    run = RunConfig(
        agent="metarl.agents.grbal:Grbal",
        family="half-cheetah-breaking",
        training=TrainConfig(),
        agent_config=GrbalConfig(**SMALL),
        spaces=spaces,
        own_agent=Grbal,
    )
    run.write(tmp_path)
    again = RunConfig.read(tmp_path, Grbal)
    assert again.spaces == spaces
    assert again.spaces.reward == spaces.reward
    assert again.build_agent(torch.device("cpu"), np.random.default_rng(0)).spaces.horizon == 50
    assert "reward" not in json.loads((tmp_path / "config.json").read_text())["spaces"]
    assert reward_for(Rl2, "half-cheetah-breaking") is None, "it does not plan"
    assert reward_for(Grbal, "my_module:my_family") is None, "code of one's own is not imported"
