from __future__ import annotations

import time

import pytest

from metarl.scripts.display import TrainingDisplay
from metarl.types import Progress


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ({"success/0": 0.5, "success_last/0": 0.25}, "0.25 (0.50) -> - (-)"),
        ({"success/1": 0.5, "success_last/1": 0.25}, "- (-) -> 0.25 (0.50)"),
        ({"success/0": 0.0, "success/1": 1.0}, "- (0.00) -> - (1.00)"),
        ({}, None),
    ],
)
def test_success_may_be_known_in_some_collects_alone(
    known: dict[str, float], shown: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with TrainingDisplay("title", 1, Progress(), "before", "after", "tuning") as display:
        display.update(Progress(iteration=1, env_steps=10), {"return/0": 1.0, "return/1": 2.0, **known})
    line = capsys.readouterr().err
    assert (f"success at the last (any) step {shown}" in line) if shown else ("success" not in line)


def test_the_first_iteration_does_not_count_for_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 100.0, 102.0, 104.0])
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: next(now))
        display = TrainingDisplay("title", 13, Progress(), "before", "after", "tuning")
        for i in range(1, 4):
            display._last_line = -1e9
            display.update(Progress(i, i), {"return/0": 1.0})
    first, second, third = capsys.readouterr().err.splitlines()
    assert "s/iteration 100.0  total about 21:40  time left 20:00" in first
    assert "s/iteration 2.0  total about 2:04  time left 0:22" in second
    assert "s/iteration 2.0  total about 2:04  time left 0:20" in third
