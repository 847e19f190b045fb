"""Runs of agents that plan, by the command line: refusals, and families of the user's own that declare a reward."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import metarl

SMALL = ("--tasks", "2", "--episodes", "2", "--horizon", "6", "--eval-every", "0", "--iterations", "2")
OWN = """
from dataclasses import replace

import metarl
from metarl.rewards import DeclaredReward


def far(observations, actions, following, task):
    return (following * following).sum(-1)


def robot():
    return replace(metarl.make_family("point-robot"), name="my-robot", reward=DeclaredReward(far))


def without():
    return replace(robot(), reward=None)
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A family in a module of the working folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_robots.py").write_text(OWN)
    yield "my_robots:robot"
    sys.modules.pop("my_robots", None)


@pytest.mark.parametrize("agent", ["mb-mpc", "grbal", "rebal"])
@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("hopper-gravity", "got a family that declares no reward function, expected one to score plans with"),
        ("half-cheetah-vel", "got a family whose reward depends on the task's velocity, expected the same reward"),
        ("point-robot", "got a family whose reward depends on the task's goal, expected the same reward in all tasks"),
        ("bandit", "got a family that declares no reward function"),
    ],
)
def test_a_family_that_cannot_be_planned_in_is_refused_in_one_line(
    run_metarl: Callable[..., Any], suited: Callable[[str], Any], agent: str, family: str, why: str
) -> None:
    code, out, err = run_metarl("train", agent, family, "--out", "run", *SMALL, *suited(agent).words)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert f"{agent}: {why}" in line
    assert "choose a family" in line
    assert not Path("run").exists()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_family_of_ones_own_that_declares_a_reward_is_named_again(
    run_metarl: Callable[..., Any], suited: Callable[[str], Any], spec: str, workers: str
) -> None:
    words = ("train", "grbal", spec, "--out", "run", *SMALL, *suited("grbal").words, "--workers", workers)
    code, _, err = run_metarl(*words)
    assert code == 0, err
    code, _, err = run_metarl(*words, "--iterations", "3", "--resume")
    assert code == 0, err
    assert "resuming after iteration 2" in err
    options = ("--tasks", "2", "--episodes", "2", "--workers", workers, "--json")
    code, out, err = run_metarl("evaluate", "run", "--family", spec, *options)
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["curve"][0]["episodes"] == 0
    code, out, err = run_metarl("compare", "run", "--family", spec, *options)
    assert code == 0, err
    sys.modules.pop("my_robots")
    for command in ("evaluate", "compare"):
        code, out, err = run_metarl(command, "run", *options)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1
        assert "name it again with --family" in err
    with pytest.raises(ValueError, match=r"family: got none, but the run's family 'my_robots:robot' is your own"):
        metarl.load("run")
    assert "my_robots" not in sys.modules, "a file alone imports nothing"
    agent = metarl.load("run", family=metarl.make_family(spec))
    assert agent.spaces.reward is not None


def test_a_family_of_ones_own_without_a_reward_is_refused(
    run_metarl: Callable[..., Any], suited: Callable[[str], Any], spec: str
) -> None:
    words = ("train", "grbal", "my_robots:without", "--out", "run", *SMALL, *suited("grbal").words)
    code, out, err = run_metarl(*words)
    assert (code, out) == (2, "")
    assert "grbal: got a family that declares no reward function" in err


def test_a_script_trains_and_loads_with_a_family_that_it_made(
    tmp_path: Path, suited: Callable[[str], Any], spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    family = metarl.make_family(spec)
    sizes = {"iterations": 1, "tasks": 2, "episodes": 1, "horizon": 6, "eval_every": 0, **suited("mb-mpc").settings}
    trained = metarl.train("mb-mpc", family, out="run", workers=0, **sizes)
    again = metarl.load("run", family=family)
    assert again.counters() == trained.agent.counters()
    with pytest.raises(ValueError, match="the run's family 'my-robot' is your own"):
        metarl.load("run")


def test_other_agents_need_no_family_to_be_loaded(run_metarl: Callable[..., Any], spec: str) -> None:
    code, _, err = run_metarl("train", "reptile", spec, "--out", "run", *SMALL, "--workers", "0")
    assert code == 0, err
    assert metarl.load("run").spaces.reward is None
    assert metarl.load("run", family=metarl.make_family(spec)).spaces.reward is None
