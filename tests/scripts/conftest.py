"""Studies of `metarl tune` whose trainings are replaced by a short script."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FAKE = '''
"""Writes metrics.jsonl as a training does: the score rises to the learning rate times 1000."""
import fcntl, json, os, signal, sys, threading, time
from pathlib import Path

pipe, threads, *words = sys.argv[1:]
def end():
    while os.read(int(pipe), 1):
        pass
    os.killpg(0, 9)
threading.Thread(target=end, daemon=True).start()

def value(name, default):
    return words[words.index(name) + 1] if name in words else default

rate, iterations = float(value("--agent.learning-rate", "0.001")), int(value("--iterations", "100"))
first, count = int(value("--seed", "0")), int(value("--seeds", "0"))
out, number, stopped = Path(value("--out", "")), os.path.basename(value("--out", "")), []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
plan = json.loads(os.environ.get("FAKE_PLAN", "{}")).get(number, {})
print("training", *words, flush=True)
for folder, seed in [(out / f"seed-{s}", s) for s in range(first, first + count)] if count else [(out, first)]:
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / ".lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    path = folder / "metrics.jsonl"
    done = path.read_text().count("\\n") if path.exists() else 0
    with open(path, "a") as log:
        for i in range(done + 1, iterations + 1):
            time.sleep(plan.get("pause", 0.0))
            if i == plan.get("die"):
                print("metarl: error: the arm fell off", file=sys.stderr)
                sys.exit(1)
            if i == plan.get("vanish"):
                os.kill(os.getpid(), 9)
            score = 1000 * rate * i / iterations + seed
            key = plan.get("key", "return")
            row = {"iteration": i, "env_steps": 10 * i, f"evaluation/{key}/0": -9.0, f"evaluation/{key}/1": score}
            log.write(json.dumps(row) + "\\n")
            log.flush()
            if stopped and i < iterations:
                sys.exit(130)
'''
SPACE = ("--vary", "learning_rate=log(1e-4,1e-2)")
SHORT = ("--iterations", "4", "--eval-every", "1", "--seed", "0", "--agent.units", "8")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces trainings by a script; the plan says what happens in the folder of a name."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "fake_training.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setattr("metarl.scripts.child.MODULE", "fake_training")
    monkeypatch.setattr("metarl.scripts.tuning.search.READ_SECONDS", 0.01)

    def set_plan(**folders: dict[str, Any]) -> None:
        plans = {name.replace("_", "-"): what for name, what in folders.items()}
        monkeypatch.setenv("FAKE_PLAN", json.dumps(plans))

    set_plan()
    return set_plan


@pytest.fixture
def trials() -> Callable[[Path], list[Any]]:
    """Reads the trials of a study as Optuna has them."""
    import optuna

    def read(out: Path) -> list[Any]:
        storage = optuna.storages.RDBStorage(f"sqlite:///{out / 'study.db'}")
        found = optuna.load_study(study_name="metarl", storage=storage).trials
        storage.remove_session()
        storage.engine.dispose()
        return found

    return read


@pytest.fixture
def states(trials: Callable[[Path], list[Any]]) -> Callable[[Path], list[str]]:
    """Reads the states of the trials of a study."""
    return lambda out: [trial.state.name for trial in trials(out)]


@pytest.fixture
def study() -> Callable[..., tuple[str, ...]]:
    """Makes the command line of a study of rl2's learning rate."""

    def words(*more: str, out: str = "study", number: int = 4) -> tuple[str, ...]:
        return ("tune", "rl2", "point-robot", "--out", out, "--trials", str(number), *SPACE, *SHORT, *more)

    return words
