"""The lint for banned openings finds each of them, and nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "openings.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("openings", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "text",
    [
        "What is to be had.",
        "One line.\n\nWhere nothing tells.",
        "It ends. Of the rest nothing is said.",
        "Args:\n    rows: Of each task, [M].",
        "Is it so? (What else?)",
        "Whoever asks",
        "- an item\n- *What* is another",
        "1. Where it is\n2. there",
        "| a | Where |",
        "# A heading\nWhat follows it.",
        "# What differs",
        "ends; \u201cWhat ends?\u201d",
    ],
)
def test_a_sentence_that_begins_so_is_found(tool: ModuleType, text: str) -> None:
    assert len(list(tool.openings(text, markdown=True))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The paper\nWhat Matters in On-Policy Learning",
        "Say `What` and `Where. What` in code.",
        "A block:\n\n```python\nWhat = 1\n# Where it is\n```\nand so on",
        "A block:\n\n    What is indented is code\n\nand so on",
        "Offices and whatever; the number of tasks, wherever it is",
    ],
)
def test_other_words_and_code_are_left_alone(tool: ModuleType, text: str) -> None:
    assert list(tool.openings(text, markdown=True)) == []


SOURCE = '''"""What a module is."""
import argparse
summary = f"{argparse}: Where it is"
class A:
    """A class.

    Args:
        rows: Of each task.
    """
    field: int = 0
    """Whoever reads this."""
    text = "What is not read by anybody"
    def f(self, parser):
        parser.add_argument("--x", help="What x is")
        raise ValueError("Where an error begins is not read")
'''


def test_docstrings_fields_and_help_of_a_python_file(tool: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    assert sorted(line for line, _ in tool.of_file(path)) == [1, 3, 8, 11, 14]
    done = subprocess.run([sys.executable, TOOL, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{path}:14: What x is\n" in done.stdout
    assert done.stderr.startswith("5 sentences begin with")
    path.write_text('"""A module."""\n')
    assert subprocess.run([sys.executable, TOOL, path], capture_output=True, check=False).returncode == 0


def test_a_column_or_a_line_of_a_commands_output_begins_a_sentence(tool: ModuleType) -> None:
    printed = "  --out PATH    Where it goes.\n      What it is\n\u2502 name \u2502 Of whom \u2502\n  the Of in between"
    assert [words.split()[0] for words in tool.of_output(printed)] == ["Where", "What", "Of"]


def test_the_commands_are_read(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # restored afterwards
    wanted = tool._commands()
    assert ["train", "varibad", "point-robot", "--help"] in wanted
    printed = dict(tool.outputs([wanted[0], ["train", "rl2", "point-robot", "--help"]]))
    assert "presets" in printed["metarl list"]
    assert "--agent.learning-rate" in printed["metarl train rl2 point-robot --help"]
    with pytest.raises(SystemExit, match="metarl train nobody point-robot: ended with exit code 2"):
        list(tool.outputs([["train", "nobody", "point-robot"]]))
