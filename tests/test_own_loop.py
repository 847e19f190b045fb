"""README's loop serves every agent and every kind of action, and its reader every policy without a memory."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces as gym_spaces

import metarl
from metarl.registry import AGENTS, agent_class, names
from metarl.rewards import DeclaredReward
from metarl.scripts.presets import default_settings
from metarl.types import Action, Spaces, Step, Task, TaskParameter, Trajectories

README = Path(__file__).resolve().parent.parent / "README.md"
LOOP, READER = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[:2]
PLANNING = tuple(name for name in names(AGENTS) if getattr(agent_class(name), "needs_reward", False))
CONTINUOUS = ("pearl", "recurrent-sac", *PLANNING)
HORIZON = 4
TOLD = (TaskParameter("goal", 1),)


def near(observations: Any, actions: Any, following: Any, task: Any) -> Any:
    """A reward that all tasks share, for the agents that plan."""
    return -abs(following[..., 0])


BOX = Spaces(2, (-1.0,), (1.0,), HORIZON, task_parameters=TOLD, reward=DeclaredReward(near))
CHOICES = Spaces(2, (-1.0,), (1.0,), HORIZON, choices=3, task_parameters=TOLD)


class Robot(gymnasium.Env):
    """A point that checks what it is handed, and may scale it in place."""

    def __init__(self, action_space: gym_spaces.Space[Any], in_place: bool = False) -> None:
        self.action_space, self.in_place, self.played = action_space, in_place, []
        self.observation_space = gym_spaces.Box(-9.0, 9.0, (2,), np.float64)
        self.rng = np.random.default_rng(0)

    def reset(self, **_: Any) -> Any:
        return self.rng.standard_normal(2), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.played.append(np.array(action, dtype=np.float32).ravel())
        if self.in_place:
            action *= 0.1
        return self.rng.standard_normal(2), -1.0, False, False, {}


def built(name: str, spaces: Spaces, **settings: Any) -> Any:
    """An untrained agent, whose first layers are not small: what it is shown changes what it does."""
    config = default_settings(name, "point-robot")[1]
    small = {"hidden": (8,), "encoder_hidden": (8,), "encoder": (8,), "units": 8, "replay_size": 10, "buffer_trials": 4}
    small |= {"window": 3, "past": 2, "future": 1, "plan_steps": 2, "candidates": 8, "elites": 2}
    known = {key: value for key, value in small.items() if hasattr(config, key)}
    config = replace(config, **{**known, **settings})
    agent = agent_class(name)(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(1))
    noise = torch.Generator().manual_seed(0)
    learnt = {
        key: t + 0.3 * torch.randn(t.shape, generator=noise)
        for key, t in agent.tensors().items()
        if key.startswith("parameters") or key in ("policy", "encoder")
    }
    moments = {
        key: torch.linspace(0.5, 2.0, t.numel(), dtype=torch.float64)
        for key, t in agent.tensors().items()
        if key.endswith(("_moments.mean", "_moments.variance")) and "return" not in key
    }
    agent.restore({**agent.tensors(), **learnt, **moments}, agent.counters())
    return agent


def play(agent: Any, env: Robot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loop: str = LOOP) -> dict[str, Any]:
    """Executes README's lines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metarl, "load", lambda path: agent, raising=False)
    monkeypatch.setattr(gymnasium, "make", lambda name: env)
    lines: dict[str, Any] = {}
    exec(loop, lines)
    return lines


@pytest.mark.parametrize("name", names(AGENTS))
@pytest.mark.parametrize("kind", ["box", "choices", "in place"])
def test_the_loop_of_the_readme_serves_every_agent(name: str, kind: str, monkeypatch, tmp_path: Path) -> None:
    space = gym_spaces.Discrete(3, start=-1) if kind == "choices" else gym_spaces.Box(-1.0, 1.0, (1,), np.float32)
    spaces, env = CHOICES if kind == "choices" else BOX, Robot(space, in_place=kind == "in place")
    if name in CONTINUOUS and kind == "choices":
        pytest.skip(f"{name} refuses discrete actions")
    agent, loop = built(name, spaces), LOOP
    if name == "oracle":
        with pytest.raises(ValueError, match=r"0 numbers of 'goal', expected 1.*Task.of\(NAME, goal=...\)"):
            play(agent, env, monkeypatch, tmp_path)
        loop = LOOP.replace('metarl.Task("my robot")', 'metarl.Task.of("my robot", goal=0.3)')
    lines = play(agent, env, monkeypatch, tmp_path, loop)
    assert (tmp_path / "adapted.safetensors").is_file()
    assert len(lines["practice"]) == 20
    recorded = np.concatenate([episode.actions[0, 0] for episode in lines["practice"]])
    assert np.array_equal(recorded, np.stack(env.played)), "what was chosen, whatever the environment did with it"
    again = metarl.TrajectoryBuilder(1, 1, agent.spaces, np.zeros(2))
    agent.act(lines["state"], again.step, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["maml-trpo", "rl2", "varibad", "multitask"])
def test_choices_with_a_start_are_what_a_batch_is_stepped_with(name: str) -> None:
    goal = metarl.uniform("goal", -1.0, 1.0, meaning="where to go")
    family = metarl.gymnasium_family(
        lambda goal: Robot(gym_spaces.Discrete(3, start=-1)), name="choices", parameters=[goal], horizon=HORIZON
    )
    agent = built(name, family.spaces())
    assert (agent.spaces.first_choice, agent.spaces.action_low, agent.spaces.action_high) == (-1, (-1.0,), (1.0,))
    envs = family.make_envs(2, 2, HORIZON)
    assert envs.single_action_space == gym_spaces.Discrete(3, start=-1)
    sampler = metarl.LocalSampler(envs)
    (report, *_) = metarl.meta_train(agent, sampler, family.distribution, metarl.Streams(0), iterations=1)
    assert report.progress.env_steps >= 2 * 2 * HORIZON
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="no choice below 2 and not below -1 in row 0"):
        envs.step(np.full(4, 2))
    envs.close()


# What the agents make of it ---------------------------------------------------------------------------------


def episodes(agent: Any, adapts: bool, count: int = 3) -> tuple[Any, list[Trajectories]]:
    """Plays episodes of different lengths with one environment; the state at the end, and the episodes."""
    rng = np.random.default_rng(3)
    state, played = agent.begin([Task.of("noise", goal=0.0)], 1), []
    for i in range(count):
        builder = metarl.TrajectoryBuilder(1, 1, agent.spaces, rng.standard_normal(2))
        while builder.unfinished:
            action, state = agent.act(state, builder.step, np.random.default_rng(i))
            last = len(played) == 1 and builder._t == 1
            builder.add(action, rng.standard_normal(2), float(rng.standard_normal()), last, False)
        played.append(builder.build())
        if adapts:
            state = agent.adapt(state, played[-1])
    return state, played


@pytest.mark.parametrize("name", ["rl2", "varibad", "rma"])
def test_a_memory_takes_several_episodes_as_if_it_had_been_told_of_each_end(name: str) -> None:
    agent = built(name, BOX)
    told, played = episodes(agent, adapts=True)
    begun = agent.begin([Task("noise")], 1)
    joined = agent.adapt(begun, Trajectories.join_episodes(played))
    torch.testing.assert_close(joined.content, told.content)
    assert np.array_equal(joined.feedback, told.feedback)
    lived, also_played = episodes(agent, adapts=False)
    after = agent.adapt(lived, Trajectories.join_episodes(also_played))
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(after.content, lived.content)
    torch.testing.assert_close(after.content, agent.adapt(begun, Trajectories.join_episodes(also_played)).content)
    torch.testing.assert_close(after.before, after.content)


def test_a_belief_is_the_same_from_episodes_together_and_apart() -> None:
    agent = built("pearl", BOX)
    apart, played = episodes(agent, adapts=True)
    together = agent.adapt(agent.begin([Task("noise")], 1), Trajectories.join_episodes(played))
    torch.testing.assert_close(together.precision, apart.precision)
    torch.testing.assert_close(together.weighted_mean, apart.weighted_mean)
    assert together.precision.shape == (1, 1, agent.config.latent)


def test_recordings_that_were_joined_can_be_cut_again() -> None:
    _, played = episodes(built("rl2", BOX), adapts=True)
    for one, two in zip(Trajectories.join_episodes(played).cut_episodes(3), played, strict=True):
        assert np.array_equal(one.all_observations, two.all_observations)
        assert np.array_equal(one.extras["value"], two.extras["value"])
        assert one.success is None


# What does not fit is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names(AGENTS))
def test_what_does_not_fit_the_state_is_refused(name: str) -> None:
    agent = built(name, BOX)
    task = Task.of("noise", goal=0.0)
    state, (episode, *_) = episodes(agent, adapts=False)
    two = metarl.TrajectoryBuilder(1, 2, agent.spaces, np.zeros((2, 2)))
    more = metarl.TrajectoryBuilder(2, 1, agent.spaces, np.zeros((2, 2)))
    rng = np.random.default_rng(0)
    wide = replace(BOX, observation_size=3)
    with pytest.raises(ValueError, match="act: got observations of 1 tasks x 1 episodes x 3 numbers, expected 1 x 1"):
        agent.act(state, metarl.TrajectoryBuilder(1, 1, wide, np.zeros(3)).step, rng)
    if name in ("rl2", "varibad", "rma", "pearl", "recurrent-sac", "oracle", *PLANNING):
        with pytest.raises(ValueError, match="act: got observations of 1 tasks x 2 episodes"):
            agent.act(state, two.step, rng)
    if name != "multitask":
        with pytest.raises(ValueError, match="act: got observations of 2 tasks"):
            agent.act(state, more.step, rng)
        with pytest.raises(ValueError, match=r"adapt: got trajectories of 1 tasks.*expected 2"):
            agent.adapt(agent.begin([task, task], 1), episode)
        with pytest.raises(ValueError, match="save_policy: got task 7, expected a number from 0 to 0"):
            agent.save_policy(state, "nowhere", task=7)
    if name in ("rl2", "varibad", "rma", "pearl", "recurrent-sac", *PLANNING):
        with pytest.raises(ValueError, match=r"adapt: got trajectories of 1 tasks x 1 episodes.*expected 1 x 2"):
            agent.adapt(agent.begin([task], 2), episode)
    stopped = metarl.TrajectoryBuilder(1, 1, agent.spaces, np.zeros(2))
    action, _ = agent.act(state, stopped.step, rng)
    stopped.add(action, np.zeros(2), 0.0, False, False)
    with pytest.raises(ValueError, match=r"adapt: got an episode that has not ended \(task 0, episode 0: 1 of 4 steps"):
        agent.adapt(state, stopped.build())


def test_an_action_made_by_hand_lacks_what_act_records() -> None:
    agent = built("maml-trpo", BOX)
    builder = metarl.TrajectoryBuilder(1, 1, agent.spaces, np.zeros(2))
    while builder.unfinished:
        builder.add(Action(np.zeros((1, 1, 1))), np.zeros(2), 0.0, False, False)
    with pytest.raises(ValueError, match="without 'policy_output', which `act` records"):
        agent.adapt(agent.begin([Task("noise")], 1), builder.build())


@pytest.mark.parametrize(
    "observation", [np.zeros(3), 0.0, {"a": 1}, "words", None, np.zeros(2, dtype=complex), [[0.0], [0.0, 1.0]]]
)
def test_another_observation_is_refused(observation: Any) -> None:
    with pytest.raises(ValueError, match=r"expected 2 numbers|inhomogeneous"):
        metarl.TrajectoryBuilder(1, 1, BOX, observation)
    builder = metarl.TrajectoryBuilder(1, 1, BOX, np.zeros(2))
    with pytest.raises(ValueError, match=r"expected 2 numbers|inhomogeneous"):
        builder.add(Action(np.zeros((1, 1, 1))), observation, 0.0, False, False)


def test_rows_of_a_batch_are_not_mixed_up_with_features() -> None:
    spaces = replace(BOX, observation_size=3)
    metarl.TrajectoryBuilder(2, 2, spaces, np.zeros((4, 3)))
    metarl.TrajectoryBuilder(2, 2, spaces, np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match=r"got an observation of shape \(3, 4\)"):
        metarl.TrajectoryBuilder(2, 2, spaces, np.zeros((3, 4)))


def test_another_action_reward_or_a_step_too_many_is_refused() -> None:
    builder = metarl.TrajectoryBuilder(1, 1, BOX, np.zeros(2))
    right = Action(np.zeros((1, 1, 1)))
    with pytest.raises(ValueError, match=r"add: got actions of shape \(1,\), expected \(1, 1, 1\)"):
        builder.add(Action(np.zeros(1)), np.zeros(2), 0.0, False, False)
    for reward in (None, "1", np.zeros(2)):
        with pytest.raises(ValueError, match=r"add: got .* expected a number"):
            builder.add(right, np.zeros(2), reward, False, False)  # type: ignore[arg-type]
    builder.add(right, [0, 1], np.array([1.0]), np.bool_(False), False)  # type: ignore[arg-type]
    for _ in range(HORIZON - 1):
        builder.add(right, np.zeros(2), 0.0, False, False)
    with pytest.raises(ValueError, match="add: got a step after the last of 4"):
        builder.add(right, np.zeros(2), 0.0, False, False)


def test_recordings_of_other_agents_or_environments_are_not_joined() -> None:
    _, (mine, *_) = episodes(built("rl2", BOX), adapts=True)
    _, (theirs, *_) = episodes(built("maml-trpo", BOX), adapts=False)
    with pytest.raises(ValueError, match="expected recordings of one agent in one kind of environment"):
        Trajectories.join_episodes([mine, theirs])


def test_a_meta_batch_of_another_progress_or_number_of_tasks_is_refused() -> None:
    _, (episode, *_) = episodes(built("maml-trpo", BOX), adapts=False)
    task = Task("noise")
    for progress in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"MetaBatch.progress: got .*>= 0 and < 1"):
            metarl.MetaBatch((task,), (episode,), progress)
    with pytest.raises(ValueError, match=r"MetaBatch: got 2 tasks and collects of \[1\]"):
        metarl.MetaBatch((task, task), (episode,))


def test_an_action_cannot_be_written_to_and_a_single_one_can() -> None:
    action = Action(np.array([[[0.5]], [[0.25]]], dtype=np.float32))
    with pytest.raises(ValueError, match="read-only"):
        action.environment[0, 0] *= 0.1
    single = action.single(1)
    single *= 2.0
    assert single == 0.5
    assert action.environment[1, 0, 0] == 0.25
    assert Action(np.array([[[3]]])).single() == 3


# README's reader --------------------------------------------------------------------------------------------

BOUNDS = {
    "servo": ((1000.0, -3.0), (2000.0, 1.0)),
    "none": ((-np.inf, -np.inf), (np.inf, np.inf)),
    "half": ((-np.inf, 0.0), (0.5, np.inf)),
    "mixed": ((-np.inf, 5.0), (np.inf, 6.0)),
}
READABLE = [name for name in names(AGENTS) if name not in ("rl2", "varibad", "rma", "recurrent-sac", *PLANNING)]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "normalised": {"normalise_observations": True},
    "tanh mean": {"mean": "tanh", "action_scale": 2.0},
    "std of the state": {"std": "state", "mean": "tanh", "normalise_observations": True},
    "relu": {"activation": "relu", "hidden": (5, 6, 7), "action_scale": 10.0},
    "no layers": {"hidden": ()},
}


def read_and_asked(agent: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Any, Any]]:
    """The actions of README's reader beside the modes of the agent."""
    state = agent.begin([Task.of("noise", goal=0.7)], 1)
    if agent.config.__class__.__name__ == "PearlConfig":
        ones = torch.ones_like(state.latent)
        state = replace(state, precision=2 * ones, weighted_mean=ones, latent=0.5 * ones)
    agent.save_policy(state, tmp_path / "adapted.safetensors")
    monkeypatch.chdir(tmp_path)
    lines: dict[str, Any] = {}
    exec(READER, lines)
    pairs = []
    for observation in np.random.default_rng(0).uniform(-3.0, 3.0, (20, 2)).astype(np.float32):
        flags = np.zeros((1, 1), dtype=np.bool_)
        step = Step(observation[None, None], np.zeros((1, 1, 2)), np.zeros((1, 1)), flags, ~flags)
        asked = agent.act(state, step, np.random.default_rng(0), mode=True)[0].single()
        pairs.append((lines["policy"](observation), asked))
    return pairs


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_the_reader_is_right_for_any_bounds(name: str, bounds: str, monkeypatch, tmp_path: Path) -> None:
    if name == "pearl" and bounds != "servo":
        pytest.skip("pearl refuses actions without bounds")
    spaces = replace(BOX, action_low=BOUNDS[bounds][0], action_high=BOUNDS[bounds][1])
    pairs = read_and_asked(built(name, spaces), monkeypatch, tmp_path)
    for read, asked in pairs:
        assert read == pytest.approx(asked, rel=1e-4, abs=1e-4)
    assert len({read[0] for read, _ in pairs}) > 5, "they differ from observation to observation"


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("option", OPTIONS)
def test_the_reader_is_right_for_any_setting(name: str, option: str, monkeypatch, tmp_path: Path) -> None:
    config = default_settings(name, "point-robot")[1]
    settings = {key: value for key, value in OPTIONS[option].items() if hasattr(config, key)}
    if OPTIONS[option] and not settings:
        pytest.skip("the agent has no such settings")
    spaces = replace(BOX, action_low=(-2.0, 1.0), action_high=(4.0, 3.0))
    for read, asked in read_and_asked(built(name, spaces, **settings), monkeypatch, tmp_path):
        assert read == pytest.approx(asked, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", [name for name in READABLE if name != "pearl"])
def test_the_reader_is_right_for_choices(name: str, normalise: bool, monkeypatch, tmp_path: Path) -> None:
    pairs = read_and_asked(built(name, CHOICES, normalise_observations=normalise), monkeypatch, tmp_path)
    assert [read for read, _ in pairs] == [asked for _, asked in pairs]
    assert all(type(read) is int and -1 <= read <= 1 for read, _ in pairs)
