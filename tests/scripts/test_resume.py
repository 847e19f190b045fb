"""Runs of `metarl train` that are resumed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from metarl.checkpoint import list_checkpoints

OPTIONS = ("--tasks", "3", "--episodes", "3", "--horizon", "30", "--eval-every", "4", "--eval-tasks", "2")
OPTIONS += ("--checkpoint-every", "2", "--agent.hidden", "16", "16", "--agent.normalise-observations")


def test_resuming_continues_bit_for_bit_and_may_change_iterations(run_metarl, assert_same_run, tmp_path: Path) -> None:
    base = ("train", "maml-trpo", "point-robot", *OPTIONS)
    assert run_metarl(*base, "--out", tmp_path / "whole", "--iterations", "6")[0] == 0
    assert run_metarl(*base, "--out", tmp_path / "parts", "--iterations", "3")[0] == 0
    resume = ("train", "maml-trpo", "point-robot", "--out", tmp_path / "parts", "--resume", "--iterations", "6")
    code, _, err = run_metarl(*resume)
    assert code == 0
    assert "resuming after iteration 3" in err
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert len(json.loads((tmp_path / "parts" / "versions.json").read_text())["starts"]) == 2


def test_an_annealed_run_that_is_made_longer_goes_on_along_the_longer_line(run_metarl, logged, tmp_path: Path) -> None:
    base = ("train", "varibad", "point-robot", "--out", tmp_path / "run")
    small = ("--tasks", "2", "--episodes", "1", "--horizon", "5", "--eval-every", "0", "--agent.vae-updates", "1")
    rates = ("--agent.learning-rate", "0.008", "--agent.vae-learning-rate", "0.0008")
    assert run_metarl(*base, *small, *rates, "--agent.anneal", "--iterations", "4")[0] == 0
    assert run_metarl(*base, "--resume", "--iterations", "8")[0] == 0
    rows = logged(tmp_path / "run")
    shares = [1, 3 / 4, 2 / 4, 1 / 4, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [row["update/learning_rate"] for row in rows] == pytest.approx([0.008 * share for share in shares])
    assert [row["vae/learning_rate"] for row in rows] == pytest.approx([0.0008 * share for share in shares])


def test_resuming_without_a_checkpoint_starts_afresh_and_says_so(
    run_metarl, logged, tmp_path: Path, trained_run: Path, tiny
) -> None:
    for path in list_checkpoints(trained_run / "checkpoints"):
        path.write_bytes(path.read_bytes()[:100])
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", trained_run, "--resume")
    assert code == 0
    assert "falling back" in err
    assert "starting from scratch" in err
    assert [row["iteration"] for row in logged(trained_run)] == [1, 2, 3]
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", tmp_path / "new", "--resume", *tiny)
    assert code == 0
    assert "starting from scratch" in err


def test_a_full_disk_stops_training_and_leaves_the_last_checkpoint(
    run_metarl, assert_same_run, tmp_path: Path, monkeypatch
) -> None:
    out, fsync = tmp_path / "run", os.fsync

    def full(descriptor: int) -> None:
        if "0000004" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", out, *OPTIONS, "--iterations", "6")
    assert code == 2
    assert "No space left" in err
    assert f"--out {out} --resume" in err
    monkeypatch.setattr(os, "fsync", fsync)
    assert [p.name for p in list_checkpoints(out / "checkpoints")] == ["0000002.safetensors"]
    assert run_metarl("train", "maml-trpo", "point-robot", "--out", out, "--resume")[0] == 0
    assert (
        run_metarl("train", "maml-trpo", "point-robot", "--out", tmp_path / "b", *OPTIONS, "--iterations", "6")[0] == 0
    )
    assert_same_run(out, tmp_path / "b")
