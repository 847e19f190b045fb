from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from metarl.checkpoint import list_checkpoints
from metarl.scripts.compare import success_interval


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
    share = rows["maml-trpo"]["share_of_gap"]
    assert {over: point["mean"] for over, point in share.items()} == {
        over: pytest.approx((after - low) / (high - low)) for over in ("tasks", "seeds", "both")
    }
    assert rows["oracle"]["share_of_gap"] is None
    pairs = {(pair["agent"], pair["minus"]): pair["difference"] for pair in value["differences"]}
    assert set(pairs) == {("maml-trpo", "multitask"), ("maml-trpo", "oracle"), ("multitask", "oracle")}
    assert pairs["maml-trpo", "multitask"]["tasks"]["mean"] == pytest.approx(after - low)
    assert pairs["multitask", "oracle"]["tasks"]["ci_low"] is not None
    assert pairs["multitask", "oracle"]["seeds"]["ci_low"] is None, "a single seed each"
    assert (rows["maml-trpo"]["iterations"], rows["maml-trpo"]["env_steps"]) == (3, [3 * 2 * 6 * 12] * 2)
    end = rows["maml-trpo"]["end"]
    assert end["tasks"]["ci_low"] != end["seeds"]["ci_low"] != end["both"]["ci_low"]
    assert sum(rows["maml-trpo"]["end_of_each_seed"]) / 2 == pytest.approx(after)
    for words_of_the_table in (
        "share of gap",
        "row minus column, paired by task",
        "oracle (observes the task)",
        "iterations",
        "env steps",
        "actions: sample",
        "single seeds",
        "diverged episodes",
    ):
        assert words_of_the_table in out
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


def test_runs_share_a_row_only_if_they_differ_in_the_seed_alone(run_metarl, runs: list[Path], tmp_path: Path, tiny):
    """Runs of other lengths have rows of their own; a copy is not an independent training."""
    longer = tmp_path / "longer"
    assert run_metarl("train", "maml-trpo", "point-robot", "--out", longer, *tiny, "--iterations", "4")[0] == 0
    code, out, _ = run_metarl("compare", runs[0], longer, "--tasks", "2", "--episodes", "2", "--json")
    assert code == 0
    rows = json.loads(out.splitlines()[-1])["rows"]
    assert [(row["agent"], row["seeds"], row["iterations"]) for row in rows] == [
        (f"maml-trpo, {runs[0]}", 2, 3),
        (f"maml-trpo, {longer}", 1, 4),
    ]
    # The same configuration, but stopped early: not a training of three iterations either.
    stopped = tmp_path / "stopped"
    shutil.copytree(runs[0] / "seed-1", stopped)
    list_checkpoints(stopped / "checkpoints")[-1].unlink()
    code, out, _ = run_metarl("compare", runs[0] / "seed-0", stopped, "--tasks", "2", "--episodes", "2", "--json")
    assert [(row["seeds"], row["iterations"]) for row in json.loads(out.splitlines()[-1])["rows"]] == [(1, 3), (1, 2)]
    copy = tmp_path / "copy"
    shutil.copytree(runs[0] / "seed-1", copy)
    for twice in ((runs[0], copy), (runs[0] / "seed-1", runs[0] / "seed-1")):
        code, _, err = run_metarl("compare", *twice)
        assert code == 2
        assert "with the same seed 1" in err
        assert len(err.strip().splitlines()) == 1


def test_seeds_that_all_fail_have_an_interval_with_a_width() -> None:
    none = success_interval(np.zeros((3, 40, 1)), "seeds")
    t = stats.t.ppf(0.975, 119)
    assert (none.mean, none.low, none.high) == (0.0, 0.0, pytest.approx(t**2 / (120 + t**2)))
    assert success_interval(np.zeros((3, 40, 1)), "both").high >= none.high
    assert math.isnan(success_interval(np.zeros((1, 40, 1)), "seeds").high)


def test_every_return_is_kept(run_metarl, runs: list[Path], tmp_path: Path) -> None:
    assert run_metarl("compare", *runs, "--tasks", "3", "--episodes", "2", "--out", tmp_path / "cmp")[0] == 0
    value = json.loads((tmp_path / "cmp" / "comparison.json").read_text())
    returns = np.array(value["returns"]["maml-trpo"])  # [seed, task, k, repeat]
    assert returns.shape == (2, 3, 2, 2)
    rows = {row["agent"]: row for row in value["rows"]}
    assert returns[:, :, -1].mean() == pytest.approx(rows["maml-trpo"]["curve"][-1]["mean"])
    assert len(value["task_list"]) == 3


def test_runs_of_different_families_are_refused(run_metarl, runs: list[Path], tmp_path: Path, tiny) -> None:
    assert run_metarl("train", "maml-trpo", "sparse-point-robot", "--out", tmp_path / "other", *tiny)[0] == 0
    code, _, err = run_metarl("compare", runs[1], tmp_path / "other")
    assert code == 2
    assert "expected the same family" in err
    assert run_metarl("compare")[0] == 2
    assert run_metarl("compare", tmp_path)[0] == 2
