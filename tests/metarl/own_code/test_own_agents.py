"""Agents of the user's own, named `module:Class`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metarl.own_code.errors import EnvError
from metarl.registry import agent_class, is_own_agent

AGENTS = """
from dataclasses import dataclass

from metarl.agents.reptile import Reptile


class Mine(Reptile):
    summary = "Reptile under another name"


class Bare:
    pass


class Half:
    summary = "no settings"


@dataclass
class Settings:
    rate: float


class Needy(Mine):
    Config = Settings


class Alone:
    Config = Mine.Config
    summary = "inherits from nothing"


class Loose:
    summary = "settings of no form"
    Config = dict


def function():
    return Mine


NUMBER = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a module of agents; modules that a test imports are forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    (tmp_path / "my_agents.py").write_text(AGENTS)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("my_"):
            del sys.modules[name]


def test_a_class_beside_you_is_found(folder: Path) -> None:
    assert agent_class("my_agents:Mine").summary == "Reptile under another name"
    assert sys.path[-1] == str(folder)
    assert is_own_agent("my_agents:Mine")
    assert not is_own_agent("maml-trpo")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my_agent:Mine", r"agent 'my_agent:Mine': .*expected an importable module:Class. Did you mean 'my_agents'\?$"),
        ("my_agents:Mien", r"my_agents.py\) has no 'Mien', .*with Config and summary\)\. Did you mean 'Mine'\?$"),
        ("my_agents:zzz", r"It has: Mine, Bare, Half, Settings, Needy, Alone, Loose$"),
        ("my_agents.py:Mine", "with dots for folders: my_agents$"),
        ("my_agents:Bare", "got a class without Config and summary, expected a dataclass Config"),
        ("my_agents:Half", "got a class without Config, expected"),
        ("my_agents:Loose", "got a Config that is no dataclass"),
        ("my_agents:Needy", "got a Config whose 'rate' has no default, expected one for every setting"),
        ("my_agents:Alone", "got a class without build, expected one that inherits from metarl.agent.MetaAgent"),
        ("my_agents:function", "got a function, expected a class with Config and summary"),
        ("my_agents:NUMBER", "got a int, expected a class"),
        ("my_agents", r"unknown agent 'my_agents'. Did you mean 'my_agents:CLASS'\?"),
        ("my_agents.Mine", r"Did you mean 'my_agents:Mine'\?"),
        ("nosuch", r"unknown agent 'nosuch'. Known agents: fomaml, gbml, grbal, .*or your own module:Class$"),
    ],
)
def test_what_is_no_agent_is_refused_in_one_line(folder: Path, name: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the words are looked at
        agent_class(name)
    assert re.search(expected, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_inside_its_module_is_shown_with_its_own_traceback(folder: Path) -> None:
    (folder / "my_wrong.py").write_text("x = 1\nx.nothing")
    with pytest.raises(EnvError) as caught:
        agent_class("my_wrong:Mine")
    assert "agent 'my_wrong:Mine': the module 'my_wrong' raised AttributeError while" in str(caught.value)
    assert 'my_wrong.py", line 2, in <module>' in caught.value.trace
    assert "modules.py" not in caught.value.trace
