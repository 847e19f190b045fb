"""Every row of docs/seeds.md is a command that trains, and everything that can be trained has a row."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from metarl.checkpoint import newest_iteration
from metarl.envs.few_shot import skills
from metarl.envs.few_shot.skill_recordings import FRAME, Size
from metarl.registry import AGENTS, FEW_SHOT_FAMILIES, LEARNERS, names
from metarl.report import REFERENCES
from metarl.scripts.compare_tables import interval_text
from metarl.scripts.reproducing.agreement import DIGITS, score_of
from metarl.scripts.reproducing.table import read_table
from metarl.scripts.train import main

DOCS = Path(__file__).resolve().parent.parent / "docs"
LINES = [line for line in (DOCS / "seeds.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
ROWS = [line for line in LINES if not line.startswith("| method ")]
HEADINGS = {row: next(one for one in LINES[LINES.index(row) :: -1] if one.startswith("| method ")) for row in ROWS}
"""Each row with the headings above it."""
COMMANDS = re.findall(r"`metarl train ([^`]+)`", "\n".join(ROWS))
PROGRAM = "(coming-from-learn2learn.md#a-complete-program)"
SMALL = ("--iterations", "2", "--tasks", "2", "--eval-every", "0", "--track", "none")
EPISODES = ("--episodes", "2", "--horizon", "20", "--workers", "0")
PLANNER = ("--episodes", "1", "--horizon", "60", "--agent.candidates", "5", "--agent.elites", "2")
PLANNER += ("--agent.rounds", "1", "--agent.gradient-steps", "2", "--agent.hidden", "8", "8")
OFF_POLICY = ("--agent.gradient-steps", "2", "--agent.hidden", "8", "8")
OWN = dict.fromkeys(("pearl", "recurrent-sac"), OFF_POLICY) | dict.fromkeys(("mb-mpc", "grbal", "rebal"), PLANNER)
"""Options under which two iterations take a second."""


def learns_from_examples(command: str) -> bool:
    """Whether the family of a command is a few-shot family."""
    return command.split()[1].partition(":")[0] in names(FEW_SHOT_FAMILIES)


@pytest.fixture
def without_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in place of Meta-World's trajectories, whose recording takes minutes."""

    def noise(size: Size) -> np.ndarray:
        shape = (len(size.classes), size.episodes, size.frames, FRAME)
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)

    monkeypatch.setattr(skills, "recordings", noise)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_of_a_row_trains(command: str, tmp_path: Path, without_recordings: None) -> None:
    words, out = shlex.split(command), tmp_path / "run"
    kind = () if learns_from_examples(command) else (*EPISODES, *OWN.get(words[0], ()))
    assert main([*words, *SMALL, *kind, "--out", str(out)]) == 0
    assert newest_iteration(out / "checkpoints") == 2


def test_the_program_of_a_row_trains(capsys: pytest.CaptureFixture[str]) -> None:
    page, _, anchor = PROGRAM.strip("()").partition("#")
    section = (DOCS / page).read_text(encoding="utf-8").split("\n## A complete program\n")[1]
    assert anchor == "a-complete-program"
    program = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    short = program.replace("ITERATIONS, TASKS, SHOTS = 2000, ", "ITERATIONS, TASKS, SHOTS = 2, ").replace("200)", "2)")
    exec(short, {})
    assert capsys.readouterr().out.count("squared error after") == 3


def test_every_row_is_tried_and_has_a_result() -> None:
    assert len(set(COMMANDS)) == len(COMMANDS) > 30
    for row in ROWS:
        assert row.count("`metarl train ") + row.count(PROGRAM) == 1, row
        assert re.search(r"\| -?[\d.]+ \[-?[\d.]+, -?[\d.]+\] \||squared error after", row), row


def test_every_agent_and_every_learner_has_a_row() -> None:
    learners = {command.split()[0] for command in COMMANDS if learns_from_examples(command)}
    agents = {command.split()[0] for command in COMMANDS if not learns_from_examples(command)}
    assert agents == set(names(AGENTS))
    assert learners == set(names(LEARNERS))


def without_forced(command: str) -> str:
    """Agent, family and options of a command of a table, without those that all trainings of tables have."""
    words, kept = shlex.split(command)[2:], list[str]()
    while words:
        if words[0] in ("--seed", "--workers", "--blocks", "--device", "--track"):
            del words[:2]
        else:
            kept.append(words.pop(0))
    return shlex.join(kept)


def test_the_numbers_of_a_row_are_those_of_its_table() -> None:
    """Every row whose command made a row of a table of docs/results repeats its numbers."""
    by_command, checked = (
        {re.findall(r"`metarl train ([^`]+)`", row)[0]: row for row in ROWS if "`metarl train " in row},
        0,
    )
    for path in sorted((DOCS / "results").glob("*.json")):
        table = read_table(path)
        over, digits = table["evaluation"]["over"], DIGITS[score_of(table)]
        for of_table in table["rows"]:
            if row := by_command.get(without_forced(of_table["command"])):
                minus, alone = of_table["minus"], of_table["agent"] in (*REFERENCES, "pooled")
                end = of_table["curve"][0] if alone else of_table["end"][over]
                numbers = [interval_text(end, digits)]
                numbers += [interval_text(minus["difference"][over], digits)] if minus else []
                if of_table.get("share_of_gap") and "share" in HEADINGS[row]:
                    numbers.append(interval_text(of_table["share_of_gap"][over], 2))
                for number in numbers:
                    assert f"| {number} |" in row, row
                checked += 1
    assert checked > 25
