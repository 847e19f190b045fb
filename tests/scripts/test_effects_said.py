"""Messages of the commands about tasks without effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROBOTS = Path(__file__).resolve().parents[1] / "robots"
SMALL = ("--iterations", "1", "--tasks", "2", "--episodes", "2", "--horizon", "12", "--eval-every", "0")


@pytest.fixture(autouse=True)
def odd_tasks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROBOTS)


def test_train_warns_of_a_parameter_without_an_effect_once(run_metarl: Any, tmp_path: Path) -> None:
    words = ("train", "fomaml", "odd_tasks:deaf", "--out", tmp_path / "run", "--workers", "0")
    code, _, err = run_metarl(*words, *SMALL)
    assert code == 0
    assert "warning: NO EFFECT SEEN of the parameter 'goal'" in err
    assert "random episodes (at most 12 steps; the reward depended on the state" in err
    assert "see metarl check odd_tasks:deaf" in err
    code, _, err = run_metarl(*words, *SMALL, "--iterations", "2", "--resume")
    assert code == 0
    assert "NO EFFECT" not in err


def test_train_says_nothing_where_the_task_matters_nor_of_families_that_come_with_metarl(
    run_metarl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run_metarl("train", "fomaml", "odd_tasks:sound", "--out", tmp_path / "a", "--workers", "0", *SMALL)
    assert (code, "NO EFFECT" in err) == (0, False)
    monkeypatch.setattr("metarl.scripts.train.effect_warnings", lambda family: pytest.fail("tested"))
    code, _, err = run_metarl("train", "fomaml", "point-robot", "--out", tmp_path / "b", *SMALL)
    assert code == 0, err


def test_check_says_what_it_saw_and_what_it_had_no_time_for(run_metarl: Any) -> None:
    code, out, err = run_metarl("check", "odd_tasks:slow", "--seconds", "3", "--json")
    assert "seen: an observation is 2 numbers" in out
    assert "note: effect: 2 tasks give the same rewards" in out or "not checked within 3 s" in out
    assert "s left" in err
    assert code == 0
    assert {"notes", "not_looked_at"} & json.loads(out.splitlines()[-1]).keys()
    for seconds in ("0", "-1", "nan", "inf", "1e300"):
        code, _, err = run_metarl("check", "odd_tasks:sound", "--seconds", seconds)
        assert code == 2
        assert len(err.strip().splitlines()) == 1
