"""Command lines that include an agent's settings, and the agents to measure."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import torch
import tyro

from metarl.agent import MetaAgent
from metarl.config import Rounds, RowsOrOwn, Seed, check
from metarl.learning.device.gpu import one_by_one
from metarl.registry import agent_class
from metarl.scripts.common import option_value, parse
from metarl.scripts.presets import PresetName, default_settings
from metarl.scripts.reference.agents import plain_agent, reference
from metarl.seeding import Streams
from metarl.types import MetaBatch, Spaces


@dataclass(frozen=True, kw_only=True)
class ContenderCommand:
    """Options of the measurements that compare an agent with its reference."""

    agent: str = "maml-trpo"
    """Agent to measure."""
    family: str = "half-cheetah-vel"
    """Family: its spaces and its preset, with the sizes of the experience and the agent's settings."""
    preset: PresetName = "default"
    """Preset of the family: default, or published if there is one."""
    episodes: RowsOrOwn = 0
    """Environments per task (E); 0 for the preset's number."""
    horizon: RowsOrOwn = 0
    """Steps of each episode (T); 0 for the preset's number."""
    rounds: Rounds = 5
    """Measurements of each contender, after a warm-up round."""
    reference: bool = True
    """Measure the reference too."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of networks and updates."""
    matmul: Literal["float32", "tf32"] = "float32"
    """Format in which a GPU multiplies matrices."""
    seed: Seed = 0
    """Seed of all random numbers."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def with_settings(kind: type[Any], prog: str, arguments: Sequence[str]) -> tuple[Any, Any]:
    """Reads a command and, under `--config`, the settings of its agent, with defaults from the preset.

    Args:
        kind: The command, a dataclass with the fields `agent`, `family` and `preset`.
        prog: Name of the command, for the help.
        arguments: Words after the name.

    Returns:
        The command and the agent's settings, both checked.

    Raises:
        ValueError: The agent has no reference, the preset does not exist, or a setting is out of range.
    """
    defaults = kind()
    agent, family, name = (
        option_value(arguments, f"--{option}", getattr(defaults, option)) for option in ("agent", "family", "preset")
    )
    reference(agent)
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


def contenders(
    command: ContenderCommand, config: Any, spaces: Spaces, device: torch.device, *, with_reference: bool
) -> dict[str, MetaAgent[Any]]:
    """The agents to measure: `ours` and, if requested, `reference`, its plain version.

    Args:
        command: Agent and seed.
        config: Settings of the agent.
        spaces: Sizes and action bounds.
        device: Device of networks and updates.
        with_reference: Add the plain version.
    """
    kind: type[MetaAgent[Any]] = agent_class(command.agent)
    ours = kind.build(config, spaces, device=device, rng=Streams(command.seed).learner)
    if not with_reference:
        return {"ours": ours}
    plain = reference(command.agent)(ours)

    def meta_update(batch: MetaBatch[Any]) -> dict[str, float]:
        with one_by_one():  # a loop that was recorded as one launch would not be plain
            return plain.meta_update(batch)

    return {"ours": ours, "reference": plain_agent(plain, meta_update=meta_update)}
