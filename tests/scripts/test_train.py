from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from metarl.checkpoint import list_checkpoints
from metarl.scripts import training_runs
from metarl.scripts.presets import default_settings, preset
from metarl.storage import read_tensors


def final_parameters(out: Path) -> torch.Tensor:
    return read_tensors(list_checkpoints(out / "checkpoints")[-1])[0]["parameters"]


# The run folder ---------------------------------------------------------------------------------------------


def test_a_run_leaves_configuration_versions_metrics_checkpoints_and_a_picture(trained_run: Path, logged) -> None:
    config = json.loads((trained_run / "config.json").read_text())
    assert (config["agent"], config["family"], config["training"]["tasks"]) == ("maml-trpo", "point-robot", 3)
    assert config["training"]["device"] in ("cpu", "cuda"), "as used, not auto"
    assert config["spaces"]["horizon"] == 12
    (start,) = json.loads((trained_run / "versions.json").read_text())["starts"]
    assert start["packages"]["torch"] == torch.__version__
    assert 10**8 < start["peak_memory"]["host"] < 10**11, "bytes: torch alone takes more than 100 MB"
    rows = logged(trained_run)
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


def test_a_resumed_run_cannot_be_made_shorter_than_it_is(run_metarl, trained_run: Path) -> None:
    before = (trained_run / "config.json").read_bytes()
    words = ("train", "maml-trpo", "point-robot", "--out", trained_run, "--resume", "--iterations")
    code, _, err = run_metarl(*words, "2")
    assert code == 2
    assert "has already made 3; expected at least that many" in err
    assert (trained_run / "config.json").read_bytes() == before


def test_a_folder_of_seeds_is_not_resumed_as_one_run(run_metarl, tmp_path: Path, tiny) -> None:
    words = ("train", "maml-trpo", "point-robot", "--out", tmp_path / "seeds", *tiny)
    assert run_metarl(*words, "--seeds", "2")[0] == 0
    code, _, err = run_metarl(*words, "--resume")
    assert code == 2
    assert "a folder of several seeds; add --seeds" in err
    assert not (tmp_path / "seeds" / "config.json").exists()


def test_an_action_without_bounds_is_trained(run_metarl, tmp_path: Path, tiny, monkeypatch) -> None:
    family = LATE_SUCCESS.replace(
        "box = spaces.Box(-1.0, 1.0, (1,), np.float32)", "box = spaces.Box(-np.inf, 1.0, (1,))"
    )
    (tmp_path / "unbounded_family.py").write_text(family)
    monkeypatch.syspath_prepend(tmp_path)
    for agent in ("rl2", "maml-trpo"):
        words = ("train", agent, "unbounded_family:late", "--out", tmp_path / agent, *tiny)
        code, _, err = run_metarl(*words)
        assert code == 0, err
        code, _, err = run_metarl(*words, "--resume", "--iterations", "4")
        assert code == 0, err


def test_by_default_every_run_gets_a_new_folder(run_metarl: Callable[..., Any], tmp_path: Path, tiny) -> None:
    for _ in range(2):
        code, out, _ = run_metarl("train", "maml-trpo", "point-robot", *tiny, "--json")
        assert code == 0
        value = json.loads(out.splitlines()[-1])
        assert value["iteration"] == 3
    assert len(list((tmp_path / "runs").iterdir())) == 2


LATE_SUCCESS = """
import numpy as np
from gymnasium import spaces
from metarl import ContinuousTasks, Family, TaskVecEnv, uniform


class Late(TaskVecEnv):
    def __init__(self, num_tasks, episodes, horizon):
        box = spaces.Box(-1.0, 1.0, (1,), np.float32)
        super().__init__(num_tasks, episodes, horizon, box, box)

    def _apply_tasks(self, tasks):
        self.level = self.task_values(tasks, "level")[:, 0]

    def _reset_rows(self, rows, rng):
        pass

    def _step_rows(self, rows, actions):
        never, won = np.zeros(len(rows), dtype=bool), self.level[rows] > 0.8
        return actions[:, 0], never, never, {"success": won} if won.any() else {}

    def _observe(self, rows):
        return np.zeros((len(rows), 1), dtype=np.float32)


def late():
    tasks = ContinuousTasks("late", (uniform("level", 0.0, 1.0, meaning="success above 0.8"),))
    return Family(name="late", summary="late success", distribution=tasks, horizon=4, make_envs=Late)
"""


def test_once_told_of_success_a_run_logs_a_rate_in_every_iteration_resumed_or_not(
    run_metarl, assert_same_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged
) -> None:
    (tmp_path / "late_success.py").write_text(LATE_SUCCESS)
    monkeypatch.syspath_prepend(tmp_path)
    words = (
        "train",
        "maml-trpo",
        "late_success:late",
        "--seed",
        "1",
        "--tasks",
        "2",
        "--episodes",
        "2",
        "--eval-every",
        "0",
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run_metarl(*words, "--iterations", "12", "--out", whole)[0] == 0
    assert run_metarl(*words, "--iterations", "6", "--out", parts)[0] == 0
    assert run_metarl(*words, "--iterations", "12", "--out", parts, "--resume")[0] == 0
    assert_same_run(whole, parts)
    rates = [row.get("success_last/0") for row in logged(whole)]
    first = next(i for i, rate in enumerate(rates) if rate is not None)
    assert 0 < first < 6, "none before the first success"
    assert 0.0 in rates[6:], "silence after it counts as failure"
    assert None not in rates[first:]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    run_metarl, assert_same_run, tmp_path: Path, tiny
) -> None:
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert run_metarl("train", "maml-trpo", "point-robot", "--out", tmp_path / name, "--seed", seed, *tiny)[0] == 0
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert not torch.equal(final_parameters(tmp_path / "a"), final_parameters(tmp_path / "c"))


def test_held_out_evaluations_do_not_change_the_run(run_metarl, tmp_path: Path, tiny) -> None:
    for name, every in (("a", "0"), ("b", "1")):
        code, *_ = run_metarl(
            "train", "maml-trpo", "point-robot", "--out", tmp_path / name, *tiny, "--eval-every", every
        )
        assert code == 0
    assert torch.equal(final_parameters(tmp_path / "a"), final_parameters(tmp_path / "b"))


# Bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train",), ["AGENT and FAMILY", "maml-trpo", "point-robot"]),
        (
            ("train", "rl2", "--resume", "--out", "runs/a", "mjcf:r.xml?payload=uniform(0,1)"),
            ["AGENT or FAMILY, which come first: metarl train rl2 'mjcf:r.xml?payload=uniform(0,1)' [options]"],
        ),
        (("train", "--out", "ant", "rl2", "bandit"), ["come first: metarl train rl2 bandit [options]"]),
        (("train", "--iterations=3", "bandit", "my.code:Agent"), ["come first: metarl train my.code:Agent bandit"]),
        (("tune", "rl2", "--out=a", "bandit"), ["come first: metarl tune rl2 bandit [options]"]),
        (("train", "rl2", "--out", "a"), ["expected AGENT and FAMILY; agents: "]),
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
        (("train", "rl2", "bandit", "--preset", "published"), ["--preset", "'published'", "expected default", "pearl"]),
        (("train", "rl2", "bandit", "--preset=papers"), ["--preset", "'papers'", "expected default"]),
        (("bench", "update", "--agent", "rl2", "--preset", "published"), ["--preset", "'published'", "rl2"]),
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


def test_a_shorter_format_without_a_gpu_is_refused(run_metarl, tmp_path: Path) -> None:
    out = tmp_path / "new"
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--device", "cpu", "--matmul", "tf32", "--out", out)
    assert code == 2
    assert err.splitlines() == ["metarl: error: matmul: got 'tf32' on cpu, expected 'float32'; tf32 needs a GPU"]
    assert not out.exists()


def test_a_run_from_before_there_was_a_choice_of_format_is_read(run_metarl, trained_run: Path) -> None:
    path = trained_run / "config.json"
    config = json.loads(path.read_text())
    assert config["training"].pop("matmul") == "float32"
    path.write_text(json.dumps(config))
    code, _, err = run_metarl("evaluate", trained_run, "--tasks", "2")
    assert code == 0, err


def test_an_oracle_trains_on_every_family_without_further_options(run_metarl, tmp_path: Path, family_name: str) -> None:
    small = ("--iterations", "1", "--tasks", "2", "--episodes", "2", "--horizon", "5", "--eval-tasks", "2")
    code, _, err = run_metarl("train", "oracle", family_name, "--out", tmp_path / "run", "--eval-every", "1", *small)
    assert code == 0, err


@pytest.mark.parametrize("vary", ["g=uniform(5,15)", "g=choice(8,9,10,11)"])
def test_an_oracle_trains_on_an_environment_of_ones_own(run_metarl, tmp_path: Path, tiny, vary: str) -> None:
    words = ("gym:Pendulum-v1", "--vary", vary, "--workers", "0", "--out", tmp_path / "run")
    code, _, err = run_metarl("train", "oracle", *words, *tiny)
    assert code == 0, err
    code, _, err = run_metarl("evaluate", tmp_path / "run", "--tasks", "2")
    assert code == 0, err


def test_a_run_from_before_units_were_declared_is_read_and_goes_on_without_them(
    run_metarl, tmp_path: Path, tiny
) -> None:
    out = tmp_path / "run"
    code, _, err = run_metarl("train", "multitask", "half-cheetah-vel", "--out", out, *tiny)
    assert code == 0, err
    path = out / "config.json"
    config = json.loads(path.read_text())
    assert config["spaces"].pop("observation_units")[:3] == ["m", "rad", "rad"]
    path.write_text(json.dumps(config))
    code, _, err = run_metarl("evaluate", out, "--tasks", "2")
    assert code == 0, err
    code, _, err = run_metarl("train", "multitask", "half-cheetah-vel", "--out", out, "--resume", "--iterations", "4")
    assert code == 0, err
    assert json.loads(path.read_text())["spaces"]["observation_units"] == []


@pytest.mark.parametrize("read", [1, 2, 3, 4])
def test_ctrl_c_at_any_moment_stops_only_after_what_is_done_is_saved(
    run_metarl, tmp_path: Path, tiny, monkeypatch, read: int
) -> None:
    """It comes just before the `read`-th time that the loop asks for it."""

    class Late(training_runs.StopRequest):
        reads = 0

        @property
        def requested(self) -> bool:
            self.reads += 1
            return self.reads >= read

        @requested.setter
        def requested(self, value: bool) -> None:
            pass

    monkeypatch.setattr(training_runs, "StopRequest", Late)
    out = tmp_path / "new"
    words = ("train", "maml-trpo", "point-robot", "--out", out, *tiny, "--checkpoint-every", "100", "--iterations", "9")
    code, _, err = run_metarl(*words)
    assert code == 130
    (newest,) = list_checkpoints(out / "checkpoints")
    assert f"saved after iteration {int(newest.stem)};" in err


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


def test_the_entropy_weight_of_meta_worlds_rl2_is_that_of_normalised_advantages_and_says_so(run_metarl) -> None:
    """Published: 5e-3 for raw advantages, whose deviation is 25."""
    code, out, _ = run_metarl("train", "rl2", "ml10", "--help")
    text = " ".join(out.replace("│", " ").split())
    assert code == 0
    assert "Relative to the advantages: deviation 1 with normalise_advantages" in text
    _, config = default_settings("rl2", "ml10")
    assert config.normalise_advantages
    assert 25 * config.entropy_weight == pytest.approx(5e-3)
    assert "5e-3 / 25 = 2e-4" in preset("rl2", "ml10").source


def test_the_published_preset_shows_its_own_values_and_a_run_goes_on_without_its_name(
    run_metarl, assert_same_run, tmp_path: Path
) -> None:
    base = ("train", "pearl", "half-cheetah-vel-3", "--preset", "published")
    text = " ".join(run_metarl(*base, "--help")[1].split())
    assert "(default: 2000)" in text
    assert "(default: 300 300 300)" in text
    small = ("--tasks", "1", "--episodes", "1", "--horizon", "4", "--train-tasks", "2", "--eval-every", "0")
    small += ("--agent.warmup-iterations", "1", "--agent.gradient-steps", "1", "--agent.batch", "4")
    small += ("--agent.replay-size", "50", "--agent.replay-tasks", "2")
    assert run_metarl(*base, *small, "--out", tmp_path / "whole", "--iterations", "3")[0] == 0
    assert run_metarl(*base, *small, "--out", tmp_path / "parts", "--iterations", "2")[0] == 0
    resume = ("--out", tmp_path / "parts", "--resume", "--iterations", "3")
    code, _, err = run_metarl(*base, *resume)
    assert code == 2
    assert "differs from" in err, "a preset that is named again is meant"
    assert run_metarl("train", "pearl", "half-cheetah-vel-3", *resume)[0] == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
