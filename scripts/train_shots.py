"""`metarl train LEARNER FAMILY` on a few-shot family."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, cast

import tyro

from metarl.config import check
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.run import FewShotRun, ShotsTrainConfig
from metarl.few_shot.setup import set_up_few_shot, starting_few_shot_settings
from metarl.presets import PresetName, settings_from_preset
from metarl.registry import LEARNERS, agent_class, is_own_agent
from metarl.scripts.common import option_value, parse
from metarl.scripts.refusals import folder_to_go_on_with
from metarl.scripts.training_runs import RunDoor, one_per_seed
from metarl.watch import trackers


def read_few_shot(
    learner: str, spec: str, family: FewShotFamily, arguments: Sequence[str]
) -> tuple[RunDoor, list[Any], FewShotFamily]:
    """Reads the command line, and prepares the runs.

    With --resume, other settings come from the run's configuration, or from the preset if `--preset` names one.

    Args:
        learner: Name of the learner.
        spec: Name of the family, with its options.
        family: The family.
        arguments: The options.

    Returns:
        Folder and output, the runs (see `one_per_seed`), and the family with the run's changes.

    Raises:
        ValueError: An option is wrong, or the run cannot work.
    """
    kind = agent_class(learner, LEARNERS)
    fields: list[tuple[str, Any]] = [
        ("door", Annotated[RunDoor, tyro.conf.arg(name="")]),
        ("training", Annotated[ShotsTrainConfig, tyro.conf.arg(name="")]),
        ("agent", kind.Config),
    ]
    command = dataclasses.make_dataclass("TrainCommand", fields, frozen=True, kw_only=True)

    def read(training: ShotsTrainConfig, config: Any) -> Any:
        default = command(door=RunDoor(), training=training, agent=config)
        return parse(command, f"metarl train {learner} {spec}", arguments, default)

    preset = cast(PresetName | None, option_value(arguments, "--preset", "") or None)
    door = read(*settings_from_preset(learner, spec, preset or "default", kind, ShotsTrainConfig)).door
    if door.resume and door.out is None:
        raise ValueError("--resume: got no --out, expected the folder of the run to resume")
    earlier = folder_to_go_on_with(door.out, door.seeds) if door.resume else None
    own = kind if is_own_agent(learner) else None
    saved = FewShotRun.read(earlier, own) if earlier else None
    given = read(*starting_few_shot_settings(learner, spec, family, preset=preset, kind=kind, saved=saved))
    check(given.door)
    check(given.training)
    check(given.agent, "agent.")
    trackers(door.track)  # a missing package is refused before anything is written
    named = [name for name in ("device", "matmul") if option_value(arguments, f"--{name}", "")]
    run, family = set_up_few_shot(
        learner, spec, family, given.training, given.agent, kind=own, saved=saved, named=named
    )
    return given.door, one_per_seed(given.door, run), family
