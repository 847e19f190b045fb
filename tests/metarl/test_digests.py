"""Digests of families, and names without folders."""

from __future__ import annotations

import pytest

from metarl.digests import differ, may_be_same, warning
from metarl.names import without_folders


def test_only_known_digests_of_one_maker_differ() -> None:
    assert differ("a:1", "a:2")
    assert not any(differ(*pair) for pair in (("a:1", "a:1"), ("a:1", "b:2"), ("", "a:1"), ("a:1", "")))
    assert may_be_same("a:1", "a:1")
    assert may_be_same("a:1", "b:2")
    assert not any(may_be_same(*pair) for pair in (("a:1", "a:2"), ("", ""), ("", "a:1")))


def test_warnings_say_what_is_known() -> None:
    assert "the robot of runs/arm has changed since the training" in warning("runs/arm", "mjcf:x.xml", "a:1", "a:2")
    assert "cannot be told: it was trained with a, here is b" in warning("runs/arm", "mjcf:x.xml", "a:1", "b:1")
    assert warning("runs/arm", "mjcf:x.xml", "a:1", "a:1") == warning("runs/arm", "mjcf:x.xml", "", "a:1") == ""


@pytest.mark.parametrize(
    ("family", "short"),
    [
        ("mjcf:/home/me/my robots/go1.xml?payload=uniform(0,5)", "mjcf:go1.xml?payload=uniform(0,5)"),
        ("mjcf:~/go1.xml", "mjcf:go1.xml"),
        ("mjcf:go1.xml?task=my_reward:fast", "mjcf:go1.xml?task=my_reward:fast"),
        ("omniglot:/data/omniglot,ways=5", "omniglot:omniglot,ways=5"),
        ("menagerie:unitree_go1?payload=uniform(0,5)", "menagerie:unitree_go1?payload=uniform(0,5)"),
        ("gym:Ant-v5?xml_file=/home/me/a.xml&vary=uniform(0,1)", "gym:Ant-v5?xml_file=a.xml&vary=uniform(0,1)"),
        ("xml_file=/home/me/a.xml", "xml_file=a.xml"),
        ("gym:my_winds:Windy?wind=uniform(0,1)", "gym:my_winds:Windy?wind=uniform(0,1)"),
    ],
)
def test_names_are_shown_without_folders(family: str, short: str) -> None:
    assert without_folders(family) == short
