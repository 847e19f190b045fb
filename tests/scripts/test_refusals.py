from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from metarl.envs.mujoco_batch import DATA_BYTES
from metarl.registry import make_family
from metarl.report import millions
from metarl.runs import RunConfig
from metarl.scripts.refusals import how_to_go_on
from metarl.scripts.sampling import SamplingOptions
from metarl.sizes import batch_memory, tasks_memory


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
        assert "a run without recorded task_parameters cannot be loaded; train it again" in err
        assert len(err.strip().splitlines()) == 1


def test_pearl_on_discrete_actions_is_refused_before_anything_is_written(run_metarl, tmp_path: Path, tiny) -> None:
    code, _, err = run_metarl("train", "pearl", "bandit", *tiny, "--out", tmp_path / "run")
    assert code == 2
    assert "expected continuous actions" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("evaluate", "got no PATH (Folder of a run, created by `metarl train`). See metarl evaluate --help"),
        ("evaluate run --taks 3", "unknown: --taks, 3. Did you mean --tasks? See metarl evaluate --help"),
        ("evaluate run --nothing", "unknown: --nothing. See metarl evaluate --help"),
        (
            "compare run --device tpu",
            "--device: got 'tpu', expected one of 'auto', 'cpu', 'cuda'. See metarl compare --help",
        ),
        ("bench rollout --tasks x", "--tasks: got 'x', expected a whole number. See metarl bench rollout --help"),
        ("bench rollout --tasks", "--tasks: got nothing, expected a value. See metarl bench rollout --help"),
        (
            "evaluate run --tasks 1.5",
            "--tasks: got '1.5', expected a whole number. See metarl evaluate --help",
        ),
        ("bench rollout --tasks 100001", "tasks: got 100001, expected a whole number >= 1, at most 100,000"),
        (
            "bench rollout --family bandit:arms=1001",
            "family 'bandit': got option 'arms=1001', expected arms=INT >= 1, "
            "pulls=INT >= 1; at most arms=1,000, pulls=100,000",
        ),
    ],
)
def test_what_a_command_line_gets_wrong_is_said_once(run_metarl, words: str, said: str) -> None:
    assert run_metarl(*words.split()) == (2, "", f"metarl: error: {said}\n")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("train maml-trpo point-robot --tasks 10000 --episodes 1000", "recording 10,000,000 episodes"),
        ("train maml-trpo point-robot --agent.hidden 65536 65536", "parameters"),
        ("evaluate run --episodes 100000", "recording 4,000,000 episodes of 12 steps"),
        ("compare run --episodes 100000", "recording 4,000,000 episodes of 12 steps"),
        ("render run --out clip.gif --width 8192 --height 8192", "frames of 8,192 by 8,192 pixels"),
        ("bench rollout --family point-robot --tasks 10000 --episodes 1000", "random numbers for actions"),
        ("bench update --tasks 50000", "recording 1,000,000 episodes of 100 steps"),
        ("bench iteration --tasks 50000", "recording 1,000,000 episodes of 100 steps"),
    ],
)
def test_what_no_memory_holds_is_refused_before_it_is_made(
    request, run_metarl, monkeypatch, capsys, words, part
) -> None:
    if " run " in words:
        request.getfixturevalue("trained_run")
        capsys.readouterr()  # of its training, if no test before needed it
    monkeypatch.setattr("metarl.memory.free_memory", lambda: 2.0**29)
    monkeypatch.setattr("metarl.scripts.render.use_off_screen_rendering", lambda: None)
    code, out, err = run_metarl(*words.split())
    assert (code, out) == (2, ""), err
    line = err.splitlines()[-1]
    assert line.startswith("metarl: error: memory: ")
    assert part in line
    assert "but 512 MiB are free" in line
    assert not Path("runs").exists()


def test_environments_and_tasks_count_as_memory() -> None:
    family = make_family("half-cheetah-rand-params")
    _, environments, tasks = batch_memory(family, family.spaces(), 1000, 10)
    assert environments.num_bytes > 10_000 * DATA_BYTES + 1000 * 400_000, "a model of its own for each task"
    assert tasks.num_bytes > 1000 * 50
    wide = make_family("tabular-mdp:states=50,actions=50")
    assert tasks_memory(wide.distribution, 1).num_bytes > 100 * 50 * 50 * 50 * 30, "held-out tasks"


def test_several_seeds_go_on_with_their_own_settings(run_metarl, tmp_path: Path, tiny) -> None:
    out = tmp_path / "two seeds"
    words = ("train", "maml-trpo", "point-robot", "--seeds", "2", "--out", out)
    assert run_metarl(*words, *tiny, "--seed", "4", "--agent.hidden", "7")[0] == 0
    shutil.rmtree(out / "seed-5")
    code, _, err = run_metarl(*words, "--resume")
    assert code == 0, err
    first, second = (json.loads((out / f"seed-{seed}" / "config.json").read_text()) for seed in (4, 5))
    assert first["training"].pop("seed") == 4
    assert second["training"].pop("seed") == 5
    assert first == second
    run = RunConfig.read(out / "seed-4")
    assert how_to_go_on(run, out / "seed-4", 2) == (
        f"resume with: metarl train maml-trpo point-robot --out '{out}' --seeds 2 --resume"
    )
    assert how_to_go_on(run, out, 0, "csv,wandb").endswith(f"--out '{out}' --track csv,wandb --resume")
    sampling = SamplingOptions(workers="ray:2", ray_address="auto")
    assert how_to_go_on(run, out, 0, sampling=sampling).endswith("--workers ray:2 --ray-address auto --resume")
    damaged = list((out / "seed-4" / "checkpoints").iterdir())
    for path in damaged:
        path.write_bytes(b"cut short")
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--out", out / "seed-4", "--resume")
    assert code == 0
    assert err.count("falling back to the one before") == len(damaged) - 1
    assert "no intact checkpoint in" in err


def test_one_of_a_thing_is_one(run_metarl, trained_run: Path) -> None:
    code, out, err = run_metarl("evaluate", trained_run, "--tasks", "1", "--episodes", "1")
    assert code == 0, err
    assert "1 held-out task, actions" in out
    assert "1 episode : " in out
    assert (millions(0), millions(99_999), millions(1_250_000)) == ("0", "99,999", "1.25M")
