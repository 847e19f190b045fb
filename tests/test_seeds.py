"""Every row of docs/seeds.md is a command that trains, and everything that can be trained has a row."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from metarl.checkpoint import list_checkpoints, newest_iteration
from metarl.registry import AGENTS, FEW_SHOT_FAMILIES, LEARNERS, names
from metarl.scripts.train import main

PAGE = Path(__file__).resolve().parent.parent / "docs" / "seeds.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| (?!method )", line)]
COMMANDS = re.findall(r"`metarl train ([^`]+)`", "\n".join(ROWS))
SMALL = ("--iterations", "2", "--tasks", "2", "--eval-every", "0", "--track", "none")
EPISODES = ("--episodes", "2", "--horizon", "20", "--workers", "0")
OWN = {
    "pearl": ("--agent.gradient-steps", "2", "--agent.warmup-iterations", "1", "--agent.hidden", "8", "8"),
    "recurrent-sac": ("--agent.gradient-steps", "2", "--agent.hidden", "8", "8"),
}
"""Options under which an agent's two iterations take a second."""


def learns_from_examples(command: str) -> bool:
    """Whether the family of a command is a few-shot family."""
    return command.split()[1].partition(":")[0] in names(FEW_SHOT_FAMILIES)


def test_every_row_has_a_way_to_try_it() -> None:
    assert len(ROWS) > 20
    for row in ROWS:
        commands = row.count("`metarl train ")
        programs = row.count("(coming-from-learn2learn.md#a-complete-program)")  # tests/test_learn2learn_page.py
        assert commands + programs == 1, row
    assert len(set(COMMANDS)) == len(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_of_a_row_trains(command: str, tmp_path: Path) -> None:
    words, out = shlex.split(command), tmp_path / "run"
    kind = () if learns_from_examples(command) else EPISODES
    assert main([*words, *SMALL, *kind, *OWN.get(words[0], ()), "--out", str(out)]) == 0
    assert list_checkpoints(out / "checkpoints")
    assert newest_iteration(out / "checkpoints") == 2


def test_every_agent_and_every_learner_has_a_row() -> None:
    learners = {command.split()[0] for command in COMMANDS if learns_from_examples(command)}
    agents = {command.split()[0] for command in COMMANDS if not learns_from_examples(command)}
    assert agents == set(names(AGENTS))
    assert learners == set(names(LEARNERS))


def test_every_cell_for_a_result_is_filled() -> None:
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
        assert any(re.search(r"\d \[-?[\d.]+, -?[\d.]+\]|squared error", cell) for cell in cells), row
