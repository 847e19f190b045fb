from __future__ import annotations

from pathlib import Path

import pytest
import torch

from metarl.learning import memory
from metarl.learning.memory import free_bytes, graph_bytes
from metarl.learning.policy import task_chunks

CPU = torch.device("cpu")


def test_free_memory_is_what_the_system_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**20 < free_bytes(CPU) < 2**50
    told = tmp_path / "meminfo"
    told.write_text("MemTotal:       16384 kB\nMemAvailable:    4096 kB\n", encoding="ascii")
    monkeypatch.setattr(memory, "SYSTEM_MEMORY", told)
    assert free_bytes(CPU) == 4096 * 1024
    monkeypatch.setattr(memory, "SYSTEM_MEMORY", tmp_path / "nowhere")
    assert free_bytes(CPU) == float("inf")


def test_on_a_gpu_a_chunk_takes_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    widths, samples = (17, 64, 64, 6), 2000
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * 7 * graph_bytes(samples, widths) + 1000, 0))
    chunks = task_chunks(20, samples, widths, torch.device("cuda"))
    assert [c.stop - c.start for c in chunks] == [7, 7, 6]
