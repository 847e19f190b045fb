"""`metarl reproduce`: a small table from the first training to the check of the docs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from metarl.scripts import child, recipes
from metarl.scripts.compare_tables import interval_text
from metarl.scripts.recipes import RECIPES, Bound, Evaluation, Published, Recipe, Row
from metarl.scripts.reproducing.plan import Plan, announcement, in_words, makespan
from metarl.scripts.reproducing.running import run_trainings

SIZES = ("--iterations", "2", "--tasks", "3", "--episodes", "2", "--horizon", "12", "--eval-every", "0")
TINY = Recipe(
    name="tiny",
    title="A tiny table",
    family="point-robot",
    references=(Row("multitask", "multitask", 0.02, SIZES), Row("oracle", "oracle", 0.02, SIZES)),
    rows=(Row("rl2 mingru", "rl2", 0.05, (*SIZES, "--agent.cell", "mingru"), (Bound("return", -100.0),)),),
    seeds=2,
    evaluation=Evaluation(tasks=4, episodes=2),
    published=(Published("RL2", "-3 after 1 episode", "1M", "none", "nobody 2000"),),
    about="Trained hardly at all.",
    minus="multitask",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of the tiny table, and with docs that hold it."""
    from metarl.scripts.cli import main

    folder = tmp_path_factory.mktemp("made")
    (folder / "docs" / "results").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "tiny", TINY)
        words = ["reproduce", "tiny", "--out", str(folder / "out"), "--write", "--docs", str(folder / "docs")]
        assert main(words) == 0
    return folder


@pytest.fixture
def tiny_table(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Such a folder of the test's own."""
    monkeypatch.setitem(RECIPES, "tiny", TINY)
    return Path(shutil.copytree(made, tmp_path / "made"))


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe], None]:
    """Registers a recipe for the test."""
    return lambda recipe: monkeypatch.setitem(RECIPES, recipe.name, recipe)


def table(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "docs" / "results" / "tiny.json").read_text())


# The whole way ----------------------------------------------------------------------------------------------


def test_the_table_has_the_numbers_of_metarl_compare(run_metarl, tiny_table: Path) -> None:
    runs = [tiny_table / "out" / f"{row.slug}-seed-{seed}" for row in TINY.every for seed in (0, 1)]
    code, out, err = run_metarl("compare", *runs, "--tasks", "4", "--episodes", "2", "--over", "both", "--json")
    assert code == 0, err
    rows = {row["agent"]: row for row in table(tiny_table)["rows"]}
    assert [*rows] == ["multitask", "oracle", "rl2 mingru"]
    for theirs in json.loads(out.splitlines()[-1])["rows"]:
        mine = rows["rl2 mingru" if theirs["agent"] == "rl2" else theirs["agent"]]
        assert mine["seed_list"] == [0, 1]
        for key in ("curve", "end", "share_of_gap", "success_last", "env_steps", "episodes"):
            assert mine[key] == theirs[key], key
        for seed, scores in zip(theirs["end_of_each_seed"], mine["scores"], strict=True):
            assert sum(scores) / 4 == pytest.approx(seed, rel=1e-4)


def test_a_row_has_its_difference_from_another_one(run_metarl, tiny_table: Path) -> None:
    runs = [tiny_table / "out" / f"{name}-seed-{seed}" for name in ("rl2-mingru", "multitask") for seed in (0, 1)]
    _, out, _ = run_metarl("compare", *runs, "--tasks", "4", "--episodes", "2", "--json")
    (pair,) = json.loads(out.splitlines()[-1])["differences"]
    minus = {"row": "multitask", "scores": "scores", "difference": pair["difference"]}
    assert [row["minus"] for row in table(tiny_table)["rows"]] == [None, None, minus]
    text = " | ".join(interval_text(pair["difference"][over]) for over in ("tasks", "seeds", "both"))
    assert f"| `rl2 mingru` | `multitask` | {text} |" in (tiny_table / "docs" / "results" / "tiny.md").read_text()


def test_the_page_says_where_its_numbers_come_from(tiny_table: Path) -> None:
    page = (tiny_table / "docs" / "results" / "tiny.md").read_text()
    start = json.loads((tiny_table / "out" / "oracle-seed-1" / "versions.json").read_text())["starts"][0]
    assert page.startswith("# A tiny table\n")
    text = " ".join(page.split())
    for said in (
        "Written by `metarl reproduce tiny`",
        "Seeds: 0, 1.",
        f"Commit: {(start['commit'] or 'not recorded')[:12]}",
        start["machine"]["processor"],
        f"torch {start['packages']['torch']}",
        "Reward: the only version of this family.",
        "Trained hardly at all.",
        "nobody 2000",
        "| `rl2 mingru` | last return | -100 |",
        "metarl train rl2 point-robot --seed 0 --workers 0 --blocks 1 --device cpu --track none --iterations 2",
        "](../images/table-tiny.png)",
    ):
        assert said in text, said
    (row,) = [line for line in page.splitlines() if line.startswith("| `rl2 mingru` |") and "288" in line]
    end = table(tiny_table)["rows"][-1]["end"]["both"]
    assert f"{end['mean']:.1f} [{end['ci_low']:.1f}, {end['ci_high']:.1f}]" in row
    assert (tiny_table / "docs" / "images" / "table-tiny.png").read_bytes().startswith(b"\x89PNG")
    assert "](tiny.png)" in (tiny_table / "out" / "tiny.md").read_text()


def test_a_folder_with_results_is_kept_and_finished_trainings_are_not_repeated(run_metarl, tiny_table: Path) -> None:
    out, before = tiny_table / "out", table(tiny_table)
    code, _, err = run_metarl("reproduce", "tiny", "--out", out)
    assert code == 2
    assert "already holds results; add --resume" in err
    logs = {path: path.read_bytes() for path in out.glob("*.log")}
    code, printed, err = run_metarl("reproduce", "tiny", "--out", out, "--resume", "--json")
    assert code == 0, err
    assert "6 finished, 0 begun, 0 missing; nothing to train" in err
    assert {path: path.read_bytes() for path in out.glob("*.log")} == logs
    assert json.loads(printed.splitlines()[-1])["rows"] == before["rows"]


def test_a_changed_recipe_does_not_mix_with_earlier_trainings(run_metarl, tiny_table: Path, offer) -> None:
    *_, last = TINY.every
    offer(replace(TINY, rows=(replace(last, options=(*last.options, "--agent.gamma", "0.9")),)))
    code, _, err = run_metarl("reproduce", "tiny", "--out", tiny_table / "out", "--resume")
    assert code == 2
    assert "the recipe has changed since rl2-mingru-seed-0, rl2-mingru-seed-1 began" in err


def test_seeds_trained_with_different_settings_are_refused(run_metarl, tiny_table: Path) -> None:
    path = tiny_table / "out" / "oracle-seed-1" / "config.json"
    path.write_text(path.read_text().replace('"gamma": 0.99', '"gamma": 0.5'))
    code, _, err = run_metarl("reproduce", "tiny", "--out", tiny_table / "out", "--resume")
    assert code == 2
    assert "in agent_config.gamma" in err


# The check --------------------------------------------------------------------------------------------------


def checked(run_metarl, folder: Path, *more: str) -> tuple[int, str, str]:
    words = ("--out", folder / "out", "--resume", "--check", "--docs", folder / "docs", *more)
    return run_metarl("reproduce", "tiny", *words)


def test_check_meets_the_docs_that_the_same_command_wrote(run_metarl, tiny_table: Path) -> None:
    code, out, err = checked(run_metarl, tiny_table)
    assert code == 0, err
    assert "8 of 8 numbers of the docs are met" in out
    assert "NOT MET" not in out


def test_check_with_fewer_seeds_compares_with_the_same_seeds_of_the_docs(run_metarl, tiny_table: Path) -> None:
    docs = table(tiny_table)
    for row in docs["rows"]:
        row["scores"][1] = [score - 1000.0 for score in row["scores"][1]]
    (tiny_table / "docs" / "results" / "tiny.json").write_text(json.dumps(docs))
    code, out, err = checked(run_metarl, tiny_table, "--seeds", "1")
    assert code == 0, out + err
    assert "equal scores" in out
    code, out, err = checked(run_metarl, tiny_table, "--json")
    assert code == 0, "two trainings that differ by 1000 allow any mean" + err
    assert '"note": "1 of 2 trainings equal"' in out


def test_check_names_what_is_not_met(run_metarl, tiny_table: Path) -> None:
    docs = table(tiny_table)
    row = docs["rows"][-1]
    row["scores"] = [[score + 50.0 for score in scores] for scores in row["scores"]]
    docs["rows"] = docs["rows"][1:]
    (tiny_table / "docs" / "results" / "tiny.json").write_text(json.dumps(docs))
    code, out, err = checked(run_metarl, tiny_table, "--json")
    assert code == 1, err
    compared = json.loads(out.splitlines()[-1])["compared"]
    unmet = {(one["agent"], one["number"]) for one in compared if not one["met"]}
    assert {("rl2 mingru", "return"), ("multitask", "return"), ("rl2 mingru", "minus")} <= unmet
    assert ("oracle", "return") not in unmet
    assert "no such row in the docs" in out
    code, out, _ = checked(run_metarl, tiny_table, "--rows", "oracle")
    assert code == 0, out


def test_check_names_a_promise_that_is_not_met_any_more(run_metarl, tiny_table: Path, offer) -> None:
    *_, last = TINY.every
    offer(replace(TINY, rows=(replace(last, bounds=(Bound("return", 0.0),)),)))
    code, out, _ = checked(run_metarl, tiny_table)
    assert code == 0, "the docs promised another number"
    docs = table(tiny_table)
    docs["rows"][-1]["bounds"] = [{"quantity": "return", "at_least": 0.0, "mean": 1.0, "met": True}]
    (tiny_table / "docs" / "results" / "tiny.json").write_text(json.dumps(docs))
    code, out, _ = checked(run_metarl, tiny_table)
    assert code == 1
    assert "promise not met any more: rl2 mingru: last return -" in out


def test_check_is_refused_before_training_if_the_docs_measured_something_else(run_metarl, tiny_table, offer) -> None:
    offer(replace(TINY, evaluation=Evaluation(tasks=5, episodes=2)))
    code, _, err = checked(run_metarl, tiny_table)
    assert code == 2
    assert "'tasks': 4" in err
    (tiny_table / "docs" / "results" / "tiny.json").unlink()
    code, _, err = checked(run_metarl, tiny_table)
    assert code == 2
    assert "expected a table written by metarl reproduce NAME --write" in err


# Failures and stops -----------------------------------------------------------------------------------------


def test_a_training_that_fails_does_not_stop_the_others(run_metarl, tmp_path: Path, offer) -> None:
    bad = Row("bad", "rl2", 0.1, (*SIZES, "--agent.nonsense", "3"))
    offer(replace(TINY, rows=(bad,), references=TINY.references[1:]))
    (tmp_path / "docs" / "results").mkdir(parents=True)
    words = ("--seeds", "1", "--out", tmp_path / "out", "--write", "--docs", tmp_path / "docs")
    code, _, err = run_metarl("reproduce", "tiny", *words)
    assert code == 1
    assert "failed: bad, seed 0: unknown: --agent.nonsense" in err
    assert (
        "1 of 2 trainings failed; nothing was written to the docs; go on with: metarl reproduce tiny --seeds 1" in err
    )
    page = (tmp_path / "out" / "tiny.md").read_text()
    assert "| `oracle` |" in page
    assert "- bad, seed 0: unknown" in page
    assert not list((tmp_path / "docs" / "results").iterdir())


def test_the_budget_ends_the_trainings_and_says_how_to_go_on(run_metarl, tmp_path: Path, offer) -> None:
    long = ("--iterations", "100000", *SIZES[2:])
    offer(replace(TINY, rows=(), references=(Row("oracle", "oracle", 50.0, long),), seeds=3))
    began = time.monotonic()
    words = ("tiny", "--out", tmp_path / "out", "--budget", "0.2", "--jobs", "2")
    code, _, err = run_metarl("reproduce", *words)
    assert code == 130
    assert time.monotonic() - began < 100
    assert "1 row x 3 seeds: 0 finished, 0 begun, 3 missing; to train: 2 h 30 min of one core, about 1 h 40 min" in err
    assert "oracle, seed 2: started" not in err
    assert err.count(": saved after iteration ") == 2
    assert "stopped by budget, " in err
    assert f"go on with: metarl reproduce tiny --out {tmp_path / 'out'} --budget 0.2 --jobs 2 --resume" in err


LONGER = ("--iterations", "150", "--checkpoint-every", "1000", *SIZES[2:])
PROGRAM = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from metarl.scripts.recipes import *
options = {LONGER!r}
row = (Row("oracle", "oracle", 0.2, options),)
RECIPES["tiny"] = Recipe("tiny", "Tiny", "point-robot", row, (), 1, Evaluation(4, 2))
from metarl.scripts.cli import main
raise SystemExit(main())
"""


@pytest.mark.slow
def test_ctrl_c_saves_and_a_resumed_training_ends_as_an_uninterrupted_one(
    run_metarl, tmp_path: Path, assert_same_run
) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-c", PROGRAM, "reproduce", "tiny", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment)
    log = out / "oracle-seed-0" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "finishing this iteration, then saving" in err
    assert "stopped by Ctrl-C, " in err
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 finished, 1 begun, 0 missing; to train: " in done.stderr
    alone = ("train", "oracle", "point-robot", *LONGER, "--blocks", "1", "--workers", "0", "--device", "cpu")
    code, _, err = run_metarl(*alone, "--out", tmp_path / "alone")
    assert code == 0, err
    assert_same_run(out / "oracle-seed-0", tmp_path / "alone")


DEAF = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: None)
print("listening", flush=True)
while True:
    time.sleep(0.01)
"""
KILLED = "import os; os.kill(os.getpid(), 9)"


@pytest.fixture
def replace_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces trainings by a program."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(child, "MODULE", "in_place_of_a_training")
    return (tmp_path / "in_place_of_a_training.py").write_text


def test_the_second_ctrl_c_ends_the_trainings_at_once(tmp_path: Path, replace_trainings) -> None:
    replace_trainings(DEAF)
    plan = Plan(TINY, TINY.references[:1], (0, 1), tmp_path)

    def press() -> None:
        for _ in range(2):
            while not all(one.log.exists() and b"listening" in one.log.read_bytes() for one in plan.trainings):
                time.sleep(0.01)
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGINT)

    presses = threading.Thread(target=press)
    presses.start()
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_trainings(plan, 2, 0.0, lines.append)
    presses.join()
    assert any("2 trainings to finish the iteration and save" in line for line in lines)


def test_a_killed_training_is_named_with_its_signal(tmp_path: Path, replace_trainings) -> None:
    replace_trainings(KILLED)
    plan = Plan(TINY, TINY.references[:1], (0,), tmp_path)
    outcome = run_trainings(plan, 1, 0.0, lambda _: None)
    (line,) = outcome.failed.values()
    assert line.startswith("ended by SIGKILL")
    assert line.endswith(".log has all it printed")
    assert not outcome.stopped


# Words ------------------------------------------------------------------------------------------------------


def test_the_list_has_every_table_with_its_cost(run_metarl) -> None:
    code, out, _ = run_metarl("reproduce", "--list", "--jobs", "2", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(out)}
    assert listed.keys() == recipes.RECIPES.keys()
    minutes = [row.minutes for row in RECIPES["point-robot"].every]
    assert listed["point-robot"]["core_minutes"] == pytest.approx(3 * sum(minutes))
    assert sum(minutes) / 2 <= listed["point-robot"]["minutes_with_one_seed"] < sum(minutes)
    code, out, _ = run_metarl("reproduce", "--list")
    assert code == 0
    assert "half-cheetah-vel-3" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("point-robo",), "got 'point-robo', expected one of point-robot, "),
        (("point-robo",), "Did you mean 'point-robot'?"),
        ((), "got no name, expected one of point-robot, "),
        (("point-robot", "--rows", "perl"), "--rows: got 'perl', expected some of multitask, oracle, "),
        (("point-robot", "--rows", "perl"), "Did you mean 'pearl'?"),
        (("point-robot", "--check", "--write"), "--check: got --write too"),
        (("point-robot", "--write", "--rows", "rl2"), "--write: got --rows"),
        (("point-robot", "--check", "--docs", "nowhere"), "--docs: got nowhere, expected the folder docs"),
        (("point-robot", "--budget", "-1"), "budget: got -1.0, expected"),
        (("point-robot", "--out", "a-file"), "--out: got a-file, which is a file"),
        (("point-robot", "--out", "others", "--resume"), "which is not empty and holds no plan.json"),
    ],
)
def test_bad_input_is_refused_in_one_line(run_metarl, tmp_path: Path, words, said: str) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "thesis.tex").touch()
    code, _, err = run_metarl("reproduce", *words)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_costs_are_said_in_words(tmp_path: Path) -> None:
    assert makespan([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert makespan([4.0, 3.0, 3.0], 2) == 6.0
    assert makespan([], 2) == 0.0
    assert [in_words(minutes) for minutes in (0.001, 0.5, 12.2, 125.0)] == ["1 s", "30 s", "12 min", "2 h 5 min"]
    plan = Plan(TINY, TINY.every, (0,), tmp_path)
    assert "tiny: 3 rows x 1 seed: 0 finished, 0 begun, 3 missing; to train: 5 s of one core" in announcement(plan, 2)
