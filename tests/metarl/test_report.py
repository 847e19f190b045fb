from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from metarl.report import training_picture, write_report
from metarl.types import EvalResult, Task

PNG = b"\x89PNG\r\n\x1a\n"


def result(n: int, split: str = "test", success: bool = True) -> EvalResult:
    returns = np.random.default_rng(n).standard_normal((n, 3, 2))
    tasks = tuple(Task.of("f", x=i) for i in range(n))
    return EvalResult("f", split, tasks, returns, (returns > 0).astype(float) if success else None, (0, 10, 20))


def test_a_report_is_a_picture_a_table_and_every_number(tmp_path: Path) -> None:
    one, out = result(5), tmp_path / "deep" / "out"
    write_report(out, {"agent": "a"}, one, {"untrained": result(4, success=False)}, "title")
    assert (out / "adaptation.png").read_bytes().startswith(PNG)
    with open(out / "adaptation.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["agent"], r["k"], r["episodes"]) for r in rows[2:4]] == [("trained", "2", "20"), ("untrained", "0", "0")]
    assert float(rows[1]["mean"]) == one.returns[:, 1].mean(axis=1).mean()
    assert rows[3]["success"] == ""
    value = json.loads((out / "evaluation.json").read_text())
    assert np.array_equal(value["returns"], one.returns)
    assert [Task.from_json(t) for t in value["task_list"]] == list(one.tasks)
    assert value["others"]["untrained"][0]["success"] is None


def test_a_single_task_is_drawn_without_interval(tmp_path: Path) -> None:
    write_report(tmp_path, {}, result(1), {}, "title")
    assert json.loads((tmp_path / "evaluation.json").read_text())["others"] == {}


def test_training_is_drawn_with_its_evaluations() -> None:
    rows = [{"env_steps": i, "return/0": 0.0, "return/1": i, "evaluation/return/1": None} for i in range(3)]
    rows[1] |= {"evaluation/return/0": 1.0, "evaluation/return/1": 2.0}
    assert training_picture(rows, "title", "held-out tasks").startswith(PNG)
