"""Presets: the defaults of an agent on a family, as changes to one default, with the source of each number."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from metarl.registry import agent_class
from metarl.train import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What differs from the defaults of `TrainConfig` and of the agent's `Config`.

    Args:
        training: Changes to the run's settings.
        agent: Changes to the agent's settings.
        source: Where the numbers come from.
    """

    training: dict[str, Any] = field(default_factory=dict)
    agent: dict[str, Any] = field(default_factory=dict)
    source: str = "defaults"


MAML_SOURCE = "sizes and settings of pytorch-maml-rl (configs/maml) and ProMP (run_scripts/maml_run_mujoco.py)"

AS_MAML = "settings of maml-trpo's preset; not tried at length here"
OWN_RUNS = "own runs with seed 0"
PROMP_SOURCE = "ProMP (run_scripts): Adam 1e-3, 5 steps, clip 0.3, penalty 5e-4; sizes of maml-trpo"

PRESETS: dict[tuple[str, str], Preset] = {
    ("maml-trpo", "point-robot"): Preset(
        training={"iterations": 50},
        source=f"{MAML_SOURCE}: 20 tasks x 20 episodes x 100 steps; iterations: our own runs are flat from 20 on",
    ),
    ("maml-trpo", "sparse-point-robot"): Preset(
        training={"iterations": 100, "horizon": 100},
        source="as point-robot; horizon of varibad: a random walk finds the goal only in long episodes",
    ),
    ("maml-trpo", "half-cheetah-vel"): Preset(
        training={"iterations": 90},
        agent={"action_scale": 10.0},
        source=f"{MAML_SOURCE}; 20 tasks in place of 40, action scale of rllab's MAML experiments",
    ),
    ("maml-trpo", "half-cheetah-vel-3"): Preset(
        training={"iterations": 90}, agent={"action_scale": 10.0}, source="as half-cheetah-vel"
    ),
    ("maml-trpo", "half-cheetah-dir"): Preset(
        training={"iterations": 60}, agent={"action_scale": 10.0}, source="as half-cheetah-vel"
    ),
    ("fomaml", "point-robot"): Preset(
        training={"iterations": 50}, source=f"as maml-trpo; {OWN_RUNS}: still improving slowly at 25"
    ),
    ("fomaml", "half-cheetah-vel"): Preset(training={"iterations": 90}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("fomaml", "half-cheetah-dir"): Preset(training={"iterations": 60}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("meta-sgd", "point-robot"): Preset(
        training={"iterations": 50}, source=f"as maml-trpo; {OWN_RUNS}: nearly flat from 20 on"
    ),
    ("meta-sgd", "half-cheetah-vel"): Preset(training={"iterations": 90}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("meta-sgd", "half-cheetah-dir"): Preset(training={"iterations": 60}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("reptile", "point-robot"): Preset(
        training={"iterations": 100},
        source=f"sizes of maml-trpo; {OWN_RUNS}: still improving at 100",
    ),
    ("promp", "point-robot"): Preset(
        training={"iterations": 60}, source=f"{PROMP_SOURCE}; {OWN_RUNS}: flat from 50 on"
    ),
    ("promp", "half-cheetah-vel"): Preset(
        training={"iterations": 200}, agent={"action_scale": 10.0}, source=f"{PROMP_SOURCE}; not tried at length here"
    ),
    ("promp", "half-cheetah-dir"): Preset(
        training={"iterations": 200}, agent={"action_scale": 10.0}, source=f"{PROMP_SOURCE}; not tried at length here"
    ),
}


def preset(agent: str, family: str) -> Preset:
    """The preset of an agent on a family; plain defaults where there is none."""
    return PRESETS.get((agent, family), Preset())


def default_settings(agent: str, family: str) -> tuple[TrainConfig, Any]:
    """The run's and the agent's settings that `metarl train AGENT FAMILY` starts from."""
    chosen = preset(agent, family)
    return replace(TrainConfig(), **chosen.training), replace(agent_class(agent).Config(), **chosen.agent)
