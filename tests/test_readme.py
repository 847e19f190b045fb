"""The code of the README runs as it stands."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from numpy.linalg import norm

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("normalise", [(), ("--agent.normalise-observations",)], ids=["raw", "normalised"])
def test_an_agent_adapts_in_a_loop_of_ones_own_and_its_policy_needs_no_metarl(run_metarl, tiny, normalise) -> None:
    code, _, err = run_metarl("train", "maml-trpo", "half-cheetah-vel", "--out", "runs/first", *tiny, *normalise)
    assert code == 0, err
    own_loop, saved_policy = BLOCKS[:2]
    names: dict = {}
    exec(own_loop, names)
    agent, state = names["agent"], names["state"]
    start = agent.begin([None], 1).parameters
    assert norm(state.parameters - start) > 0, "the policy adapted"
    assert len(names["practice"]) == 20
    assert names["practice"][0].env_steps == 12

    used: dict = {}
    exec(saved_policy, used)
    assert "metarl" not in saved_policy.replace('metadata()["metarl"]', "")
    observation = gymnasium.make("HalfCheetah-v5").reset(seed=0)[0]
    import torch

    mean = agent.policy(state.parameters, torch.tensor(agent._seen(observation)[None, None], dtype=torch.float32)).mean
    assert np.allclose(used["policy"](observation), agent.policy.to_environment(mean.numpy())[0, 0], atol=1e-5)


def test_bringing_an_environment_takes_few_lines() -> None:
    section = README.read_text(encoding="utf-8").split("## Bring your own environment")[1].split("\n## ")[0]
    assert len(section.splitlines()) < 30
    commands = re.findall(r"^metarl (.*?)(?: +#.*)?$", section, re.MULTILINE)
    assert [shlex.split(command)[0] for command in commands] == ["train", "check", "train"]


def test_the_family_of_the_readme_trains(run_metarl, tmp_path: Path, tiny) -> None:
    (tmp_path / "my_robots.py").write_text(BLOCKS[3])  # the folder one is in
    code, _, err = run_metarl("train", "maml-trpo", "my_robots:spring", "--out", tmp_path / "run", *tiny)
    assert code == 0, err
    code, out, err = run_metarl("evaluate", tmp_path / "run", "--family", "my_robots:spring")
    assert code == 0, err
    assert "40 held-out tasks" in out
    sys.modules.pop("my_robots")


def test_what_the_readme_names_exists() -> None:
    text = README.read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (README.parent / link).exists(), link
