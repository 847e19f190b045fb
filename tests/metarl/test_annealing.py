"""An annealed step size falls in a line to zero over the run, in every Adam of every agent that has the setting."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.checkpoint import load_newest, save_checkpoint
from metarl.registry import AGENTS, agent_class, make_family, names
from metarl.sampling import LocalSampler
from metarl.seeding import Streams
from metarl.training import meta_train
from metarl.types import Progress

ANNEALED = [name for name in names(AGENTS) if hasattr(agent_class(name).Config(), "anneal")]
SMALL = {"units": 6, "encoder": (5,), "hidden": (4,), "decoder": (4,), "vae_updates": 2}


def test_the_agents_trained_by_ppo_can_be_annealed() -> None:
    assert {"rl2", "varibad", "rma", "multitask", "oracle"} <= set(ANNEALED)


class Run:
    """A tiny run on point-robot, and the numbers that it logs."""

    def __init__(self, name: str, **settings: Any) -> None:
        kind: Any = agent_class(name)
        known = {field.name for field in dataclasses.fields(kind.Config)}
        self.streams, self.family = Streams(3), make_family("point-robot")
        self.envs = self.family.make_envs(2, 2, 5)
        config = kind.Config(**{k: v for k, v in (SMALL | settings).items() if k in known})
        self.agent = kind(config, self.family.spaces(5), device=torch.device("cpu"), rng=self.streams.learner)
        self.logged: list[dict[str, float]] = []

    def train(self, iterations: int, start: Progress | None = None, stop: int = 0) -> Progress:
        """Trains on after `start`, up to iteration `stop` if there is one."""
        sampler, distribution = LocalSampler(self.envs), self.family.distribution
        reports = meta_train(self.agent, sampler, distribution, self.streams, iterations=iterations, start=start)
        for report in reports:
            self.logged.append(report.metrics)
            if report.progress.iteration == stop:
                break
        return report.progress


@pytest.mark.parametrize("name", [name for name in ANNEALED if name != "rma"])  # each falls in its own phase there
def test_every_step_size_of_an_agent_falls_in_a_line_over_the_iterations_of_the_run(name: str) -> None:
    annealed, constant = Run(name, anneal=True), Run(name)
    for run in (annealed, constant):
        run.train(4)
    rates = {key for key in constant.logged[0] if key.endswith("learning_rate")}
    settings = [field.name for field in dataclasses.fields(constant.agent.config)]
    assert len(rates) == sum(name.endswith("learning_rate") for name in settings)
    for rate in rates:
        whole = constant.logged[0][rate]
        assert whole > 0
        assert [row[rate] for row in constant.logged] == [whole] * 4
        assert [row[rate] for row in annealed.logged] == pytest.approx([whole, 0.75 * whole, 0.5 * whole, 0.25 * whole])


@pytest.mark.parametrize("name", ANNEALED)
def test_an_annealed_run_that_was_interrupted_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole, first, second = (Run(name, anneal=True) for _ in range(3))
    whole.train(4)
    save_checkpoint(tmp_path, first.agent, first.streams, first.train(4, stop=2), keep=2)
    start, _ = load_newest(tmp_path, second.agent, second.streams)
    assert start is not None
    second.train(4, start)
    for key, tensor in whole.agent.tensors().items():
        assert torch.equal(second.agent.tensors()[key], tensor), key
    assert [row["return/0"] for row in whole.logged[2:]] == [row["return/0"] for row in second.logged]


def test_the_encoder_of_varibad_takes_smaller_steps_late_in_an_annealed_run() -> None:
    """Adam's first step moves a parameter by the step size: from equal starts the moves are as 1 to 1/4."""
    moves = []
    for begun in (0, 3):
        run = Run("varibad", anneal=True, vae_updates=1)
        before = run.agent.tensors()["vae.encoder.mean.bias"]
        run.train(4, Progress(begun, 0), stop=begun + 1)
        moves.append((run.agent.tensors()["vae.encoder.mean.bias"] - before).abs().max().item())
    assert moves[0] > 0
    assert moves[1] == pytest.approx(0.25 * moves[0], rel=1e-3)
