"""Configurations of runs that earlier versions made."""

from __future__ import annotations

import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metarl.agents.rl2 import Rl2Config
from metarl.config import to_json
from metarl.registry import make_family
from metarl.runs import RunConfig, commit_of

TRAINING = {
    "seed": 0, "iterations": 200, "tasks": 40, "episodes": 2, "horizon": 200, "train_tasks": 0, "device": "cpu",
    "eval_every": 20, "eval_tasks": 40, "checkpoint_every": 5, "checkpoints_kept": 2,
}  # fmt: skip
SPACES = {"observation_size": 17, "action_low": [-1.0] * 6, "action_high": [1.0] * 6, "horizon": 200, "choices": 0}
PPO = {
    "learning_rate": 7e-4, "epochs": 5, "minibatches": 16, "clip": 0.2, "value_clip": 0.0, "value_weight": 0.5,
    "entropy_weight": 0.0, "gamma": 0.97, "gae_lambda": 0.95, "max_gradient_norm": 0.5, "normalise_advantages": True,
    "normalise_rewards": True, "normalise_observations": True, "init_std": 0.6, "min_std": 0.1, "action_scale": 1.0,
}  # fmt: skip


def read(folder: Path, agent: str, agent_config: dict[str, Any]) -> Any:
    """The configuration that `RunConfig.read` returns for an early `config.json` of version 0.1."""
    value = {"agent": agent, "family": "half-cheetah-vel-3", "training": TRAINING, "agent_config": agent_config}
    (folder / "config.json").write_text(json.dumps({**value, "spaces": SPACES}))
    return RunConfig.read(folder).agent_config


@pytest.mark.parametrize(("iterations", "anneal"), [(0, False), (200, True)])
def test_a_run_of_an_earlier_version_keeps_what_it_did(tmp_path: Path, iterations: int, anneal: bool) -> None:
    network = {"hidden": [64, 64], "activation": "tanh"}
    config = read(tmp_path, "multitask", {**PPO, **network, "anneal_iterations": iterations})
    assert config.anneal is anneal
    assert (config.std, config.mean, config.max_std) == ("shared", "linear", 0.0)
    assert config.deviation_floor == 0.0, "it had none"
    assert config.min_std == 0.1


def test_a_setting_that_no_version_had_is_still_refused(tmp_path: Path) -> None:
    network = {"hidden": [64, 64], "activation": "tanh", "anneal_iterations": 0}
    with pytest.raises(ValueError, match="does not fit this version"):
        read(tmp_path, "multitask", {**PPO, **network, "annealing": 3})


def test_infinite_bounds_of_actions_are_kept(tmp_path: Path) -> None:
    network = {"hidden": [64, 64], "activation": "tanh", "anneal_iterations": 0}
    read(tmp_path, "multitask", {**PPO, **network})
    run = RunConfig.read(tmp_path)
    spaces = replace(run.spaces, action_low=(-math.inf, -1.0, 0.5), action_high=(math.inf, math.inf, 1.0))
    replace(run, spaces=spaces).write(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["spaces"]["action_low"] == [None, -1.0, 0.5]
    assert RunConfig.read(tmp_path).spaces == spaces


def test_a_folder_of_seeds_is_no_run_and_says_which_are(tmp_path: Path) -> None:
    (tmp_path / "seed-3").mkdir()
    (tmp_path / "seed-3" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"a folder of several seeds, expected one of them: .*seed-3"):
        RunConfig.read(tmp_path)


@pytest.mark.parametrize("family", ["walker2d-rand-params", "hopper-rand-params", "half-cheetah-rand-params"])
@pytest.mark.parametrize(
    ("parameters", "suffix"),
    [
        (None, "-published"),  # before parameters were recorded
        (("body_inertia", "body_mass"), "-published"),
        (("body_mass", "body_second_moment"), ""),
    ],
)
def test_a_run_on_random_bodies_keeps_the_recipe_that_it_was_trained_on(
    tmp_path: Path, family: str, parameters: tuple[str, ...] | None, suffix: str
) -> None:
    read(tmp_path, "multitask", {**PPO, "hidden": [64, 64], "activation": "tanh", "anneal_iterations": 0})
    value = json.loads((tmp_path / "config.json").read_text())
    value["family"] = family
    if parameters is not None:
        value["spaces"]["task_parameters"] = [{"name": n, "size": 4, "categories": []} for n in parameters]
    (tmp_path / "config.json").write_text(json.dumps(value))
    run = RunConfig.read(tmp_path)
    assert run.family == family + suffix
    declared = {parameter.name for parameter in make_family(run.family).distribution.parameters}
    assert declared >= set(parameters or ("body_inertia",))
    run.write(tmp_path)
    assert RunConfig.read(tmp_path).family == run.family


def test_an_earlier_run_on_random_bodies_goes_on_under_its_new_name(run_metarl, tmp_path: Path, tiny) -> None:
    words = ("train", "multitask", "hopper-rand-params-published", "--out", tmp_path / "run", *tiny)
    assert run_metarl(*words)[0] == 0
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace("-published", ""))  # as the version before wrote it
    code, _, err = run_metarl("train", "multitask", "hopper-rand-params", "--out", tmp_path / "run", "--resume")
    assert code == 2
    assert "in family (there 'hopper-rand-params-published')" in err.replace("\n", " ")
    code, out, err = run_metarl("evaluate", tmp_path / "run", "--tasks", "2", "--json")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["family"] == "hopper-rand-params-published"


def test_an_rl2_run_from_before_its_later_options_has_their_first_values(tmp_path: Path) -> None:
    kept = {k: v for k, v in to_json(Rl2Config()).items() if k not in ("aggregate", "head", "critic")}
    config = read(tmp_path, "rl2", kept)
    assert (config.aggregate, config.head, config.critic) == ("none", "mlp", "network")


def test_a_commit_is_marked_if_code_has_changed_and_not_if_a_table_was_written(tmp_path: Path) -> None:
    assert commit_of(tmp_path) is None
    name = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    for words in (("init", "-q"), (*name, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    commit = commit_of(tmp_path)
    assert re.fullmatch("[0-9a-f]{40}", commit or "")
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "results" / "table.md").touch()
    assert commit_of(tmp_path) == commit
    (tmp_path / "docs" / "page.md").touch()
    assert commit_of(tmp_path) == f"{commit}+"
