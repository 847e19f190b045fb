"""How much memory a device has to spare, and what the graph of an update takes of it."""

from __future__ import annotations

from pathlib import Path

import torch

GRAPH_TENSORS = 32
"""Copies of a sample's activations that the graph of a whole meta-update holds, rounded up."""
SYSTEM_MEMORY = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> float:
    """What is to be had on a device now; infinite where nothing tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free)
    try:
        lines = SYSTEM_MEMORY.read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), float("inf"))


def graph_bytes(samples: int, widths: tuple[int, ...]) -> int:
    """What the graph of a meta-update of one task takes, rounded up.

    Args:
        samples: `B`, samples of the task.
        widths: Layer sizes of the network.
    """
    return 4 * samples * sum(widths) * GRAPH_TENSORS
