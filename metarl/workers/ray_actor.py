"""The part of `--workers ray` that runs in the actors of a cluster; it needs no import of Ray."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from metarl.workers.blocks import Batches
from metarl.workers.packed import Packed, copied, pack, unpack
from metarl.workers.process import Failure, one_thread

SAME = ("metarl-robots", "torch", "mujoco", "numpy", "gymnasium", "metaworld")
"""Packages whose versions must agree on all machines, since results depend on them."""

Sent: TypeAlias = tuple[bytes, Sequence[NDArray[np.uint8]]]
"""A packed value with its arrays as NumPy arrays, which Ray stores without a copy."""


def sendable(packed: Packed) -> Sent:
    """A packed value for Ray."""
    return packed.data, [np.asarray(array, dtype=np.uint8) for array in packed.arrays]


def received(sent: Sent) -> Packed:
    """The packed value; its arrays are views of Ray's memory and cannot be written to."""
    return Packed(sent[0], [array.data for array in sent[1]])


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on; the build of a version (`+cpu`) is left out."""
    found = {}
    for name in SAME:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name).partition("+")[0]
    return found


def vector_instructions() -> str:
    """The CPU's vector instructions that torch uses: the last bits of results depend on them."""
    return torch.backends.cpu.get_cpu_capability()


@dataclass(frozen=True)
class Started:
    """An actor that can play blocks.

    Attributes:
        machine: Name of its machine.
        pid: Its process.
        versions: Versions of the packages there.
        instructions: Vector instructions of the CPU there.
    """

    machine: str
    pid: int
    versions: dict[str, str]
    instructions: str


class RayBlocks:
    """Plays blocks in an actor: one CPU, one thread."""

    def __init__(self) -> None:
        self._batches: Batches | None = None
        self._actor: Any = None
        self._version = -1

    def start(self, make_envs: Sent) -> Started | Failure:
        """Prepares this process.

        Args:
            make_envs: Makes a batch of environments, packed.
        """
        one_thread()
        try:
            self._batches = Batches(unpack(copied(received(make_envs))))
        except Exception as error:
            return Failure.of(error)
        return Started(socket.gethostname(), os.getpid(), package_versions(), vector_instructions())

    def play(self, version: int, actor: Sent, block: Sent) -> tuple[Sent, Sent] | Failure:
        """The episodes of a block and the state after acting, both packed.

        Args:
            version: Version of the agent; the same one is unpacked once.
            actor: The agent's acting part, packed.
            block: The block, packed.
        """
        assert self._batches is not None
        try:
            if version != self._version:
                self._actor, self._version = unpack(copied(received(actor))), version
            trajectories, state = self._batches.play(self._actor, unpack(copied(received(block))))
            return sendable(pack(trajectories)), sendable(pack(state))
        except Exception as error:
            return Failure.of(error)

    def close(self) -> None:
        """Closes the environments."""
        if self._batches is not None:
            self._batches.close()
