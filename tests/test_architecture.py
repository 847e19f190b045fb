"""The shape of the project: import names, which way imports run, what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import metarl
from metarl.registry import AGENTS, FAMILIES, FEW_SHOT_FAMILIES, names

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"metarl": "metarl", "envs": "metarl.envs", "agents": "metarl.agents", "scripts": "metarl.scripts"}
LAYER = {"metarl": 0, "metarl.envs": 1, "metarl.agents": 1, "metarl.scripts": 2}
FLOOR = {
    "device": 0,
    "saving": 0,
    "networks": 1,
    "experience": 1,
    "trials": 2,
    "rules": 2,
    "planning": 2,
    "few_shot": 3,
    "gradient": 3,
    "ppo": 3,
}
"""The packages of `metarl.learning`: imports run from a layer to a lower one."""
LONGEST_FILE = 400


def layer_of(name: str) -> str | None:
    """The part of the project that a module belongs to."""
    found = [layer for layer in LAYER if name == layer or name.startswith(layer + ".")]
    return max(found, key=len) if found else None


def modules() -> list[tuple[str, Path]]:
    """Every module of the project: import name and file."""
    return [
        (".".join((package, *path.relative_to(ROOT / folder).with_suffix("").parts)), path)
        for folder, package in FOLDERS.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not (folder == "metarl" and path.relative_to(ROOT / folder).parts[0] in ("envs", "agents", "scripts"))
    ]


def imports_of(path: Path) -> set[str]:
    """Names that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which way an import runs"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_run_from_scripts_to_envs_and_agents_to_metarl() -> None:
    breaches = []
    for module, path in modules():
        mine = layer_of(module)
        for name in imports_of(path):
            theirs = layer_of(name)
            if mine and theirs and theirs != mine and LAYER[theirs] >= LAYER[mine]:
                breaches.append(f"{module} imports {name}")
    assert not breaches


def room_of(name: str) -> str | None:
    """The package of `metarl.learning` that a module belongs to."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["metarl", "learning"] and len(parts) > 2 else None


def test_the_rooms_of_learning_import_lower_floors_only() -> None:
    rooms, breaches = set(), []
    for module, path in modules():
        room = room_of(module)
        if room is None or room == "__init__":
            continue
        rooms.add(room)
        for name in imports_of(path):
            other = room_of(name)
            if other not in (None, room) and FLOOR[other] >= FLOOR[room]:
                breaches.append(f"{module} imports {name}")
    assert not breaches
    assert rooms == set(FLOOR)
    assert len(rooms) == 10
    assert len(set(FLOOR.values())) <= 4


def test_every_room_says_what_is_in_it() -> None:
    for module, path in modules():
        if module.startswith("metarl.") and module.count(".") > 1 and path.name == "__init__.py":
            lines = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()
            private = module.startswith(("metarl.envs", "metarl.scripts", "metarl.agents"))
            assert private or 3 <= len(lines) <= 6, (
                f"{module}: {len(lines)} lines, expected what is in it and its imports"
            )


def test_no_file_is_longer_than_a_reader_can_hold() -> None:
    files = [path for _, path in modules()] + sorted((ROOT / "tests").rglob("*.py"))
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: n for name, n in lengths.items() if n > LONGEST_FILE} == {}


def test_no_agent_imports_another_and_no_family_imports_torch() -> None:
    for module, path in modules():
        if module.startswith("metarl.agents."):
            assert not [n for n in imports_of(path) if n.startswith("metarl.agents.")], module
        if module.startswith("metarl.envs"):
            assert not [n for n in imports_of(path) if n.split(".")[0] == "torch"], module


def test_nothing_unpickles_but_what_workers_of_the_same_run_send() -> None:
    for module, path in modules():
        if module == "metarl.workers.packed":
            continue
        assert not {n.split(".")[0] for n in imports_of(path)} & {"pickle", "dill", "cloudpickle", "joblib"}, module
        assert "torch.load" not in path.read_text(encoding="utf-8"), module


def test_pyproject_lists_every_package() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        settings = tomllib.load(file)["tool"]["setuptools"]
    packages = {name.removesuffix(".__init__") for name, _ in modules() if name.endswith(".__init__")}
    assert packages == set(settings["packages"]) == set(settings["package-dir"])


def run_elsewhere(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python outside the checkout, so that only what is installed can be imported."""
    return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["metarl", "metarl.envs", "metarl.agents", "metarl.scripts"])
def test_import_names_resolve_when_installed(tmp_path: Path, name: str) -> None:
    assert run_elsewhere(tmp_path, f"import {name}").returncode == 0


@pytest.mark.parametrize("name", ["envs", "agents", "scripts"])
def test_top_level_names_stay_free_for_users(tmp_path: Path, name: str) -> None:
    assert "ModuleNotFoundError" in run_elsewhere(tmp_path, f"import {name}").stderr


def test_importing_metarl_imports_no_torch(tmp_path: Path) -> None:
    code = "import metarl, sys; metarl.__version__; assert 'torch' not in sys.modules"
    assert run_elsewhere(tmp_path, code).returncode == 0


def test_no_agents_first_iteration_imports_what_it_does_not_use(tmp_path: Path, suited: Callable[[str], Any]) -> None:
    """PyTorch imports its compiler and sympy behind many a call, which takes longer than a small agent's iteration."""
    words = {name: [suited(name).family, *suited(name).words] for name in names(AGENTS)}
    code = (
        f"fitting = {words}"
        + """
import sys
from metarl.registry import AGENTS, FAMILIES, names
from metarl.scripts.train import main

assert "matplotlib" not in sys.modules
for name in names(AGENTS):
    words = [name, *fitting[name], "--iterations", "1", "--tasks", "2", "--episodes", "2", "--horizon", "5"]
    assert main([*words, "--out", name]) == 0, name
    assert not {"sympy", "torch._dynamo"} & set(sys.modules), name
print("the last of", len(names(AGENTS)))
"""
    )
    done = run_elsewhere(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert f"the last of {len(names(AGENTS))}" in done.stdout


def test_every_public_name_resolves() -> None:
    for name in metarl.__all__:
        assert getattr(metarl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        metarl.nonsense  # noqa: B018


# The core and kinds of environments -------------------------------------------------------------------------


def test_the_core_knows_no_kind_of_environment() -> None:
    """The core finds `gym:` families by an entry point; `metarl.gymnasium_family` is imported when first used."""
    for module, path in modules():
        inner = module.split(".")[1]
        if module == "metarl.__init__" or (path.parent != ROOT / "metarl" and inner != "learning"):
            continue
        assert not [name for name in imports_of(path) if name.startswith("metarl.gymnasium_envs")], module


def test_making_a_family_loads_no_torch(tmp_path: Path) -> None:
    """Each family in turn, in one fresh process, with a batch of its environments."""
    code = """
import sys
from metarl.registry import FAMILIES, make_family, names

announced = names(FAMILIES)
for spec in [*announced, "gym:CartPole-v1?gravity=uniform(2,20)"]:
    family = make_family(spec)
    if spec == "ml1" or not spec.startswith("ml"):  # Meta-World's families share their batch, and derive goals long
        family.make_envs(1, 1, 2).close()
    assert "torch" not in sys.modules, spec
print("families:", len(announced))
"""
    done = run_elsewhere(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"families: {len(names(FAMILIES))}\n")


def test_drawing_examples_loads_no_torch(tmp_path: Path) -> None:
    """Each few-shot family in turn, in one fresh process."""
    code = """
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from metarl.envs.few_shot import skills
from metarl.registry import FEW_SHOT_FAMILIES, find_family, names

for half in ("images_background", "images_evaluation"):
    for character in ("1", "2"):
        folder = Path("characters", half, "alphabet", character)
        folder.mkdir(parents=True)
        for number in range(2):
            Image.new("1", (105, 105)).save(folder / f"{number}.png")
skills.FULL = skills.Size(skills.FULL.classes[:8], episodes=2, frames=skills.LENGTH)
options = {"robot-dynamics": ":point-robot", "omniglot": ":characters,ways=2,shots=1,queries=1"}
options["skills"] = ":ways=2,shots=1,queries=1"
for name in names(FEW_SHOT_FAMILIES):
    family = find_family(name + options.get(name, ""))
    family.draw(family.distribution.train_tasks(1), 1, 1, np.random.default_rng(0))
    assert "torch" not in sys.modules, name
print("few-shot families:", len(names(FEW_SHOT_FAMILIES)))
"""
    done = run_elsewhere(tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"few-shot families: {len(names(FEW_SHOT_FAMILIES))}\n")
