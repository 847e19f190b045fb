"""The distribution's name and version agree wherever they stand."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import metarl
from metarl.runs import versions

ROOT = Path(__file__).resolve().parent.parent
NAME = "metarl-robots"


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert project["name"] == NAME
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [project["version"]]
    assert version(NAME) == versions()["packages"][NAME] == project["version"] == metarl.__version__


def test_every_tool_of_lint_and_docs_is_pinned() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = {re.split(r"[>=<\[]", one)[0].lower() for extra in ("dev", "docs") for one in extras[extra]}
    assert wanted <= pinned
