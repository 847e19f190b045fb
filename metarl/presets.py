"""Presets: default settings of an agent on a family, as changes to the general defaults.

Tables of presets are registered under the entry-point group `metarl.presets`, each a mapping from the name of a preset
to a `PresetTable`. An agent without a preset on a family starts from its class attribute `default_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar

from metarl.agent import MetaAgent
from metarl.names import did_you_mean
from metarl.own_code.modules import own_error
from metarl.registry import AGENTS, LEARNERS, agent_class, preset_family
from metarl.run_config import LearningConfig
from metarl.runs import TrainConfig

GROUP = "metarl.presets"
TrainingT = TypeVar("TrainingT", bound=LearningConfig)
PresetName = Literal["default", "published"]
"""`default` is sized for two cores; `published` has the sizes of the paper if those are far larger."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Changes to the defaults of `TrainConfig` and of the agent's `Config`.

    Args:
        training: Changes to the run's settings.
        agent: Changes to the agent's settings.
        source: Origin of the numbers.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    source: str = "defaults"


PresetTable = Mapping[tuple[str, str], Preset]
"""Presets by agent and family; the options of a family do not count."""


def announced_presets(name: PresetName) -> dict[tuple[str, str], Preset]:
    """The presets of a given name from all packages.

    Raises:
        ValueError: No package registers presets, or a table has a wrong form or names an agent that no package
            registers.
        EnvError: A table cannot be imported.
    """
    announced = entry_points()  # once: it reads the metadata of every package
    points = sorted(announced.select(group=GROUP), key=lambda point: point.name)
    agents = sorted({point.name for group in (AGENTS, LEARNERS) for point in announced.select(group=group)})
    if not points:
        raise ValueError(f"presets: got no entry point of the group {GROUP!r}, expected metarl's own; reinstall metarl")
    found: dict[tuple[str, str], Preset] = {}
    for point in points:
        table = _table(point, name)
        unknown = sorted({agent for agent, _ in table} - set(agents))
        if unknown:
            raise ValueError(
                f"presets: got the agents {', '.join(unknown)} in {point.value}, expected registered ones: "
                f"{', '.join(agents)}"
            )
        found |= table
    return found


def _table(point: EntryPoint, name: PresetName) -> PresetTable:
    """The presets of a name that a package announces.

    Raises:
        ValueError: It announces something else.
        EnvError: Its tables cannot be imported.
    """
    what = f"presets of {point.value}"
    try:
        tables = point.load()
    except (Exception, SystemExit) as error:
        raise own_error(what, "when they were imported", error) from error
    table = tables.get(name, {}) if isinstance(tables, Mapping) else None
    if not isinstance(table, Mapping) or not all(isinstance(one, Preset) for one in table.values()):
        raise ValueError(f"{what}: expected a mapping from {name!r} to presets by (agent, family), got something else")
    wrong = next((key for key in table if not isinstance(key, tuple) or len(key) != 2), None)
    if wrong is not None:
        raise ValueError(f"{what}: got a preset for {wrong!r}, expected one for (agent, family)")
    return table


def preset(
    agent: str,
    family: str,
    name: PresetName = "default",
    kind: type[MetaAgent[Any]] | None = None,
    training: type[LearningConfig] = TrainConfig,
) -> Preset:
    """The preset of an agent on a family; the agent's `default_settings` if it has none there.

    Args:
        agent: Name of the agent.
        family: Name of the family, with its options.
        name: Name of the preset.
        kind: The agent's class; found by its name by default.
        training: Class of the run's settings.

    Raises:
        ValueError: There is no preset of that name for the two.
    """
    table = announced_presets(name if name in ("default", "published") else "published")
    if name == "default":
        found = table.get((agent, preset_family(family)))
        return found or any_family(kind or agent_class(agent), training)
    if name == "published" and (agent, family) in table:
        return table[agent, family]
    there = ", ".join(f"published for {a} on {f}" for a, f in table)
    raise ValueError(f"--preset: got {name!r} for {agent} on {family}, expected default; there is {there}")


def any_family(kind: type[MetaAgent[Any]], training: type[LearningConfig] = TrainConfig) -> Preset:
    """The preset of an agent on families without one: its class attribute `default_settings`."""
    of_run, agent = split_settings(kind, getattr(kind, "default_settings", {}), training)
    source = "sizes at which an iteration of a light environment takes seconds on two cores; nothing else is tuned"
    return Preset(training=of_run, agent=agent, source=source if of_run or agent else "defaults")


def default_settings(
    agent: str, family: str, name: PresetName = "default", kind: type[MetaAgent[Any]] | None = None
) -> tuple[TrainConfig, Any]:
    """The run's and the agent's settings that `metarl train AGENT FAMILY` starts from.

    Args:
        agent: Name of the agent.
        family: Name of the family, with its options.
        name: Name of the preset.
        kind: The agent's class; found by its name by default.

    Raises:
        ValueError: There is no preset of that name for the two.
    """
    return settings_from_preset(agent, family, name, kind or agent_class(agent), TrainConfig)


def settings_from_preset(
    agent: str, family: str, name: PresetName, kind: type[MetaAgent[Any]], training: type[TrainingT]
) -> tuple[TrainingT, Any]:
    """As `default_settings`, for any class of the run's settings.

    Args:
        agent: Name of the agent or learner.
        family: Name of the family, with its options.
        name: Name of the preset.
        kind: Class of the agent or learner.
        training: Class of the run's settings.

    Raises:
        ValueError: There is no preset of that name for the two.
    """
    chosen = preset(agent, family, name, kind, training)
    for given, there in ((chosen.training, training), (chosen.agent, kind.Config)):
        known = [one.name for one in fields(there)]
        for wrong in sorted(set(given) - set(known)):
            raise ValueError(
                f"presets: got the setting {wrong!r} for {agent} on {family}, which {there.__name__} does not have."
                f"{did_you_mean(wrong, known)} There are: {', '.join(known)}"
            )
    return replace(training(), **chosen.training), replace(kind.Config(), **chosen.agent)


def split_settings(
    kind: type[MetaAgent[Any]], settings: Mapping[str, Any], training: type[LearningConfig] = TrainConfig
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits settings into those of a run and those of its agent, by name.

    Args:
        kind: The agent's class.
        settings: Values by name.
        training: Class of the run's settings.

    Raises:
        ValueError: A name belongs to neither, or to both.
    """
    of_run, of_agent = {f.name for f in fields(training)}, {f.name for f in fields(kind.Config)}
    for name in settings:
        if name not in of_run | of_agent:
            known = ", ".join(sorted(of_run | of_agent))
            near = did_you_mean(name, of_run | of_agent)
            raise ValueError(
                f"settings: got {name!r}, which neither a run nor {kind.__name__} has.{near} There are: {known}"
            )
        if name in of_run & of_agent:
            raise ValueError(
                f"settings: got {name!r}, a setting of a run and of {kind.__name__}; expected different names; "
                "rename the agent's setting"
            )
    return (
        {name: value for name, value in settings.items() if name in of_run},
        {name: value for name, value in settings.items() if name in of_agent},
    )
