"""The page on environments of one's own does what it says: its commands, its code, and the package beside it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "custom-environments.md").read_text(encoding="utf-8")
SHELL_BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
QUICK = {
    "train": ("--workers", "sync"),
    "evaluate": ("--tasks", "2", "--adapt-steps", "1"),
    "pearl": ("--agent.gradient-steps", "2", "--agent.warmup-iterations", "1"),
}
"""What a command of the page is given so that it takes a second."""


@pytest.mark.parametrize("block", SHELL_BLOCKS, ids=["gym", "class", "function"])
def test_the_commands_of_the_page_run(run_metarl, tiny, monkeypatch: pytest.MonkeyPatch, block: str) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    for line in block.strip().splitlines():
        program, *words = shlex.split(line)
        assert program == "metarl"
        more = [*(tiny if words[0] == "train" else ()), *(x for key in words[:2] for x in QUICK.get(key, ()))]
        code, _, err = run_metarl(*words, *more)
        assert code == 0, (line, err)


def test_the_code_of_the_page_makes_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["make_family"]().make_envs(1, 1, 5).spaces.observation_size == 4


def test_an_installed_package_announces_its_families(tmp_path: Path, tiny) -> None:
    package, site = EXAMPLES / "my_robots_package", tmp_path / "site"
    for line in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0].strip().splitlines():
        assert line in (package / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    source = tmp_path / "source"  # a build leaves files beside the sources
    source.mkdir()
    for name in ("pyproject.toml", "my_robots.py"):
        (source / name).write_bytes((package / name).read_bytes())

    def run(*words: object) -> str:
        environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [str(w) for w in words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    run(*pip, "--target", site, source)
    metarl = Path(sys.executable).parent / "metarl"
    families = {f["name"]: f for f in json.loads(run(metarl, "list", "--json").splitlines()[-1])["families"]}
    assert families["my-cart"]["parameters"][0]["meaning"].startswith("gravity, m/s^2")
    run(metarl, "train", "rl2", "my-cart", "--out", tmp_path / "run", *tiny, "--workers", "sync")
    assert "40 held-out tasks" in run(metarl, "evaluate", tmp_path / "run")
