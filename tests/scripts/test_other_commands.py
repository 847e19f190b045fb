from __future__ import annotations

import json

import pytest

import metarl
from metarl.registry import agent_class, make_family
from metarl.scripts.presets import PRESETS, default_settings


def test_version_and_help(run_metarl) -> None:
    assert run_metarl("--version") == (0, f"metarl {metarl.__version__}\n", "")
    code, out, _ = run_metarl("--help")
    assert code == 0
    for command in ("train", "evaluate", "list", "bench"):
        assert command in out
        code, shown, _ = run_metarl(command, "--help")
        assert code == 0
        assert "usage" in shown
    assert run_metarl()[0] == 2


def test_list_names_agents_families_and_presets(run_metarl) -> None:
    code, out, _ = run_metarl("list", "--json")
    value = json.loads(out.splitlines()[-1])
    assert code == 0
    agents = {"maml-trpo", "fomaml", "meta-sgd", "reptile", "promp", "rl2", "varibad", "pearl", "multitask", "oracle"}
    assert agents == {a["name"] for a in value["agents"]}
    families = {f["name"]: f for f in value["families"]}
    assert set(families) == {
        "point-robot", "sparse-point-robot", "half-cheetah-dir", "half-cheetah-vel", "half-cheetah-vel-3",
        "bandit", "tabular-mdp",
    }  # fmt: skip
    assert families["half-cheetah-dir"]["splits"] is False
    assert families["point-robot"]["parameters"][0]["hidden"] is True
    assert len(value["presets"]) == len(PRESETS)
    code, out, _ = run_metarl("list")
    assert code == 0
    assert "half-cheetah-vel" in out


@pytest.mark.parametrize(("agent", "family"), list(PRESETS))
def test_presets_name_what_exists_and_their_source(agent: str, family: str) -> None:
    assert make_family(family).name == family
    training, config = default_settings(agent, family)
    assert isinstance(config, agent_class(agent).Config)
    assert PRESETS[agent, family].source
    if agent == "maml-trpo":
        assert (training.tasks, training.episodes) == (20, 20)
        assert config.action_scale == (10.0 if family.startswith("half-cheetah") else 1.0)


@pytest.mark.parametrize("family", ["point-robot", "half-cheetah-vel"])
def test_bench_rollout_prints_its_keys(run_metarl, family: str) -> None:
    words = ("bench", "rollout", "--family", family, "--tasks", "2", "--episodes", "2", "--rounds", "1", "--json")
    code, out, err = run_metarl(*words)
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    physics = {"physics_steps_per_s", "fraction_of_physics"}
    others = {"env_steps_per_s", "sync_env_steps_per_s", "async_env_steps_per_s", "ratio_vs_sync", "ratio_vs_async"}
    assert {"family", "tasks", "episodes"} | physics | others == set(value)
    for key in others | (physics if family.startswith("half") else set()):
        assert value[key] > 0, key
    if family == "point-robot":
        assert {value[key] for key in physics} == {None}
