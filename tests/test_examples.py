"""The examples run as they stand, each in an empty folder and with small sizes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SMALL = ("--iterations", "2", "--tasks", "2", "--episodes", "3", "--horizon", "8", "--eval-every", "0")


def run(folder: Path, *words: str, **environment: str) -> str:
    """Runs Python in a folder; the output."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "METARL_CACHE": str(folder / "cache"), **environment}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_in_20_lines_shows_an_adaptation_curve(tmp_path: Path) -> None:
    sizes = {"ITERATIONS": "1", "TASKS": "2", "EPISODES": "2", "HORIZON": "5", "FAMILY": "point-robot"}
    shown = run(tmp_path, str(EXAMPLES / "train_in_20_lines.py"), **sizes)
    assert re.search(r"return after  0 episodes of adaptation: +-\d", shown)
    assert re.search(r"return after 20 episodes of adaptation: +-\d", shown)
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "config.json").read_text())["training"]["tasks"] == 2
    assert f"run: runs/{folder.name}, " in shown


def test_a_loop_of_ones_own_trains_and_adapts_on_a_robot_that_metarl_does_not_step(tmp_path: Path) -> None:
    shown = run(tmp_path, str(EXAMPLES / "own_loop.py"), "1")
    assert re.search(r"iteration +1: return +-[\d.]+ -> +-[\d.]+", shown)
    assert re.search(r"before adaptation: -[\d.]+\nreturn after it: -[\d.]+", shown)
    assert (tmp_path / "adapted.safetensors").is_file()


def test_a_new_agent_in_one_file_is_trained_and_evaluated_by_the_command(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "new_agent.py", tmp_path)
    metarl = ("-m", "metarl.scripts.cli")
    run(tmp_path, *metarl, "train", "new_agent:Evolver", "point-robot", "--out", "run", *SMALL)
    run(tmp_path, *metarl, "train", "new_agent:Evolver", "point-robot", "--out", "run", "--resume", "--iterations", "3")
    words = ("evaluate", "run", "--agent", "new_agent:Evolver", "--tasks", "2", "--json")
    result = json.loads(run(tmp_path, *metarl, *words).splitlines()[-1])
    assert (result["agent"], result["iteration"]) == ("new_agent:Evolver", 3)
    assert [point["episodes"] for point in result["curve"]] == [0, 3]


def test_the_new_agent_learns_to_adapt(monkeypatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    from new_agent import Evolver  # type: ignore[import-not-found]

    import metarl

    family = metarl.make_family("point-robot")
    agent = metarl.make_agent(Evolver, family.spaces(20))
    sampler = metarl.LocalSampler(family.make_envs(10, 20, 20))
    reports = list(metarl.meta_train(agent, sampler, family.distribution, metarl.Streams(0), iterations=30))
    before, after = (sum(r.metrics[f"return/{k}"] for r in reports[-10:]) / 10 for k in (0, 1))
    assert after > before + 2.0
    assert before > reports[0].metrics["return/0"] + 0.5


def test_a_few_shot_learner_is_trained_by_the_same_loop(tmp_path: Path) -> None:
    shown = run(tmp_path, str(EXAMPLES / "few_shot_sinusoid.py"), "800")
    losses = [(float(b), float(a)) for b, a in re.findall(r"loss ([\d.]+) -> ([\d.]+) after one step", shown)]
    assert len(losses) == 5
    before, after = losses[-1]
    assert after < 0.6 * before
    assert after < 0.5 * losses[0][1]
