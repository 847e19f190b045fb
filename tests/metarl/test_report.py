from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from metarl.intervals import Interval
from metarl.report import (
    Curve,
    _episodes_axis,
    comparison_picture,
    first_label,
    training_picture,
    wrapped,
    write_report,
)
from metarl.results import EvalResult
from metarl.types import Task

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


def test_few_and_many_episodes_can_both_be_read_on_one_axis() -> None:
    """Episodes 0, 1 and 60: on a linear axis 0 and 1 are 1.7 % of its width apart, here a seventh."""
    axes = Figure().add_subplot()
    axes.plot([0, 1, 60], [0, 0, 0])
    _episodes_axis(axes, (0, 1, 60))
    zero, one, sixty = (axes.transData.transform((n, 0))[0] for n in (0, 1, 60))
    assert (one - zero) / (sixty - zero) > 0.1
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "60"]
    linear = Figure().add_subplot()
    _episodes_axis(linear, (0, 1, 2))
    assert linear.get_xscale() == "linear"


def test_a_comparison_draws_bands_bars_and_single_seeds_and_its_legend_beside_the_curves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Figure] = []

    def keep(figure: Figure) -> bytes:
        drawn.append(figure)
        figure.draw_without_rendering()
        return b""

    monkeypatch.setattr("metarl.report.png", keep)
    points = [Interval(0.0, -1.0, 1.0), Interval(2.0, 1.0, 3.0)]
    reference = Curve("oracle (observes the task)", (0,), points[1:], points[1:], np.zeros((0, 1)), "oracle")
    comparison_picture([Curve("a", (0, 1), points, points, np.array([[0.1, 2.1], [0.2, 2.2]])), reference], "title")
    (figure,) = drawn
    (axes,) = figure.axes
    assert [len(line.get_xdata()) for line in axes.lines[1:3]] == [2, 2], "a point per seed and k"
    assert len(axes.collections) == 2, "a band over tasks, bars over seeds"
    (legend,) = figure.legends
    assert legend.get_window_extent().x0 >= axes.get_window_extent().x1, "outside of the curves"


def test_the_first_point_of_an_agent_with_a_memory_is_its_first_episode() -> None:
    assert (first_label(False), first_label(True)) == ("before adaptation", "first episode")


def test_a_title_is_broken_where_a_name_can_be() -> None:
    title = "rl2 on menagerie:go1?payload=uniform(0,5)&floor_friction=uniform(0.3,1.2)"
    assert wrapped(title, 40).splitlines() == [
        "rl2 on menagerie:go1?",
        "payload=uniform(0,5)&",
        "floor_friction=uniform(0.3,1.2)",
    ]
    assert wrapped(title) == title
    assert wrapped("x" * 7, 3) == "xxx\nxxx\nx"
    assert wrapped("") == ""
