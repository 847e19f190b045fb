from __future__ import annotations

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
