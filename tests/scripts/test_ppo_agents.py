from __future__ import annotations

import json
from pathlib import Path

import pytest

from metarl.checkpoint import list_checkpoints

AGENTS = {
    "rl2": ("--agent.units", "8", "--agent.encoder", "8"),
    "varibad": ("--agent.units", "8", "--agent.encoder", "8", "--agent.hidden", "8", "--agent.vae-updates", "2"),
    "multitask": ("--agent.hidden", "8"),
    "oracle": ("--agent.hidden", "8"),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_a_resumed_run_is_the_uninterrupted_one_and_can_be_evaluated(run_metarl, tmp_path: Path, tiny, agent) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = ("train", agent, "point-robot", *tiny, *AGENTS[agent])
    assert run_metarl(*words, "--iterations", "4", "--out", whole)[0] == 0
    assert run_metarl(*words, "--iterations", "2", "--out", parts)[0] == 0
    code, _, err = run_metarl("train", agent, "point-robot", "--resume", "--iterations", "4", "--out", parts)
    assert code == 0
    assert "resuming after iteration 2" in err
    newest = [list_checkpoints(run / "checkpoints")[-1] for run in (whole, parts)]
    assert newest[0].name == "0000004.safetensors"
    assert newest[0].read_bytes() == newest[1].read_bytes()

    code, out, err = run_metarl("evaluate", whole, "--adapt-steps", "2", "--tasks", "3", "--json")
    assert code == 0, err
    curve = json.loads(out.splitlines()[-1])["curve"]
    assert [point["episodes"] for point in curve] == [0, 1, 2]


def test_an_oracle_of_the_wrong_size_says_which_setting_is_wrong(run_metarl, tmp_path: Path, tiny) -> None:
    words = ("train", "oracle", "point-robot", *tiny, "--agent.task-parameters", "1", "--out", tmp_path / "run")
    code, _, err = run_metarl(*words)
    assert code == 2
    assert "--agent.task-parameters 2" in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_pearl_on_discrete_actions_is_refused_before_anything_is_written(run_metarl, tmp_path: Path, tiny) -> None:
    code, _, err = run_metarl("train", "pearl", "bandit", *tiny, "--out", tmp_path / "run")
    assert code == 2
    assert "expected continuous actions" in err
    assert not (tmp_path / "run").exists()
