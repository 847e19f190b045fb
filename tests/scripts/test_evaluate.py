from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metarl
from metarl.checkpoint import list_checkpoints
from metarl.scripts.families import family_of_run
from metarl.tasks import Family


def evaluate(run_metarl, *words: object) -> dict:
    code, out, err = run_metarl("evaluate", *words, "--json")
    assert code == 0, err
    return json.loads(out.splitlines()[-1])


def test_the_json_has_the_promised_keys_and_the_numbers_of_the_file(run_metarl, trained_run: Path) -> None:
    value = evaluate(run_metarl, trained_run, "--tasks", "5")
    assert set(value) == {
        "agent", "family", "split", "tasks", "iteration", "env_steps", "curve", "differences", "versions", "actions",
        "differences_to_references",
        "first_point", "protocol", "end_at_success", "share_of_gap", "diverged_episodes", "reward_version", "notes",
    }  # fmt: skip
    assert (value["actions"], value["first_point"], value["diverged_episodes"]) == ("sample", "before adaptation", 0)
    assert (value["agent"], value["family"], value["split"], value["tasks"]) == ("maml-trpo", "point-robot", "test", 5)
    assert value["iteration"] == 3
    assert [set(point) for point in value["curve"]] == [
        {
            "k", "episodes", "mean", "ci_low", "ci_high", "success", "success_ci_low", "success_ci_high",
            "success_last", "success_last_ci_low", "success_last_ci_high",
        }
    ] * 2  # fmt: skip
    assert [(p["k"], p["episodes"]) for p in value["curve"]] == [(0, 0), (1, 2)]
    assert [set(d) for d in value["differences"]] == [{"k", "mean", "ci_low", "ci_high"}]
    saved = json.loads((trained_run / "evaluation" / "evaluation.json").read_text())
    assert saved["curve"] == value["curve"]
    returns = np.array(saved["returns"])
    assert returns.shape == (5, 2, 2)
    assert returns[:, 1].mean() == pytest.approx(value["curve"][1]["mean"])
    assert (returns[:, 1] - returns[:, 0]).mean() == pytest.approx(value["differences"][0]["mean"])
    assert "untrained" in saved["others"]


def test_by_default_forty_held_out_tasks_and_results_are_kept_apart(run_metarl, trained_run: Path) -> None:
    assert evaluate(run_metarl, trained_run)["tasks"] == 40
    assert evaluate(run_metarl, trained_run, "--tasks", "1000")["tasks"] == 100, "the whole set"
    assert (trained_run / "evaluation-2" / "adaptation.png").exists()


def test_options_reach_the_evaluation(run_metarl, trained_run: Path, tmp_path: Path) -> None:
    words = (trained_run, "--tasks", "3", "--adapt-steps", "3", "--episodes", "4", "--split", "train")
    value = evaluate(run_metarl, *words, "--out", tmp_path / "a", "--reference", trained_run)
    assert [p["episodes"] for p in value["curve"]] == [0, 4, 8, 12]
    assert value["split"] == "train"
    assert str(trained_run) in json.loads((tmp_path / "a" / "evaluation.json").read_text())["others"]
    again = evaluate(run_metarl, *words, "--out", tmp_path / "b")
    assert again["curve"] == value["curve"], "the same seed gives the same evaluation"
    other = evaluate(run_metarl, *words, "--out", tmp_path / "c", "--seed", "1")
    assert other["curve"] != value["curve"]
    older = list_checkpoints(trained_run / "checkpoints")[0]
    assert evaluate(run_metarl, *words, "--out", tmp_path / "d", "--checkpoint", older)["iteration"] == 2


def test_meta_worlds_protocol_tries_every_held_out_task_three_times(run_metarl, trained_run: Path) -> None:
    value = evaluate(run_metarl, trained_run, "--protocol", "metaworld")
    assert (value["tasks"], [p["episodes"] for p in value["curve"]]) == (100, [0, 10])
    saved = json.loads((trained_run / "evaluation" / "evaluation.json").read_text())
    assert np.shape(saved["returns"]) == np.shape(saved["last_step_successes"]) == (100, 2, 3)
    assert value["actions"] == "mode"
    assert set(saved["others"]) == {"untrained, sampled"}, "what noise alone earns"
    assert [p["k"] for p in saved["others"]["untrained, sampled"]] == [0]


def test_actions_reach_the_evaluation_and_stand_beside_the_numbers(run_metarl, trained_run: Path, tmp_path) -> None:
    words = ("evaluate", trained_run, "--tasks", "3")
    code, out, err = run_metarl(*words, "--actions", "mode", "--out", tmp_path / "mode", "--json")
    assert code == 0, err
    assert "actions: mode" in out
    by_mode = json.loads(out.splitlines()[-1])
    assert by_mode["actions"] == "mode"
    saved = json.loads((tmp_path / "mode" / "evaluation.json").read_text())
    assert np.ptp(np.array(saved["returns"])[:, 0], axis=1).max() < 1e-5, "nothing is random but the adaptation"
    code, out, _ = run_metarl(*words, "--actions", "mode-only", "--out", tmp_path / "only", "--json")
    assert "actions: mode-only" in out
    saved = json.loads((tmp_path / "only" / "evaluation.json").read_text())
    assert np.ptp(np.array(saved["returns"]), axis=2).max() < 1e-5, "nothing is random in any episode"
    code, out, _ = run_metarl(*words, "--out", tmp_path / "sample", "--json")
    assert "actions: sample" in out
    assert json.loads(out.splitlines()[-1])["curve"] != by_mode["curve"]


def test_references_become_lines_and_a_share_of_the_gap(run_metarl, tmp_path: Path, tiny) -> None:
    for agent in ("rl2", "multitask", "oracle"):
        assert run_metarl("train", agent, "point-robot", "--out", tmp_path / agent, *tiny)[0] == 0
    words = ("evaluate", tmp_path / "rl2", "--tasks", "4", "--reference", tmp_path / "multitask", tmp_path / "oracle")
    code, out, err = run_metarl(*words, "--json")
    assert code == 0, err
    assert "multitask (no task information)" in out
    assert "oracle (observes the task)" in out
    value = json.loads(out.splitlines()[-1])
    ends = json.loads((tmp_path / "rl2" / "evaluation" / "evaluation.json").read_text())["others"]
    low, high = (ends[str(tmp_path / name)][-1]["mean"] for name in ("multitask", "oracle"))
    assert value["share_of_gap"]["mean"] == pytest.approx((value["curve"][-1]["mean"] - low) / (high - low))
    beyond = value["differences_to_references"]
    assert beyond[str(tmp_path / "multitask")]["mean"] == pytest.approx(value["curve"][-1]["mean"] - low)
    assert beyond[str(tmp_path / "oracle")]["mean"] == pytest.approx(value["curve"][-1]["mean"] - high)
    assert f"trained minus {tmp_path / 'oracle'}, paired: " in out
    assert value["first_point"] == "first episode", "a memory adapts in its first episode already"
    assert "(first episode)" in out
    assert "before adaptation" not in out.partition("multitask (no task information)")[0]


def test_the_tuning_tasks_are_others_than_those_that_are_reported(run_metarl, trained_run: Path, tmp_path) -> None:
    lists = []
    for split in ("test", "tune"):
        assert evaluate(run_metarl, trained_run, "--split", split, "--out", tmp_path / split)["split"] == split
        lists.append(json.loads((tmp_path / split / "evaluation.json").read_text())["task_list"])
    assert [len(tasks) for tasks in lists] == [40, 40]
    assert not [task for task in lists[0] if task in lists[1]]


def test_classes_of_tasks_are_listed_apart(run_metarl, trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def halves(run: Any, named: str | None) -> Family:
        return replace(family_of_run(run, named), class_of=lambda task: "left" if task["goal"][0] < 0 else "right")

    monkeypatch.setattr("metarl.scripts.evaluate.family_of_run", halves)
    code, out, err = run_metarl("evaluate", trained_run, "--tasks", "20", "--json")
    assert code == 0, err
    classes = json.loads(out.splitlines()[-1])["classes"]
    assert {c["class"] for c in classes} == {"left", "right"}
    assert sum(c["tasks"] for c in classes) == 20
    table = out.partition("by task class")[2].splitlines()
    assert table[1].split()[:2] == ["class", "tasks"]
    assert {line.split()[0] for line in table[2:4]} == {"left", "right"}


def test_a_family_too_small_to_split_is_labelled_training_tasks(run_metarl, tmp_path: Path, tiny) -> None:
    assert run_metarl("train", "maml-trpo", "half-cheetah-dir", "--out", tmp_path / "run", *tiny)[0] == 0
    code, out, _ = run_metarl("evaluate", tmp_path / "run", "--json")
    assert code == 0
    value = json.loads(out.splitlines()[-1])
    assert (value["split"], value["tasks"]) == ("train", 2)
    assert "2 training tasks" in out
    assert "held-out" not in out
    assert value["curve"][0]["success"] is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--family", "half-cheetah-vel"), "the agent was built for"),
        (("--tasks", "0"), "tasks: got 0"),
        (("--adapt-steps", "-1"), "adapt_steps: got -1"),
        (("--checkpoint", "nowhere"), "which is no file"),
        (("--reference", "nowhere"), "no run"),
        (("--protocol", "metaworld", "--episodes", "4"), "leave out --adapt-steps, --episodes"),
        (("--out", "run"), "already holds results"),
        (("--split", "validation"), "validation"),
    ],
)
def test_bad_options_are_refused_and_leave_nothing(run_metarl, trained_run: Path, words, expected: str) -> None:
    before = sorted(trained_run.rglob("*"))
    code, _, err = run_metarl("evaluate", trained_run, *words)
    assert code == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(trained_run.rglob("*")) == before


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(run_metarl, trained_run: Path) -> None:
    newest = list_checkpoints(trained_run / "checkpoints")[-1]
    newest.write_bytes(newest.read_bytes()[:-10])
    code, out, err = run_metarl("evaluate", trained_run, "--tasks", "2", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["iteration"] == 2
    assert "0000003.safetensors" in err
    assert "falling back" in err
    for path in list_checkpoints(trained_run / "checkpoints"):
        path.unlink()
    code, _, err = run_metarl("evaluate", trained_run)
    assert code == 2
    assert "without an intact checkpoint" in err


def test_a_damaged_configuration_is_refused(run_metarl, trained_run: Path) -> None:
    path = trained_run / "config.json"
    value = json.loads(path.read_text())
    for damaged in ("{", "[]", json.dumps({**value, "agent": "none"}), json.dumps({**value, "training": {}})):
        path.write_text(damaged)
        code, _, err = run_metarl("evaluate", trained_run)
        assert code == 2
        assert "config.json" in err
        assert len(err.strip().splitlines()) == 1


def test_code_of_ones_own_runs_only_if_the_command_line_names_it(
    run_metarl, tmp_path: Path, tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from metarl.registry import make_family\ndef mine():\n    return make_family('point-robot')\n"
    (tmp_path / "own_family.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert run_metarl("train", "maml-trpo", "own_family:mine", "--out", tmp_path / "run", *tiny)[0] == 0
    sys.modules.pop("own_family")
    code, _, err = run_metarl("evaluate", tmp_path / "run")
    assert code == 2
    assert "name it again with --family" in err
    assert "own_family" not in sys.modules
    assert metarl.load(tmp_path / "run").spaces.observation_size == 2, "loading the agent needs no family"
    assert "own_family" not in sys.modules
    assert evaluate(run_metarl, tmp_path / "run", "--family", "own_family:mine", "--tasks", "2")["tasks"] == 2
