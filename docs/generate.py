"""Pages that follow from the code: families, settings of agents, the API reference, and README as the first page."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import textwrap
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from metarl.config import Range
from metarl.registry import AGENTS, FAMILIES, LEARNERS, agent_class, make_family, names
from metarl.tasks import Family
from metarl.types import Spaces

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"multitask": "references", "oracle": "references"}
PAGES |= dict.fromkeys(("mb-mpc", "grbal", "rebal"), "planning")
"""Pages of agents with another name than the agent."""
LEARNER_PAGES = {"pooled": "few-shot"}
"""Pages of few-shot learners, likewise."""
PACKAGES = {"metarl": "The framework", "metarl.envs": "Task families", "metarl.agents": "Agents"}
META_WORLD = "metarl.envs.metaworld"
INTERNAL = ("metarl.own_code", "metarl.gymnasium_envs.check", META_WORLD)
"""Packages without a public interface, except modules that register families."""


def write_all(folder: Path) -> None:
    """Writes every generated page below a folder; a page that did not change keeps its time, so its build too."""
    pages = {"start": from_root("README"), "contributing": from_root("CONTRIBUTING"), "changes": from_root("CHANGELOG")}
    pages |= {**dict(family_pages()), **dict(api_pages())}
    for name, text in pages.items():
        path = folder / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for old in {path for path in folder.rglob("*.md") if str(path.relative_to(folder))[:-3] not in pages}:
        old.unlink()


def cell(text: object) -> str:
    """A text as one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def from_root(name: str) -> str:
    """A page of the checkout's root, its links seen from the folder of the generated pages."""
    text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
    for other, page in (("README", "start"), ("CONTRIBUTING", "contributing"), ("CHANGELOG", "changes")):
        text = text.replace(f"]({other}.md", f"]({page}.md")
    text = re.sub(r"\]\(docs/", "](../", text)
    return re.sub(r"\]\((?!https?:|#|\.\./|start|contributing|changes)", "](../../", text)


# Families -----------------------------------------------------------------------------------------------------


def family_pages() -> Iterator[tuple[str, str]]:
    """A page for each family, and their index."""
    announced = {point.name: point.value for point in entry_points(group=FAMILIES) if point.name in names(FAMILIES)}
    arm = make_family("ml1").spaces()  # all classes of Meta-World have the same; others would draw all goals first
    rows: list[tuple[object, ...]] = []
    for name in names(FAMILIES):
        family, module = make_family(name), announced[name].partition(":")[0]
        with contextlib.redirect_stderr(io.StringIO()):  # remarks on the models
            spaces = arm if module.startswith(META_WORLD) else family.spaces()
        yield f"families/{name}", family_page(name, family, spaces, announced[name])
        rows.append((f"[{name}]({name}.md)", family.summary, family.horizon))
    toc = "\n".join(names(FAMILIES))
    about = "Rewards, sources and ranges side by side: [task families](../../families.md)."
    listed = table(("family", "summary", "horizon"), rows)
    yield "families/index", f"# Families\n\n{about}\n\n{listed}\n\n```{{toctree}}\n:hidden:\n\n{toc}\n```\n"


def family_page(name: str, family: Family, spaces: Spaces, source: str) -> str:
    """The page of one family.

    Args:
        name: Its name on the command line.
        family: The family.
        spaces: Its spaces.
        source: Its entry point, `module:function`.
    """
    module, _, function = source.partition(":")
    kind = {True: "tasks that training never draws", False: "none: evaluated on its training tasks"}
    actions = f"{spaces.choices} choices" if spaces.choices else f"{spaces.action_size} numbers, {bounds(spaces)}"
    facts: list[tuple[object, ...]] = [
        ("observation", f"{spaces.observation_size} numbers{units(spaces)}"),
        ("action", actions),
        ("horizon", f"{family.horizon} steps"),
        ("held-out tasks", kind[family.distribution.splits]),
        ("source", f"{{py:mod}}`{module}`, function `{function}`"),
    ]
    parameters: list[tuple[object, ...]] = [
        (f"`{p.name}`", p.meaning, "hidden" if p.hidden else "visible") for p in family.distribution.parameters
    ]
    return "\n\n".join(
        (
            f"# {name}",
            f"{family.summary[:1].upper()}{family.summary[1:]}.",
            f"```sh\nmetarl train rl2 {name}\n```",
            table(("property", "value"), facts),
            f"## Parameters of a task\n\n{table(('parameter', 'meaning', 'agent'), parameters)}",
            "Families side by side: [task families](../../families.md).\n",
        )
    )


def bounds(spaces: Spaces) -> str:
    """Bounds of the actions, in words."""
    pairs = set(zip(spaces.action_low, spaces.action_high, strict=True))
    return " or ".join(f"from {low:g} to {high:g}" for low, high in sorted(pairs))


def units(spaces: Spaces) -> str:
    """Units of the observation, in words."""
    found = dict.fromkeys(unit for unit in spaces.observation_units if unit not in ("", "1"))
    return f" ({', '.join(found)})" if found else ""


# Settings -----------------------------------------------------------------------------------------------------


def prepared(app: Any, page: str, source: list[str]) -> None:
    """Adds settings to the pages of agents, and makes links fit for the site (an event of Sphinx).

    README is the first page here, and a folder has none.
    """
    source[0] = re.sub(r"\]\((\.\./)+README\.md", f"]({'../' * page.count('/')}_generated/start.md", source[0])
    source[0] = re.sub(r"\[([^\]]+)\]\(([\w/.-]+)\)", partial(without_folder, ROOT / "docs" / page), source[0])
    if page == "index":
        source[0] += more_pages(source[0])
    elif not page.startswith("_generated"):
        source[0] += settings_of(page)


def more_pages(index: str) -> str:
    """A list of the pages that the index does not name."""
    named = set(re.findall(r"^[\w/-]+$", index, re.MULTILINE))
    pages = sorted(path.stem for path in (ROOT / "docs").glob("*.md") if path.stem not in named | {"index"})
    return f"\n```{{toctree}}\n:hidden:\n:caption: More\n\n{chr(10).join(pages)}\n```\n" if pages else ""


def without_folder(page: Path, link: re.Match[str]) -> str:
    """A link of a page, or its text alone if it leads to a folder."""
    return f"`{link[1]}`" if (page.parent / link[2]).is_dir() else link[0]


def settings_of(page: str) -> str:
    """The settings of the agents that a page is about."""
    text = ""
    agents = [agent for agent in names(AGENTS) if PAGES.get(agent, agent) == page]
    learners = [learner for learner in names(LEARNERS) if LEARNER_PAGES.get(learner, learner) == page]
    for agent, group in [*((agent, AGENTS) for agent in agents), *((learner, LEARNERS) for learner in learners)]:
        few_shot = " as a few-shot learner" if group == LEARNERS and agents else ""
        title = f"Settings of {agent}{few_shot}" if len(agents) + len(learners) > 1 else "Settings"
        text += f"\n## {title}\n\n`--agent.NAME VALUE` on the command line; `metarl train {agent} FAMILY --help` "
        text += f"shows the preset's values.\n\n{settings_table(agent_class(agent, group).Config)}\n"
    return text


def settings_table(config: type) -> str:
    """The fields of a dataclass: name, default, range and meaning."""
    hints, meanings = typing.get_type_hints(config, include_extras=True), field_meanings(config)
    rows: list[tuple[object, ...]] = [
        (f"`{f.name.replace('_', '-')}`", f"`{default_of(f)}`", allowed(hints[f.name]), meanings.get(f.name, ""))
        for f in fields(config)
    ]
    return table(("setting", "default", "values", "meaning"), rows)


def default_of(field: Field[Any]) -> str:
    """The default of a field as one types it."""
    value = field.default_factory() if field.default_factory is not MISSING else field.default
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def allowed(hint: Any) -> str:
    """The values that a type hint allows, in words."""
    if typing.get_origin(hint) is typing.Annotated:
        limits = [str(extra) for extra in typing.get_args(hint)[1:] if isinstance(extra, Range)]
        return limits[0] if limits else allowed(typing.get_args(hint)[0])
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(map(str, typing.get_args(hint)))
    return {"bool": "on, off"}.get(getattr(hint, "__name__", ""), str(getattr(hint, "__name__", hint)))


def field_meanings(config: type) -> dict[str, str]:
    """The string below each field of a dataclass and of those it inherits from."""
    found: dict[str, str] = {}
    for kind in reversed(config.__mro__[:-1]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        if not isinstance(body, ast.ClassDef):
            continue
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
                found[field.target.id] = str(ast.literal_eval(below.value))
    return found


# The API reference --------------------------------------------------------------------------------------------


def api_pages() -> Iterator[tuple[str, str]]:
    """A page for each public module, one for the names of `metarl` itself, and their index."""
    modules = {package: list(modules_of(package)) for package in PACKAGES}
    lists = [
        f"```{{toctree}}\n:caption: {title}\n:maxdepth: 1\n\n{chr(10).join(modules[package])}\n```"
        for package, title in PACKAGES.items()
    ]
    index = "Names that `import metarl` gives:\n\n" + table(("name", "module"), list(public_names()))
    yield "api/index", "\n\n".join(("# API reference", index, *lists)) + "\n"
    for module in (name for listed in modules.values() for name in listed):
        yield f"api/{module}", f"# {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n"


def public_names() -> Iterator[tuple[object, ...]]:
    """The names that `metarl` exports, and the module of each."""
    import metarl

    for name in sorted(set(metarl.__all__) - {"__version__"}):
        module = getattr(metarl, name).__module__
        yield f"{{py:obj}}`metarl.{name} <{module}.{name}>`", f"[{module}]({module}.md)"


def modules_of(package: str) -> Iterator[str]:
    """Public modules of a package, subpackages included; `metarl` leaves out the other packages."""
    top = ROOT / package.removeprefix("metarl.").replace(".", "/")
    announcing = {point.module for point in entry_points(group=FAMILIES)}
    for path in sorted(top.rglob("*.py")):
        parts = path.relative_to(top).with_suffix("").parts
        own = package != "metarl" or parts[0] not in ("envs", "agents", "scripts")
        name = ".".join([package, *(part for part in parts if part != "__init__")])
        if (
            own
            and name != package
            and (name in announcing or not f"{name}.".startswith(tuple(f"{p}." for p in INTERNAL)))
        ):
            yield name


def restructured(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turns the Markdown of a docstring into reStructuredText (an event of Sphinx).

    Inline code becomes a literal, tables and fenced code become literal blocks, and other marks are escaped.
    """
    inline = what in ("attribute", "data", "property")  # napoleon takes `WORDS: ` at their start for a type
    changed = ["..", ""] if inline else []  # an empty comment
    fenced = literal = False
    for line in lines:
        indent, text = line[: len(line) - len(line.lstrip())], line.lstrip()
        fence = text.startswith("```")
        fenced ^= fence
        if literal and not (fenced or fence or text.startswith("|")):
            literal = False
            changed.append("")
        if fence:
            changed += ["", f"{indent}::", ""] if fenced else []
        elif fenced or text.startswith("|"):
            changed += [] if literal or fenced else ["", f"{indent}::", ""]
            changed.append(f"   {line}")
        else:
            changed.append(indent + "".join(literals(text)))
        literal = literal or fenced or text.startswith("|")
    lines[:] = changed


def literals(text: str) -> Iterator[str]:
    r"""The parts of a line of Markdown as reStructuredText; `\ ` parts a literal from a letter beside it."""
    before = ""
    for part in re.split(r"(`[^`]+`)", text):
        if part.startswith("`"):
            yield ("\\ " if before[-1:].isalnum() else "") + f"`{part}`"
        else:
            yield ("\\ " if before.startswith("`") and part[:1].isalnum() else "") + escaped(part)
        before = part


def escaped(text: str) -> str:
    """Text in which no mark of reStructuredText is left."""
    return re.sub(r"([*|\\])|(?<=\w)_(?!\w)", lambda mark: f"\\{mark.group()}", text)
