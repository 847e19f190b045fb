"""Studies of `metarl tune`, with a training that is replaced by a short script."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy
from optuna.storages._rdb import models

SHORT = ("--iterations", "4", "--eval-every", "1", "--agent.units", "8")


def test_a_study_begins_with_the_preset_and_ends_with_the_words_of_the_best(
    run_metarl, plan, tmp_path: Path, study, trials
) -> None:
    code, out, err = run_metarl(*study("--json", "--jobs", "2", "--prune-after", "1"))
    assert code == 0, err
    found = trials(tmp_path / "study")
    assert [trial.state.name for trial in found] == ["COMPLETE"] * 4
    assert found[0].user_attrs["preset"]
    assert found[0].params == {"learning_rate": 0.001}
    for trial in found:  # the mean of the last three of four evaluations
        rate = 1000 * float(f"{trial.params['learning_rate']:.4g}")
        assert trial.value == pytest.approx(rate * (0.5 + 0.75 + 1.0) / 3)
        assert trial.user_attrs["env_steps"] == 40
    value = json.loads(out.splitlines()[-1])
    best = max(found, key=lambda trial: trial.value)
    assert (value["best"]["trial"], value["preset"]["score"]) == (best.number, pytest.approx(0.75))
    assert value["gain"] == pytest.approx(best.value - 0.75)
    assert value["finished"]
    page = (tmp_path / "study" / "tuning.md").read_text()
    assert f"metarl {shlex.join(value['words'])}" in page
    assert value["words"][:3] == ["train", "rl2", "point-robot"]
    at = value["words"].index("--agent.learning-rate")
    assert value["words"][at + 1] == value["best"]["settings"]["learning_rate"]
    assert "is optimistic: the best of 4 noisy scores" in page
    assert "160 env steps" in page
    rows = [line.split(" | ")[0].strip("| ") for line in page.splitlines() if re.match(r"\| \d", line)]
    assert rows == [str(t.number) for t in sorted(found, key=lambda trial: -trial.value)]
    assert (tmp_path / "study" / "tuning.png").read_bytes().startswith(b"\x89PNG")
    assert "4 of 4 trials ended" in err


def test_trials_share_the_cores_and_the_settings_of_the_command_line(run_metarl, plan, tmp_path: Path, study) -> None:
    assert run_metarl(*study("--jobs", "2", "--tasks", "7", "--preset", "default", number=2))[0] == 0
    printed = (tmp_path / "study" / "trial-1" / "output.txt").read_text()
    assert "--workers 0" in printed
    assert "--tasks 7" in printed
    assert "--track none" in printed
    assert "--blocks" in printed


def test_a_preset_outside_the_range_is_still_the_first_trial(run_metarl, plan, tmp_path: Path, study, trials) -> None:
    code, _, err = run_metarl(*study("--vary", "gamma=choice(0.8,0.85)", number=3))
    assert code == 0, err
    first, *others = trials(tmp_path / "study")
    assert first.params == {"learning_rate": 0.001}
    assert "--agent.gamma" not in (tmp_path / "study" / "trial-0" / "output.txt").read_text()
    assert all(trial.params["gamma"] in ("0.8", "0.85") for trial in others)
    assert "| 0.99 |" in (tmp_path / "study" / "tuning.md").read_text()


def test_a_trial_that_crashes_fails_with_its_error_and_the_study_goes_on(
    run_metarl, plan, tmp_path: Path, study, states
) -> None:
    plan(trial_1={"die": 2}, trial_2={"vanish": 1}, trial_3={"key": "other"})
    code, out, err = run_metarl(*study("--jobs", "1", number=5))
    assert code == 0, err
    assert states(tmp_path / "study") == ["COMPLETE", "FAIL", "FAIL", "FAIL", "COMPLETE"]
    page = (tmp_path / "study" / "tuning.md").read_text()
    assert "| the arm fell off |" in page
    assert "ended by SIGKILL" in page
    assert "no number evaluation/return/..." in page
    assert "2 complete, 3 failed" in out
    assert "trial 1 failed, score" in err


def test_a_study_in_which_the_first_five_fail_ends(run_metarl, plan, tmp_path: Path, study, states) -> None:
    plan(**{f"trial_{i}": {"die": 1} for i in range(9)})
    code, out, err = run_metarl(*study("--jobs", "1", number=9))
    assert code == 2
    assert states(tmp_path / "study") == ["FAIL"] * 5
    assert "metarl: error: the first 5 trials all failed: the arm fell off; study/tuning.md lists them" in err
    assert "nothing is recommended" in out


def test_poor_trials_are_pruned_but_never_the_preset(run_metarl, plan, tmp_path: Path, trials) -> None:
    space = ("--vary", "learning_rate=choice(0.0001,0.0002,0.005,0.006,0.007,0.008,0.009,0.01)")
    plan(**{f"trial_{i}": {"pause": 0.05} for i in range(14)})
    words = ("tune", "rl2", "point-robot", "--out", "study", "--trials", "14", *space)
    code, _, err = run_metarl(*words, "--iterations", "20", "--eval-every", "1", "--jobs", "2")
    assert code == 0, err
    found = trials(tmp_path / "study")
    pruned = [trial for trial in found if trial.state.name == "PRUNED"]
    assert pruned
    assert found[0].state.name == "COMPLETE"
    complete = [trial.value for trial in found if trial.state.name == "COMPLETE" and trial.number < 6]
    for trial in pruned:
        assert trial.user_attrs["iteration"] < 20
        assert trial.user_attrs["iteration"] >= 5
        assert max(trial.intermediate_values.values()) < max(complete)
    assert "| pruned |" in (tmp_path / "study" / "tuning.md").read_text()


def test_equal_settings_are_not_trained_twice(run_metarl, plan, tmp_path: Path, trials) -> None:
    words = ("tune", "rl2", "point-robot", "--out", "study", "--trials", "6", *SHORT, "--jobs", "1")
    code, _, err = run_metarl(*words, "--vary", "learning_rate=choice(0.001,0.002)", "--prune-after", "1")
    assert code == 0, err
    found = trials(tmp_path / "study")
    assert len(found) == 6
    assert len(list((tmp_path / "study").glob("trial-*"))) == 2
    copies = [trial for trial in found if "same_as" in trial.user_attrs]
    assert len(copies) == 4
    assert all(trial.value == found[trial.user_attrs["same_as"]].value for trial in copies)


def test_several_seeds_are_averaged_and_steps_count_from_the_first(
    run_metarl, plan, tmp_path: Path, study, trials
) -> None:
    assert run_metarl(*study("--seeds", "2", "--prune-after", "1", number=2))[0] == 0
    first, _ = trials(tmp_path / "study")
    assert first.value == pytest.approx(0.75 + 0.5)  # the script adds the seed, 0 or 1, to the score
    assert sorted(first.intermediate_values) == list(range(1, 9))
    assert first.intermediate_values[4] == pytest.approx(0.75)
    assert first.intermediate_values[5] == pytest.approx((0.75 + 0.25 + 1) / 2)
    assert first.user_attrs["env_steps"] == 80


def test_the_budget_ends_a_study_that_can_go_on(run_metarl, plan, tmp_path: Path, study, states) -> None:
    plan(trial_0={"pause": 2.0})
    words = study("--jobs", "1", "--prune-after", "1", number=3)
    code, _, err = run_metarl(*words, "--budget", "0.01")
    assert code == 0, err
    assert "the budget is over; go on with: metarl tune rl2 point-robot --out study --resume --trials 3" in err
    assert states(tmp_path / "study") == ["RUNNING"]
    assert "The study is not finished" in (tmp_path / "study" / "tuning.md").read_text()
    plan()
    assert run_metarl("tune", "rl2", "point-robot", "--out", "study", "--resume", "--trials", "3")[0] == 0
    assert states(tmp_path / "study") == ["COMPLETE"] * 3
    logged = (tmp_path / "study" / "trial-0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in logged] == [1, 2, 3, 4]


def test_a_resumed_study_draws_other_values_than_before(run_metarl, plan, tmp_path: Path, study, trials) -> None:
    assert run_metarl(*study("--jobs", "1", "--prune-after", "1", number=3))[0] == 0
    go_on = ("tune", "rl2", "point-robot", "--out", "study", "--resume", "--jobs", "1")
    assert run_metarl(*go_on, "--trials", "5")[0] == 0
    rates = [trial.params["learning_rate"] for trial in trials(tmp_path / "study")]
    assert len(set(rates)) == 5


@pytest.mark.parametrize("finished", [True, False])
def test_a_finished_study_only_reports_again(run_metarl, plan, tmp_path: Path, finished: bool, study, states) -> None:
    assert run_metarl(*study(number=2))[0] == 0
    before = states(tmp_path / "study")
    code, out, err = run_metarl(*study("--resume", number=2 if finished else 1))
    assert code == 0, err
    assert states(tmp_path / "study") == before
    assert "Best: " in out or "No trial beat the preset" in out


REFUSED = [
    (("--trials", "0"), "trials: got 0"),
    (("--vary", "speed=int(1,2)"), "--vary: got 'speed', which is no setting"),
    (("--eval-every", "0"), "--eval-every: got 0 with 4 iterations, expected 1 to 4"),
    (("--eval-every", "5"), "--eval-every: got 5 with 4 iterations, expected 1 to 4"),
    (("--tasks", "100000", "--episodes", "100000"), "memory"),
    (("--agent.units", "0"), "agent.units: got 0"),
    (("--trails", "4"), "unknown: --trails"),
    (("--score", "speed"), "--score: got 'speed', expected one of 'return'"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_bad_input_is_one_line_and_writes_nothing(run_metarl, plan, tmp_path: Path, words, said: str, study) -> None:
    code, _, err = run_metarl(*study(), *words)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "study").exists()


def test_families_and_agents_that_cannot_be_tuned_are_refused(run_metarl, monkeypatch) -> None:
    assert "expected AGENT and FAMILY" in run_metarl("tune", "rl2")[2]
    assert "usage: metarl tune" in run_metarl("tune", "--help")[1]
    assert "few-shot" in run_metarl("tune", "maml", "sinusoid")[2]
    assert "expected its variations in the name" in run_metarl("tune", "rl2", "gym:Pendulum-v1")[2]
    assert "--resume: got no --out" in run_metarl("tune", "rl2", "point-robot", "--resume")[2]
    monkeypatch.setattr("metarl.scripts.tune.find_spec", lambda name: None)
    code, _, err = run_metarl("tune", "rl2", "point-robot")
    assert (code, 'pip install "metarl-robots[tune]"' in err) == (2, True)


def test_a_folder_is_used_by_one_study_with_the_same_settings(run_metarl, plan, tmp_path: Path, study) -> None:
    assert run_metarl(*study(number=1))[0] == 0
    resume = ("tune", "rl2", "point-robot", "--out", "study", "--resume")
    refusals = {
        study(): "which already holds a study; add --resume",
        (
            "tune",
            "multitask",
            "point-robot",
            *resume[3:],
        ): "got a study of rl2 on point-robot, expected one of multitask",
        ("tune", "rl2", "half-cheetah-vel", *resume[3:]): "expected one of rl2 on half-cheetah-vel",
        (*resume, "--tasks", "3"): "differ from those of the study in study: --tasks; only --trials",
        (*resume, "--vary", "gamma=choice(0.9,0.95)"): "in study: --vary; only",
        (*resume, "--agent.units", "5", "--seeds", "3"): "in study: --agent.units, --seeds; only",
    }
    for words, said in refusals.items():
        code, _, err = run_metarl(*words)
        assert (code, len(err.strip().splitlines())) == (2, 1)
        assert said in err
    (tmp_path / "study" / "study.db").unlink()
    assert "holds trainings without a study (study.db)" in run_metarl(*study())[2]


def test_only_a_study_of_metarl_is_opened(run_metarl, tmp_path: Path) -> None:
    out = tmp_path / "study"
    out.mkdir()
    resume = ("tune", "rl2", "point-robot", "--out", out, "--resume")
    (out / "study.db").write_bytes(b"\x80\x04cposix\nsystem\n.")
    assert "got a file that is no SQLite database" in run_metarl(*resume)[2]
    (out / "study.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 100)
    assert "a database without a study of metarl tune" in run_metarl(*resume)[2]
    (out / "study.db").unlink()
    with sqlite3.connect(out / "study.db") as connection:
        connection.execute("CREATE TABLE trials (x)")
    connection.close()
    assert "a database without a study of metarl tune" in run_metarl(*resume)[2]
    (out / "study.db").unlink()
    record = {"agent": "rl2", "family": "point-robot", "training": {"seed": "one"}}
    for text, said in ((json.dumps(record), "does not fit this version"), ("[[", "damaged record"), ("3", "damaged")):
        with sqlite3.connect(out / "study.db") as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS study_user_attributes (key, value_json)")
            connection.execute("DELETE FROM study_user_attributes")
            connection.execute("INSERT INTO study_user_attributes VALUES ('metarl', ?)", (text,))
        connection.close()
        code, _, err = run_metarl(*resume)
        assert (code, said in err, len(err.strip().splitlines())) == (2, True, 1)


def test_optuna_reads_the_file_without_pickle(run_metarl, plan, tmp_path: Path, monkeypatch, study) -> None:
    assert run_metarl(*study(number=1))[0] == 0
    columns = [column for table in models.BaseModel.metadata.tables.values() for column in table.columns]
    assert len(columns) > 20
    assert not [column for column in columns if isinstance(column.type, sqlalchemy.PickleType | sqlalchemy.LargeBinary)]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.loads", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.Unpickler", refuse)
    assert run_metarl("tune", "rl2", "point-robot", "--out", "study", "--resume", "--trials", "2")[0] == 0


def test_a_folder_whose_name_looks_like_a_url_is_a_folder(run_metarl, plan, tmp_path: Path, study) -> None:
    name = "a?b=1#c%20d{SCHEMA_VERSION}"
    assert run_metarl(*study(out=name, number=1))[0] == 0
    assert run_metarl(*study("--resume", out=name, number=2))[0] == 0
    assert (tmp_path / name / "study.db").is_file()
