"""`tools/side_by_side.py`: its turns, its ratios, and a whole call."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tools"))

from side_by_side import CASES, compared, in_turn  # noqa: E402
from side_by_side_server import Case  # noqa: E402


def test_the_ratio_is_the_median_of_the_ratios_within_a_round() -> None:
    row = compared("x", theirs=[1.0, 10.0, 100.0], ours=[2.0, 15.0, 400.0], bound=1.6, unit="1/s")
    assert (row["theirs"], row["ours"], row["ratio"], row["range"]) == (10.0, 15.0, 2.0, [1.5, 4.0])
    assert row["holds"]
    assert not compared("x", [1.0], [1.5], 1.6, "1/s")["holds"]


def test_the_first_in_a_round_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("side_by_side.REST_SECONDS", 0.0)
    asked: list[str] = []

    def asks(name: str) -> object:
        return lambda: asked.append(name) or len(asked)

    assert in_turn(3, [asks("theirs"), asks("ours")]) == [[1, 4, 5], [2, 3, 6]]  # type: ignore[list-item]
    assert asked == ["theirs", "ours", "ours", "theirs", "theirs", "ours"]


def test_a_case_is_read_from_a_word() -> None:
    assert Case.read("rl2,ml10") == Case("rl2", "ml10")
    assert Case.read("random,ml10,20x10x500") == Case("random", "ml10", 20, 10, 500)
    for word in ("rl2", "rl2,ml10,20x10", "rl2,ml10,1x2x3,4", "rl2,ml10,1xAx3"):
        with pytest.raises(ValueError, match=r"--cases: got .*, expected"):
            Case.read(word)


def test_the_bounds_are_those_that_were_asked_for() -> None:
    bounds = {(case.agent, case.family): case.sampling for case in CASES["two-cores"]}
    assert bounds["rl2", "half-cheetah-vel-3"] == bounds["varibad", "half-cheetah-vel-3"] == 1.6
    assert bounds["maml-trpo", "half-cheetah-vel"] == bounds["rl2", "ml10"] == 1.1
    assert min(bounds.values()) == 0.97
    assert max(case.iteration for case in CASES["many-cores"]) == pytest.approx(1 / 0.35)


@pytest.mark.parametrize(
    "case", [pytest.param("random,point-robot,2x2x5", marks=pytest.mark.slow), "maml-trpo,point-robot,2x2x5"]
)
def test_a_checkout_is_timed_against_itself(case: str) -> None:
    words = [sys.executable, ROOT / "tools" / "side_by_side.py", ROOT, "--cases", case, "--rounds", "2", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    names = ["sampling", "update", "iteration"][: 1 if case.startswith("random") else 3]
    assert [row["case"].rpartition(": ")[2] for row in rows] == names, done.stderr
    assert all("2 x 2 x 5" in row["case"] for row in rows)
    assert all(row["theirs"] > 0 and row["ours"] > 0 for row in rows)
    assert done.returncode == (0 if all(row["holds"] for row in rows) else 1)
