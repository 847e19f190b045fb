"""Tests that need a GPU; skipped without one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agent import MetaAgent
from metarl.finite import NotFiniteError
from metarl.learning.device import chunks as memory
from metarl.learning.device.gpu import ReplayedStep, one_by_one
from metarl.learning.experience import device_returns, returns
from metarl.learning.gradient import trust_region
from metarl.learning.gradient.trust_region import conjugate_gradient
from metarl.learning.networks.cells.settings import CellName, CellSettings
from metarl.learning.networks.cells.table import CELLS, make_cell
from metarl.registry import AGENTS, agent_class, make_family, names
from metarl.runs import use_matmul
from metarl.scripts.bench.synthetic import synthetic_batch, synthetic_spaces
from metarl.scripts.bench.update import Shape, sized
from metarl.scripts.presets import default_settings
from metarl.seeding import Streams
from metarl.types import MetaBatch
from metarl.workers.blocks import Block, InProcess
from metarl.workers.packed import copied, device_of, pack, unpack

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
SHAPE = Shape(tasks=4, episodes=3, horizon=20)


@pytest.fixture(autouse=True)
def _in_float32() -> None:
    use_matmul("float32", GPU)


def made(
    name: str, device: torch.device, suit: tuple[str, dict[str, Any]] = ("point-robot", {})
) -> tuple[MetaAgent[Any], MetaBatch]:
    """A fresh agent on the device, and experience that is the same for every device."""
    family = make_family(suit[0])
    config = sized(replace(default_settings(name, suit[0])[1], **suit[1]), SHAPE, 8)
    spaces = synthetic_spaces(family, SHAPE.horizon)
    agents = [agent_class(name)(config, spaces, device=d, rng=Streams(0).learner) for d in (CPU, device)]
    batch, _ = synthetic_batch(agents[0], family, SHAPE.tasks, SHAPE.episodes, SHAPE.horizon, 0)
    return agents[1], batch


def learned(agent: MetaAgent[Any], batch: MetaBatch) -> dict[str, Tensor]:
    """How far each of the agent's floating-point tensors is moved by an update."""
    before = agent.tensors()
    agent.meta_update(batch)
    after = agent.tensors()
    shared = [n for n, t in after.items() if n in before and before[n].shape == t.shape and t.is_floating_point()]
    return {n: after[n].double() - before[n].double() for n in shared}


def off(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest `|found - expected| / |expected|` of a tensor that was moved."""
    assert found.keys() == expected.keys()
    return max(float((found[n] - t).norm() / t.norm()) for n, t in expected.items() if t.norm() > 0)


@pytest.mark.parametrize("name", names(AGENTS))
def test_an_update_is_the_cpus(name: str, suited: Callable[[str], Any]) -> None:
    on_gpu, on_cpu = (learned(*made(name, device, suited(name))) for device in (GPU, CPU))
    print(name, off(on_gpu, on_cpu))
    assert off(on_gpu, on_cpu) < 0.02


def test_the_second_phase_of_rma_is_the_cpus() -> None:
    few = ("point-robot", {"history_updates": 3})
    moved = []
    for device in (GPU, CPU):
        agent, batch = made("rma", device, few)
        moved.append(learned(agent, replace(batch, progress=0.8)))
    assert {n.partition(".")[0] for n, t in moved[1].items() if t.norm() > 0} == {"history", "history_adam"}
    assert off(*moved) < 0.02


@pytest.mark.parametrize("name", ["maml-trpo", "promp", "pearl", "rl2"])
def test_an_update_in_chunks_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = learned(*made(name, GPU))
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1.0)  # a task at a time, nothing kept, replay elsewhere
    print(name, off(learned(*made(name, GPU)), whole))
    assert off(learned(*made(name, GPU)), whole) < 0.02


def test_a_replayed_update_is_the_same() -> None:
    agent, batch = made("pearl", GPU)
    replayed = [learned(agent, batch) for _ in range(2)]  # recorded in the first, and replayed
    assert agent._learn_at_once.recorded  # type: ignore[attr-defined]
    twin, _ = made("pearl", GPU)
    with one_by_one():
        seen = [learned(twin, batch) for _ in range(2)]
    assert off(replayed[0], seen[0]) < 1e-3
    assert off(replayed[1], seen[1]) < 1e-2


@pytest.mark.parametrize("name", ["rl2", "varibad", "rma", "oracle", "recurrent-sac"])
def test_steps_that_are_replayed_teach_the_same(name: str) -> None:
    agent, batch = made(name, GPU)
    replayed = [learned(agent, batch) for _ in range(2)]
    found: Any = agent
    steps = {
        "varibad": lambda: [found._learner._differentiated, found._vae_learner._differentiated],
        "recurrent-sac": lambda: [found._replayed],
    }
    for step in steps.get(name, lambda: [found._learner._differentiated])():
        assert step.recorded
        assert not copy.deepcopy(step).recorded
    twin, _ = made(name, GPU)
    with one_by_one():
        seen = [learned(twin, batch) for _ in range(2)]
    assert off(replayed[0], seen[0]) < 1e-2
    assert off(replayed[1], seen[1]) < 1e-2


@pytest.mark.parametrize("name", ["maml-trpo", "pearl", "rl2", "varibad", "rma", "recurrent-sac"])
def test_acting_in_this_process_is_that_of_a_worker(name: str) -> None:
    (agent, _), family = made(name, GPU), make_family("point-robot")
    tasks, player = tuple(family.distribution.sample(4, np.random.default_rng(0))), InProcess(family.make_envs)
    state = agent.begin(tasks, SHAPE.episodes)
    block, same = (Block(tasks, SHAPE.episodes, SHAPE.horizon, state, Streams(0)) for _ in range(2))
    ((here, after),) = player.play(agent, [block])
    ((there, _),) = player.play(unpack(copied(pack(agent.acting_part()))), [unpack(copied(pack(same)))])
    assert np.array_equal(here.actions, there.actions)
    assert device_of(after) == device_of(state)
    agent.adapt(after, here)


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_cells_on_a_gpu_are_those_on_a_cpu(cell: CellName) -> None:
    settings, x = CellSettings(cell=cell, units=16), torch.randn(3, 40, 5, generator=torch.Generator().manual_seed(0))
    here = make_cell(settings, 5, 40, np.random.default_rng(0))
    there = make_cell(settings, 5, 40, np.random.default_rng(0)).to(GPU)
    expected, memory = here(x, here.fresh_memory(3))
    features, memory_there = there(x.to(GPU), there.fresh_memory(3))
    torch.testing.assert_close(features.cpu(), expected, rtol=1e-3, atol=1e-4)
    again, _ = there(x[:, :5].to(GPU), memory_there)
    torch.testing.assert_close(again.cpu(), here(x[:, :5], memory)[0], rtol=1e-3, atol=1e-4)


def test_a_step_is_recorded_anew_for_another_shape_and_never_made_twice() -> None:
    total = torch.zeros(3, device=GPU)

    def step(x: Tensor) -> Tensor:
        total.add_(x.sum(dim=0))
        return total.sum()

    replayed, expected = ReplayedStep(step), torch.zeros(3)
    for rows in (4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4):
        x = torch.rand(rows, 3)
        expected += x.sum(dim=0)
        assert replayed(x.to(GPU)).item() == pytest.approx(float(expected.sum()), rel=1e-5)
    torch.testing.assert_close(total.cpu(), expected)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.parametrize("name", ["maml-trpo", "fomaml", "meta-sgd", "meta-lstm", "gbml"])
def test_conjugate_gradients_never_make_the_host_wait(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def watched(*arguments: Any) -> tuple[Tensor, Tensor]:
        torch.cuda.set_sync_debug_mode("error")
        try:
            calls.append(conjugate_gradient(*arguments))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return calls[-1]

    monkeypatch.setattr(trust_region, "conjugate_gradient", watched)
    agent, batch = made(name, GPU)
    agent.meta_update(batch)
    assert len(calls) == 1


def test_advantages_are_numpys() -> None:
    (agent, batch), (twin, _) = (made("maml-trpo", device) for device in (GPU, CPU))
    for trajectories in batch.collects:
        ours, expected = (one.samples(trajectories) for one in (agent, twin))  # type: ignore[attr-defined]
        for found, wanted in zip(ours, expected, strict=True):
            torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-6)


def test_training_evaluating_and_going_on(run_metarl, tiny) -> None:
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--device", "cuda", "--out", "run", *tiny)
    assert code == 0, err
    assert run_metarl("evaluate", "run", "--device", "cuda", "--tasks", "3")[0] == 0
    assert run_metarl("evaluate", "run", "--device", "cpu", "--tasks", "3")[0] == 0


@pytest.mark.parametrize("name", ["maml-trpo", "promp", "rl2", "varibad", "rma", "pearl", "recurrent-sac"])
@pytest.mark.parametrize(("first", "then"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_goes_on_on_the_other_device_and_back(run_metarl, tiny, name: str, first: str, then: str) -> None:
    words = ("train", name, "point-robot", "--out", "run", "--train-tasks", "3", *tiny)
    off_policy = ("--agent.gradient-steps", "2", "--agent.warmup-iterations", "0")
    words += off_policy if name in ("pearl", "recurrent-sac") else ()
    assert run_metarl(*words, "--iterations", "1", "--device", first)[0] == 0
    for device, iterations in ((then, "2"), (first, "3")):
        code, _, err = run_metarl(*words, "--resume", "--iterations", iterations, "--device", device)
        assert code == 0, err
        assert "its numbers are no longer the same, bit for bit" in err
        assert run_metarl("evaluate", "run", "--device", "cpu", "--tasks", "3")[0] == 0
    code, _, err = run_metarl(*words, "--resume", "--iterations", "3", "--device", first)
    assert code == 0, err
    assert "warning" not in err


def test_what_is_not_finite_on_a_gpu_is_noticed() -> None:
    agent, batch = made("maml-trpo", GPU)
    agent.parameters[0] = torch.nan  # type: ignore[attr-defined]
    with pytest.raises(NotFiniteError, match="not finite"):
        agent.begin(batch.tasks, 1)


def test_the_baseline_of_pictures_is_numpys() -> None:
    generator = torch.Generator().manual_seed(0)
    seen, targets = torch.randn(2, 2, 10, 300, generator=generator), torch.randn(2, 2, 10, generator=generator)
    mask = torch.ones(2, 2, 10, dtype=torch.bool)
    ours = device_returns.fit_linear_baseline(seen.to(GPU), targets.double().to(GPU), mask.to(GPU), 0.1)
    features = returns.baseline_features(seen.numpy())
    expected = returns.fit_linear_baseline(features, targets.double().numpy(), mask.numpy(), 0.1)
    torch.testing.assert_close(ours.cpu(), torch.tensor(expected), rtol=1e-6, atol=1e-8)
