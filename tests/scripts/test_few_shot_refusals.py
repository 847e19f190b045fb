"""Few-shot commands with wrong families, diverged learners and altered configurations: one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metarl.few_shot.class_tasks import ClassTasks
from metarl.few_shot.evaluation import ShotResult
from metarl.few_shot.report import oracle_label

SMALL = ("--tasks", "4", "--eval-every", "0", "--track", "none")
OWN = """import numpy as np
import metarl


def lines():
    def draw(tasks, shots, queries, rng):
        x = rng.standard_normal((len(tasks), 1, shots + queries, 2))
        y = {y}
        return metarl.Shots(x[:, :, :shots], y[:, :, :shots]), metarl.Shots(x[:, :, shots:], y[:, :, shots:])

    return metarl.FewShotFamily(
        name="lines",
        summary="lines",
        distribution=metarl.ContinuousTasks("lines", (metarl.uniform("slope", -1.0, 1.0, meaning="slope"),)),
        spaces=metarl.ShotSpaces(x_shape=(2,), y_size=1, classification=False, shots=5, queries=5),
        draw=draw,
    )
"""


def error_of(err: str) -> str:
    (line,) = [line for line in err.splitlines() if line.startswith("metarl: error:")]
    return line


@pytest.mark.parametrize(
    ("y", "line", "traced"),
    [
        ("x[..., 0]", "with y of shape (4, 1, 5), expected (4, 1, 5, 1)", False),
        ("x[..., :1] / 0", "of y not finite", False),
        ("x[..., 1 / 0]", "raised ZeroDivisionError when it drew examples", True),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_wrong_examples_of_ones_own_family_end_a_training(
    run_metarl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, y: str, line: str, traced: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    module = f"own_shots_{len(y)}_{traced}"
    (tmp_path / f"{module}.py").write_text(OWN.format(y=y))
    code, _, err = run_metarl("train", "maml", f"{module}:lines", *SMALL, "--out", tmp_path / "run")
    assert code == 2
    assert line in error_of(err)
    assert ("Traceback" in err) == traced
    assert "diverged" not in err


def test_a_diverged_training_keeps_its_checkpoint_and_an_evaluation_says_why_it_has_no_score(
    run_metarl: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("--agent.learning-rate", "1e3", "--agent.inner-lr", "100", "--agent.gradient-clip", "0")
    words += ("--agent.inner-steps", "1", "--agent.no-anneal")
    code, _, err = run_metarl("train", "maml", "sinusoid", *SMALL, *words, "--checkpoint-every", "1", "--out", out)
    assert code == 2
    assert "maml diverged in iteration" in error_of(err)
    assert "examples that are scaled down; the last checkpoint" in error_of(err)
    code, _, err = run_metarl("evaluate", out, "--tasks", "3", "--no-oracle")
    assert code == 2
    assert "maml: the predictions after adaptation to shots=" in error_of(err)
    assert not (out / "evaluation" / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("family", "line"),
    [(3, "family: got 3, expected a name"), ("point-robot", "--family: got 'point-robot', a family of environments")],
)
def test_a_configuration_with_another_family_is_refused(
    run_metarl: Any, tmp_path: Path, family: object, line: str
) -> None:
    out = tmp_path / "run"
    assert run_metarl("train", "maml", "sinusoid", *SMALL, "--iterations", "1", "--out", out)[0] == 0
    value = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(value | {"family": family}))
    code, _, err = run_metarl("evaluate", out, "--tasks", "3", "--no-oracle")
    assert code == 2
    assert line in error_of(err)
    assert "Traceback" not in err


def test_the_oracle_of_classes_counts_shots_per_class() -> None:
    tasks = tuple(ClassTasks("letters", 2, (0, 1), (2, 3)).held_out(1))
    scores: Any = [[0.5]]
    classes = ShotResult("letters", "test", tasks, "accuracy", scores, (15,))
    assert oracle_label(classes) == "fitted to 15 shots per class of the task itself"
    real = ShotResult("lines", "test", tasks, "error", scores, (1000,))
    assert oracle_label(real) == "fitted to 1,000 shots of the task itself"
