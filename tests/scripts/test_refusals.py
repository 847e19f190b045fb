from __future__ import annotations

from pathlib import Path


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
