"""Successive transitions of robots under random actions, each a pure function of the robot and a number."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from metarl.tasks import Family
from metarl.types import Floats, Task
from metarl.vector import TaskVecEnv, random_actions

Key = tuple[Task, int, int]
"""A task of the family of environments, the number of the stream, and its steps."""
Stream = tuple[Floats, Floats]
"""Observations and actions `[steps, O + A]`, and differences of the next observation `[steps, O]`, float32."""
AT_ONCE = 64
"""Robots that are stepped together."""
MOST_BYTES = 2**28
"""Bytes of transitions that are kept."""


class RobotStreams:
    """Streams of transitions, simulated when first used and kept.

    A stream consists of successive episodes of one robot: after the end of an episode the next one begins. Actions are
    uniform on their bounds, on [-1, 1] without bounds. All random numbers come from a generator that is seeded with the
    task and the number of the stream, so neither earlier streams nor other robots of a batch change it.

    Args:
        family: The family of environments.
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._kept: OrderedDict[Key, Stream] = OrderedDict()
        self._bytes = 0

    def read(self, keys: Sequence[Key]) -> list[Stream]:
        """The streams, in order.

        Raises:
            ValueError: The simulation diverges again and again.
        """
        found = {key: self._kept[key] for key in keys if key in self._kept}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        for length in sorted({steps for _, _, steps in missing}):
            same = [key for key in missing if key[2] == length]
            for start in range(0, len(same), AT_ONCE):
                group = same[start : start + AT_ONCE]
                found |= zip(group, simulated(self._family, [key[:2] for key in group], length), strict=True)
        for key in dict.fromkeys(keys):
            self._keep(key, found[key])
        return [found[key] for key in keys]

    def _keep(self, key: Key, stream: Stream) -> None:
        """Keeps a stream as the most recent one, and drops the oldest ones if there are too many bytes."""
        if key not in self._kept:
            self._bytes += sum(part.nbytes for part in stream)
        self._kept[key] = stream
        self._kept.move_to_end(key)
        while self._bytes > MOST_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= sum(part.nbytes for part in oldest)


def stream_rngs(task: Task, number: int) -> tuple[np.random.Generator, np.random.Generator]:
    """The generators of a stream: of the seeds of its episodes, and of its actions."""
    text = json.dumps(task.to_json(), sort_keys=True)
    entropy = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
    seeds = np.random.SeedSequence(entropy, spawn_key=(number,)).spawn(2)
    return np.random.default_rng(seeds[0]), np.random.default_rng(seeds[1])


def simulated(family: Family, robots: Sequence[tuple[Task, int]], steps: int) -> list[Stream]:
    """Simulates streams of some robots side by side.

    Args:
        family: The family of environments.
        robots: Task and number of each stream.
        steps: Transitions of each stream.

    Raises:
        ValueError: The simulation diverges again and again.
    """
    n = len(robots)
    envs = family.make_envs(n, 1, family.horizon)
    try:
        envs.set_tasks([task for task, _ in robots])
        rngs, acting = zip(*(stream_rngs(*robot) for robot in robots), strict=True)
        chosen = np.stack([random_actions(envs.single_action_space, 2 * steps, rng) for rng in acting], axis=1)
        for row, rng in enumerate(rngs):
            now = _begun(envs, row, rng)
        size = envs.spaces.observation_size
        x = np.empty((n, steps, size + envs.spaces.action_size), dtype=np.float32)
        y = np.empty((n, steps, size), dtype=np.float32)
        filled = np.zeros(n, dtype=np.int64)  # [n]
        for actions in chosen:
            after, _, terminated, truncated, infos = envs.step(actions)
            rows = np.flatnonzero(~infos["diverged"] & (filled < steps))
            x[rows, filled[rows]] = np.concatenate([now[rows], actions[rows]], axis=1)
            y[rows, filled[rows]] = after[rows] - now[rows]
            filled[rows] += 1
            if (filled == steps).all():
                return list(zip(x, y, strict=True))
            now = after
            for row in np.flatnonzero(terminated | truncated).tolist():
                now = _begun(envs, row, rngs[row])
    finally:
        envs.close()
    raise ValueError(
        f"family {family.name!r}: got simulations that diverge in more than half of the steps under random actions, "
        "expected a stable model"
    )


def _begun(envs: TaskVecEnv, row: int, rng: np.random.Generator) -> Floats:
    """All observations `[N, O]` after a new episode began in one row."""
    mask = np.arange(envs.num_envs) == row
    return envs.reset(seed=int(rng.integers(2**31)), options={"reset_mask": mask})[0]
