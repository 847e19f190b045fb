"""Names, options and paths are the user's: no table, line or picture takes them for markup, emoji or formulas."""

from __future__ import annotations

import io
import sys
import warnings
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import matplotlib.text
import numpy as np
import pytest
from matplotlib.figure import Figure

import metarl.registry
import metarl.scripts.display
from metarl.intervals import Interval
from metarl.report import Curve, comparison_picture, literal, training_picture
from metarl.scripts.catalogue import _table as list_table
from metarl.scripts.compare_tables import returns_table, runs_table, seeds_table
from metarl.scripts.display import TrainingDisplay
from metarl.scripts.terminal import console
from metarl.types import Progress

NAMES = ("my_arm:robot:", "[lr=0.1]", "a[/b]", "[bold]x", ":ant: [/]", r"\[x]", "[link=file:///x]y", "$x_{$", "_hidden")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def printed(table: Any, capsys: pytest.CaptureFixture[str]) -> str:
    console().print(table)
    return capsys.readouterr().out


def test_a_name_is_found_as_it_was_given_in_every_table(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in printed(list_table(name, [{"name": "a" * 20}]), capsys)
    assert name in printed(list_table("t", [{"name": name}]), capsys)
    assert name in printed(list_table("t", [{name: "a"}]), capsys)
    point = {"mean": 1.0, "ci_low": 0.0, "ci_high": 2.0}
    row = {
        "agent": name,
        "share_of_gap": dict.fromkeys(("tasks", "seeds", "both"), point),
        "curve": [point, point],
        "difference": point,
        "success_last": None,
        "success": None,
        "seeds": 2,
        "iterations": 1,
        "env_steps": [1, 2],
        "episodes": [0, 1],
        "diverged_episodes": 0,
        "end": dict.fromkeys(("tasks", "seeds", "both"), point),
        "end_of_each_seed": [1.0, 2.0],
    }
    assert printed(returns_table([row], name, "tasks"), capsys).count(name) == 2
    assert name in printed(runs_table([row]), capsys)
    assert name in printed(seeds_table([row], "mean"), capsys)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_name_is_found_as_it_was_given_while_training(
    name: str, is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    shown.isatty = lambda: is_terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "dumb" if not is_terminal else "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with TrainingDisplay(name, 2, Progress(), "before", name, name) as display:
        display.note(name)
        metrics = {"return/0": 1.0, "return/1": 2.0, "evaluation/return/0": 1.0, "evaluation/return/1": 2.0}
        display.update(Progress(iteration=1, env_steps=10), metrics)
    assert shown.getvalue().count(name) >= (4 if is_terminal else 2)


def test_a_picture_shows_a_name_as_it_was_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    honest = Figure.savefig

    def savefig(figure: Figure, *arguments: Any, **keywords: Any) -> None:
        seen.extend(text.get_text() for text in figure.findobj(matplotlib.text.Text))
        honest(figure, *arguments, **keywords)

    monkeypatch.setattr(Figure, "savefig", savefig)
    curve = [Interval(1.0, 0.0, 2.0), Interval(2.0, 1.0, 3.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison_picture([Curve(name, (0, 1), curve, curve, np.zeros((0, 2)), None)], name)
        training_picture([{"env_steps": 10, "return/0": 1.0, "return/1": 2.0}], name, "held-out tasks")
    assert sum(literal(name) in text for text in seen) >= 3


def test_dollars_and_underscores_are_plain_text() -> None:
    assert literal("a $x$ b") == r"a \$x\$ b"
    assert literal("_run") == " _run"
    assert literal("run_1") == "run_1"


# What packages register -----------------------------------------------------------------------------------


class Package:
    def __init__(self, name: str) -> None:
        self.name = name


def announced(name: str, value: str, group: str, package: str) -> Any:
    point = EntryPoint(name, value, group)
    vars(point)["dist"] = Package(package)
    return point


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what metarl registers: what is broken in several ways, and one name of two packages."""
    (tmp_path / "my_broken.py").write_text("import nowhere")
    (tmp_path / "my_families.py").write_text(
        "from metarl.registry import make_family\n"
        "def sound(): return make_family('point-robot')\n"
        "def raises(): raise KeyError('[/b] :ant:')\n"
        "def exits(): raise SystemExit\n"
        "def three(): return 3\n"
        "three_itself = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    families = {
        "my-module": "my_broken:family",
        "my-attribute": "my_families:absent",
        "my-raising": "my_families:raises",
        "my-exit": "my_families:exits",
        "my-number": "my_families:three",
        "my-constant": "my_families:three_itself",
        "my-sound": "my_families:sound",
        "bandit": "my_families:sound",
    }
    added = [announced(n, v, "metarl.families", "my-package") for n, v in families.items()]
    added.append(announced("my-agent", "my_broken:Agent", "metarl.agents", "my-package"))
    added.append(announced("my-other-agent", "my_families:three", "metarl.agents", "my-package"))
    honest = metarl.registry.entry_points

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [*honest(group=group), *(point for point in added if point.group == group)]

    monkeypatch.setattr(metarl.registry, "entry_points", entry_points)
    yield
    for name in ("my_broken", "my_families"):
        sys.modules.pop(name, None)


BROKEN = {
    "my-module": "No module named 'nowhere'",
    "my-attribute": "absent",
    "my-raising": "[/b] :ant:",
    "my-exit": "sys.exit",
    "my-number": "got a int, expected a metarl.Family",
    "my-constant": "got a int, expected a function",
    "bandit": "metarl-robots (metarl.envs.bandit:bandit) and my-package (my_families:sound)",
    "my-agent": "No module named 'nowhere'",
    "my-other-agent": "expected a class",
}


def test_what_a_package_announces_and_is_broken_costs_one_row(run_metarl, packages: None) -> None:
    import json

    code, out, err = run_metarl("list", "--json")
    assert code == 0
    found = json.loads(out.splitlines()[-1])
    assert {one["name"] for one in found["broken"]} == set(BROKEN)
    for one in found["broken"]:
        assert BROKEN[one["name"]] in one["problem"]
        assert "my-package" in one["announced_by"]
        assert f"warning: {one['kind']} {one['name']!r} cannot be made (" in err
    names = {family["name"] for family in found["families"]}
    assert "point-robot" in names
    code, out, err = run_metarl("list")
    assert (code, err) == (0, "")
    assert "broken: registered by a package" in out
    for name in BROKEN:
        assert f"│ {name} " in out
    assert "[/b]" in out  # no markup, also where a row breaks between the two
    assert ":ant:" in out


@pytest.mark.parametrize("name", [name for name in BROKEN if "agent" not in name])
def test_a_broken_family_is_answered_in_words_where_it_is_named(run_metarl, packages: None, name: str) -> None:
    code, _, err = run_metarl("check", name)
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("metarl: error: family ")
    assert BROKEN[name] in last
    assert "my-package" in last


def test_a_broken_agent_is_answered_in_words_where_it_is_named(run_metarl, packages: None) -> None:
    for name in ("my-agent", "my-other-agent"):
        code, _, err = run_metarl("train", name, "point-robot")
        assert code == 2
        assert BROKEN[name] in err.strip().splitlines()[-1]
