"""Failures that `metarl train` reports or survives: diverged training, little memory, another machine, other files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from metarl.agents.maml_trpo import MamlTrpo
from metarl.checkpoint import list_checkpoints
from metarl.scripts.display import TrainingDisplay
from metarl.types import Progress

SMALL = ("--tasks", "2", "--episodes", "2", "--horizon", "6", "--eval-every", "0", "--checkpoint-every", "1")
WORDS = ("train", "maml-trpo", "point-robot", *SMALL)


def one_line(err: str) -> str:
    """The only line of an error."""
    (line,) = [line for line in err.splitlines() if line.startswith("metarl: error:")]
    assert "Traceback" not in err
    return line


# Diverged training ------------------------------------------------------------------------------------------


@pytest.fixture
def blowing_up(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Lets the third update of a training end in parameters that are no numbers."""
    update, updates = MamlTrpo.meta_update, [0]

    def blows_up(self: MamlTrpo, batch) -> dict[str, float]:
        updates[0] += 1
        report = update(self, batch)
        if updates[0] == 3:
            self.parameters = self.parameters * torch.nan
        return report

    monkeypatch.setattr(MamlTrpo, "meta_update", blows_up)
    return monkeypatch


def test_a_training_that_blows_up_keeps_its_last_sound_checkpoint(run_metarl, tmp_path: Path, blowing_up) -> None:
    out = tmp_path / "run"
    code, _, err = run_metarl(*WORDS, "--out", out, "--iterations", "5")
    assert code == 2
    line = one_line(err)
    assert "maml-trpo diverged in iteration 3: the parameters are not finite" in line
    assert "try a smaller --agent.inner-lr" in line
    assert "0000002.safetensors, is intact" in line
    assert f"--out {out} --resume" in line
    assert [p.name for p in list_checkpoints(out / "checkpoints")] == ["0000001.safetensors", "0000002.safetensors"]
    assert run_metarl("evaluate", out, "--tasks", "2")[0] == 0
    blowing_up.undo()
    code, _, err = run_metarl(*WORDS, "--out", out, "--resume", "--iterations", "4")
    assert code == 0
    assert "resuming after iteration 2" in err


def test_the_other_seeds_go_on(run_metarl, tmp_path: Path, blowing_up) -> None:
    out = tmp_path / "seeds"
    code, said, err = run_metarl(*WORDS, "--out", out, "--iterations", "2", "--seeds", "3", "--json")
    assert code == 2
    assert err.rstrip().splitlines()[-1] == f"metarl: error: 1 of 3 seeds diverged: {out / 'seed-1'}"
    assert [end["iteration"] for end in json.loads(said.splitlines()[-1])] == [2, None, 2]


def test_blown_up_episodes_are_counted_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    display = TrainingDisplay("title", 3, Progress(), "before", "after", "evaluated")
    for i, number in enumerate((0.0, 2.0, 3.0), start=1):
        display._last_line = -1e9
        display.update(Progress(i, i), {"return/0": 1.0, "diverged_episodes": number})
    first, second, third = capsys.readouterr().err.splitlines()
    assert "diverged episodes" not in first
    assert "diverged episodes 2 (2 in all)" in second
    assert "diverged episodes 3 (5 in all)" in third


# What lies in the folder of a run ---------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """By name, the bytes of every file below a folder that a run would write."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_without_its_configuration_is_not_overwritten(run_metarl, trained_run: Path) -> None:
    (trained_run / "config.json").unlink()
    before = contents(trained_run)
    for more in ((), ("--resume",)):
        code, _, err = run_metarl(*WORDS, "--out", trained_run, *more)
        assert code == 2
        assert "holds a run without its config.json; restore that file" in one_line(err)
    assert contents(trained_run) == before


def test_the_name_of_a_file_does_not_say_how_far_a_run_has_come(run_metarl, trained_run: Path) -> None:
    newest = list_checkpoints(trained_run / "checkpoints")[-1]
    (newest.parent / "9999999.safetensors").write_text("not of metarl")
    (newest.parent / "8888888.safetensors").write_bytes(newest.read_bytes())
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", trained_run, "--resume")
    assert code == 0, err
    assert f"resuming after iteration {int(newest.stem)}" in err


def test_damaged_checkpoints_are_kept_beside_a_run_that_begins_anew(run_metarl, trained_run: Path) -> None:
    for path in list_checkpoints(trained_run / "checkpoints"):
        path.write_bytes(path.read_bytes()[:100])
    damaged = {f"{name}.damaged": data for name, data in contents(trained_run / "checkpoints").items()}
    earlier = (trained_run / "metrics.jsonl").read_text()
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", trained_run, "--resume")
    assert code == 0
    assert (trained_run / "metrics.before-1.jsonl").read_text() == earlier
    assert "starting from scratch (the damaged ones are renamed *.damaged, metrics.jsonl too)" in err
    assert damaged.items() <= contents(trained_run / "checkpoints").items()


# Memory, and what an agent cannot learn ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("maml-trpo", "--tasks", "100000"), "fewer --tasks or --episodes"),
        (("maml-trpo", "--horizon", "100000"), "a shorter --horizon"),
        (("maml-trpo", "--agent.hidden", "65536", "65536"), "smaller layers (--agent.hidden)"),
        (("rl2", "--agent.units", "65536"), "fewer --agent.units"),
        (("varibad", "--agent.buffer-trials", "1000000000"), "a smaller --agent.buffer-trials"),
        (("pearl", "--agent.replay-size", "1000000000", "--train-tasks", "5"), "a smaller --agent.replay-size N"),
    ],
)
def test_what_no_memory_holds_is_refused_before_it_is_asked_for(
    run_metarl, tmp_path: Path, monkeypatch, words: tuple[str, ...], expected: str
) -> None:
    agent, *options = words
    monkeypatch.setattr("metarl.memory.free_memory", lambda: 2.0**30)
    code, _, err = run_metarl("train", agent, "point-robot", *options, "--out", tmp_path / "run")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "would need at least" in one_line(err)
    assert expected in err
    assert not (tmp_path / "run").exists()


def test_memory_that_runs_out_after_all_is_one_line(run_metarl, tmp_path: Path, monkeypatch) -> None:
    def runs_out(self: MamlTrpo, batch) -> dict[str, float]:
        raise MemoryError("Unable to allocate 13.5 GiB for an array with shape (3, 24580, 24580)")

    monkeypatch.setattr(MamlTrpo, "meta_update", runs_out)
    code, _, err = run_metarl(*WORDS, "--out", tmp_path / "run", "--iterations", "2")
    assert code == 2
    assert "memory: Unable to allocate 13.5 GiB" in one_line(err)


def test_pearl_refuses_more_tasks_than_its_replay_holds_before_it_begins(run_metarl, tmp_path: Path) -> None:
    words = ("train", "pearl", "point-robot", *SMALL, "--agent.replay-tasks", "5", "--out", tmp_path / "run")
    code, _, err = run_metarl(*words, "--train-tasks", "0", "--iterations", "3")
    assert code == 2
    assert "pearl: got more training tasks (2 in each of 3 iterations)" in one_line(err)
    assert "--train-tasks 5" in err
    assert not (tmp_path / "run").exists()
    assert run_metarl(*words, "--train-tasks", "5", "--iterations", "3")[0] == 0


# Another machine --------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_run_of_a_gpu_goes_on_on_a_cpu_and_says_what_that_means(run_metarl, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (*WORDS, "--out", out)
    assert run_metarl(*words, "--iterations", "1")[0] == 0
    config = json.loads((out / "config.json").read_text())
    config["training"] |= {"device": "cuda", "matmul": "tf32"}  # as a machine with a GPU writes it
    (out / "config.json").write_text(json.dumps(config))
    code, _, err = run_metarl(*words, "--resume", "--iterations", "2")
    assert code == 2
    assert "add --device cpu to resume it here" in one_line(err)
    assert run_metarl("evaluate", out, "--tasks", "2")[0] == 0
    assert run_metarl("render", out, "--out", tmp_path / "clip.gif", "--frames", "2")[0] in (0, 2)
    code, _, err = run_metarl(*words, "--resume", "--iterations", "2", "--device", "cpu")
    assert code == 0
    assert "warning: this run was made on cuda and continues on cpu" in err
    assert json.loads((out / "config.json").read_text())["training"]["device"] == "cpu"
    code, _, err = run_metarl(*words, "--resume", "--iterations", "3")
    assert code == 0
    assert "warning" not in err


def test_a_device_that_there_is_not_is_one_line(trained_run: Path) -> None:
    import metarl

    with pytest.raises(ValueError, match="device: got 'gpu', expected"):
        metarl.load(trained_run, device="gpu")


# Files beside the checkpoints -------------------------------------------------------------------------------


def test_any_other_file_beside_the_checkpoints_is_none(run_metarl, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run_metarl(*WORDS, "--out", out, "--iterations", "2")[0] == 0
    folder = out / "checkpoints"
    sound = (folder / "0000002.safetensors").read_bytes()
    others = ("best.safetensors", "0000009.safetensors~", "0000009.bak", ".DS_Store", "0000009 copy.safetensors")
    others += ("#0000009.safetensors#", "0000009.safetensors.tmp", "-000009.safetensors", "9.safetensors")
    for name in others:
        (folder / name).write_bytes(sound)
    (folder / "0000008.safetensors").mkdir()
    assert [p.name for p in list_checkpoints(folder)] == ["0000001.safetensors", "0000002.safetensors"]
    code, _, err = run_metarl(*WORDS, "--out", out, "--resume", "--iterations", "3")
    assert code == 0
    assert "resuming after iteration 2" in err
    assert run_metarl("evaluate", out, "--tasks", "2")[0] == 0
    assert all((folder / name).read_bytes() == sound for name in others)
    assert [p.name for p in list_checkpoints(folder)] == ["0000002.safetensors", "0000003.safetensors"]


def test_checkpoints_that_cannot_be_read_are_no_reason_to_begin_anew(
    run_metarl, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path, *_: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("metarl.storage.open", unreadable, raising=False)
    before = (trained_run / "metrics.jsonl").read_bytes()
    words = ("train", "maml-trpo", "point-robot", "--out", trained_run, "--resume", "--iterations", "4")
    monkeypatch.setattr("metarl.session.describe", lambda *_: None)  # it writes by the same function
    code, _, err = run_metarl(*words)
    assert code == 2
    assert "Permission denied" in one_line(err)
    assert (trained_run / "metrics.jsonl").read_bytes() == before
    code, _, err = run_metarl("evaluate", trained_run)
    assert code == 2
    assert "Permission denied" in one_line(err)
