"""Command lines whose options depend on the agent that they name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import tyro

from metarl.config import Rounds, RowsOrOwn, Seed, check
from metarl.registry import agent_class
from metarl.scripts.common import option_value, parse
from metarl.scripts.presets import PresetName, default_settings
from metarl.scripts.reference.agents import reference_class


@dataclass(frozen=True, kw_only=True)
class ContenderCommand:
    """What the measurements of an agent beside its reference have in common."""

    agent: str = "maml-trpo"
    """Which agent."""
    family: str = "half-cheetah-vel"
    """Whose spaces, and whose preset: sizes of the experience and the agent's settings."""
    preset: PresetName = "default"
    """Which of its presets: default, or published where there is one."""
    episodes: RowsOrOwn = 0
    """Environments per task (E); 0 takes the preset's."""
    horizon: RowsOrOwn = 0
    """Steps of each episode (T); 0 takes the preset's."""
    rounds: Rounds = 5
    """Times that each contender is measured, after a warm-up round."""
    reference: bool = True
    """Measure the reference too."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    matmul: Literal["float32", "tf32"] = "float32"
    """How a GPU multiplies matrices."""
    seed: Seed = 0
    """Seed of everything random."""
    json: bool = False
    """End stdout with one line of JSON."""


def with_settings(kind: type[Any], prog: str, arguments: Sequence[str]) -> tuple[Any, Any]:
    """Reads a command and, under `--config`, the settings of its agent, by default those of the preset.

    Args:
        kind: The command, a dataclass with the fields `agent` and `family`.
        prog: The command so far, for the help.
        arguments: What follows it.

    Returns:
        The command and the agent's settings, both checked.

    Raises:
        ValueError: There is no reference for the agent, no such preset, or a setting is out of its range.
    """
    defaults = kind()
    agent, family, name = (
        option_value(arguments, f"--{option}", getattr(defaults, option)) for option in ("agent", "family", "preset")
    )
    reference_class(agent)
    _, preset = default_settings(agent, family, cast(PresetName, name))
    whole: Any = dataclasses.make_dataclass(
        "BenchCommand",
        [("command", Annotated[kind, tyro.conf.arg(name="")]), ("config", agent_class(agent).Config)],
        frozen=True,
        kw_only=True,
    )
    read = parse(whole, prog, arguments, whole(command=defaults, config=preset))
    check(read.command)
    check(read.config, "config.")
    return read.command, read.config
