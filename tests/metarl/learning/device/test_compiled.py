"""Threads of compiled loops."""

from __future__ import annotations

import subprocess
import sys

import pytest

FORKED = """
import os, warnings
import numpy as np
import torch
from metarl.learning.device.compiled import compiled, over_rows

@compiled
def doubled(first, last, x):
    for i in range(first, last):
        x[i] *= 2.0

warnings.simplefilter("ignore")
torch.set_num_threads(2)
x = np.ones(8)
over_rows(doubled, 8, 1, x)
pid = os.fork()
over_rows(doubled, 8, 1, x)
assert x.tolist() == [4.0] * 8
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_loops_go_on_in_a_forked_process(tmp_path) -> None:
    (tmp_path / "forked.py").write_text(FORKED)
    subprocess.run([sys.executable, "forked.py"], cwd=tmp_path, check=True, timeout=60)
