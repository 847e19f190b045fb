from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from metarl.learning.device import chunks as memory
from metarl.learning.device.chunks import chunks_that_fit, fits, free_bytes, graph_bytes
from metarl.learning.device.process import keep_freed_memory
from metarl.learning.gradient.policy import task_chunks

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


def test_what_pytorch_keeps_of_a_gpu_without_using_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("mem_get_info", (100, 1000)), ("memory_reserved", 70), ("memory_allocated", 30)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(torch.device("cuda")) == 100 + 70 - 30


def test_chunks_fit_into_half_of_the_free_memory_and_have_a_task_each(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, sizes in ((2 * 4 * 100 + 50, [4, 4, 2]), (1e9, [10]), (0.0, [1] * 10)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert [c.stop - c.start for c in chunks_that_fit(10, 100, torch.device("cuda"))] == sizes
        assert chunks_that_fit(10, 100, CPU) == [slice(0, 10)], "whatever else is in the memory"


def test_what_takes_more_than_half_of_the_free_memory_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 200.0)
    assert fits(100, CPU)
    assert not fits(101, CPU)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library has no such setting")
def test_freed_memory_is_kept_for_the_next_array() -> None:
    keep_freed_memory()

    def faults(arrays: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(arrays):
            torch.ones(2**24)  # 64 MiB, 16,384 pages
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults(4)  # until there is room for it
    assert min(faults(4) for _ in range(3)) < 1000, "in the calmest of three"
