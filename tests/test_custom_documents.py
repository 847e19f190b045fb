"""The page on environments of one's own does what it says: its code, and the package beside it.

Its commands are typed by `tests/scripts/test_documents.py`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "custom-environments.md").read_text(encoding="utf-8")


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
    run(metarl, "train", "rl2", "my-cart", "--out", tmp_path / "run", *tiny, "--workers", "0")
    assert "40 held-out tasks" in run(metarl, "evaluate", tmp_path / "run")
