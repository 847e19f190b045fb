"""A diverged training is detected, reported, and not saved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.checkpoint import list_checkpoints, load_checkpoint, load_newest, save_checkpoint
from metarl.finite import NotFiniteError, check_finite, learned, naming, remedies
from metarl.learning.gradient.agent import AdaptedPolicy
from metarl.registry import AGENTS, agent_class, make_family, names
from metarl.rollout import TrajectoryBuilder
from metarl.sampling import LocalSampler
from metarl.scripts.presets import default_settings
from metarl.seeding import Streams
from metarl.storage import read_tensors, write_tensors
from metarl.training import meta_train
from metarl.types import Action, Progress, Spaces

NAN = float("nan")


def poisoned(path: Path, name: str) -> None:
    """Rewrites a checkpoint as an earlier version would have saved it: sound, but for a number that is none."""
    from metarl.checkpoint import _digest

    tensors, description = read_tensors(path)
    tensors[name].view(-1)[0] = NAN
    write_tensors(path, tensors, {**description, "sha256": _digest(tensors, description["state"])})


def test_parameters_that_are_not_finite_are_not_saved(tmp_path: Path, make_agent) -> None:
    agent = make_agent()
    save_checkpoint(tmp_path, agent, Streams(0), Progress(1, 10), keep=2)
    agent.parameters[3] = torch.inf
    with pytest.raises(NotFiniteError, match=r"the parameters are not finite \(1 of 56 numbers of 'parameters'\)"):
        save_checkpoint(tmp_path, agent, Streams(0), Progress(2, 20), keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["0000001.safetensors"]


def test_an_old_checkpoint_of_such_parameters_is_skipped_like_a_damaged_one(tmp_path: Path, make_agent) -> None:
    for i in (1, 2):
        save_checkpoint(tmp_path, make_agent(i), Streams(i), Progress(i, 10), keep=2)
    poisoned(list_checkpoints(tmp_path)[-1], "parameters")
    agent = make_agent(9)
    progress, (complaint,) = load_newest(tmp_path, agent, Streams(9))
    assert progress == Progress(1, 10)
    assert "0000002.safetensors: got a damaged checkpoint (its parameters are not finite" in complaint
    assert torch.equal(agent.tensors()["parameters"], make_agent(1).tensors()["parameters"])
    # What goes on from there is kept, though a later file lies beside it.
    save_checkpoint(tmp_path, agent, Streams(9), Progress(1, 10), keep=2)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["0000001.safetensors", "0000002.safetensors"]


def test_what_a_resumed_run_saves_is_not_removed_for_damaged_files_of_later_iterations(
    tmp_path: Path, make_agent
) -> None:
    for i in (5, 9, 10):
        save_checkpoint(tmp_path, make_agent(i), Streams(i), Progress(i, 10), keep=3)
    save_checkpoint(tmp_path, make_agent(), Streams(0), Progress(6, 10), keep=2)
    assert [int(p.stem) for p in list_checkpoints(tmp_path)] == [5, 6, 9, 10]


@pytest.mark.parametrize("name", names(AGENTS))
def test_every_agent_that_blows_up_is_stopped_in_that_iteration(
    name: str, monkeypatch: pytest.MonkeyPatch, suited: Callable[[str], Any]
) -> None:
    family_name, settings = suited(name)
    family = make_family(family_name)
    config = replace(default_settings(name, family_name)[1], **settings)
    envs = family.make_envs(2, 2, 5)
    spaces = family.spaces(5)
    agent = agent_class(name)(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    update = type(agent).meta_update

    def blows_up(self, batch) -> dict[str, float]:
        report = update(self, batch) if name != "pearl" else {}
        tensors = {n: t.clone() for n, t in self.tensors().items()}
        moments = [n for n in learned(self) if "adam" in n and n.endswith("exp_avg_sq")]
        tensors[(moments or ["parameters"])[-1]].view(-1)[0] = torch.inf
        self.restore(tensors, self.counters())
        return report

    monkeypatch.setattr(type(agent), "meta_update", blows_up)
    with pytest.raises(NotFiniteError, match=r"^iteration 1: the parameters are not finite \(1 of"):
        list(meta_train(agent, LocalSampler(envs), family.distribution, Streams(0), iterations=3))
    assert not [n for n in learned(agent) if n.startswith(("replay", "context", "buffer"))]
    envs.close()


def test_adapted_parameters_that_are_not_finite_are_refused() -> None:
    with pytest.raises(NotFiniteError, match="adapted parameters are not finite"):
        AdaptedPolicy(torch.tensor([[0.0, NAN]]))


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(("observation", "reward"), [(0.0, 1e39), (0.0, NAN), (1e39, 0.0), (np.inf, 0.0)])
def test_what_float32_cannot_hold_is_named_when_an_episode_is_built(observation: float, reward: float) -> None:
    spaces = Spaces(observation_size=1, action_low=(-1,), action_high=(1,), horizon=3)
    builder = TrajectoryBuilder(1, 1, spaces, np.zeros(1))
    builder.add(Action(np.zeros((1, 1, 1), dtype=np.float32)), np.zeros(1), 0.0, False, False)
    builder.add(Action(np.zeros((1, 1, 1), dtype=np.float32)), np.full(1, observation), reward, False, True)
    what = "an observation" if reward == 0.0 else "a reward"
    with pytest.raises(NotFiniteError, match=rf"got {what} that is not finite in float32 \(task 0, episode 0, step"):
        builder.build()


def test_a_factor_beyond_float32_is_named_and_any_other_error_stays() -> None:
    with (
        pytest.raises(NotFiniteError, match="iteration 3: a step size or a factor overflows float32"),
        naming("iteration 3"),
    ):
        torch.zeros(1).add_(torch.ones(1), alpha=1e300)
    with pytest.raises(RuntimeError, match="another"), naming("iteration 3"):
        raise RuntimeError("another")


def test_integers_are_no_floating_point_numbers() -> None:
    check_finite({"counts": torch.tensor([1, 2]), "none": torch.zeros(0)})


def test_a_checkpoint_that_is_asked_for_by_name_is_looked_at_too(tmp_path: Path, make_agent) -> None:
    path = save_checkpoint(tmp_path, make_agent(1), Streams(1), Progress(1, 10), keep=2)
    poisoned(path, "observation_moments.mean")
    with pytest.raises(ValueError, match="not finite"):
        load_checkpoint(path, make_agent(9))


@dataclass
class Plain:
    width: int = 1


@pytest.mark.parametrize("name", names(AGENTS))
def test_the_remedies_are_options_of_the_agent(name: str) -> None:
    config = default_settings(name, "point-robot")[1]
    said = remedies(config)
    assert "rewards that are scaled down" in said
    options = [word.strip("(),") for word in said.split() if "--agent." in word]
    assert options
    assert all(hasattr(config, option.removeprefix("--agent.").replace("-", "_")) for option in options)
    assert remedies(Plain()) == "rewards that are scaled down"
