"""The trackers: each holds the numbers of `metrics.jsonl`, and a resumed run repeats none."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import metarl
from metarl.metrics_log import read_log
from metarl.watch import TRACKERS, trackers

SMALL = {"tasks": 2, "episodes": 2, "horizon": 5, "eval_every": 2, "eval_tasks": 2, "checkpoint_every": 2}


def table(out: Path) -> list[dict[str, str]]:
    """The lines of `metrics.csv`."""
    with open(out / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Reader:
    """A watcher that reads the table after every iteration."""

    def __init__(self, out: Path) -> None:
        self._out, self.tables = out, list[Any]()

    def start(self, start: Any) -> None:
        self.tables.append(table(self._out))

    def iteration(self, report: Any) -> None:
        self.tables.append(table(self._out))

    def close(self) -> None:
        pass


def same(rows: list[dict[str, str]], logged: list[dict[str, Any]]) -> bool:
    """Whether a table holds the numbers of a log, digit by digit."""
    names = list(dict.fromkeys(name for row in logged for name in row))
    texts = [{name: "" if row.get(name) is None else str(row[name]) for name in names} for row in logged]
    return rows == texts


def test_the_csv_file_is_whole_at_any_time_and_has_the_numbers_of_the_log(tmp_path: Path) -> None:
    out = tmp_path / "run"
    reader = Reader(out)
    metarl.train("reptile", "point-robot", out=out, track="csv", watch=[reader], iterations=3, **SMALL)
    assert [len(rows) for rows in reader.tables] == [0, 1, 2, 3]
    assert "evaluation/return/0" not in reader.tables[1][0], "this column comes with the first evaluation"
    assert reader.tables[2][0]["evaluation/return/0"] == ""
    assert same(table(out), read_log(out / "metrics.jsonl"))


def test_a_resumed_run_repeats_no_line_of_the_csv_file(tmp_path: Path) -> None:
    out = tmp_path / "run"
    metarl.train("reptile", "point-robot", out=out, track="csv", iterations=3, **SMALL)
    (out / "checkpoints" / "0000003.safetensors").unlink()  # as if killed before it was saved
    lines = (out / "metrics.csv").read_text().splitlines(keepends=True)
    (out / "metrics.csv").write_text("".join(lines[:-1]) + lines[-1][:7])
    metarl.train("reptile", "point-robot", out=out, track="csv", resume=True, iterations=5)
    assert [row["iteration"] for row in table(out)] == ["1", "2", "3", "4", "5"]
    assert same(table(out), read_log(out / "metrics.jsonl"))
    (out / "metrics.csv").unlink()
    metarl.train("reptile", "point-robot", out=out, track="csv", resume=True, iterations=6)
    assert same(table(out), read_log(out / "metrics.jsonl")), "also one that begins to be tracked late"


def test_a_number_that_is_not_finite_is_an_empty_field(tmp_path: Path) -> None:
    from metarl.training import IterationReport
    from metarl.types import Progress
    from metarl.watch.csv_file import CsvFile

    class Start:
        out = tmp_path

    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1, "env_steps": 5, "a": null}\n')
    tracker = CsvFile()
    tracker.start(Start())  # type: ignore[arg-type]
    tracker.iteration(IterationReport(Progress(2, 10), {"a": float("inf"), "b, c": 0.1}))
    tracker.close()
    assert (tmp_path / "metrics.csv").read_text() == 'iteration,env_steps,a,"b, c"\n1,5,,\n2,10,,0.1\n'


def test_tensorboard_is_the_default_and_none_writes_none(run_metarl: Any, tmp_path: Path, tiny: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("train", "maml-trpo", "point-robot", *tiny, "--out")
    assert run_metarl(*words, tmp_path / "a")[0] == 0
    events = EventAccumulator(str(tmp_path / "a" / "tensorboard"))
    events.Reload()
    logged = [row["return/1"] for row in read_log(tmp_path / "a" / "metrics.jsonl")]
    assert [point.value for point in events.Scalars("return/1")] == pytest.approx(logged)
    assert run_metarl(*words, tmp_path / "b", "--track", "none")[0] == 0
    assert {p.name for p in (tmp_path / "a").iterdir()} - {p.name for p in (tmp_path / "b").iterdir()} == {
        "tensorboard"
    }


@pytest.mark.parametrize("names", ["wandb", "csv,mlflow"])
def test_a_missing_package_is_one_line_with_the_command_before_anything_is_written(
    run_metarl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    monkeypatch.setattr("metarl.watch.by_name.find_spec", lambda package: None)
    code, out, err = run_metarl("train", "maml-trpo", "point-robot", "--track", names, "--out", tmp_path / "run")
    package = names.rpartition(",")[2]
    assert (code, out) == (2, "")
    assert err == (
        f"metarl: error: track: got '{package}', but its package is not installed; run: pip install {package}\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_list_of_trackers_is_read_strictly() -> None:
    assert trackers("none") == []
    assert [type(one).__name__ for one in trackers("csv, tensorboard")] == ["CsvFile", "TensorBoard"]
    for names, expected in (("", "got ''"), ("csv,none", "got 'none'"), ("csv,csv", "twice"), ("csvs", "mean 'csv'")):
        with pytest.raises(ValueError, match=expected):
            trackers(names)
    assert set(TRACKERS) == {"tensorboard", "csv", "wandb", "mlflow"}


# Trackers of other packages, each in a process of its own: they start threads, and more -----------------------

TRAIN = """
import sys, metarl
from pathlib import Path
out, track = Path("run"), sys.argv[1]
small = dict(tasks=2, episodes=2, horizon=5, eval_every=0)
metarl.train("reptile", "point-robot", out=out, track=track, iterations=2, **small)
metarl.train("reptile", "point-robot", out=out, track=track, resume=True, iterations=3)
"""


def train_twice(folder: Path, track: str) -> Path:
    """Trains two iterations and resumes for one more, without any setting of the trackers; the run's folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MLFLOW"))}
    words = [sys.executable, "-c", TRAIN, track]
    done = subprocess.run(words, cwd=folder, env=kept, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir()} == {"run"}, "nothing is written elsewhere"
    return folder / "run"


def test_weights_and_biases_is_offline_under_the_runs_folder(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    out = train_twice(tmp_path, "wandb")
    files = sorted((out / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2, "one for each start"
    assert len({path.name for path in files}) == 1, "of the same run"
    for path in files:
        assert b"return/0" in path.read_bytes()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow and of sqlalchemy, whose class is a subclass
def test_mlflow_is_a_store_under_the_runs_folder(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    out = train_twice(tmp_path, "mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("metarl").experiment_id])
    assert run.info.status == "FINISHED"
    assert (run.data.params["agent"], run.data.params["training.tasks"]) == ('"reptile"', "2")
    history = client.get_metric_history(run.info.run_id, "return/0")
    logged = read_log(out / "metrics.jsonl")
    assert [(m.step, m.value) for m in history] == [(row["iteration"], row["return/0"]) for row in logged]
