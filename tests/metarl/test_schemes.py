"""Schemes of family names: another package registers one of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from metarl.own_code.errors import EnvError
from metarl.registry import SCHEMES, is_own_code, make_family, names

PACKAGE = """
from dataclasses import replace

import metarl.registry as registry
from metarl.schemes import Scheme


def points(spec):
    scheme, _, speed = spec.partition(":")
    if not speed.isdecimal():
        raise ValueError(f"family {spec!r}: got {speed!r}, expected a whole number of steps")
    return replace(registry.make_family("point-robot"), name=spec, horizon=int(speed))


SCHEME = Scheme(
    make_family=points,
    usage="points:STEPS for a point robot",
    is_own_code=lambda spec: False,
    suggestion=lambda name: "'points:STEPS'" if name == "poynts" else "",
    instead_of=lambda spec, found: "got a text, expected points:STEPS" if isinstance(found, str) else "",
)
CAUTIOUS = Scheme(make_family=points, usage="careful:STEPS")
WRONG = 3
"""


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs a package that registers a scheme, as its metadata do."""
    (tmp_path / "their_points.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_points", raising=False)

    def write(line: str, package: str = "their-points") -> None:
        folder = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{SCHEMES}]\n{line}\n")

    return write


def test_a_package_announces_a_scheme(announce: Callable[[str], None]) -> None:
    announce("points = their_points:SCHEME")
    assert {"gym", "points"} <= set(names(SCHEMES))
    family = make_family("points:7")
    assert (family.name, family.horizon) == ("points:7", 7)
    assert not is_own_code("points:7")
    for spec, words in (
        ("points:x", "expected a whole number of steps"),
        ("poynts", r"Did you mean 'points:STEPS'\?.*points:STEPS for a point robot"),
        ("their_points:PACKAGE", "has no 'PACKAGE'"),
        ("their_points:__name__", "got a str, expected a function"),
        ("os:getcwd", "family 'os:getcwd': got a text, expected points:STEPS"),
    ):
        with pytest.raises(ValueError, match=words):
            make_family(spec)


def test_a_scheme_that_says_nothing_counts_as_code_of_ones_own(announce: Callable[[str], None]) -> None:
    announce("careful = their_points:CAUTIOUS")
    assert is_own_code("careful:7")
    assert make_family("careful:7").horizon == 7


def test_a_broken_scheme_is_said_and_hides_nothing_else(announce: Callable[..., None]) -> None:
    announce("points = their_points:WRONG")
    announce("planes = nowhere:SCHEME", "their-planes")
    with pytest.raises(ValueError, match=r"scheme 'points' of their-points .*got a int, expected a metarl.schemes"):
        make_family("points:7")
    with pytest.raises(EnvError, match=r"scheme 'planes' of their-planes .*raised ModuleNotFoundError"):
        make_family("planes:7")
    with pytest.raises(ValueError, match="Did you mean 'gym:Pendulum-v1"):
        make_family("Pendulum-v1")


def test_two_packages_with_one_scheme_are_named(announce: Callable[..., None]) -> None:
    announce("points = their_points:SCHEME")
    announce("points = their_points:CAUTIOUS", "other-points")
    with pytest.raises(ValueError, match=r"got it from .*other-points.*expected one package that registers it; unins"):
        make_family("points:7")
