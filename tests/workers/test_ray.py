"""Blocks played by actors of Ray: the same bits, whatever happens to the actors."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metarl
from metarl.finite import NotFiniteError
from metarl.registry import agent_class, make_family
from metarl.seeding import Streams
from metarl.tasks import Family
from metarl.training import meta_train
from metarl.workers import ray_pool
from metarl.workers.blocks import BlockSampler, InProcess, Player
from metarl.workers.faults import BlockError, WorkersError

ROBOTS = Path(__file__).resolve().parent.parent / "robots"
CPUS = 3


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray of three CPUs on this machine, started once; its actors find the robots."""
    module = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        module.init(
            "local",
            num_cpus=CPUS,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROBOTS)}},
        )
        yield module
        module.shutdown()


@pytest.fixture
def robots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROBOTS)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def actors(ray: Any, said: list[str]) -> Iterator[Callable[..., ray_pool.RayActors]]:
    """Makes actors that are ended after the test."""
    with contextlib.ExitStack() as closing:

        def make(family: Family, count: int | None = 2, **settings: Any) -> ray_pool.RayActors:
            player = ray_pool.RayActors(family.make_envs, count, say=said.append, **settings)
            closing.callback(player.close)
            return player

        yield make


def trained(
    player: Player, family: Family, iterations: int = 5, blocks: int = 4, agent_name: str = "maml-trpo"
) -> list[Any]:
    """Trains on blocks of one task: all parameters and metrics but for the times."""
    kind, streams = agent_class(agent_name), Streams(3)
    agent = kind.build(kind.Config(), family.spaces(20), device=torch.device("cpu"), rng=streams.learner)
    sampler = BlockSampler(player, blocks, 2, 20, blocks)
    reports = list(meta_train(agent, sampler, family.distribution, streams, iterations=iterations))
    metrics = [{name: v for name, v in r.metrics.items() if not name.startswith("time/")} for r in reports]
    return [{name: tensor.tolist() for name, tensor in agent.tensors().items()}, metrics]


def pids(player: ray_pool.RayActors) -> list[int]:
    return [seat.started.pid for seat in list(player._seats) if seat.started]


SMALL = {"iterations": 5, "tasks": 4, "episodes": 2, "horizon": 20, "blocks": 3, "eval_every": 2, "eval_tasks": 2}


@pytest.mark.parametrize("agent", ["maml-trpo", "rl2", "rma", "pearl", "varibad"])
def test_actors_and_this_process_train_the_same_agent(ray: Any, tmp_path: Path, assert_same_run, agent: str) -> None:
    for workers in (0, "ray:2"):
        out = tmp_path / str(workers)
        metarl.train(agent, "half-cheetah-vel", out=out, workers=workers, track="none", **SMALL)
    assert_same_run(tmp_path / "0", tmp_path / "ray:2")
    assert ray.is_initialized()  # it was there before


def test_a_family_of_ones_own_is_played_by_actors(ray: Any, tmp_path: Path, robots, assert_same_run) -> None:
    for workers in (0, "ray:2"):
        out = tmp_path / str(workers)
        metarl.train("maml-trpo", "mixed_robot:make_family", out=out, workers=workers, track="none", **SMALL)
    assert_same_run(tmp_path / "0", tmp_path / "ray:2")


def test_actors_killed_at_random_moments_change_nothing(actors, said: list[str]) -> None:
    family, rng = make_family("half-cheetah-vel"), random.Random(5)
    player, killed = actors(family), list[int]()
    expected = trained(InProcess(family.make_envs), family, iterations=6)

    def kill(over: threading.Event) -> None:
        for _ in range(2):  # at the third loss a block would end the run
            while not over.wait(rng.uniform(0.1, 0.4)):
                if there := [pid for pid in pids(player) if pid not in killed]:
                    killed.append(rng.choice(there))
                    os.kill(killed[-1], signal.SIGKILL)
                    break

    for _ in range(3):
        over = threading.Event()
        thread = threading.Thread(target=kill, args=(over,))
        thread.start()
        try:
            assert trained(player, family, iterations=6) == expected
        finally:
            over.set()
            thread.join()
    assert killed
    assert all(line.endswith("its block of tasks is played again") for line in said)


def test_an_idle_actor_that_died_is_replaced(ray: Any, actors) -> None:
    family = make_family("point-robot")
    player = actors(family)
    first = trained(player, family, iterations=1)
    before = pids(player)
    for seat in player._seats:
        ray.kill(seat.actor)
    assert trained(player, family, iterations=1) == first
    assert not set(before) & set(pids(player))


def test_a_block_that_always_fails_ends_with_the_actors_traceback(actors, robots, said: list[str]) -> None:
    import faulty_robot

    family = faulty_robot.breaking()
    with pytest.raises(BlockError, match=r"failed 3 times .* \(the gripper is stuck\)") as failure:
        trained(actors(family), family, blocks=2)
    assert "faulty_robot.py" in failure.value.trace
    assert "its block of tasks is played again" in said[0]


def test_numbers_that_are_not_finite_end_it_at_once(actors, robots, said: list[str]) -> None:
    import fatal_robot

    family = fatal_robot.family("nan")
    with pytest.raises(NotFiniteError, match="got a reward that is not finite"):
        trained(actors(family), family, blocks=2)
    assert not said


def test_an_actor_whose_process_ends_fails_a_block_three_times(actors, robots) -> None:
    import faulty_robot

    family = faulty_robot.family("exit", after=2)
    with pytest.raises(BlockError, match=r"failed 3 times .* died \(ActorDiedError\)"):
        trained(actors(family, 1), family, blocks=1)


def test_a_module_that_the_nodes_lack_is_named_with_a_remedy(actors, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "only_here.py").write_text(
        "def make(m, e, t):\n    from metarl.registry import make_family\n"
        "    return make_family('point-robot').make_envs(m, e, t)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    family = make_family("point-robot")
    player = ray_pool.RayActors(only_here.make, 1)
    with contextlib.closing(player), pytest.raises(WorkersError, match=r"only_here.*RAY_RUNTIME_ENV=.*working_dir"):
        trained(player, family, blocks=1)


def test_a_cluster_without_a_free_cpu_is_told_in_time(ray: Any, actors) -> None:
    busy = ray.remote(_Busy).options(num_cpus=CPUS).remote()
    ray.get(busy.work.remote())
    family, clock = make_family("point-robot"), time.monotonic()
    try:
        with pytest.raises(WorkersError, match=rf"within 2 s; the cluster has {CPUS} CPUs, of which 0 are free"):
            trained(actors(family, patience=2.0), family)
    finally:
        ray.kill(busy)
    assert time.monotonic() - clock < 10.0


class _Busy:
    def work(self) -> None:
        pass


def test_more_actors_than_cpus_are_said_and_the_others_play(actors, said: list[str]) -> None:
    family = make_family("point-robot")
    player = actors(family, CPUS + 1)
    assert said == [
        f"ray:{CPUS + 1} asks for {CPUS + 1} CPUs, and the cluster has {CPUS}; the other actors wait for one"
    ]
    assert trained(player, family, iterations=2) == trained(InProcess(family.make_envs), family, iterations=2)
    end = time.monotonic() + 60.0
    while len(pids(player)) < CPUS and time.monotonic() < end:
        trained(player, family, iterations=1)
    assert len(pids(player)) == CPUS
    player._patience = 0.5
    trained(player, family, iterations=1)
    assert said[1:] == [f"1 of {CPUS + 1} actors of Ray still wait for a CPU; the others play their blocks"]


def test_without_a_number_there_is_an_actor_for_each_cpu(actors) -> None:
    assert actors(make_family("point-robot"), None).count == CPUS


def test_other_versions_on_a_node_are_refused(actors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "package_versions", lambda: {"torch": "1.0"})
    family = make_family("point-robot")
    with pytest.raises(WorkersError, match=r"torch \d.* \(here 1\.0\); results depend on them"):
        trained(actors(family), family)


def test_another_kind_of_cpu_is_said_once(actors, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr(ray_pool, "vector_instructions", lambda: "ABACUS")
    family = make_family("point-robot")
    trained(actors(family), family, iterations=1)
    assert len([line for line in said if "this machine with ABACUS" in line]) == 1


def test_the_agent_is_sent_once_per_version(actors, monkeypatch: pytest.MonkeyPatch) -> None:
    family = make_family("point-robot")
    player = actors(family)
    put, puts = player._ray.put, []
    monkeypatch.setattr(player._ray, "put", lambda value: puts.append(value) or put(value))
    trained(player, family, iterations=3, agent_name="rl2")  # its network is in the agent
    assert len(puts) == 3
    trained(player, family, iterations=3)  # those of maml-trpo are in the state, which goes with each block
    assert len(puts) == 4


def test_what_actors_collect_may_be_changed(actors) -> None:
    family, rng = make_family("point-robot"), np.random.default_rng(0)
    kind = agent_class("rl2")
    agent = kind.build(kind.Config(), family.spaces(5), device=torch.device("cpu"), rng=rng)
    tasks = family.distribution.train_tasks(2)
    for blocks in (1, 2):
        sampler = BlockSampler(actors(family), 2, 1, 5, blocks)
        sampler.set_tasks(tasks)
        collected, _ = sampler.collect(agent, agent.begin(tasks, 1), Streams(0))
        assert collected.actions.flags.writeable


# The command line ---------------------------------------------------------------------------------------------


def run(words: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    code = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += f"from metarl.scripts.cli import main\nraise SystemExit(main({list(words)!r}))"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def still_there(mark: str) -> list[int]:
    """Processes whose environment has a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


TRAIN = ("train", "maml-trpo", "point-robot", "--tasks", "3", "--episodes", "2", "--horizon", "12", "--track", "none")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("signals", [0, 1, 2])
def test_a_command_starts_ray_and_leaves_nothing_behind(tmp_path: Path, signals: int) -> None:
    pytest.importorskip("ray")
    out, mark = tmp_path / "run", f"metarl-test-{os.getpid()}-{signals}"
    iterations = "3" if not signals else "100000"
    process = run([*TRAIN, "--iterations", iterations, "--workers", "ray:2", "--out", str(out)], METARL_TEST_MARK=mark)
    log = out / "metrics.jsonl"
    for number in range(signals):
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 2):
            time.sleep(0.02)
        assert len(still_there(mark)) > 3
        time.sleep(0.05 * number)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all
    stdout, err = process.communicate(timeout=120)
    assert process.returncode == (130 if signals else 0), err
    assert "2 actors of Ray" in err
    assert not [line for line in (stdout + err).splitlines() if "raylet" in line or "Token" in line or "WARN" in line]
    if signals == 1:
        assert "saved after iteration" in err
    end = time.monotonic() + 10.0
    while still_there(mark) and time.monotonic() < end:
        time.sleep(0.1)
    assert not still_there(mark)


def test_training_without_ray_does_not_import_it(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom metarl.scripts.cli import main\n"
        f"assert main({[*TRAIN, '--iterations', '1', '--workers', '0', '--out', str(tmp_path / 'run')]!r}) == 0\n"
        "assert not [name for name in sys.modules if name.partition('.')[0] == 'ray' or '.ray_' in name]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_without_the_package_one_line_says_how_to_install_it(
    run_metarl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run_metarl(*TRAIN, "--workers", "ray:2", "--out", tmp_path / "run")
    assert code == 2
    assert err.count("\n") == 1
    assert 'pip install "metarl-robots[ray]"' in err
    assert not (tmp_path / "run").exists()
    with pytest.raises(WorkersError, match=r'pip install "metarl-robots\[ray\]"'):
        ray_pool.RayActors(make_family("point-robot").make_envs, 2)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:1", "got 127.0.0.1:1, where nothing answers"),
        ("ray://somewhere:10001", "expected auto or HOST:PORT"),
        ("somewhere", "expected auto or HOST:PORT"),
    ],
)
def test_a_wrong_address_is_refused_on_one_line(
    run_metarl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, expected: str
) -> None:
    monkeypatch.setattr(pytest.importorskip("ray"), "is_initialized", lambda: False)
    clock = time.monotonic()
    code, _, err = run_metarl(*TRAIN, "--workers", "ray", "--ray-address", address, "--out", tmp_path / "run")
    assert code == 2
    assert expected in err.splitlines()[-1]
    assert time.monotonic() - clock < 20.0


def test_a_runtime_environment_that_is_no_json_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("ray"), "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_RUNTIME_ENV", "working_dir: .")
    with pytest.raises(WorkersError, match=r"RAY_RUNTIME_ENV: got .* expected JSON"):
        ray_pool.RayActors(make_family("point-robot").make_envs, 2)


def test_packed_arrays_survive_rays_memory() -> None:
    from metarl.workers.packed import copied, pack, unpack
    from metarl.workers.ray_actor import received, sendable

    value = {"empty": np.zeros((0, 3)), "some": np.arange(6.0).reshape(2, 3), "tensor": torch.ones(3)}
    back = unpack(copied(received(sendable(pack(value)))))
    assert back["empty"].shape == (0, 3)
    assert (back["some"] == value["some"]).all()
    assert torch.equal(back["tensor"], value["tensor"])
    back["some"][0, 0] = 5.0  # its own memory
    assert value["some"][0, 0] == 0.0
