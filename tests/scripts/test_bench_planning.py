"""`metarl bench planning`: figures of each agent, rounds in turn, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from metarl.scripts.bench import planning

SMALL = (
    "--workers",
    "0",
    "--environments",
    "3",
    "--candidates",
    "8",
    "--plan-steps",
    "2",
    "--hidden",
    "8",
    "--turns",
    "2",
)


def test_each_agent_is_measured_with_each_number_of_rounds(
    run_metarl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The times are given: 20 control steps in 20 s by us, in 60 s by the plain loop."""
    times = iter([9.0, 9.0, 20.0, 60.0, 20.0, 60.0] * 4)

    played: list[Any] = []

    class Given(planning.Stopwatch):
        def __call__(self, work: Callable[[], Any]) -> float:
            trajectories, _ = work()
            assert trajectories.mask.sum() == 3 * planning.STEPS
            played.append(trajectories.actions)
            return next(times)

    monkeypatch.setattr(planning, "Stopwatch", Given)
    words = ("bench", "planning", *SMALL, "--agents", "mb-mpc", "grbal", "--rounds", "1", "2")
    code, out, err = run_metarl(*words, "--json")
    assert code == 0, err
    value = json.loads(out.splitlines()[-1])
    assert (value["workers"], value["environments"], value["hidden"]) == (0, 3, [8])
    assert [(row["agent"], row["rounds"], row["candidates"]) for row in value["rows"]] == [
        ("mb-mpc", 1, 8), ("mb-mpc", 2, 4), ("grbal", 1, 8), ("grbal", 2, 4)
    ]  # fmt: skip
    products = 2 * 3 * 8 * 2 * ((17 + 6) * 8 + 8 * 17)
    for row in value["rows"]:
        assert (row["steps_per_s"], row["plain_steps_per_s"], row["ratio_vs_plain"]) == (1.0, 0.3333, 3.0)
        assert row["product_gflops"] == pytest.approx(products / 1e9, rel=0.01)
    assert len(played) == 4 * 6


def test_the_table_has_a_line_for_each_measurement(run_metarl: Callable[..., Any]) -> None:
    code, out, err = run_metarl("bench", "planning", *SMALL, "--agents", "rebal", "--rounds", "1", "--turns", "1")
    assert code == 0, err
    title, row, about = out.splitlines()
    assert title.split() == list(planning.COLUMNS)
    assert row.split()[:3] == ["rebal", "1", "8"]
    assert about.startswith("3 environments, plans of 2 steps, layers [8] on cpu")


@pytest.mark.parametrize("name", ["agents", "rounds"])
def test_an_empty_list_is_refused(run_metarl: Callable[..., Any], name: str) -> None:
    code, out, err = run_metarl("bench", "planning", f"--{name}")
    assert (code, out) == (2, "")
    assert f"{name}: got nothing, expected one or more" in err


def test_a_family_without_a_reward_is_refused_in_one_line(run_metarl: Callable[..., Any]) -> None:
    code, out, err = run_metarl("bench", "planning", *SMALL, "--family", "hopper-gravity")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert "mb-mpc: got a family that declares no reward function, expected one to score plans with" in err
