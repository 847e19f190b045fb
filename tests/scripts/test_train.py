from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.checkpoint import list_checkpoints
from metarl.storage import read_tensors

OPTIONS = ("--tasks", "3", "--episodes", "3", "--horizon", "30", "--eval-every", "4", "--eval-tasks", "2")
OPTIONS += ("--checkpoint-every", "2", "--agent.hidden", "16", "16", "--agent.normalise-observations")
ITERATIONS = 14


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def final_tensors(out: Path) -> dict[str, torch.Tensor]:
    return read_tensors(list_checkpoints(out / "checkpoints")[-1])[0]


def assert_same_run(one: Path, two: Path) -> None:
    """Same parameters and statistics, bit for bit; same metrics but for the times."""
    mine, theirs = final_tensors(one), final_tensors(two)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    for a, b in zip(lines(one), lines(two), strict=True):
        for row in (a, b):
            for key in [k for k in row if k.startswith("time/")]:
                del row[key]
        assert a == b


# The run folder ---------------------------------------------------------------------------------------------


def test_a_run_leaves_configuration_versions_metrics_checkpoints_and_a_picture(trained_run: Path) -> None:
    config = json.loads((trained_run / "config.json").read_text())
    assert (config["agent"], config["family"], config["training"]["tasks"]) == ("maml-trpo", "point-robot", 3)
    assert config["training"]["device"] in ("cpu", "cuda"), "as used, not auto"
    assert config["spaces"]["horizon"] == 12
    (start,) = json.loads((trained_run / "versions.json").read_text())["starts"]
    assert start["packages"]["torch"] == torch.__version__
    rows = lines(trained_run)
    assert [r["iteration"] for r in rows] == [1, 2, 3]
    assert rows[0]["env_steps"] <= 2 * 3 * 2 * 12
    for key in ("return/0", "return/1", "time/sample_s", "time/update_s", "update/kl", "diverged_episodes"):
        assert all(key in row for row in rows), key
    assert ["evaluation/return/1" in row for row in rows] == [False, True, False]
    assert [p.name for p in list_checkpoints(trained_run / "checkpoints")] == [
        "0000002.safetensors",
        "0000003.safetensors",
    ]
    assert list((trained_run / "tensorboard").iterdir())
    assert (trained_run / "training.png").stat().st_size > 1000
    assert not list(trained_run.rglob("*.partial"))


def test_by_default_every_run_gets_a_new_folder(run_metarl: Callable[..., Any], tmp_path: Path, tiny) -> None:
    for _ in range(2):
        code, out, _ = run_metarl("train", "maml-trpo", "point-robot", *tiny, "--json")
        assert code == 0
        value = json.loads(out.splitlines()[-1])
        assert value["iteration"] == 3
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_the_same_seed_gives_the_same_run_and_another_seed_another(run_metarl, tmp_path: Path, tiny) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert run_metarl("train", "maml-trpo", "point-robot", "--out", tmp_path / name, "--seed", seed, *tiny)[0] == 0
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert not torch.equal(final_tensors(tmp_path / "a")["parameters"], final_tensors(tmp_path / "c")["parameters"])


def test_held_out_evaluations_do_not_change_the_run(run_metarl, tmp_path: Path, tiny) -> None:
    for name, every in (("a", "0"), ("b", "1")):
        code, *_ = run_metarl(
            "train", "maml-trpo", "point-robot", "--out", tmp_path / name, *tiny, "--eval-every", every
        )
        assert code == 0
    assert torch.equal(final_tensors(tmp_path / "a")["parameters"], final_tensors(tmp_path / "b")["parameters"])


# Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train",), ["AGENT and FAMILY", "maml-trpo", "point-robot"]),
        (("train", "maml-tpro", "point-robot"), ["'maml-tpro'", "Did you mean 'maml-trpo'"]),
        (("train", "maml-trpo", "point-robt"), ["'point-robt'", "Did you mean 'point-robot'"]),
        (("train", "maml-trpo", "point-robot", "--agent.max-kl", "0"), ["agent.max_kl", "got 0.0", "> 0"]),
        (("train", "maml-trpo", "point-robot", "--agent.max-kl", "nan"), ["agent.max_kl", "got nan"]),
        (("train", "maml-trpo", "point-robot", "--agent.max-kl", "much"), ["--agent.max-kl", "much"]),
        (("train", "maml-trpo", "point-robot", "--agent.max-lk", "1"), ["--agent.max-lk", "--agent.max-kl"]),
        (("train", "maml-trpo", "point-robot", "--agent.activation", "gelu"), ["gelu", "tanh", "relu"]),
        (("train", "maml-trpo", "point-robot", "--tasks", "0"), ["tasks", "got 0", ">= 1"]),
        (("train", "maml-trpo", "point-robot", "--resume"), ["--resume", "--out"]),
        (("train", "maml-trpo", "half-cheetah-dir", "--train-tasks", "3"), ["train_tasks", "got 3"]),
        (("train", "maml-trpo", "nowhere:family"), ["nowhere", "module:function"]),
        (("evaluate", "."), ["no run", "config.json"]),
        (("evaluate",), ["metarl evaluate --help"]),
        (("bnech",), ["'bnech'", "Did you mean 'bench'"]),
        (("bench", "sleep"), ["'sleep'", "rollout"]),
        (("bench", "rollout", "--family", "pointrobot"), ["Did you mean 'point-robot'"]),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_line_and_exit_code_2(run_metarl, tmp_path: Path, words, expected) -> None:
    code, out, err = run_metarl(*words)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    for part in expected:
        assert part in err
    assert list(tmp_path.iterdir()) == [], "nothing was written"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_without_cuda_is_refused(run_metarl, trained_run: Path) -> None:
    for words in (("train", "maml-trpo", "point-robot"), ("evaluate", trained_run)):
        code, _, err = run_metarl(*words, "--device", "cuda")
        assert code == 2
        assert "no CUDA device" in err


def test_a_folder_that_holds_a_run_is_not_overwritten(run_metarl, trained_run: Path, tiny) -> None:
    before = {p: p.read_bytes() for p in trained_run.rglob("*") if p.is_file()}
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", trained_run, *tiny)
    assert code == 2
    assert "already holds a run" in err
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", trained_run, "--resume", "--seed", "4",
                              "--agent.inner-lr", "0.2", "--iterations", "9")  # fmt: skip
    assert code == 2
    assert "agent.inner_lr, seed" in err
    assert "iterations" not in err.split(";")[0]
    code, _, err = run_metarl("train", "maml-trpo", "sparse-point-robot", "--out", trained_run, "--resume")
    assert code == 2
    assert "family" in err
    assert {p: p.read_bytes() for p in trained_run.rglob("*") if p.is_file()} == before


def test_an_out_that_is_a_file_is_refused(run_metarl, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", tmp_path / "file")
    assert code == 2
    assert "which is a file" in err
    assert (tmp_path / "file").read_text() == "mine"


def test_help_shows_meaning_range_and_the_presets_value(run_metarl) -> None:
    code, out, _ = run_metarl("train", "maml-trpo", "half-cheetah-vel", "--help")
    text = " ".join(out.split())
    assert code == 0
    assert "--agent.action-scale FLOAT > 0" in text
    assert "(default: 10.0)" in text
    assert "--iterations INT >= 1" in text
    assert "(default: 90)" in text
    for word in (
        "--out",
        "--resume",
        "--seed",
        "--device",
        "--eval-every",
        "--tasks",
        "--episodes",
        "--agent.inner-lr",
    ):
        assert word in text


# Going on ---------------------------------------------------------------------------------------------------


def test_resuming_continues_bit_for_bit_and_may_change_iterations(run_metarl, tmp_path: Path) -> None:
    base = ("train", "maml-trpo", "point-robot", *OPTIONS)
    assert run_metarl(*base, "--out", tmp_path / "whole", "--iterations", "6")[0] == 0
    assert run_metarl(*base, "--out", tmp_path / "parts", "--iterations", "3")[0] == 0
    resume = ("train", "maml-trpo", "point-robot", "--out", tmp_path / "parts", "--resume", "--iterations", "6")
    code, _, err = run_metarl(*resume)
    assert code == 0
    assert "resuming after iteration 3" in err
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert len(json.loads((tmp_path / "parts" / "versions.json").read_text())["starts"]) == 2


def test_resuming_without_a_checkpoint_starts_afresh_and_says_so(
    run_metarl, tmp_path: Path, trained_run: Path, tiny
) -> None:
    for path in list_checkpoints(trained_run / "checkpoints"):
        path.write_bytes(path.read_bytes()[:100])
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", trained_run, "--resume")
    assert code == 0
    assert "falling back" in err
    assert "starting afresh" in err
    assert [row["iteration"] for row in lines(trained_run)] == [1, 2, 3]
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", tmp_path / "new", "--resume", *tiny)
    assert code == 0
    assert "starting afresh" in err


def test_a_full_disk_stops_training_and_leaves_the_last_checkpoint(run_metarl, tmp_path: Path, monkeypatch) -> None:
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


def start(out: Path, *more: str, code: str = "") -> subprocess.Popen[str]:
    """Trains in a process of its own; `code` runs first."""
    words = ["train", "maml-trpo", "point-robot", "--out", str(out), *OPTIONS, "--iterations", str(ITERATIONS), *more]
    program = f"{code}\nfrom metarl.scripts.cli import main\nraise SystemExit(main({words!r}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> int:
    """Waits for the end; the exit code."""
    _, err = process.communicate(timeout=120)
    sys.stderr.write(err)
    return process.returncode


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert finish(start(out)) == 0
    return out


def wait_for_line(process: subprocess.Popen[str], out: Path, line: int) -> None:
    """Waits until the run has logged a line (or is over)."""
    path = out / "metrics.jsonl"
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") >= line):
        time.sleep(0.002)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_ends_like_one_that_never_was(
    uninterrupted: Path, tmp_path: Path, seed: int
) -> None:
    rng, out = random.Random(seed), tmp_path / "run"
    for line in sorted(rng.sample(range(1, ITERATIONS), 3)):
        process = start(out, "--resume")
        wait_for_line(process, out, line)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.communicate()
    assert finish(start(out, "--resume")) == 0
    assert_same_run(out, uninterrupted)


# Dies at the n-th call, after half of a checkpoint is written, before its rename, and right after it.
DIE = """
import os, signal, metarl.storage as s
calls, {name}_ = [], os.{name}
def die(*a):
    if "safetensors" not in str(a[0] if "{name}" != "fsync" else os.readlink(f"/proc/self/fd/{{a[0]}}")):
        return {name}_(*a)
    calls.append(1)
    if len(calls) == 3:
        {before}
        os.kill(os.getpid(), signal.SIGKILL)
    return {name}_(*a)
os.{name} = die
"""


@pytest.mark.parametrize(
    ("name", "before"),
    [("fsync", "os.ftruncate(a[0], os.fstat(a[0]).st_size // 2)"), ("replace", "pass"), ("replace", "replace_(*a)")],
    ids=["half written", "before the rename", "after the rename"],
)
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on(uninterrupted: Path, tmp_path: Path, name, before) -> None:
    out = tmp_path / "run"
    process = start(out, code=DIE.format(name=name, before=before))
    assert finish(process) == -signal.SIGKILL
    names = [p.name for p in list_checkpoints(out / "checkpoints")]
    assert names[-1] == ("0000006.safetensors" if before.startswith("replace_") else "0000004.safetensors")
    assert finish(start(out, "--resume")) == 0
    assert_same_run(out, uninterrupted)
    assert not list((out / "checkpoints").glob(".*"))


def test_ctrl_c_saves_and_says_how_to_go_on(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out)
    wait_for_line(process, out, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    done = len(lines(out))
    assert done < ITERATIONS
    assert f"saved after iteration {done}" in err
    assert f"--out {out} --resume" in err
    assert "Traceback" not in err
    assert list_checkpoints(out / "checkpoints")[-1].stem == f"{done:07d}"
    assert finish(start(out, "--resume")) == 0
    assert_same_run(out, uninterrupted)


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = start(out, "--iterations", "500")
    wait_for_line(first, out, 1)
    second = start(out, "--resume", "--iterations", "500")
    _, err = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another process is training" in err
