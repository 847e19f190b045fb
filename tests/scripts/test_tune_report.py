"""Scores, and the report of `metarl tune`, from values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from metarl.presets import default_settings
from metarl.run_setup import RunSettings
from metarl.scripts.ending import StopRequest
from metarl.scripts.tuning import progress as progress_module
from metarl.scripts.tuning.confirm import Confirmation, Plan
from metarl.scripts.tuning.page import PAGE, PICTURE, write_report
from metarl.scripts.tuning.progress import Progress
from metarl.scripts.tuning.ranges import read_ranges
from metarl.scripts.tuning.record import Record, record_of_json
from metarl.scripts.tuning.result import Result
from metarl.scripts.tuning.scores import Reading, TrialReading, last_score, read_log, read_trial
from metarl.scripts.tuning.study import Tried

VARY = ("learning_rate=log(0.0001,0.01)", "gamma=choice(0.9,0.95)", "attention_window=int(2,9)", "tasks=int(4,30)")
OVER = ("tasks", "seeds", "both")


def record(**changes: Any) -> Record:
    training, agent = default_settings("rl2", "point-robot")
    settings = RunSettings(training=dataclasses.replace(training, iterations=40, eval_every=10), agent=agent)
    shared: dict[str, Any] = {
        "agent": "rl2",
        "family": "point-robot",
        "preset": "",
        "settings": settings,
        "vary": VARY,
        "seeds": 1,
        "score": "return",
        "prune_after": 0.25,
        "cores": 2,
    }
    return Record(**shared | changes)


def tried(number: int, state: str = "complete", score: float | None = None, **changes: Any) -> Tried:
    drawn = {"learning_rate": 0.001 * (number + 1), "gamma": "0.9", "attention_window": 3, "tasks": 5}
    shared: dict[str, Any] = {
        "number": number,
        "state": state,
        "preset": number == 0,
        "score": score,
        "drawn": drawn,
        "curve": ((10, -3.0), (20, -2.0)),
        "error": "",
        "iteration": 20,
        "env_steps": 1000,
        "seconds": 60.0,
        "same_as": None,
    }
    return Tried(**shared | changes)


def result(*trials: Tried, confirmation: Confirmation | None = None) -> Result:
    mine = record()
    return Result(mine, read_ranges(VARY, mine.settings), trials, mine.settings, confirmation)


def confirmation(both: tuple[float | None, float | None], seeds: int = 3) -> Confirmation:
    interval: Mapping[str, float | None] = {"mean": 1.5, "ci_low": both[0], "ci_high": both[1]}
    returns = tuple(float(seed) for seed in range(seeds))
    return Confirmation(1, tuple(range(7, 7 + seeds)), 40, returns, returns, dict.fromkeys(OVER, interval))


def page(out: Path, *arguments: Any) -> str:
    write_report(out, *arguments)
    return (out / PAGE).read_text()


def test_a_log_that_is_being_written_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    rows = [
        {"iteration": 1, "env_steps": 10, "return/0": -9.0},
        {"iteration": 2, "env_steps": 20, "evaluation/return/0": -8.0, "evaluation/return/10": -1.0},
        {"iteration": 3, "env_steps": 30, "evaluation/return/0": -8.0, "evaluation/return/10": None},
        {"iteration": 4, "env_steps": 40, "evaluation/return/0": -8.0, "evaluation/return/10": -2.0},
    ]
    path = tmp_path / "metrics.jsonl"
    assert read_log(path, "return") == Reading()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"iteration": 5, "env_steps": 50')
    assert read_log(path, "return") == Reading(4, 40, ((2, -1.0), (4, -2.0)))
    assert read_log(path, "success") == Reading(4, 40, ())
    path.write_text('[1]\n{"iteration": "x"}\n')
    assert read_log(path, "return") == Reading()


def test_the_last_adaptation_counts_and_numbers_that_are_not_finite_do_not() -> None:
    assert last_score({"evaluation/return/2": 3.0, "evaluation/return/10": 4.0, "return/11": 9.0}, "return") == 4.0
    assert last_score({"evaluation/return/2": 3.0, "evaluation/return/10": None}, "return") is None
    assert last_score({"evaluation/success_last/0": 1.0, "evaluation/success/0": 0.5}, "success") == 0.5


def test_a_score_is_the_mean_of_the_last_three_evaluations_and_of_all_seeds(tmp_path: Path) -> None:
    one = Reading(4, 40, ((1, 0.0), (2, 3.0), (3, 6.0), (4, 9.0)))
    assert one.smoothed == ((1, 0.0), (2, 1.5), (3, 3.0), (4, 6.0))
    two = TrialReading((one, Reading(2, 20, ((1, 2.0), (2, 4.0)))), iterations=4, planned=2)
    assert two.steps == ((1, 0.0), (2, 1.5), (3, 3.0), (4, 6.0), (5, 4.0), (6, 4.5))
    assert (two.score, two.iteration, two.env_steps) == (4.5, 6, 60)
    assert TrialReading((one,), iterations=4, planned=2).score is None
    assert read_trial(tmp_path, [3, 4], 4, "return").steps == ()


def test_the_page_lists_every_trial_and_warns(tmp_path: Path) -> None:
    failed = tried(3, "failed", error="a | b\nc", curve=())
    trials = (tried(0, score=-3.0), tried(1, score=-1.0), tried(2, "pruned", -5.0), failed, tried(4, "unfinished"))
    text = page(tmp_path, result(*trials), "metarl tune GO ON")
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:3] > "| /"]
    rows = [row for row in rows if row[0].isdecimal()]
    assert [row[0] for row in rows] == ["1", "0", "2", "4", "3"]
    assert rows[0][1:7] == ["complete", "-1", "0.002", "0.9", "3", "5"]
    assert rows[1][3:7] == ["0.001", "0.99", "0", "40"], "the preset has its own settings, whatever Optuna was told"
    assert rows[4][-1] == "a \\| b c"
    assert "Best: trial 1, score -1; the preset: -3 (+2)." in text
    assert "the best of 2 noisy scores" in text
    assert "5,000 env steps and 5:00 of training" in text
    assert "metarl train rl2 point-robot --tasks 5 --agent.learning-rate 0.002 --agent.gamma 0.9" in text
    assert "metarl tune GO ON" in text
    assert "Trials have equal iterations, not equal env steps" in text
    assert "from iteration 10 of 40 on" in text
    assert (tmp_path / PICTURE).read_bytes().startswith(b"\x89PNG")


def test_a_study_without_a_better_trial_keeps_the_preset(tmp_path: Path) -> None:
    assert "No trial beat the preset, whose score is -1." in page(tmp_path, result(tried(0, score=-1.0)), "")
    assert "The preset has no score" in page(tmp_path, result(tried(0, "failed", curve=()), tried(1, score=0.0)), "")
    (tmp_path / PICTURE).unlink()
    text = page(tmp_path, result(tried(0, "failed", curve=())), "")
    assert "No trial is complete, so nothing is recommended." in text
    assert PICTURE not in text
    assert not (tmp_path / PICTURE).exists()


@pytest.mark.parametrize(
    ("both", "said"),
    [
        (
            (0.2, 2.8),
            "best minus preset is +1.5 [+0.2, +2.8] (return; 95 % over new trainings on new tasks). The gain is",
        ),
        ((-0.2, 3.2), "The interval includes zero: the gain is not confirmed."),
        ((-3.2, -0.2), "The best is worse than the preset: keep the preset."),
        ((None, None), "There are too few seeds for an interval."),
    ],
)
def test_a_confirmation_says_whether_the_gain_is_real(tmp_path: Path, both: Any, said: str) -> None:
    text = page(tmp_path, result(tried(0, score=-3.0), tried(1, score=-1.0), confirmation=confirmation(both)), "")
    assert said in text
    assert "optimistic" not in text
    assert "seeds that no trial had (7, 8, 9), and evaluated on 40 tuning tasks" in text


def test_one_fresh_seed_has_no_interval_over_trainings(tmp_path: Path) -> None:
    one = confirmation((0.2, 2.8), seeds=1)
    text = page(tmp_path, result(tried(0, score=-3.0), tried(1, score=-1.0), confirmation=one), "")
    assert "With 1 fresh seed each" in text
    assert "over new tasks, the same single training" in text


def test_a_confirmation_has_seeds_that_no_trial_had(tmp_path: Path) -> None:
    mine = record(seeds=3)
    plan = Plan(mine, tmp_path, 4, mine.settings, 2)
    assert (mine.seed_list, plan.seeds) == ([0, 1, 2], [3, 4])
    assert [(path.parent.name, settings.training.seed) for path, settings in plan.runs] == [
        ("trial-4", 3),
        ("preset", 3),
        ("trial-4", 4),
        ("preset", 4),
    ]


def test_the_time_left_follows_from_the_part_that_this_start_has_made(monkeypatch, capsys) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    earlier = [tried(0, score=-3.0), tried(1, "unfinished", -4.0)]  # trial 1 made half of its 40 iterations
    shown = Progress(StopRequest(), 4, 40, earlier)
    running: Any = [SimpleNamespace(trial=SimpleNamespace(number=1), reading=TrialReading((Reading(20, 9),), 40))]
    shown.tick(running)
    assert capsys.readouterr().err == "1 of 4 trials ended; running 1: 50%\n"
    now[0] += 60.0
    running[0].reading = TrialReading((Reading(40, 9),), 40)
    shown.tick(running)
    assert capsys.readouterr().err == "1 of 4 trials ended; running 1: 100%; time left about 4:00\n"
    shown.ended(tried(1, score=-2.0))
    assert capsys.readouterr().err == "trial 1 complete, score -2; best: trial 1, -2; 2 of 4 trials ended\n"


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    mine = record(preset="published", seeds=2, score="success_last")
    text = json.dumps(mine.to_json())
    assert record_of_json(tmp_path, text, "rl2", "point-robot") == mine
    assert mine.changed(record()) == ["--preset", "--score", "--seeds"]
    assert (record().first_pruned, record(prune_after=1.0).first_pruned) == (10, 41)
    wrong = json.dumps({**mine.to_json(), "score": "speed"})
    with pytest.raises(ValueError, match="score: got 'speed', expected one of return"):
        record_of_json(tmp_path, wrong, "rl2", "point-robot")
