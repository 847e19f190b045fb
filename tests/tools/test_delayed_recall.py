"""The table and the picture of `tools/delayed_recall.py`, and its choice of runs that are done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import delayed_recall as tool  # noqa: E402  # a script beside the package

ROWS = [
    {"memory": "gru", "delay": 50, "success": 0.995},
    {"memory": "gru-max", "delay": 50, "success": 1.0},
    {"memory": "gru", "delay": 1000, "success": 0.25},
]


def test_the_table_has_a_line_per_memory_and_a_column_per_delay() -> None:
    assert tool.table(ROWS).splitlines()[2:] == ["| `gru` | 0.99 | 0.25 |", "| `gru-max` | 1.00 |  |"]
    assert tool.table(ROWS).startswith("| memory | 50 steps | 1,000 steps |")


def test_rows_of_earlier_calls_stay_and_a_new_one_replaces_its_own() -> None:
    new = {"memory": "gru", "delay": 50, "success": 0.5}
    assert tool.merged(ROWS, [new]) == [new, *ROWS[1:]]


def test_a_run_that_ended_while_it_wrote_a_line_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1}\n{"itera', encoding="utf-8")
    assert not tool._finished(tmp_path, 1)


@pytest.mark.parametrize("words", [["--delays", "0"], ["--iterations", "-1"], ["--out", __file__]])
def test_wrong_options_end_with_exit_code_2(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["delayed_recall.py", "--out", str(tmp_path), *words])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    assert ended.value.code == 2


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    tool.picture(ROWS, tmp_path / "recall.png")
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_with_all_its_iterations_is_evaluated_and_not_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(*words: object) -> str:
        asked.append(str(words[0]))
        point = {"success_last": 0.75, "success_last_ci_low": 0.5, "success_last_ci_high": 0.9}
        return json.dumps({"iteration": 2, "curve": [point]})

    monkeypatch.setattr(tool, "metarl", answer)
    expected = {"memory": "gru-max", "delay": 5, "iterations": 2, "success": 0.75, "low": 0.5, "high": 0.9}
    assert tool.measured(tmp_path, "gru-max", 5, 2) == expected
    run = tool.folder(tmp_path, "gru-max", 5)
    assert run == tmp_path / "recall-5-max"
    run.mkdir()
    (run / "metrics.jsonl").write_text('{"iteration": 1}\n{"iteration": 2}\n', encoding="utf-8")
    tool.measured(tmp_path, "gru-max", 5, 2)
    tool.measured(tmp_path, "gru-max", 5, 3)
    assert asked == ["train", "evaluate", "evaluate", "train", "evaluate"]
