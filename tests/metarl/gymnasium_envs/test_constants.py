from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from metarl.gymnasium_envs.constants import parse_constant, read_constant, refuse_repeated


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("enable_wind=true", True),
        ("enable_wind=False", False),
        ("start=None", None),
        ("frame_skip=5", 5),
        ("gain=0.5", 0.5),
        ("gain=.5", 0.5),
        ("gain = -1e3", -1000.0),
        ("name=robot", "robot"),
        ("name=a=b & c?", "a=b & c?"),
        ('version="2"', "2"),
        ('quoted="a \\"b\\" & c"', 'a "b" & c'),
        ("start=[0, 0.5, true]", [0, 0.5, True]),
        ('weights={"a": 1}', {"a": 1}),
        ("name=", ""),
    ],
)
def test_a_constant_is_read_with_its_type_and_from_a_familys_name_again(text: str, value: Any) -> None:
    constant = parse_constant(text)
    assert (constant.value, type(constant.value)) == (value, type(value))
    assert read_constant(constant.text) == constant
    assert constant.holds_text == ('"' in constant.text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wind", "expected NAME=VALUE"),
        ("1x=3", "expected NAME=VALUE"),
        ("a.b=3", "expected NAME=VALUE"),
        ("g=uniform(1,2)", "use --vary"),
        ("g=inf", "expected a finite number"),
        ("g=1e999", "expected a finite number"),
        ("g=[1,", "expected JSON"),
        ("g=(1,2)", "expected JSON"),
        ("g=[NaN]", "expected JSON"),
        ("g=[1e999]", "expected JSON"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=f"--set: got .*{expected}"):
        parse_constant(text)


def test_the_path_of_a_file_becomes_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("robot.xml", "4x4"):
        (tmp_path / name).touch()
    assert parse_constant("xml_file=robot.xml").value == str(tmp_path / "robot.xml")
    assert parse_constant("xml_file=./robot.xml").value == str(tmp_path / "robot.xml")
    assert parse_constant('xml_file="robot.xml"').value == "robot.xml"
    assert parse_constant("xml_file=ant.xml").value == "ant.xml", "one that the environment knows"
    assert parse_constant("map_name=4x4").value == "4x4", "no path"
    assert parse_constant("name=" + "x" * 10_000 + ".y").value.startswith("xxx")


def test_a_name_stands_once_and_does_not_vary() -> None:
    wind = parse_constant("wind=1")
    with pytest.raises(ValueError, match="--set: got 'wind' 2 times"):
        refuse_repeated([wind, wind], [])
    with pytest.raises(ValueError, match="--set: got 'wind', which --vary also names"):
        refuse_repeated([wind], ["wind"])
    refuse_repeated([wind], ["gravity"])


def test_brackets_without_end_are_a_mistake_in_a_line() -> None:
    with pytest.raises(ValueError, match=r"--set: got .*expected JSON after a quote or bracket"):
        parse_constant(f"m={'[' * 20000}")
