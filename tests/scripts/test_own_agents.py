"""Agents of the user's own: named as `module:Class` on a command line, never imported because of a file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import metarl

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "new_agent.py"
SMALL = ("--tasks", "2", "--episodes", "3", "--horizon", "6", "--eval-every", "0")


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example's agent, in a module of the working folder that nobody has imported."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    shutil.copy(EXAMPLE, tmp_path / "my_agents.py")
    yield "my_agents:Evolver"
    for name in ("my_agents", "my_numbers"):
        sys.modules.pop(name, None)


def test_a_run_of_ones_own_agent_is_named_again_wherever_it_is_loaded(
    run_metarl: Any, tmp_path: Path, spec: str, assert_same_run: Any
) -> None:
    words = ("train", spec, "point-robot", *SMALL, "--agent.inner-lr", "2")
    for out, iterations in (("whole", "4"), ("run", "2")):
        code, _, err = run_metarl(*words, "--out", tmp_path / out, "--iterations", iterations)
        assert code == 0, err
    out = tmp_path / "run"
    value = json.loads((out / "config.json").read_text())
    assert (value["agent"], value["agent_config"]["inner_lr"]) == (spec, 2.0)
    code, _, err = run_metarl("train", spec, "point-robot", "--out", out, "--resume", "--iterations", "4")
    assert (code, "resuming after iteration 2" in err) == (0, True), err
    assert_same_run(out, tmp_path / "whole")
    named = ("--agent", spec)
    code, said, err = run_metarl("evaluate", out, *named, "--tasks", "2", "--json")
    assert code == 0, err
    assert json.loads(said.splitlines()[-1])["agent"] == spec
    assert run_metarl("render", out, *named, "--out", tmp_path / "clip.png", "--episodes", "2")[0] == 0
    code, said, err = run_metarl("compare", out, *named, "--tasks", "2", "--episodes", "2", "--json")
    assert code == 0, err
    (row,) = json.loads(said.splitlines()[-1])["rows"]
    assert (row["agent"], row["iterations"]) == (spec, 4)
    kind = sys.modules["my_agents"].Evolver
    assert isinstance(metarl.load(out, agent=kind), kind)
    with pytest.raises(ValueError, match="agent: got 'my_agents:Evolver', expected the class of the agent itself"):
        metarl.load(out, agent=spec)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got tests_own:Other, but"):
        metarl.load(out, agent=type("Other", (kind,), {"__module__": "tests_own"}))


def test_a_class_of_a_script_can_be_named_on_a_command_line(run_metarl: Any, tmp_path: Path, spec: str) -> None:
    with open(tmp_path / "my_agents.py", "a", encoding="utf-8") as file:
        sizes = "iterations=1, tasks=2, episodes=3, horizon=6, eval_every=0"
        file.write("\n\nif __name__ == '__main__':\n    import metarl\n\n")
        file.write(f"    metarl.train(Evolver, 'point-robot', out='run', {sizes})\n")
    subprocess.run([sys.executable, "my_agents.py"], cwd=tmp_path, check=True)
    out = tmp_path / "run"
    assert json.loads((out / "config.json").read_text())["agent"] == spec
    code, _, err = run_metarl("train", spec, "point-robot", "--out", out, "--resume", "--iterations", "2")
    assert (code, "resuming after iteration 1" in err) == (0, True), err


def test_a_file_alone_imports_no_agent(run_metarl: Any, tmp_path: Path, spec: str) -> None:
    out, marker = tmp_path / "run", tmp_path / "imported"
    assert run_metarl("train", spec, "point-robot", *SMALL, "--out", out, "--iterations", "1")[0] == 0
    with open(tmp_path / "my_agents.py", "a", encoding="utf-8") as file:
        file.write(f"\nopen({str(marker)!r}, 'w').close()\n")
    del sys.modules["my_agents"]
    said = f"was trained by '{spec}', code of your own, which a file alone does not import; name it with --agent {spec}"
    for words in (
        ("evaluate", out),
        ("render", out, "--out", tmp_path / "clip.png"),
        ("compare", out),
        ("train", "reptile", "point-robot", "--out", out, "--resume"),
    ):
        code, _, err = run_metarl(*words)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert said in err
    with pytest.raises(ValueError, match="code of your own"):
        metarl.load(out)
    assert not marker.exists()
    assert "my_agents" not in sys.modules


def test_what_is_wrong_with_the_name_of_ones_own_agent_is_one_line(
    run_metarl: Any, tmp_path: Path, spec: str, trained_run: Path
) -> None:
    (tmp_path / "my_numbers.py").write_text("Agent = 3\n")
    train = ("train", "{}", "point-robot", "--out", tmp_path / "new")
    evaluate = ("evaluate", trained_run, "--agent", "{}")
    for words, name, expected in (
        (train, "my_agents:Evolvr", "Did you mean 'Evolver'"),
        (train, "nowhere:Agent", "No module named 'nowhere'"),
        (train, "my_numbers:Agent", "expected a class"),
        (evaluate, "rl2", "--agent: got 'rl2', expected module:Class"),
        (evaluate, "nowhere:Agent", "No module named 'nowhere'"),
        (evaluate, spec, "which did not train"),
        (("render", trained_run, "--agent", "{}", "--out", tmp_path / "a.mp4"), spec, "which did not train"),
        (("compare", trained_run, "--agent", "{}"), spec, "which did not train"),
    ):
        code, _, err = run_metarl(*(name if word == "{}" else word for word in words))
        assert (code, len(err.splitlines())) == (2, 1), err
        assert expected in err
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="was trained by 'maml-trpo'; leave the agent out"):
        metarl.load(trained_run, agent=type("Evolver", (), {}))


def test_a_run_is_not_begun_anew_because_the_code_of_its_agent_changed(
    run_metarl: Any, tmp_path: Path, spec: str
) -> None:
    out = tmp_path / "run"
    assert run_metarl("train", spec, "point-robot", *SMALL, "--out", out, "--iterations", "2")[0] == 0
    kept = {path.name: path.read_bytes() for path in (*(out / "checkpoints").iterdir(), out / "metrics.jsonl")}
    code = (tmp_path / "my_agents.py").read_text().replace('"weights"', '"matrix"')
    (tmp_path / "my_agents.py").write_text(code)
    del sys.modules["my_agents"]
    for words in (("train", spec, "point-robot", "--out", out, "--resume"), ("evaluate", out, "--agent", spec)):
        code, _, err = run_metarl(*words)
        assert (code, len(err.splitlines())) == (2, 1), err
        assert "0000002.safetensors: got a whole checkpoint that does not fit the agent (no 'matrix')" in err
    assert kept == {path.name: path.read_bytes() for path in (*(out / "checkpoints").iterdir(), out / "metrics.jsonl")}


@pytest.mark.parametrize(
    ("method", "said", "trace"),
    [
        ("meta_update(self, batch): return {}['nothing']", "raised KeyError in training ('nothing')", "in meta_update"),
        ("meta_update(self, batch): return None", "raised TypeError in training", "in meta_train"),
        ("kept(self, value): pass\n    recorded = property(lambda self: {}, kept)", "act: got extras of shapes", ""),
    ],
)
def test_what_ones_own_agent_does_wrong_is_one_line_after_its_traceback(
    run_metarl: Any, tmp_path: Path, spec: str, method: str, said: str, trace: str
) -> None:
    with open(tmp_path / "my_agents.py", "a", encoding="utf-8") as file:
        file.write(f"\n\nclass Wrong(Evolver):\n    def {method}\n")
    out = tmp_path / "run"
    code, _, err = run_metarl("train", "my_agents:Wrong", "point-robot", *SMALL, "--out", out, "--iterations", "2")
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith("metarl: error: agent 'my_agents:Wrong' raised ")
    assert said in last
    assert "there was no checkpoint yet. After fixing this, resume with: metarl train my_agents:Wrong" in last
    assert (trace in err) if trace else ("Traceback" not in err)


def test_an_agent_of_ones_own_that_raises_is_one_line_in_every_command(
    run_metarl: Any, tmp_path: Path, spec: str
) -> None:
    out = tmp_path / "run"
    assert run_metarl("train", spec, "point-robot", *SMALL, "--out", out, "--iterations", "1")[0] == 0
    with open(tmp_path / "my_agents.py", "a", encoding="utf-8") as file:
        file.write("\n\ndef begin(self, tasks, episodes):\n    raise KeyError('boom')\n\n\nEvolver.begin = begin\n")
        file.write("\n\nclass Wrong(Evolver):\n    def __init__(self, config):\n        pass\n")
    del sys.modules["my_agents"]
    for words, name, said in (
        (("evaluate", out, "--agent", spec, "--tasks", "2"), spec, "KeyError in use ('boom')"),
        (("compare", out, "--agent", spec, "--tasks", "2"), spec, "KeyError in use ('boom')"),
        (("render", out, "--agent", spec, "--out", tmp_path / "clip.png"), spec, "KeyError in use ('boom')"),
        (("train", "my_agents:Wrong", "point-robot", "--out", tmp_path / "x"), "my_agents:Wrong", "TypeError in use ("),
    ):
        code, _, err = run_metarl(*words)
        assert code == 2
        assert err.splitlines()[-1].startswith(f"metarl: error: agent '{name}' raised {said}")
        assert "Traceback" in err
    assert not (tmp_path / "x").exists()


def test_an_agent_of_ones_own_starts_from_its_own_sizes(run_metarl: Any, spec: str) -> None:
    code, out, err = run_metarl("train", spec, "point-robot", "--help")
    text = " ".join(out.split())
    assert code == 0, err
    assert "Tasks of a meta-batch (M); usually 10 to 100. (default: 10)" in text
    assert "Standard deviation of the perturbations. (default: 0.02)" in text
