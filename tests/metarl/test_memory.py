"""Memory is estimated before it is asked for."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from metarl import memory
from metarl.memory import Need, RunSize, agent_memory, check_memory, in_units, rollout_memory, slow_parts
from metarl.registry import AGENTS, agent_class, names
from metarl.scripts.presets import default_settings
from metarl.types import Spaces

SPACES = Spaces(observation_size=17, action_low=(-1.0,) * 6, action_high=(1.0,) * 6, horizon=100)


def test_what_fits_passes_and_what_does_not_names_its_largest_part_and_the_remedy() -> None:
    needs = [Need("the small part", 2**20, "less of it"), Need("the large part", 3 * 2**30, "--agent.less 1")]
    check_memory(needs, free=4 * 2**30)
    with pytest.raises(ValueError, match=r"^memory: the large part .* 3.0 GiB.* 2.0 GiB are free; try --agent.less 1$"):
        check_memory(needs, free=2 * 2**30)

    both = [Need("one part", 2**30, "a"), Need("the other part", 2**30, "b")]
    with pytest.raises(ValueError, match=r"one part .* 1.5 GiB are free \(all together: 2.0 GiB\); try a$"):
        check_memory(both, free=1.5 * 2**30)


def test_what_is_asked_for_at_once_is_compared_with_all_the_memory_there_is() -> None:
    replay = [Need("the replay", 2**20, "--agent.replay-size N", reserved=40 * 2**30)]
    check_memory(replay, free=2**30, in_all=64 * 2**30)
    with pytest.raises(ValueError, match=r"the replay .* 40.0 GiB, but there are 16.0 GiB; try --agent.replay-size N"):
        check_memory(replay, free=2**30, in_all=16 * 2**30)


def test_an_absurd_number_of_tasks_is_refused_and_a_usual_one_is_not() -> None:
    check_memory([rollout_memory(SPACES, 40, 20, 2)])
    for tasks, unit in ((10**9, "TiB"), (10**30, "EiB")):
        with pytest.raises(ValueError, match=rf"episodes of 100 steps with 17 numbers each .* {unit}.*fewer --tasks"):
            check_memory([rollout_memory(SPACES, tasks, 20)])


def test_the_estimate_of_a_rollout_is_close_to_its_arrays_and_not_above() -> None:
    import numpy as np

    from metarl.rollout import TrajectoryBuilder

    builder = TrajectoryBuilder(4, 3, SPACES, np.zeros((4, 3, 17)))
    made = sum(a.nbytes for a in (builder._observations, builder._actions, builder._rewards, builder._flags))
    made += 4 * 3 * 100 * 6 * 4  # the policy's output, among the extras
    environments = 4 * 3 * 2 * 8 * 17
    assert 0.95 * made < rollout_memory(SPACES, 4, 3).num_bytes - environments <= made


def test_an_agent_of_a_third_party_need_not_know_its_needs() -> None:
    size = RunSize(tasks=2, episodes=2, iterations=1)
    assert agent_memory(object, None, SPACES, size) == []


CAMERA = Spaces(observation_size=64 * 64 * 3, action_low=(-1.0,), action_high=(1.0,), horizon=100)
OPTIONS = {
    "pearl": "--agent.replay-size",
    "varibad": "--agent.buffer-trials",
    "rma": "--agent.buffer-trials",
    "recurrent-sac": "--agent.buffer-trials",
    "rl2": "--tasks",
    "multitask": "--tasks",
    "oracle": "--tasks",
    **dict.fromkeys(("mb-mpc", "grbal", "rebal"), "--agent.buffer-episodes"),
}


@pytest.mark.parametrize("name", names(AGENTS))
def test_every_agent_knows_what_pictures_need_and_which_option_helps(name: str) -> None:
    config, size = default_settings(name, "point-robot")[1], RunSize(tasks=20, episodes=20, iterations=1000)
    needs = agent_memory(agent_class(name), config, CAMERA, size)
    total = sum(need.num_bytes for need in needs)
    with pytest.raises(ValueError, match=OPTIONS.get(name, "--agent.baseline none")):
        check_memory(needs, free=total - 1, in_all=1e30)
    check_memory(needs, free=total, in_all=1e30)
    usual = agent_memory(agent_class(name), config, SPACES, RunSize(tasks=20, episodes=20, iterations=100))
    assert sum(need.num_bytes for need in usual) < 2**30, "what usual runs need is far from what machines have"
    absurd = replace(config, **({"units": 10**9} if hasattr(config, "units") else {"hidden": (10**9,) * 2}))
    with pytest.raises(ValueError, match=r"EiB|PiB"):
        check_memory(agent_memory(agent_class(name), absurd, SPACES, size))


def test_a_baseline_of_a_small_camera_is_slow_and_says_what_is_faster() -> None:
    camera = Spaces(observation_size=24 * 24 * 3, action_low=(-1.0,), action_high=(1.0,), horizon=100)
    config, size = default_settings("maml-trpo", "point-robot")[1], RunSize(tasks=20, episodes=20, iterations=100)
    (line,) = slow_parts(agent_memory(agent_class("maml-trpo"), config, camera, size))
    assert line.startswith("the linear baseline, with 3,460 weights for each of 20 tasks, takes about")
    assert line.endswith("--agent.baseline none is faster")
    assert not slow_parts(agent_memory(agent_class("maml-trpo"), config, SPACES, size))
    assert not slow_parts(agent_memory(agent_class("maml-trpo"), replace(config, baseline="none"), camera, size))


def test_a_slow_part_is_named_with_what_is_faster() -> None:
    needs = [Need("the baseline", 1, "--agent.baseline none", operations=2.6e11), Need("the rest", 1, "", 1e9)]
    assert slow_parts(needs) == ["the baseline takes about 20 s of every iteration; --agent.baseline none is faster"]


@pytest.mark.parametrize(("size", "shown"), [(5, "5 bytes"), (1536, "1.5 KiB"), (13.5 * 2**30, "13.5 GiB")])
def test_bytes_are_shown_in_units(size: float, shown: str) -> None:
    assert in_units(size) == shown


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "OWN_CGROUPS", tmp_path / "own")
    assert memory.cgroup_memory() == float("inf")
    (tmp_path / "own").write_text("5:cpu:/\n4:memory:/job/step\n" if version == 1 else "0::/job/step\n")
    root = tmp_path / "memory" if version == 1 else tmp_path
    (root / "job" / "step").mkdir(parents=True)
    assert memory.cgroup_memory() == float("inf")
    limit, usage, cache = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    (root / "job" / limit).write_text("1000\n")
    (root / "job" / usage).write_text("700\n")
    (root / "job" / "memory.stat").write_text(f"anon 5\n{cache} 50\n")
    assert memory.cgroup_memory() == 350
    (root / "job" / "step" / limit).write_text("max\n")
    assert memory.cgroup_memory() == 350
    assert memory.free_memory() == 350


def test_a_limit_of_the_address_space_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (2**50, 2**50))
    assert 2**49 < memory.address_space() < 2**50
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1, 1))
    assert memory.free_memory() == 0
