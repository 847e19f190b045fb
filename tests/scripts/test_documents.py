"""Commands in README and docs work in an empty folder, by the installed command, without PYTHONPATH."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from metarl.registry import FEW_SHOT_FAMILIES, names

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "docs" / "examples"
BIN = Path(sys.executable).parent
TYPIST = """
import json, os, sys
from importlib.metadata import entry_points

def main():
    script, *_ = entry_points(group="console_scripts", name="metarl")  # an earlier metarl may still be installed
    command = script.load()
    import matplotlib.pyplot, mujoco, scipy.stats, torch.utils.tensorboard  # once for all lines
    import metarl.scripts.evaluate, metarl.scripts.train
    for line in json.load(sys.stdin):
        print(*line, flush=True)
        child = os.fork()
        if child == 0:
            sys.argv = line
            sys.exit(command())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            sys.exit(f"{' '.join(line)}: exit code {code}")

if __name__ == "__main__":
    main()
"""
"""Calls the installed command once per line, each in a process of its own that shares the imports."""
TINY = ("--tasks", "3", "--episodes", "2", "--horizon", "12", "--eval-every", "2", "--eval-tasks", "3")
OFF_POLICY = ("--agent.gradient-steps", "2", "--agent.warmup-iterations", "1", "--agent.hidden", "8", "8")
PLANNER = ("--tasks", "2", "--episodes", "1", "--horizon", "70", "--eval-every", "0", "--agent.gradient-steps", "2")
PLANNER += ("--agent.candidates", "5", "--agent.elites", "2", "--agent.rounds", "1", "--agent.hidden", "8", "8")
FEW = ("--tasks", "4", "--episodes", "2")
FEW_SHOT = ("--tasks", "3", "--eval-every", "2", "--eval-tasks", "3", "--iterations", "3")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def quickened(line: str) -> list[str]:
    """The words of a line, with options under which it takes a second."""
    program, command, *rest = words = shlex.split(line, comments=True)
    assert program == "metarl"
    if command == "train" and rest[1].startswith("skills"):
        words.append("--help")  # recording the skills takes minutes
    elif command == "train" and rest[1].partition(":")[0] in names(FEW_SHOT_FAMILIES):
        words += FEW_SHOT
    elif command == "train" and rest[0] in ("mb-mpc", "grbal", "rebal"):
        words += [*PLANNER, "--iterations", "2"]
    elif command == "train" and "--help" not in rest:
        words += [*TINY, "--iterations", "4" if "--resume" in rest else "3"]
        words += OFF_POLICY if rest[0] in ("pearl", "recurrent-sac") else ()
        words += ("--workers", "0") if rest[1].startswith(("gym:", "my_arm:", "reach:")) else ()
    elif command == "tune":
        words += [*TINY, "--iterations", "3"] if "--resume" not in rest else ()
        words += ["--trials", "3" if "--resume" in rest else "2", *(("--confirm", "1") if "--confirm" in rest else ())]
    elif command in ("evaluate", "compare"):
        if "--protocol" in rest:
            words += FEW[:2]  # it says how many episodes there are
        else:
            words += [*FEW, *(("--adapt-steps", "1") if command == "evaluate" else ())]
    elif command == "report":
        words += FEW[:2]
    elif command in ("bench", "render", "reproduce"):
        words.append("--help")  # they take long, need a screen's libraries, and have tests of their own
    return words


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder as the working folder."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def bare(tmp_path: Path, cache: Path) -> dict[str, str]:
    """The environment variables of somebody who has set nothing."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}
    own = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path), "METARL_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return {**kept, **own}


@pytest.fixture
def type_lines(tmp_path: Path, folder: Path, bare: dict[str, str]) -> Callable[[Sequence[list[str]]], str]:
    """Types lines one after the other, and returns what they print; the first that fails ends it."""
    script = tmp_path / "typist" / "typist.py"
    script.parent.mkdir()
    script.write_text(TYPIST)

    def run(lines: Sequence[list[str]]) -> str:
        done = subprocess.run(
            [sys.executable, script],
            input=json.dumps(lines),
            cwd=folder,
            env=bare,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


def typed(page: Path) -> list[list[str]]:
    """Every line of a page's shell blocks, quickened; not those that need a download."""
    lines = [line for block in blocks(page, "sh") for line in block.strip().splitlines()]
    words = [quickened(line) for line in lines if not line.startswith("#") and "omniglot:" not in line]
    few_shot = {line[-1 - len(FEW_SHOT)]: line for line in words if line[-len(FEW_SHOT) :] == list(FEW_SHOT)}
    untrained = {word for line in words if line[1] == "train" and line[-1] == "--help" for word in line}
    for line in words:
        if line[1] == "evaluate" and line[2] in few_shot:
            line[line.index("--episodes") :] = ["--no-oracle"]
        elif line[1] == "evaluate" and line[2] in untrained:
            line[2:] = ["--help"]
    return words


def test_every_line_that_one_types_is_in_a_shell_block() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for block in blocks(page, ""):
            assert not re.search(r"^metarl [a-z]", block, re.MULTILINE), f"{page.name}: {block}"


def test_the_readme_as_a_new_user_types_it(type_lines, folder: Path, bare: dict[str, str]) -> None:
    readme = ROOT / "README.md"
    python = blocks(readme, "python")
    (folder / "my_simulator.py").write_text("from reach import Reach as Arm")
    (folder / "reach.py").write_bytes((EXAMPLES / "reach.py").read_bytes())
    (folder / "my_arm.py").write_text(next(code for code in python if "from my_simulator import Arm" in code))
    (folder / "my_robots.py").write_text(next(code for code in python if "def spring()" in code))
    lines = [line for line in typed(readme) if not {"ml10", "runs/ml10", "ml1:reach-v3"} & set(line)]
    assert [line[1] for line in lines[:3]] == ["list", "versions", "train"]
    assert ["metarl", "check", "my_arm:reach"] in lines
    by_hand = lines.pop(lines.index(["metarl", "check", "my_arm:reach"]))
    text = readme.read_text(encoding="utf-8")
    inline = re.findall(r"`(metarl train maml-trpo my_robots:spring)`", text)
    type_lines([*lines, *map(quickened, inline)])
    done = subprocess.run(by_hand, cwd=folder, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no problems found" in done.stdout
    assert ".venv/bin/metarl" in text


def test_the_page_on_environments_of_ones_own(type_lines, folder: Path) -> None:
    for name in ("reach.py", "windy_point.py"):
        (folder / name).write_bytes((EXAMPLES / name).read_bytes())
    lines = typed(ROOT / "docs" / "custom-environments.md")
    said = type_lines([line for line in lines if "PACKAGE" not in line])
    assert said.count("no problems found") == said.count("metarl check") == 2


def test_the_page_on_robots(type_lines, folder: Path) -> None:
    models = ROOT / "tests" / "robots" / "models"
    for name, model in (("my_quadruped", "servo_quadruped"), ("my_arm", "gravity_compensated_arm")):
        (folder / f"{name}.xml").write_bytes((models / f"{model}.xml").read_bytes())
    page = ROOT / "docs" / "robots.md"
    (folder / "my_reward.py").write_text(blocks(page, "python")[0], encoding="utf-8")
    lines = [line for line in typed(page) if not any("menagerie:" in word for word in line)]
    assert "no problems found" in type_lines(lines)


AGENT_PAGES = ("fomaml", "maml-trpo", "meta-sgd", "pearl", "promp", "recurrent-sac", "references", "reptile", "rl2")
AGENT_PAGES += ("varibad", "rma", "memory", "meta-lstm", "gbml", "meta-networks", "planning", "export")
FEW_SHOT_PAGES = ("few-shot", "few-shot-families", "maml", "matching", "prototypical", "versa", "amortised-maml")
FEW_SHOT_PAGES += ("neural-process",)


@pytest.mark.slow
@pytest.mark.parametrize("page", [*AGENT_PAGES, *FEW_SHOT_PAGES])
def test_the_pages_of_agents(type_lines, page: str) -> None:
    type_lines(typed(ROOT / "docs" / f"{page}.md"))


@pytest.mark.slow
def test_the_page_on_workers(type_lines) -> None:
    type_lines(typed(ROOT / "docs" / "workers.md"))


@pytest.mark.slow
def test_the_page_on_reports(type_lines, folder: Path) -> None:
    type_lines(typed(ROOT / "docs" / "report.md"))
    assert {path.name for path in folder.glob("*.html")} == {"report.html", "few.html", "monday.html"}


@pytest.mark.slow
def test_the_page_on_tables(type_lines) -> None:
    type_lines(typed(ROOT / "docs" / "reproduce.md"))


@pytest.mark.slow
def test_the_page_on_tuning(type_lines, folder: Path) -> None:
    type_lines(typed(ROOT / "docs" / "tune.md"))
    assert (folder / "runs" / "tuned" / "tuning.md").is_file()


@pytest.mark.slow
def test_the_readme_on_meta_world(type_lines) -> None:
    type_lines([line for line in typed(ROOT / "README.md") if {"ml10", "runs/ml10", "ml1:reach-v3"} & set(line)])


def test_all_pages_with_lines_to_type_are_tried() -> None:
    pages = {page.stem for page in (ROOT / "docs").glob("*.md") if blocks(page, "sh")}
    by_hand = {"robot-packages", "cluster"}  # packages that want an environment of their own; several machines
    assert pages <= {
        *AGENT_PAGES,
        *FEW_SHOT_PAGES,
        "custom-environments",
        "robots",
        "workers",
        "report",
        "reproduce",
        "tune",
        *by_hand,
    }
