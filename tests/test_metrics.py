"""docs/metrics.md lists exactly what agents report: no metric is undocumented, none is documented in vain."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metarl.registry import AGENTS, LEARNERS, names

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
SMALL = ("--iterations", "2", "--tasks", "2", "--episodes", "2", "--horizon", "5")
SMALL += ("--eval-every", "1", "--eval-tasks", "2", "--checkpoint-every", "2")
MORE = {
    "pearl": ("--agent.warmup-iterations", "1", "--agent.gradient-steps", "2"),
    "recurrent-sac": ("--agent.warmup-iterations", "1", "--agent.gradient-steps", "2"),
    "varibad": ("--agent.vae-updates", "1"),
    "rma": ("--agent.phase-two", "0.5", "--agent.history-updates", "1"),
}
FEW_SHOT = "Few-shot learners"
COUNTERS = {"iteration", "env_steps", "time/sample_s", "time/update_s"}
SUCCESS = {"success/{k}", "success_last/{k}", "evaluation/success/{k}", "evaluation/success_last/{k}"}


def documented() -> dict[str, set[str]]:
    """The names that the page gives for each agent; those of every agent under an empty name."""
    found: dict[str, set[str]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        rows = re.findall(r"^\| `([^`]+)` \|", body, re.MULTILINE)
        assert len(rows) == len(set(rows)), f"{heading}: a name stands twice"
        for agent in re.findall(r"`([^`]+)`", heading) or [FEW_SHOT if heading == FEW_SHOT else ""]:
            assert not found.get(agent, set()) & set(rows), f"{agent}: a name stands in two sections"
            found[agent] = found.get(agent, set()) | set(rows)
    return found


DOCUMENTED = documented()


def test_every_row_has_a_unit_and_a_meaning_and_every_agent_a_section() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for row in rows:
        _, _, unit, meaning, _, end = row.split("|")
        assert unit.strip(), row
        assert meaning.strip(), row
        assert end == ""
    assert set(DOCUMENTED) == {"", FEW_SHOT, *names(AGENTS)}


@pytest.mark.parametrize(("family", "knows_success"), [("point-robot", True), ("half-cheetah-vel", False)])
@pytest.mark.parametrize("agent", names(AGENTS))
def test_an_agent_reports_what_the_page_says(
    run_metarl: Callable[..., tuple[int, str, str]],
    suited: Callable[[str], Any],
    agent: str,
    family: str,
    knows_success: bool,
) -> None:
    fitting = suited(agent)
    if fitting.family != "point-robot":
        if knows_success:
            pytest.skip("no family with successes declares a reward that all tasks share")
        family = fitting.family
    code, _, err = run_metarl("train", agent, family, "--out", "run", *SMALL, *MORE.get(agent, fitting.words))
    assert code == 0, err
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    reported = {re.sub(r"/\d+$", "/{k}", name) for line in lines for name in line}
    expected = DOCUMENTED[""] | DOCUMENTED[agent]
    assert reported == (expected if knows_success else expected - SUCCESS)


@pytest.mark.parametrize("learner", names(LEARNERS))
def test_a_learner_reports_what_the_page_says(run_metarl: Callable[..., tuple[int, str, str]], learner: str) -> None:
    (Path.cwd() / "own_shots.py").write_text(CLASSES)
    of_classes = learner in ("matching", "prototypical")
    family = "own_shots:numbers" if of_classes else "sinusoid"
    words = ("--iterations", "2", "--tasks", "2", "--eval-every", "1", "--eval-tasks", "2", "--track", "none")
    code, _, err = run_metarl("train", learner, family, "--out", "run", *words)
    assert code == 0, err
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    reported = {re.sub(r"/\d+$", "/{k}", name) for line in lines for name in line}
    other = "error" if of_classes else "accuracy"
    assert reported == {name for name in DOCUMENTED[FEW_SHOT] | COUNTERS if other not in name}


CLASSES = """
import numpy as np
import metarl
from metarl.few_shot.class_tasks import ClassTasks, draw_of_classes

EXAMPLES = [np.random.default_rng(i).normal(i, 1.0, size=(8, 2)) for i in range(6)]


def numbers():
    return metarl.FewShotFamily(
        name="numbers",
        summary="clouds of points",
        distribution=ClassTasks("numbers", 2, (0, 1, 2), (3, 4, 5)),
        spaces=metarl.ShotSpaces(x_shape=(2,), y_size=2, classification=True, shots=2, queries=2),
        draw=lambda *drawn: draw_of_classes(EXAMPLES, *drawn),
    )
"""
