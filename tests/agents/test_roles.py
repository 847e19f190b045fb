"""Every registered agent plays the roles: typed against the protocols, its state cut and joined along the tasks."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.registry import AGENTS, agent_class, make_family, names
from metarl.sampling import LocalSampler, collects
from metarl.scripts.presets import default_settings
from metarl.seeding import Streams

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"hidden": (8,), "encoder_hidden": (8,), "encoder": (8,), "units": 8, "replay_size": 100, "buffer_trials": 4}


def built(name: str, suited: Callable[[str], Any]) -> tuple[Any, Any]:
    """A small agent with the default settings, and a family that it can be trained on."""
    kind, (family_name, settings) = agent_class(name), suited(name)
    family, config = make_family(family_name), default_settings(name, family_name)[1]
    known = {key: value for key, value in SMALL.items() if hasattr(config, key)}
    small = dataclasses.replace(config, **known, **settings)
    return kind.build(small, family.spaces(4), device=torch.device("cpu"), rng=np.random.default_rng(0)), family


def arrays(state: Any) -> list[np.ndarray]:
    """The arrays of a state, in the order of its fields."""
    values = [getattr(state, field.name) for field in dataclasses.fields(state)]
    flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    return [np.asarray(value) for value in flat if value is not None]


@pytest.mark.parametrize("name", names(AGENTS))
def test_a_state_is_cut_and_joined_along_the_tasks(name: str, suited: Callable[[str], Any]) -> None:
    agent, family = built(name, suited)
    tasks = (2 * family.distribution.train_tasks(5))[:5]
    sampler = LocalSampler(family.make_envs(5, 3, 4))
    sampler.set_tasks(tasks)
    *_, (_, state) = collects(sampler, agent, agent.begin(tasks, 3), Streams(0), steps=1)
    kind, parts = type(state), [slice(0, 2), slice(2, 3), slice(3, 5)]
    again = kind.join([state.tasks(part) for part in parts])
    assert len(arrays(again)) >= len(arrays(state))
    for mine, theirs in zip(arrays(state), arrays(again), strict=False):
        assert np.array_equal(mine, theirs)
    for mine, theirs in zip(
        arrays(state.tasks(slice(2, 5)).tasks(slice(1, 3))), arrays(state.tasks(slice(3, 5))), strict=True
    ):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("name", names(AGENTS))
def test_an_actor_declares_what_it_records(name: str, suited: Callable[[str], Any]) -> None:
    agent, family = built(name, suited)
    tasks = family.distribution.train_tasks(2)
    sampler = LocalSampler(family.make_envs(2, 2, 4))
    sampler.set_tasks(tasks)
    collected, _ = sampler.collect(agent.acting_part(), agent.begin(tasks, 2), Streams(0))
    assert {key: value.shape[3:] for key, value in collected.extras.items()} == dict(agent.recorded)
    agent.recorded = {**agent.recorded, "another": (3,)}
    with pytest.raises(ValueError, match=r"got extras of shapes .* as declared by the actor"):
        sampler.collect(agent, agent.begin(tasks, 2), Streams(0))


@pytest.mark.skipif(shutil.which("mypy", path=str(Path(sys.executable).parent)) is None, reason="mypy is not installed")
def test_every_registered_agent_has_the_type_of_a_meta_agent(tmp_path: Path) -> None:
    points = [point for point in entry_points(group=AGENTS) if point.value.startswith("metarl.")]
    assert sorted(point.name for point in points) == names(AGENTS)
    lines = [
        "from typing import Any",
        "import numpy as np",
        "import torch",
        "from metarl.agent import Actor, MetaAgent",
    ]
    lines += [f"from {point.module} import {point.attr}" for point in points]
    lines += ["from metarl.types import Spaces", "def built(spaces: Spaces, rng: np.random.Generator) -> None:"]
    lines += ["    device = torch.device('cpu')", "    agents: list[MetaAgent[Any]] = []"]
    for point in points:
        lines += [f"    agents.append({point.attr}({point.attr}.Config(), spaces, device=device, rng=rng))"]
    lines += ["    actors: list[Actor[Any]] = [agent.acting_part() for agent in agents]", "    print(actors)"]
    (tmp_path / "roles.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run([*command, str(tmp_path / "roles.py")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    broken = (tmp_path / "roles.py").read_text().replace("[]\n", "[object()]\n")
    (tmp_path / "roles.py").write_text(broken, encoding="utf-8")
    done = subprocess.run([*command, str(tmp_path / "roles.py")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, "the check tells an agent from another object"
