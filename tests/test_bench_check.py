"""The page on timings lists exactly the tests of `make bench-check`, and tests that exist in their place."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "bench-check.md").read_text(encoding="utf-8")


def marked(expression: str) -> set[str]:
    """Tests with such markers, without their parameters. Only files that name the marker are collected."""
    files = [p for p in (ROOT / "tests").rglob("test_*.py") if re.search(r"bench_check|within: ", p.read_text("utf-8"))]
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", expression, "-p", "no:cacheprovider"]
    done = subprocess.run([*words, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 5), done.stdout + done.stderr  # 5: none has them
    return {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}


def rows() -> dict[str, list[str]]:
    """By test, the other cells of its row."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if "::" in line]
    assert all(len(row) == 4 for row in cells)
    listed = {row[0].strip("`"): row[1:] for row in cells}
    assert len(listed) == len(cells), "each test once"
    return listed


def test_the_page_lists_every_test_of_bench_check_and_no_other() -> None:
    assert rows().keys() == marked("bench_check")


def test_the_page_says_what_else_make_test_slow_runs() -> None:
    sampled = {test for test, (_, where, _) in rows().items() if "test-slow" in where}
    assert sampled == marked("bench_check and slow")
    assert all(where.split(",")[0] == "bench-check" for _, where, _ in rows().values())


def test_the_tests_that_pin_a_timing_by_counts_exist_and_run_earlier() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for test, (_, _, pinned) in rows().items():
        parts = [part for part in re.split("[,;]", pinned) if "`test_" in part]
        assert parts or pinned.startswith("the same test"), test
        for part in parts:
            (name,) = re.findall(r"`(test_\w+)`", part)
            (marks,) = re.findall(rf"((?:^@.*\n(?:^[ \])].*\n)*)*)^def {name}\(", sources, re.MULTILINE)
            assert "bench_check" not in marks, name
            assert ("mark.slow" in marks) == ("test-slow" in part), name


def test_the_sampled_families_are_those_of_the_page() -> None:
    source = (ROOT / "tests" / "test_promises.py").read_text("utf-8")
    (line,) = re.findall(r"^SAMPLED = \((.*)\)$", source, re.MULTILINE)
    for name in re.findall(r'"(.*?)"', line):
        assert f"`{name}`" in PAGE
