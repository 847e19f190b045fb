"""Pages that `make docs` derives from the code, and the links of all pages, without Sphinx."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from metarl.registry import AGENTS, agent_class, make_family, names

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "results").glob("*.md")]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target, _, anchor = link.partition("#")
        if target.startswith(("http:", "https:", "_generated/")):
            continue
        path = (page.parent / target) if target else page
        assert path.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, link


@pytest.mark.parametrize("agent", names(AGENTS))
def test_the_settings_of_an_agent_are_on_its_page(generate: ModuleType, agent: str) -> None:
    page = generate.PAGES.get(agent, agent)
    assert (ROOT / "docs" / f"{page}.md").exists()
    source = [""]
    generate.prepared(None, page, source)
    rows = [line.split(" | ") for line in source[0].splitlines() if line.startswith("| `")]
    by_name: dict[str, list[str]] = {row[0].strip("| `"): row for row in rows}
    for field in dataclasses.fields(agent_class(agent).Config):
        _, _, values, meaning = by_name[field.name.replace("_", "-")]
        assert values.strip(), field.name
        assert len(meaning.strip(" |")) > 10, field.name


def test_the_page_of_a_family_has_its_parameters_and_spaces(generate: ModuleType) -> None:
    for name in ("half-cheetah-vel", "half-cheetah-dir", "bandit", "hopper-rand-params"):
        family = make_family(name)
        page = generate.family_page(name, family, family.spaces(), "metarl.envs.x:f")
        for parameter in family.distribution.parameters:
            assert f"| `{parameter.name}` | {parameter.meaning} | hidden |" in page
        assert f"| horizon | {family.horizon} steps |" in page
        assert "{py:mod}`metarl.envs.x`" in page
        assert ("none: evaluated on its training tasks" in page) == (name == "half-cheetah-dir")
    assert "| action | 5 choices |" in generate.family_page(
        "b", make_family("bandit"), make_family("bandit").spaces(), "a:b"
    )


def test_the_reference_has_every_public_module_once(generate: ModuleType) -> None:
    modules = [module for package in generate.PACKAGES for module in generate.modules_of(package)]
    assert len(modules) == len(set(modules)) > 60
    assert {"metarl.rollout", "metarl.learning.ppo", "metarl.agents.rl2", "metarl.envs.metaworld.families"} <= set(
        modules
    )
    assert not [m for m in modules if m.startswith(("metarl.scripts", "metarl.own_code", "metarl.envs.metaworld.d"))]
    public = dict(generate.public_names())
    assert public["{py:obj}`metarl.collect <metarl.rollout.collect>`"] == "[metarl.rollout](metarl.rollout.md)"


def test_markdown_of_a_docstring_becomes_restructured_text(generate: ModuleType) -> None:
    lines = [
        "A `name`s table, a_ *star* and |x|:",
        "",
        "| a | b |",
        "| 1 | 2 |",
        "```python",
        "x = 1",
        "```",
        "Its end.",
    ]
    generate.restructured(None, "class", "", None, None, lines)
    assert lines == [
        r"A ``name``\ s table, a\_ \*star\* and \|x\|:",
        "",
        *("", "::", "", "   | a | b |", "   | 1 | 2 |"),
        *("", "::", "", "   x = 1", "", "Its end."),
    ]
    lines = ["Share: a part."]
    generate.restructured(None, "attribute", "", None, None, lines)
    assert lines == ["..", "", "Share: a part."], "an empty comment hides the colon from napoleon"
