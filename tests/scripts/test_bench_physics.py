"""The limit of sampling, the actor that acts at random, and the numbers of workers that `metarl bench` measures."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from metarl.registry import make_family
from metarl.sampling import LocalSampler
from metarl.scripts.bench import physics as physics_bench
from metarl.scripts.bench import sampling as sampling_bench
from metarl.scripts.bench.physics import PhysicsLimit, Replay, shares
from metarl.scripts.bench.picture import speed_picture
from metarl.scripts.bench.sampling import RandomActor, Sampling, speed_row, worker_counts
from metarl.seeding import Streams
from metarl.types import Task
from metarl.vector import TaskVecEnv
from metarl.workers.blocks import BlockSampler, Player
from metarl.workers.choice import NamedEnvs


def ready(name: str, m: int, e: int, horizon: int) -> TaskVecEnv:
    family = make_family(name)
    envs = family.make_envs(m, e, horizon)
    envs.set_tasks(family.distribution.train_tasks(m))
    return envs


def states(envs: TaskVecEnv) -> list[np.ndarray]:
    """Positions and velocities of all rows."""
    assert isinstance(envs, physics_bench.Physical)
    return [np.concatenate([one.data.qpos, one.data.qvel]) for one in envs.simulations()]


@pytest.mark.parametrize(
    "name", ["half-cheetah-vel", "hopper-rand-params", "ant-goal", pytest.param("ml10", marks=pytest.mark.slow)]
)
def test_mujoco_alone_repeats_the_episodes_bit_for_bit(name: str) -> None:
    """So the limit steps the same simulations as the environments, only live rows, and no fewer."""
    envs = ready(name, 3, 2, 40)
    replay = Replay(envs, seed=3)
    played = states(envs)
    assert replay.num_steps == envs._elapsed.sum()
    for _ in range(2):
        replay.rewind()
        assert not any(np.array_equal(a, b) for a, b in zip(states(envs), played, strict=True))
        assert replay.seconds() > 0
        assert all(np.array_equal(a, b) for a, b in zip(states(envs), played, strict=True))
    envs.close()


def test_the_simulations_of_meta_world_are_in_the_order_of_the_rows() -> None:
    envs = ready("ml", 3, 2, 10)
    one, two, three = (task["class"] for task in make_family("ml").distribution.train_tasks(3))
    assert one == three != two, "rows of a class are stepped side by side, and so in another order"
    envs.reset(seed=0)
    first = states(envs)
    mask = np.zeros(6, dtype=np.bool_)
    for row in range(6):
        actions = np.zeros((6, 4), dtype=np.float32)
        envs.reset(seed=0)
        envs.end(np.arange(6) != row)
        envs.step(actions)
        mask[:] = [not np.array_equal(a, b) for a, b in zip(states(envs), first, strict=True)]
        assert mask.tolist() == [i == row for i in range(6)]
    envs.close()


def test_only_mujoco_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake clock that each call of MuJoCo advances by 1 s, and a write of controls by nothing."""
    envs, now = ready("hopper-vel", 2, 2, 30), [0.0]
    replay = Replay(envs, seed=0)

    def step(model: object, data: object, frame_skip: int) -> None:
        assert frame_skip == envs.frame_skip  # type: ignore[attr-defined]
        now[0] += 1.0

    monkeypatch.setattr(mujoco, "mj_step", step)
    monkeypatch.setattr(physics_bench.time, "perf_counter", lambda: now[0])
    assert replay.seconds() == replay.num_steps
    envs.close()


@pytest.mark.parametrize(
    ("tasks", "episodes", "cores", "rows"),
    [(20, 20, 2, 200), (40, 1, 2, 20), (20, 10, 16, 13), (20, 20, 16, 26), (1, 1, 4, 1), (5, 3, 1, 15)],
)
def test_every_core_has_an_equal_share_of_the_rows(tasks: int, episodes: int, cores: int, rows: int) -> None:
    drawn = [Task.of("f", x=i) for i in range(tasks)]
    parts = shares(NamedEnvs("half-cheetah-vel", None), drawn, episodes, 10, 7, cores)
    assert [len(part.tasks) * part.episodes for part in parts] == [rows] * cores
    assert rows * cores >= tasks * episodes, "no fewer than the batch"
    assert {task for part in parts for task in part.tasks} == set(drawn)
    assert len({part.seed for part in parts}) == cores


@pytest.fixture
def limit() -> Iterator[PhysicsLimit]:
    family = make_family("half-cheetah-vel")
    made = PhysicsLimit(NamedEnvs(family.name, None), family.distribution.train_tasks(2), 2, 20, cores=2)
    yield made
    made.close()


def test_the_limit_is_the_sum_over_processes_and_tells_of_one_that_ends(limit: PhysicsLimit) -> None:
    assert limit.steps_per_second() > 0
    pids = [process.pid for process in limit._processes]
    assert len({*pids, os.getpid()}) == 3, "one process per core, beside this one"
    limit._processes[0].kill()
    limit._processes[0].join()
    with pytest.raises(ValueError, match=r"physics limit: got no speed from a process .*, expected"):
        limit.steps_per_second()


def test_nothing_else_is_put_into_the_memory_of_a_running_limit(limit: PhysicsLimit) -> None:
    context = multiprocessing.get_context("forkserver")
    others = [context.Array("i", [7] * 2, lock=False) for _ in range(16)]
    assert limit.steps_per_second() > 0
    assert [list(other) for other in others] == [[7, 7]] * 16


def test_an_error_of_a_process_is_one_line() -> None:
    with pytest.raises(ValueError, match="no-such-family") as caught:
        PhysicsLimit(NamedEnvs("no-such-family", None), [Task.of("f", x=0)], 1, 10, cores=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["half-cheetah-vel", "bandit:arms=3,pulls=4"])
def test_random_actions_fill_the_bounds_and_depend_on_the_block_only(name: str) -> None:
    family = make_family(name)
    envs, tasks = family.make_envs(4, 5, 12), family.distribution.train_tasks(4)
    actor = RandomActor(envs.spaces)
    sampler = LocalSampler(envs)
    sampler.set_tasks(tasks)
    played, _ = sampler.collect(actor, actor.begin(tasks, 5), Streams(0))
    actions = played.actions[played.mask]
    low, high = np.array(envs.spaces.action_low), np.array(envs.spaces.action_high)
    assert (actions >= low).all()
    assert (actions <= high).all()
    if envs.spaces.choices:
        assert set(actions.ravel().tolist()) == set(range(3))
    else:
        assert (actions.max(axis=0) > 0.8 * high).all()
        assert (actions.min(axis=0) < 0.8 * low).all()
    envs.close()
    sampling = Sampling(family, name, tuple(tasks), 5, 12, 2, 0)

    def collected(player: Player) -> np.ndarray:
        blocks = BlockSampler(player, 4, 5, 12, 2)
        blocks.set_tasks(tasks)
        return blocks.collect(actor, actor.begin(tasks, 5), Streams(0))[0].rewards.copy()

    rewards = []
    for workers in (0, 1):
        with sampling.player(workers, collected) as player:
            assert workers == getattr(player, "num_ready", 0)
            rewards.append(collected(player))
    assert np.array_equal(*rewards)


def test_numbers_of_workers_double_up_to_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, counts in ((1, (0, 1)), (2, (0, 1, 2)), (6, (0, 1, 2, 4, 6)), (16, (0, 1, 2, 4, 8, 16))):
        monkeypatch.setattr(sampling_bench, "available_cores", lambda cores=cores: cores)
        assert worker_counts(()) == counts
    assert worker_counts((4, 0, 4)) == (0, 4)


def test_a_row_has_the_median_of_the_ratios_of_each_round() -> None:
    row = speed_row(2, [10.0, 20.0, 90.0], [20.0, 80.0, 100.0])
    assert (row["workers"], row["env_steps_per_s"], row["physics_limit"]) == (2, 20.0, 80.0)
    assert row["fraction_of_limit"] == 0.5, "the median of 0.5, 0.25 and 0.9, not 20 / 80"
    assert speed_row(0, [10.0], [None])["fraction_of_limit"] is None


def test_the_picture_shows_workers_one_process_and_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k)))
    rows = [speed_row(workers, [speed], [300.0]) for workers, speed in ((0, 90.0), (1, 70.0), (2, 140.0))]
    rows = [{**row, "cores": 4} for row in rows]
    assert speed_picture(rows, "a $title").startswith(b"\x89PNG")
    (axes,) = drawn[0].axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    lines = {line.get_label().partition(":")[0]: line for line in axes.lines}
    assert lines["worker processes"].get_xydata().tolist() == [[1, 70], [2, 140]]
    assert lines["one process, 4 cores"].get_xydata().tolist() == [[4, 90]]
    assert set(lines["limit"].get_ydata()) == {300}
    assert axes.get_ylim()[1] > 300 > 70 > axes.get_ylim()[0]
