from __future__ import annotations

import json
from pathlib import Path


def test_an_oracle_of_before_its_parameters_were_recorded_is_refused(run_metarl, tmp_path: Path, tiny) -> None:
    out = tmp_path / "run"
    words = ("train", "oracle", "point-robot", *tiny, "--out", out)
    assert run_metarl(*words)[0] == 0
    config = json.loads((out / "config.json").read_text())
    assert config["spaces"].pop("task_parameters") == [{"name": "goal", "size": 2, "categories": []}]
    config["agent_config"]["task_parameters"] = 2
    (out / "config.json").write_text(json.dumps(config))
    for again in (("evaluate", out), (*words, "--resume")):
        code, _, err = run_metarl(*again)
        assert code == 2
        assert "a run from before they were recorded cannot be loaded, train it again" in err
        assert len(err.strip().splitlines()) == 1


def test_pearl_on_discrete_actions_is_refused_before_anything_is_written(run_metarl, tmp_path: Path, tiny) -> None:
    code, _, err = run_metarl("train", "pearl", "bandit", *tiny, "--out", tmp_path / "run")
    assert code == 2
    assert "expected continuous actions" in err
    assert not (tmp_path / "run").exists()
