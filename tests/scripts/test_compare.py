from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def runs(run_metarl, tmp_path: Path, tiny) -> list[Path]:
    """Two seeds of maml-trpo in one folder, and the two references."""
    for agent, more in (("maml-trpo", ("--seeds", "2")), ("multitask", ()), ("oracle", ())):
        code, _, err = run_metarl("train", agent, "point-robot", "--out", tmp_path / agent, *more, *tiny)
        assert code == 0, err
    return [tmp_path / name for name in ("maml-trpo", "multitask", "oracle")]


def test_seeds_are_trained_side_by_side_and_can_be_resumed(run_metarl, runs: list[Path], tmp_path: Path) -> None:
    seeds = [json.loads((runs[0] / f"seed-{s}" / "config.json").read_text())["training"]["seed"] for s in (0, 1)]
    assert seeds == [0, 1]
    words = ("train", "maml-trpo", "point-robot", "--out", runs[0], "--seeds", "2")
    code, _, err = run_metarl(*words)
    assert code == 2
    assert "already holds a run" in err
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", runs[1], "--seeds", "2")
    assert code == 2
    assert "a single run" in err


def test_a_table_has_every_agent_once_with_its_share_of_the_gap(run_metarl, runs: list[Path], tmp_path: Path) -> None:
    words = ("compare", *runs, "--tasks", "3", "--episodes", "2", "--out", tmp_path / "cmp", "--json")
    code, out, err = run_metarl(*words)
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    rows = {row["agent"]: row for row in value["rows"]}
    assert {name: row["seeds"] for name, row in rows.items()} == {"maml-trpo": 2, "multitask": 1, "oracle": 1}
    low, high = (rows[name]["curve"][-1]["mean"] for name in ("multitask", "oracle"))
    after = rows["maml-trpo"]["curve"][-1]["mean"]
    assert rows["maml-trpo"]["share_of_gap"] == pytest.approx((after - low) / (high - low))
    assert rows["oracle"]["difference"] is None
    assert rows["maml-trpo"]["difference"]["ci_low"] is not None
    assert (tmp_path / "cmp" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "cmp" / "comparison.json").read_text())["rows"] == value["rows"]
    code, _, err = run_metarl(*words)
    assert code == 2
    assert "not empty" in err
    code, out, _ = run_metarl("compare", *runs, "--tasks", "3", "--over", "seeds", "--statistic", "iqm")
    assert code == 0
    assert "iqm" in out


def test_runs_of_different_families_are_refused(run_metarl, runs: list[Path], tmp_path: Path, tiny) -> None:
    assert run_metarl("train", "maml-trpo", "sparse-point-robot", "--out", tmp_path / "other", *tiny)[0] == 0
    code, _, err = run_metarl("compare", runs[1], tmp_path / "other")
    assert code == 2
    assert "expected the same family" in err
    assert run_metarl("compare")[0] == 2
    assert run_metarl("compare", tmp_path)[0] == 2
