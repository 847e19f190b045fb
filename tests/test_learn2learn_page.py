"""The code of the page "Coming from learn2learn or higher" runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "coming-from-learn2learn.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_snippets_train(capsys: pytest.CaptureFixture[str]) -> None:
    iteration, rule, batched = BLOCKS[:3]
    torch.manual_seed(0)
    names: dict = {}
    exec(iteration, names)
    gradients = [p.grad.clone() for p in names["learner"].parameters()]
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    exec(rule, names)
    assert names["momentum"].own.grad.shape == (2,)
    assert re.search(r"step size and momentum: tensor\(\[-?\d", capsys.readouterr().out)
    names["learner"].zero_grad()
    exec(iteration[: iteration.index("learner =")], names)  # the module before its step of Adam
    exec(f"learner = metarl.wrap(net, rule='maml', lr=0.01)\n{batched}", names)
    one_by_one = torch.zeros(())
    for x, y, x_query, y_query in names["tasks"]:
        fast = names["learner"].clone()
        fast.adapt((fast(x) - y).square().mean())
        one_by_one = one_by_one + (fast(x_query) - y_query).square().mean() / len(names["tasks"])
    expected = torch.autograd.grad(one_by_one, list(names["learner"].parameters()))
    for p, gradient in zip(names["learner"].parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def test_the_sinusoids_learn_to_adapt(capsys: pytest.CaptureFixture[str]) -> None:
    program = BLOCKS[3]
    shorter = program.replace("ITERATIONS, TASKS, SHOTS = 2000, 10, 10", "ITERATIONS, TASKS, SHOTS = 500, 5, 10")
    assert shorter != program
    exec(shorter, {})
    shown = capsys.readouterr().out
    lines = re.findall(r"^squared error after +(\d+) steps on 10 shots: ([\d.]+)$", shown, re.MULTILINE)
    assert [int(steps) for steps, _ in lines] == [0, 1, 10]
    assert float(lines[2][1]) < 0.6 * float(lines[0][1])
    for line in re.findall(r"^squared error.*$", PAGE, re.MULTILINE):
        assert line[:39] in {one[:39] for one in shown.splitlines()}
    assert len(BLOCKS) == 4
