"""Parts of the page of `metarl report`, against numbers by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from metarl.comparison import alike_in_success
from metarl.curves import adaptation_curve, by_class, success_rates
from metarl.intervals import Interval, mean_intervals
from metarl.parameters import Parameter, uniform
from metarl.results import EvalResult
from metarl.scripts.report_page import charts, tasks
from metarl.scripts.report_page.blocks import Chart, Charts, Table, bounds, interval, number
from metarl.scripts.report_page.charts import Scale, axes, labels, shape, ticks
from metarl.scripts.report_page.entries import Entry, RunFiles, run_files
from metarl.scripts.report_page.evaluations import untrained_of
from metarl.scripts.report_page.training import Trained, duration, section
from metarl.tasks import ContinuousTasks
from metarl.types import Task


@pytest.mark.parametrize("others", [None, [], "x", {}, {"untrained": None}, {"untrained": {}}, {"untrained": [[1.0]]}])
def test_an_untrained_agent_that_a_file_does_not_hold_is_left_out(others: Any) -> None:
    one = (Task.of("f", x=1.0),)
    result = EvalResult(family="f", split="test", tasks=one, returns=np.zeros((1, 2, 3)), success=None, episodes=(0, 1))
    assert untrained_of({"returns_of_others": others}, result) is None
    found = untrained_of({"returns_of_others": {"untrained": np.ones((1, 2, 3)).tolist()}}, result)
    assert found is not None
    assert found.returns.mean() == 1.0


# Scales and marks -------------------------------------------------------------------------------------------


def test_a_scale_maps_its_ends_and_its_middle() -> None:
    up = Scale(-1.0, 3.0, 200.0, 100.0)
    assert [up(v) for v in (-1.0, 1.0, 3.0)] == [200.0, 150.0, 100.0]
    log = Scale(0.01, 1.0, 0.0, 80.0, charts.decades)
    assert [log(v) for v in (0.01, 0.1, 1.0)] == [0.0, 40.0, 80.0]
    twice = Scale(0.0, 8.0, 0.0, 80.0, charts.doubling)  # 8 is at 1 + log2(8) = 4
    assert [twice(v) for v in (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)] == [0.0, 10.0, 20.0, 40.0, 60.0, 80.0]


def test_ticks_are_round_and_their_labels_have_the_same_decimals() -> None:
    assert ticks(-47.0, 3.0) == [-40.0, -30.0, -20.0, -10.0, 0.0]
    assert labels([-40.0, -20.0, 0.0]) == ["\u221240", "\u221220", "0"]
    assert labels([0.0, 0.05, 0.1]) == ["0.00", "0.05", "0.10"]
    assert labels([1000.0, 2000.0]) == ["1,000", "2,000"]
    assert labels([0.01, 0.1, 1.0]) == ["0.01", "0.1", "1"]
    assert labels([0.0, 2e6, 4e6]) == ["0", "2e+06", "4e+06"]
    assert labels([]) == []


def test_episodes_have_ticks_at_their_numbers() -> None:
    few = axes([0, 1, 2], [0.0, 1.0], episodes=True)
    assert [tick.text for tick in few.x_ticks] == ["0", "1", "2"]
    many = axes([0, 10, 11, 12, 20, 40], [0.0, 1.0], episodes=True)
    assert [tick.text for tick in many.x_ticks] == ["0", "10", "20", "40"], "those that would overlap are left out"
    places = [tick.at for tick in many.x_ticks]
    assert places[3] - places[2] == pytest.approx(places[2] - places[1], abs=0.2), "a doubling each"


def test_lines_break_at_missing_numbers_and_bands_need_bounds() -> None:
    plot = axes([0.0, 4.0], [0.0, 1.0])
    path = plot.line([0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, None, math.nan, 1.0], "c0").path
    assert path.count("M") == 2
    assert path.count("L") == 1
    assert plot.band([0.0, 1.0], [math.nan] * 2, [math.nan] * 2, "c0") is None
    single = plot.band([0.0, 1.0], [0.1, math.nan], [0.2, math.nan], "c0")
    assert single is not None
    assert single.style == "bar c0"
    band = plot.band([0.0, 1.0], [0.1, 0.2], [0.3, 0.4], "c0")
    assert band is not None
    corners = band.path.strip("MZ").split("L")
    low, high = plot.y(0.1), plot.y(0.3)
    assert (corners[0], corners[-1]) == (f"{plot.x(0):g} {high:g}", f"{plot.x(0):g} {low:g}")


def test_a_constant_curve_and_no_number_at_all_still_have_axes() -> None:
    for ys in ([5.0, 5.0], [0.0], [math.nan]):
        plot = axes([3.0, 3.0], ys)
        assert plot.y.low < plot.y.high
        assert plot.x.low < plot.x.high
        assert len(plot.y_ticks) >= 2


def test_shapes_of_series_differ() -> None:
    assert len({shape(i, 0.0, 0.0, 3.0) for i in range(charts.SERIES)}) == charts.SERIES
    assert shape(0, 0.0, 0.0, 3.0) == shape(charts.SERIES, 0.0, 0.0, 3.0)


def test_numbers_in_words() -> None:
    assert number(-1234.5, 1) == "\u22121,234.5"
    assert interval(Interval(1.0, -2.0, 3.0), 1, "+") == "+1.0 [\u22122.0,\u00a0+3.0]"
    assert interval(None) == "\u2013"
    assert bounds(Interval(1.0, math.nan, math.nan)) == ""
    assert [duration(s) for s in (None, 9.96, 61.0, 3600.0 * 2 + 125)] == ["\u2013", "10.0 s", "1 min 1 s", "2 h 2 min"]


# Statistics -------------------------------------------------------------------------------------------------


def result(returns: np.ndarray, **more: Any) -> EvalResult:
    found = tuple(Task.of("f", speed=i / 10, kind=i % 2) for i in range(len(returns)))
    made = EvalResult("f", "test", found, returns, None, tuple(range(returns.shape[1])))
    return replace(made, **more)


def test_several_seeds_are_repeats_of_the_same_tasks(rng_returns: np.ndarray) -> None:
    config: Any = type("Config", (), {"agent": "rl2"})()
    files = RunFiles(path=None, config=config, log=[], starts=[], evaluation={})  # type: ignore[arg-type]
    one, two = result(rng_returns[0], success=rng_returns[0] > 0), result(rng_returns[1])
    entry = Entry("rl2", 0, (files, files), (one, two))
    assert np.allclose(entry.pooled.returns.mean(axis=2), rng_returns.mean(axis=(0, 3)))
    assert entry.pooled.success is None
    assert [p.mean for p in entry.curve()] == pytest.approx(list(rng_returns.mean(axis=(0, 1, 3))))
    alone = replace(entry, runs=(files,), results=(two,))
    assert alone.curve() == adaptation_curve(two)
    expected = mean_intervals((rng_returns[1, :, -1] - rng_returns.mean(axis=0)[:, -1]).mean(axis=1)[:, None])[0]
    assert alone.minus(entry).mean == pytest.approx(expected.mean)
    (known,) = alike_in_success([replace(entry, results=(replace(one, last_step_success=one.success), two))])
    assert known.results[1].success is not None
    assert not known.results[1].success.any()


@pytest.fixture
def rng_returns() -> np.ndarray:
    """Returns `[seed, task, k, repeat]`."""
    return np.random.default_rng(0).normal(size=(2, 12, 3, 4))


def scored(one: EvalResult, label: str = "rl2") -> tasks.Scored:
    return tasks.Scored(
        label, 0, None, one.returns[:, -1].mean(axis=1), None,
        lambda rows: adaptation_curve(one.of_tasks(rows))[-1],
        lambda rows: [f"{success_rates(one.of_tasks(rows), 'last')[-1]}"],
    )  # fmt: skip


SPEED = uniform("speed", 0.0, 1.2, meaning="speed, m/s")
KIND = Parameter(name="kind", meaning="kind of floor", hidden=True, variates=1, transform=lambda u: u, categorical=True)
WORDS = tasks.Words("return", "before adaptation", "after adaptation", 3, columns=("success",))


def test_tasks_are_shown_against_each_hidden_parameter(rng_returns: np.ndarray) -> None:
    one = result(rng_returns[0], last_step_success=np.ones(rng_returns[0].shape))
    drawn = ContinuousTasks("f", (SPEED, KIND, replace(SPEED, name="seen", hidden=False)))
    shown = tasks.section([scored(one)], one.tasks, drawn, WORDS, lambda task: f"class {task['kind'][0]:.0f}")
    assert shown is not None
    plots, by_value, by_class_table, lowest = shown.blocks
    assert isinstance(plots, Charts)
    (chart,) = plots.charts
    assert isinstance(chart, Chart)
    assert chart.x_label == "speed: speed, m/s"
    assert "uniform on [0, 1.2)" in chart.caption
    assert len([mark for mark in chart.marks if "task" in mark.style]) == 12
    means = one.returns[:, -1].mean(axis=1)
    assert f"worst at speed = {means.argmin() / 10:.3g} ({number(float(means.min()), 3)})" in chart.alt
    assert isinstance(by_value, Table)
    assert isinstance(by_class_table, Table)
    halves = [interval(mean_intervals(means[start::2][:, None])[0], 3) for start in (0, 1)]
    assert [row[-1] for row in by_value.rows] == halves
    assert by_class_table.rows == [["class 0", "6", halves[0], "1.0"], ["class 1", "6", halves[1], "1.0"]]
    assert list(by_class(one, lambda task: f"class {task['kind'][0]:.0f}")) == ["class 0", "class 1"]
    assert isinstance(lowest, Table)
    assert [row[-1] for row in lowest.rows] == [number(float(m), 3) for m in np.sort(means)[:5]]


def test_means_over_fifths_of_the_range(rng_returns: np.ndarray) -> None:
    one = result(rng_returns[0])
    centres, means = tasks._fifths([i / 10 for i in range(12)], scored(one))  # 0 to 1.1: fifths of 0.22
    assert centres == pytest.approx([0.11, 0.33, 0.55, 0.77, 0.99])
    parts = [[0, 1, 2], [3, 4], [5, 6], [7, 8], [9, 10, 11]]
    values = one.returns[:, -1].mean(axis=1)
    assert [m.mean for m in means] == pytest.approx([float(values[part].mean()) for part in parts])
    assert tasks._fifths([0.0, 1.0], scored(one)) == ([], [])


def test_a_parameter_with_two_components_is_a_map_and_one_with_many_is_cut() -> None:
    returns = np.arange(20.0).reshape(20, 1, 1)
    found = tuple(Task.of("f", goal=(i / 7, i / 3), forces=np.linspace(i, i + 1, 8)) for i in range(20))
    one = EvalResult("f", "test", found, returns, None, (0,))
    goal = uniform("goal", 0.0, 9.0, size=2, meaning="place, m")
    forces = uniform("forces", 0.0, 9.0, size=8, meaning="force, N")
    shown = tasks.section([scored(one)], found, ContinuousTasks("f", (goal, forces)), WORDS)
    assert shown is not None
    plots = shown.blocks[0]
    assert isinstance(plots, Charts)
    assert [chart.title for chart in plots.charts] == ["Over goal", *(f"Against forces[{i}]" for i in range(6))]
    places = plots.charts[0].marks
    assert (places[0].fill, places[-1].fill) == ("#440154", "#fde725"), "the ends of viridis"
    assert plots.charts[0].ramp == ("0.000", "19.000")


# Logs -------------------------------------------------------------------------------------------------------


def test_a_long_log_is_thinned_and_a_missing_one_is_said(tmp_path: Any) -> None:
    config: Any = type("C", (), {"agent": "rl2", "training": type("T", (), {"seed": 0})()})()
    rows = [{"iteration": i, "env_steps": 10 * i, "return/0": 1.0, "return/1": float(i)} for i in range(1, 2001)]
    rows[5]["return/1"] = None
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(repr, rows)).replace("'", '"').replace("None", "null"))
    run = run_files(tmp_path, config, {})
    assert len(run.log) == 2000
    assert len(run.column("return/1")) == 1999
    assert run.total("return/0") == 2000.0
    assert run.total("time/update_s") is None
    drawn = section([Trained("rl2", 0, [run], ("first", "last"))], "return", "env steps", "tuning tasks").blocks[0]
    assert isinstance(drawn, Charts)
    assert max(mark.path.count("L") for mark in drawn.charts[0].marks) == 399
    assert drawn.charts[0].x_label == "environment steps, thousands"
    empty = run_files(tmp_path / "nowhere", config, {})
    said = section([Trained("rl2", 0, [empty], ("first", "last"))], "return", "env steps", "tuning tasks").blocks[0]
    assert said.kind == "text"
