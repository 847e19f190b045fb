"""Speed pinned by counted work: calls, matrix products, physics steps, modules. `docs/bench-check.md` has the seconds.

A count is the same on every machine, however slow or busy. Each test here fails if the fast path of a timed promise
falls back to the slow one.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metarl.envs.metaworld import batch as metaworld_batch
from metarl.gymnasium_envs.from_gym import gym_spec
from metarl.registry import AGENTS, agent_class, make_family, names
from metarl.rollout import TrajectoryBuilder
from metarl.sampling import LocalSampler
from metarl.scripts.bench.limits import PRODUCTS, flops, products_of
from metarl.scripts.bench.physics import Physical
from metarl.scripts.bench.planning import OneByOne, PlanningCommand
from metarl.scripts.bench.planning import ready as ready_to_plan
from metarl.scripts.bench.synthetic import synthetic_batch
from metarl.scripts.bench.update import Shape, sized
from metarl.scripts.presets import default_settings
from metarl.scripts.reference.agents import reference
from metarl.scripts.reference.environments import GYMNASIUM_IDS
from metarl.seeding import Streams
from metarl.tasks import Family
from metarl.training import meta_train
from metarl.vector import TaskVecEnv, random_actions

CPU = torch.device("cpu")
FEW_CLASSES = "ml"


class TorchCalls(TorchDispatchMode):
    """Counts the operations that PyTorch computes under it, those of backward passes included.

    Attributes:
        count: Operations, views included.
        written: Numbers that operations other than matrix products write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = self.written = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += 1
        result = func(*args, **(kwargs or {}))
        if func not in PRODUCTS and not func.is_view:
            self.written += sum(t.numel() for t in tree_leaves(result) if isinstance(t, torch.Tensor))
        return result


def torch_calls(work: Callable[[], Any]) -> TorchCalls:
    with TorchCalls() as calls:
        work()
    return calls


def python_calls(work: Callable[[], Any]) -> Counter[str]:
    """Calls of functions, Python's and C's, in this thread, by name."""
    counts: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            counts[frame.f_code.co_name] += 1
        elif event == "c_call":
            counts[argument.__name__] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return counts


def physics(counts: Counter[str]) -> dict[str, int]:
    """Calls of MuJoCo among them."""
    return {name: count for name, count in counts.items() if name.startswith("mj")}


@pytest.fixture
def one_physics_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """All physics in the calling thread, where calls are counted."""
    monkeypatch.setattr("metarl.envs.workers.available_cores", lambda: 1)


def ready(family: Family, m: int, e: int, horizon: int = 20) -> TaskVecEnv:
    """Environments that have tasks and are reset."""
    envs = family.make_envs(m, e, horizon)
    envs.set_tasks(family.distribution.sample(m, np.random.default_rng(0)))
    envs.reset(seed=0)
    return envs


# Sampling ---------------------------------------------------------------------------------------------------

STEP_CALLS = {
    **dict.fromkeys(GYMNASIUM_IDS, 175),
    **dict.fromkeys(("point-robot", "sparse-point-robot", "bandit", "tabular-mdp", "delayed-recall"), 65),
    FEW_CLASSES: 460,
}
"""The most calls of one batched step, without MuJoCo's."""


@pytest.mark.usefixtures("one_physics_thread")
@pytest.mark.parametrize("name", STEP_CALLS)
def test_a_step_of_many_rows_makes_no_more_calls_than_one_of_few(name: str) -> None:
    """Pins the fraction of the physics limit: only MuJoCo is called row by row, by the calls of `simulations`."""
    family, rest = make_family(name), []
    for episodes in (2, 20):
        envs = ready(family, 2, episodes)
        rows = np.arange(envs.num_envs)
        actions = random_actions(envs.single_action_space, len(rows), np.random.default_rng(0))
        envs.step(actions)
        counts = python_calls(lambda envs=envs, actions=actions: envs.step(actions))  # type: ignore[misc]
        physical = physics(counts)
        if isinstance(envs, Physical):
            (after,) = {simulation.after for simulation in envs.simulations()}
            assert physical == dict.fromkeys({"mj_step"} | ({after.__name__} if after else set()), len(rows))
        assert set(physical.values()) <= {len(rows)}
        rest.append(counts.total() - sum(physical.values()))
        envs.close()
    assert rest[0] == rest[1] <= STEP_CALLS[name]


@pytest.mark.usefixtures("one_physics_thread")
def test_a_reset_of_meta_world_steps_no_physics_and_tasks_set_again_compile_no_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pins milliseconds of `set_tasks` and `reset`; `tests/envs/metaworld/test_families.py` pins those of new tasks."""
    family = make_family(FEW_CLASSES)
    envs = ready(family, 4, 3)
    monkeypatch.setattr(metaworld_batch.mujoco, "MjModel", SimpleNamespace(from_xml_path=None))
    monkeypatch.setattr(metaworld_batch.mujoco, "MjData", None)
    envs.set_tasks(family.distribution.train_tasks(4))
    assert physics(python_calls(lambda: envs.reset(seed=1))) == {"mj_setState": 12}
    envs.close()


@pytest.mark.parametrize("agent", names(AGENTS))
def test_acting_and_adapting_make_as_many_calls_of_torch_whatever_the_rows(
    agent: str, suited: Callable[[str], Any]
) -> None:
    """And a collect is one reset, and one step of the whole batch per step of its episodes."""
    name, settings = suited(agent)
    family, horizon, counts = make_family(name), 8, []
    family = family.with_finite_train_set(0 if settings else 5)
    preset = replace(default_settings(agent, name)[1], **settings)
    for m, e in ((2, 2), (4, 2), (2, 6)):
        envs, streams = family.make_envs(m, e, horizon), Streams(0)
        tasks = family.distribution.sample(m, streams.tasks)
        envs.set_tasks(tasks)
        config = sized(preset, Shape(m, e, horizon), 2)
        made = agent_class(agent)(config, family.spaces(horizon), device=CPU, rng=streams.learner)
        called = Counter[str]()
        for name in ("reset", "step"):
            monkey(envs, name, called)
        state, collected = made.begin(tasks, e), []
        acting = torch_calls(lambda: collected.append(LocalSampler(envs).collect(made, state, streams)))  # noqa: B023
        trajectories, state = collected[0]
        adapting = torch_calls(lambda: made.adapt(state, trajectories))  # noqa: B023
        assert called == {"reset": 1, "step": horizon}
        counts.append((acting.count, adapting.count))
        envs.close()
    assert len(set(counts)) == 1
    assert 0 < counts[0][0] <= (300 if settings else 100) * horizon, "a planner predicts several steps"


def monkey(envs: TaskVecEnv, name: str, called: Counter[str]) -> None:
    """Counts calls of a method."""
    method = getattr(envs, name)

    def counted(*arguments: Any, **more: Any) -> Any:
        called[name] += 1
        return method(*arguments, **more)

    setattr(envs, name, counted)


# Updates ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """One update: operations of PyTorch, what they write, matrix products, and their floating-point operations."""

    calls: int
    written: int
    products: int
    flops: int


def update_work(agent: str, config: Any, family: Family, shape: Shape, *, plain: bool = False) -> Work:
    """The work of an update on synthetic experience, by the agent or by its plain version."""
    spaces = family.spaces(shape.horizon)
    made = agent_class(agent).build(config, spaces, device=CPU, rng=Streams(0).learner)
    made = reference(agent)(made) if plain else made
    batch, _ = synthetic_batch(
        made, family, shape.tasks, shape.episodes, shape.horizon, seed=2
    )  # as many steps of the line search for any M
    tensors, counters = made.tensors(), made.counters()
    products = products_of(lambda: made.meta_update(batch))
    made.restore(tensors, counters)
    calls = torch_calls(lambda: made.meta_update(batch))
    return Work(calls.count, calls.written, products.total(), flops(products))


ON_VELOCITIES, ON_THREE_TRIALS = "half-cheetah-vel", "half-cheetah-vel-3"


@pytest.mark.parametrize(
    ("agent", "family_name", "preset", "times"),
    [
        ("maml-trpo", ON_VELOCITIES, "", (9.2, 3.4, 6.7, 2.25)),
        ("promp", ON_VELOCITIES, "", (5.4, 1.3, 2.9, 1.13)),
        ("rl2", ON_THREE_TRIALS, "", (5.3, 1.3, 8.5, 1.0)),
        ("varibad", ON_THREE_TRIALS, "", (1.8, 1.73, 2.7, 1.0)),
        ("pearl", ON_THREE_TRIALS, "", (1.45, 1.77, 1.45, 1.07)),
    ],
)
def test_an_update_is_less_work_than_its_plain_reference(
    agent: str, family_name: str, preset: str, times: tuple[float, ...]
) -> None:
    """Pins `ratio_vs_reference`: `times` as much work of each sort is the reference's, with three tasks."""
    family, shape = make_family(family_name), Shape(3, 2, 20)
    config = sized(default_settings(agent, family.name)[1], shape, 3)
    ours, plain = (update_work(agent, config, family, shape, plain=plain) for plain in (False, True))
    assert_fewer(ours, plain, times)
    double = replace(shape, tasks=6)
    more = update_work(agent, sized(config, double, 3), family, double)
    assert more.flops == 2 * ours.flops, "work grows as the tasks do"
    if agent != "rl2":  # whose minibatches become more
        assert (more.calls, more.products) == (ours.calls, ours.products), "batched over the tasks"


def test_an_update_of_pearl_as_published_passes_over_memory_less_often() -> None:
    """Pins both ratios of its timings: without the networks for large batches it writes 5 % more."""
    family, shape = make_family(ON_THREE_TRIALS), Shape(16, 2, 20)
    config = sized(default_settings("pearl", family.name, "published")[1], shape, 1)
    ours, plain = (update_work("pearl", config, family, shape, plain=plain) for plain in (False, True))
    assert_fewer(ours, plain, (1.03, 0.97, 0.33, 1.03))


def assert_fewer(ours: Work, plain: Work, times: tuple[float, ...]) -> None:
    ratios = tuple(b / a for a, b in zip(astuple(ours), astuple(plain), strict=True))
    assert all(ratio >= bound for ratio, bound in zip(ratios, times, strict=True)), ratios


@pytest.mark.parametrize(("agent", "fewer"), [("mb-mpc", 8.0), ("grbal", 5.0)])
def test_a_control_step_is_fewer_calls_than_a_planner_per_environment(agent: str, fewer: float) -> None:
    """Pins both ratios of `metarl bench planning`; a network by oneDNN is one call per layer."""
    family = make_family("half-cheetah-crippled")
    made = ready_to_plan(agent, 5, family, PlanningCommand(environments=10, plan_steps=4))
    tasks = family.distribution.sample(10, np.random.default_rng(0))
    envs = family.make_envs(10, 1, 20)
    envs.set_tasks(tasks)
    seen, _ = envs.reset(seed=0)
    step = TrajectoryBuilder(10, 1, made.spaces, seen).step
    envs.close()

    def calls(act: Callable[..., Any]) -> int:
        return torch_calls(lambda: act(made.begin(tasks, 1), step, np.random.default_rng(0))).count

    assert calls(OneByOne(made, 1).act) > fewer * calls(made.act)


# Whole commands ---------------------------------------------------------------------------------------------


def test_an_iteration_steps_each_episode_once_and_is_batched_over_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pins the seconds of an iteration: one physics call per row and step, one of torch per batch."""
    family, horizon, counts = make_family(ON_VELOCITIES), 10, []
    _, preset = default_settings("maml-trpo", family.name)
    step, forward = mujoco.mj_step, mujoco.mj_forward
    for m, e in ((2, 3), (5, 3)):
        called = Counter[str]()
        monkeypatch.setattr(mujoco, "mj_step", lambda *a, c=called: c.update(["step"]) or step(*a))
        monkeypatch.setattr(mujoco, "mj_forward", lambda *a, c=called: c.update(["forward"]) or forward(*a))
        envs, streams = family.make_envs(m, e, horizon), Streams(0)
        made = agent_class("maml-trpo")(
            sized(preset, Shape(m, e, horizon), 1), envs.spaces, device=CPU, rng=streams.learner
        )
        iterations = meta_train(made, LocalSampler(envs), family.distribution, streams, iterations=1)
        counts.append(torch_calls(lambda: list(iterations)).count)  # noqa: B023
        envs.close()
        before_and_after = 2
        assert called == {"step": before_and_after * m * e * horizon, "forward": before_and_after * m * e}
    few, many = counts
    assert many <= 1.5 * few, "some line searches take another step; task by task it would be 2.5"


def test_help_imports_nothing_of_other_packages(tmp_path: Path) -> None:
    """Pins the second that `metarl --help` takes."""
    code = "import metarl.scripts.cli as c, sys\nassert c.main(['--help']) == 0\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "metarl COMMAND --help" in done.stdout
    modules = done.stderr.split()
    ours = {"metarl", "__main__", "_distutils_hack"}  # the last is of setuptools, as the editable install is
    others = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - ours
    assert not {name for name in others if not name.startswith("__editable__")}, others
    assert len(modules) <= 100
    assert len([name for name in modules if name.startswith("metarl")]) <= 8


PENDULUM = gym_spec("gym:Pendulum-v1", ("g=uniform(5,15)",))
CART = gym_spec("gym:CartPole-v1", ("gravity=uniform(2,20)", "force_mag=uniform(5,15)"))


@pytest.mark.parametrize(
    ("agent", "spec", "steps", "gigaflops"),
    [
        ("maml-trpo", PENDULUM, 80_000, 100),
        ("maml-trpo", CART, 200_000, 250),
        ("rl2", PENDULUM, 32_000, 100),
        ("rl2", CART, 80_000, 250),
        ("pearl", PENDULUM, 12_000, 200),
    ],
)
def test_default_sizes_for_any_environment_are_moderate(agent: str, spec: str, steps: int, gigaflops: float) -> None:
    """Pins the 30 seconds of an iteration without a preset: at most so many steps and products."""
    family = make_family(spec)
    training, preset = default_settings(agent, spec)
    parts = 10  # of an episode; of an update where it learns from a replay
    shape = Shape(training.tasks, training.episodes, family.horizon // parts)
    gradient_steps = getattr(preset, "gradient_steps", 0)
    config = sized(preset, shape, gradient_steps // 100)
    spaces = family.spaces(shape.horizon)
    made = agent_class(agent)(config, spaces, device=CPU, rng=Streams(0).learner)
    batch, _ = synthetic_batch(made, family, *astuple(shape), seed=0)
    played = sum(collected.mask.size for collected in batch.collects)
    assert parts * played <= steps
    work = flops(products_of(lambda: made.meta_update(batch))) * (100 if gradient_steps else parts)
    assert work <= 1e9 * gigaflops, work
