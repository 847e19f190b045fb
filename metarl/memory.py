"""Memory that a run will need, estimated before its arrays are created, and memory of the machine.

Estimates are lower bounds: a run that is refused would not have fit, and a run that passes may still be too large. They
are computed from settings and spaces alone, in Python integers, so that huge settings can be checked as fast as usual
ones.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from metarl.types import Spaces

FLOAT, DOUBLE = 4, 8
"""Bytes of a float32 and of a float64."""
LEARNED = 4
"""Numbers per parameter that Adam trains: value, gradient, and two moments."""
SAVED = 3
"""Copies of an array while it is saved: the array itself, its copy for the checkpoint, and the bytes of the file."""
OPERATIONS_PER_SECOND = 1.3e10
"""Floating-point operations of one core on float64 matrices, roughly."""
SLOW_SECONDS = 5.0
"""Seconds per iteration from which a part of an agent causes a warning."""
SYSTEM_MEMORY = Path("/proc/meminfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


@dataclass(frozen=True, kw_only=True)
class RunSize:
    """Size of a training, apart from the agent's settings and the spaces.

    Args:
        tasks: `M`.
        episodes: `E`.
        iterations: Total meta-updates.
        gpu: Whether the agent computes on a GPU, in the GPU's own memory.
    """

    tasks: int
    episodes: int
    iterations: int
    gpu: bool = False


@dataclass(frozen=True)
class Need:
    """Memory of one part of a run.

    Args:
        what: Name of the part, for messages.
        num_bytes: Lower bound on its bytes of host memory.
        remedy: Option that reduces it, worded to follow "try".
        operations: Floating-point operations per iteration if the part can be slow, else 0.
        reserved: Bytes of the whole allocation, if a short run uses only a part of it; limited by the machine's total
            memory.
    """

    what: str
    num_bytes: int
    remedy: str
    operations: float = 0.0
    reserved: int = 0


def dense_parameters(sizes: Sequence[int]) -> int:
    """Number of parameters of an MLP with these layer sizes, input first."""
    return sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))


def rollout_memory(spaces: Spaces, tasks: int, episodes: int, collects: int = 1) -> Need:
    """Memory of the recorded episodes of one iteration, without the environments.

    Args:
        spaces: Sizes and horizon.
        tasks: `M`.
        episodes: `E`.
        collects: Recordings in memory at the same time: `K + 1` in training.
    """
    o, a, t = spaces.observation_size, spaces.action_size, spaces.horizon
    step = FLOAT * (o + 2 * a + 1) + 4  # observation, action, policy output, reward, and four flags
    return Need(
        f"recording {tasks * episodes:,} episodes of {t:,} steps with {o:,} numbers each",
        tasks * episodes * (collects * t * step + 2 * DOUBLE * o),
        "fewer --tasks or --episodes, or a shorter --horizon",
    )


def agent_memory(kind: Any, config: Any, spaces: Any, size: RunSize) -> list[Need]:
    """Memory of an agent, without the recorded episodes; empty for an agent without `memory_needed`.

    Args:
        kind: The agent's class. It may have a class method `memory_needed(config, spaces, size)` that returns `Need`s.
        config: The agent's settings.
        spaces: Sizes of the environments, or of the examples of a few-shot family.
        size: Size of the training.
    """
    ask = getattr(kind, "memory_needed", None)
    return list(ask(config, spaces, size)) if ask else []


def check_memory(needs: Sequence[Need], free: float | None = None, in_all: float | None = None) -> None:
    """Checks that all parts fit into memory together.

    Args:
        needs: Parts that are in memory at the same time.
        free: Free bytes; by default those of `free_memory`.
        in_all: Total bytes of the machine; by default those of `all_memory`.

    Raises:
        ValueError: They do not fit. The message names the first part that does not fit alone, or else the largest, and
            an option that makes it smaller.
    """
    free = free_memory() if free is None else free
    in_all = all_memory() if in_all is None else in_all
    for need in needs:
        if need.reserved > in_all:
            raise ValueError(_too_large(need.what, need.reserved, f"there are {in_units(in_all)}", need.remedy))
    total = sum(need.num_bytes for need in needs)
    if total > free:
        alone = (need for need in needs if need.num_bytes > free)
        largest = next(alone, max(needs, key=lambda need: need.num_bytes))
        needed, left = in_units(total), f"{in_units(free)} are free"
        if needed != in_units(largest.num_bytes):
            left += f" (all together: {needed})"
        raise ValueError(_too_large(largest.what, largest.num_bytes, left, largest.remedy))


def _too_large(what: str, num_bytes: int, there_is: str, remedy: str) -> str:
    return f"memory: {what} would need at least {in_units(num_bytes)}, but {there_is}; try {remedy}"


def slow_parts(needs: Sequence[Need]) -> list[str]:
    """A warning for each part that takes long in every iteration."""
    return [
        f"{need.what} takes about {seconds:,.0f} s of every iteration; {need.remedy} is faster"
        for need in needs
        if (seconds := need.operations / OPERATIONS_PER_SECOND) >= SLOW_SECONDS
    ]


def in_units(num_bytes: float) -> str:
    """A number of bytes with its unit: `13.5 GiB`."""
    size, unit = float(min(num_bytes, 1e300)), 0
    while size >= 1024.0 and unit < len(UNITS) - 1:
        size, unit = size / 1024.0, unit + 1
    return f"{size:,.0f} {UNITS[unit]}" if unit == 0 or size >= 100.0 else f"{size:.1f} {UNITS[unit]}"


# The machine ----------------------------------------------------------------------------------------------


def free_memory() -> float:
    """Bytes that this process can still allocate, within system memory, control groups and resource limits."""
    return min(system_memory(SYSTEM_MEMORY), cgroup_memory(), address_space())


def system_memory(path: Path) -> float:
    """Available bytes as Linux reports them in `path`; without that file the physical memory, or infinity."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf") if path != SYSTEM_MEMORY else all_memory()
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), float("inf"))


def all_memory() -> float:
    """Bytes of physical memory; infinity if unknown."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def cgroup_memory() -> float:
    """Bytes left within the limits of the process's control groups (containers, batch systems), or infinity."""
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("inf")
    left = float("inf")
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            left = min(left, *_left_along(CGROUPS, path, "memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):  # version 1
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            left = min(left, *_left_along(CGROUPS / "memory", path, *names))
    return left


def _left_along(root: Path, path: str, limit: str, usage: str, reclaimable: str) -> list[float]:
    """Bytes left within each group, from the process's own up to the root; infinity for a group without a limit."""
    own = root / path.strip("/")
    groups = [own, *(parent for parent in own.parents if parent == root or root in parent.parents)]
    return [float("inf"), *(_left_of(group, limit, usage, reclaimable) for group in groups)]


def _left_of(group: Path, limit: str, usage: str, reclaimable: str) -> float:
    try:
        at_most, used = int((group / limit).read_text()), int((group / usage).read_text())
        numbers = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # the file is missing, or the limit is "max"
        return float("inf")
    return max(float(at_most - used + int(numbers.get(reclaimable, 0))), 0.0)  # the kernel frees the page cache first


def address_space() -> float:
    """Bytes of address space left within `ulimit -v`; infinity without a limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    try:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        used = 0
    return max(float(limit - used), 0.0)
