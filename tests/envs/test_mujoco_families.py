"""All MuJoCo families: equality with Gymnasium's single environments, rewards, seeds, hidden parameters."""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest

from metarl.envs.inertia import second_moments
from metarl.envs.mujoco_batch import MujocoTaskEnv
from metarl.registry import FAMILIES, make_family, names
from metarl.scripts.reference.environments import GYMNASIUM_IDS, GYMNASIUM_OPTIONS, SINGLE_ENVS

STEPS = 50
E = 2


def mixed_tasks(family):
    """A held-out task and two training tasks."""
    return [*family.distribution.held_out(1), *family.distribution.sample(2, np.random.default_rng(1))]


def prepared(name: str, horizon: int = STEPS):
    """A family, tasks, and a batch of environments after a reset."""
    family = make_family(name)
    tasks = mixed_tasks(family)
    envs = family.make_envs(len(tasks), E, horizon)
    envs.set_tasks(tasks)
    envs.reset(seed=1)
    return family, tasks, envs


def random_actions(envs, steps: int, seed: int = 0) -> np.ndarray:
    """Actions `[steps, N, A]` up to 20 % beyond the bounds. MuJoCo clips them, the control cost does not."""
    high = 1.2 * envs.single_action_space.high
    size = (steps, envs.num_envs, len(high))
    return np.random.default_rng(seed).uniform(-high, high, size).astype(np.float32)


def test_every_mujoco_family_is_compared() -> None:
    others = [n for n in names(FAMILIES) if not n.startswith("ml")]  # Meta-World has tests of its own
    assert set(GYMNASIUM_IDS) == {n for n in others if isinstance(prepared(n)[2], MujocoTaskEnv)}


@pytest.mark.parametrize("name", GYMNASIUM_IDS)
def test_a_batch_equals_gymnasiums_single_environments_step_by_step(name: str) -> None:
    _, tasks, envs = prepared(name)
    assert isinstance(envs, MujocoTaskEnv)
    settings = {"horizon": STEPS} if name.endswith("breaking") else {}
    singles = [SINGLE_ENVS[name](task, **settings) for task in tasks for _ in range(E)]
    first = envs._observations.copy()
    for row, single in enumerate(singles):
        single.reset(seed=0)
        mujoco.mj_resetData(single.unwrapped.model, single.unwrapped.data)  # no warm start from that reset's state
        single.unwrapped.set_state(envs.batch.qpos[row].copy(), envs.batch.qvel[row].copy())
        assert np.array_equal(single._observe(single.unwrapped, single.unwrapped._get_obs()), first[row])
    live = np.ones(envs.num_envs, dtype=bool)
    earned = 0.0
    for action in random_actions(envs, STEPS):
        observations, rewards, terminated, _, infos = envs.step(action)
        assert not infos["diverged"].any()
        for row in np.flatnonzero(live):
            observation, reward, over, _, info = singles[row].step(action[row])
            assert np.array_equal(observation, observations[row])
            # Sums run in another order (and the humanoid's centre of mass is one, over a step of 0.015 s).
            assert rewards[row] == pytest.approx(reward, rel=1e-11, abs=1e-11)
            assert terminated[row] == over
            if "x_velocity" in info:
                assert infos["x_velocity"][row] == pytest.approx(info["x_velocity"], rel=0, abs=1e-11)
            earned += abs(reward)
        live &= ~terminated
    assert earned > 0
    assert live.all() or name.startswith(("hopper", "walker2d", "humanoid", "ant"))
    if name.startswith(("hopper", "walker2d", "humanoid")):
        assert not live.all(), "random actions throw some of these over, so the comparison saw ends"
    for env in (envs, *singles):
        env.close()


@pytest.mark.parametrize("name", {env_id: name for name, env_id in GYMNASIUM_IDS.items()}.values())
def test_resets_are_gymnasiums_in_distribution(name: str) -> None:
    """Mean and standard deviation of initial states, one family per robot: 1000 rows against 1000 resets."""
    family = make_family(name)
    (task,) = family.distribution.held_out(1)
    envs = family.make_envs(1, 1000, 1)
    envs.set_tasks([task])
    envs.reset(seed=0)
    single = gymnasium.make(GYMNASIUM_IDS[name], **GYMNASIUM_OPTIONS.get(GYMNASIUM_IDS[name], {})).unwrapped
    theirs = []
    for seed in range(1000):
        single.reset(seed=seed)
        theirs.append(np.concatenate([single.data.qpos, single.data.qvel]))
    ours = np.concatenate([envs.batch.qpos, envs.batch.qvel], axis=1)
    compared = np.ones(ours.shape[1], dtype=bool)
    if name.endswith("-goal") and "goal" in dict(task.parameters):  # two sliders hold the goal, which is the task's
        compared[single.model.nq - 2 : single.model.nq] = False
    ours, theirs = ours[:, compared], np.array(theirs)[:, compared]
    spread = theirs.std(axis=0)
    assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() <= 0.15 * spread.max()
    assert np.allclose(ours.std(axis=0), spread, rtol=0.12, atol=1e-12)
    envs.close()


@pytest.mark.parametrize("name", GYMNASIUM_IDS)
def test_a_seed_fixes_every_number(name: str) -> None:
    runs = []
    for threads_seed in (7, 7, 8):
        family = make_family(name)
        envs = family.make_envs(2, 1, 10)
        envs.set_tasks(family.distribution.train_tasks(1) * 2)
        first, _ = envs.reset(seed=threads_seed)
        steps = [envs.step(action)[:2] for action in random_actions(envs, 10)]
        runs.append((first, np.array([o for o, _ in steps]), np.array([r for _, r in steps])))
        envs.close()
    for one, two, other in zip(*runs, strict=True):
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "name", [n for n in GYMNASIUM_IDS if n.endswith(("params", "published", "crippled", "wind", "gravity"))]
)
def test_dynamics_reach_the_model_and_change_what_happens(name: str) -> None:
    family, tasks, envs = prepared(name)
    plain = mujoco.MjModel.from_xml_path(envs.model_path)
    models = list(envs.models)
    for model, task in zip(models, tasks, strict=True):
        for field, values in task.parameters:
            if field in ("wind", "gravity"):
                mine, theirs = getattr(model.opt, field), getattr(plain.opt, field)
                expected = theirs + np.array([values[0], 0, 0]) if field == "wind" else theirs * [1, 1, values[0]]
                assert np.array_equal(mine, expected)
            elif field == "body_second_moment":
                mine, theirs = second_moments(model.body_inertia)[1:], second_moments(plain.body_inertia)[1:]
                assert np.allclose(mine.ravel(), theirs.ravel() * np.array(values), rtol=1e-6, atol=0.0)
            else:
                mine, theirs = getattr(model, field).ravel(), getattr(plain, field).ravel()
                assert np.array_equal(mine[theirs != 0], theirs[theirs != 0] * np.array(values))
                assert not mine[theirs == 0].any()
        assert np.array_equal(model.qpos0, plain.qpos0)
        assert np.array_equal(model.qpos_spring, plain.qpos_spring)
    start = envs.batch.qpos[:1], envs.batch.qvel[:1]
    for row in range(envs.num_envs):  # the same state and actions everywhere
        envs.batch.reset(np.array([row]), *start)
    for action in random_actions(envs, 15):
        envs.batch.step(np.arange(envs.num_envs), np.repeat(action[:1], envs.num_envs, axis=0))
    assert np.array_equal(envs.batch.qpos[0], envs.batch.qpos[1]), "two rows of a task"
    for other in (2, 4):
        assert not np.allclose(envs.batch.qpos[0], envs.batch.qpos[other], rtol=0, atol=1e-4)

    envs.set_tasks(tasks[::-1])
    assert all(a is b for a, b in zip(envs.models, models, strict=True)), "models are changed in place, not compiled"
    field, values = tasks[-1].parameters[0]
    again = family.make_envs(len(tasks), 1, 1)
    again.set_tasks(tasks[::-1])
    for one, two in zip(envs.models, again.models, strict=True):
        for key in ("body_mass", "geom_friction", "actuator_gear", "dof_damping", "dof_invweight0"):
            assert np.array_equal(getattr(one, key), getattr(two, key)), "no trace is left of the tasks before"
    for one in (envs, again):
        one.close()


@pytest.mark.parametrize("name", GYMNASIUM_IDS)
def test_a_batch_whose_episodes_are_all_over_rests(name: str) -> None:
    _, _, envs = prepared(name, horizon=1)
    (action,) = random_actions(envs, 1)
    seen, _, terminated, truncated, _ = envs.step(action)
    assert (terminated | truncated).all()
    state = envs.batch.qpos.copy()
    again, rewards, terminated, truncated, _ = envs.step(action)
    assert np.array_equal(again, seen)
    assert np.array_equal(envs.batch.qpos, state)
    assert not rewards.any()
    assert not (terminated | truncated).any()
    envs.close()


@pytest.mark.parametrize("how", ["crippled", "breaking"])
def test_held_out_actuators_are_never_dead_in_training(how: str) -> None:
    def dead(tasks) -> set[tuple[int, ...]]:
        return {tuple(np.flatnonzero(np.array(task["actuator_gear"]) == 0)) for task in tasks}

    rng = np.random.default_rng(0)
    cheetah = make_family(f"half-cheetah-{how}").distribution
    assert dead(cheetah.sample(60, rng)) == {(1,), (2,), (3,), (4,)}
    assert dead(cheetah.held_out()) == {(0,), (5,)}
    ant = make_family(f"ant-{how}").distribution
    assert dead(ant.sample(60, rng)) == {(2, 3), (4, 5), (6, 7)}, "hip and ankle of a leg"
    assert dead(ant.held_out()) == {(0, 1)}


@pytest.mark.parametrize(
    ("name", "parameter", "low", "high"),
    [
        ("ant-dir-2d", "angle", 0, 2 * np.pi),
        ("humanoid-dir-2d", "angle", 0, 2 * np.pi),
        ("ant-vel", "velocity", 0, 3),
        ("walker2d-vel", "velocity", 0, 10),
        ("hopper-vel", "velocity", 0, 3),
        ("swimmer-vel", "velocity", 0.1, 0.2),
        ("pusher-goal", "goal", -0.1, 0.1),
        ("hopper-gravity", "gravity", 0.5, 1.5),
        ("half-cheetah-wind", "wind", -20, 20),
        ("half-cheetah-breaking", "break_at", 0.2, 0.8),
        ("ant-breaking", "break_at", 0.2, 0.8),
        ("walker2d-rand-params", "body_mass", 1.5**-3, 1.5**3),
        ("walker2d-rand-params", "geom_friction", 1.5**-3, 1.5**3),
        ("hopper-rand-params", "body_second_moment", 1.5**-3, 1.5**3),
        ("hopper-rand-params-published", "body_inertia", 1.5**-3, 1.5**3),
        ("hopper-rand-params", "dof_damping", 1.3**-3, 1.3**3),
    ],
)
def test_parameters_fill_their_published_range(name: str, parameter: str, low: float, high: float) -> None:
    tasks = make_family(name).distribution.sample(2000, np.random.default_rng(0))
    values = np.array([task[parameter] for task in tasks])
    assert values.min() >= low
    assert values.max() <= high
    assert values.min() <= low + 0.02 * (high - low)
    assert values.max() >= high - 0.02 * (high - low)


@pytest.mark.parametrize(("name", "radius"), [("ant-goal", 3.0), ("reacher-goal", 0.2)])
def test_places_are_uniform_on_their_disc(name: str, radius: float) -> None:
    tasks = make_family(name).distribution.sample(4000, np.random.default_rng(0))
    places = np.array([task.parameters[0][1] for task in tasks])
    distance = np.linalg.norm(places, axis=1)
    assert distance.max() <= radius
    assert np.mean(distance < radius / 2) == pytest.approx(0.25, abs=0.03), "a quarter of the area"
    assert np.abs(places.mean(axis=0)).max() < 0.05 * radius


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("half-cheetah-vel", ["m"] + ["rad"] * 7 + ["m/s"] * 2 + ["rad/s"] * 7),
        ("ant-vel", ["m"] + ["1"] * 4 + ["rad"] * 8 + ["m/s"] * 3 + ["rad/s"] * 11),
        ("ant-goal", ["m"] * 3 + ["1"] * 4 + ["rad"] * 8 + ["m/s"] * 3 + ["rad/s"] * 11),
        ("humanoid-dir-2d", ["m"] + ["1"] * 4 + ["rad"] * 17 + ["m/s"] * 3 + ["rad/s"] * 20),
        ("swimmer-vel", ["rad"] * 3 + ["m/s"] * 2 + ["rad/s"] * 3),
        ("pusher-goal", ["rad"] * 7 + ["rad/s"] * 7 + ["m"] * 6),
    ],
)
def test_units_are_those_of_the_table_in_each_robots_module(name: str, units: list[str]) -> None:
    envs = make_family(name).make_envs(1, 1, 5)
    assert list(envs.spaces.observation_units) == units
    envs.close()
