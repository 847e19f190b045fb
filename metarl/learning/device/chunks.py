"""How much memory a device has to spare, and what the graph of an update takes of it."""

from __future__ import annotations

import torch

from metarl.memory import SYSTEM_MEMORY, system_memory

GRAPH_TENSORS = 32
"""Copies of a sample's activations that the graph of a whole meta-update holds, rounded up."""


def chunks_that_fit(num_tasks: int, task_bytes: int, device: torch.device) -> list[slice]:
    """Chunks of tasks of which each fits into half of a GPU's free memory; on the CPU all tasks are one chunk.

    There, a run's numbers must not depend, bit for bit, on what else the machine has in its memory.

    Args:
        num_tasks: `M`.
        task_bytes: What one task takes.
        device: Where.
    """
    return chunks(num_tasks, int(free_bytes(device) / 2 / task_bytes) if device.type == "cuda" else num_tasks)


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether half of a device's free memory holds so much."""
    return num_bytes <= free_bytes(device) / 2


def chunks(num_tasks: int, size: int) -> list[slice]:
    """Slices of `num_tasks` tasks, at most `size` each, and at least one."""
    size = max(size, 1)
    return [slice(start, min(start + size, num_tasks)) for start in range(0, num_tasks, size)]


def free_bytes(device: torch.device) -> float:
    """What is to be had on a device now; infinite where nothing tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What PyTorch has taken from the device and does not use is free to the next update.
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return system_memory(SYSTEM_MEMORY)


def graph_bytes(samples: int, widths: tuple[int, ...]) -> int:
    """What the graph of a meta-update of one task takes, rounded up.

    Args:
        samples: `B`, samples of the task.
        widths: Layer sizes of the network.
    """
    return 4 * samples * sum(widths) * GRAPH_TENSORS
