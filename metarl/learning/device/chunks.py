"""Free memory of a device, and chunks of tasks that fit into it."""

from __future__ import annotations

import torch

from metarl.memory import SYSTEM_MEMORY, system_memory

GRAPH_TENSORS = 32
"""Upper bound on the copies of a sample's activations that the autograd graph of a meta-update holds."""


def chunks_that_fit(num_tasks: int, task_bytes: int, device: torch.device) -> list[slice]:
    """Chunks of tasks that each fit into half of a GPU's free memory; on a CPU one chunk of all tasks.

    On a CPU the results must repeat bit for bit, so the chunks do not depend on the memory that happens to be free.

    Args:
        num_tasks: `M`.
        task_bytes: Bytes that one task needs.
        device: Device of the computation.
    """
    return chunks(num_tasks, int(free_bytes(device) / 2 / task_bytes) if device.type == "cuda" else num_tasks)


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether an array of this size fits into half of the device's free memory."""
    return num_bytes <= free_bytes(device) / 2


def chunks(num_tasks: int, size: int) -> list[slice]:
    """Consecutive slices of `num_tasks` tasks, `size` each (at least 1), the last one possibly shorter."""
    size = max(size, 1)
    return [slice(start, min(start + size, num_tasks)) for start in range(0, num_tasks, size)]


def free_bytes(device: torch.device) -> float:
    """Free bytes on the device; infinity if the platform does not report them."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # Memory that PyTorch's allocator has reserved and does not use counts as free.
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return system_memory(SYSTEM_MEMORY)


def graph_bytes(samples: int, widths: tuple[int, ...]) -> int:
    """Upper bound on the bytes of the autograd graph of one task's meta-update.

    Args:
        samples: `B`, samples of the task.
        widths: Layer sizes of the network, input first.
    """
    return 4 * samples * sum(widths) * GRAPH_TENSORS
