"""The configuration of a few-shot run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from metarl import config as settings
from metarl.agent import MetaAgent
from metarl.config import RowsOrOwn
from metarl.few_shot.shots import ShotSpaces
from metarl.registry import LEARNERS
from metarl.run_config import BaseRun, LearningConfig, agent_of_config, read_config

EXPERIENCE = "shots"
"""Value of `experience` in `config.json`; runs on episodes have none."""


@dataclass(frozen=True, kw_only=True)
class ShotsTrainConfig(LearningConfig):
    """Settings of a few-shot run, without those of its learner."""

    train_tasks: RowsOrOwn = 0
    """Size of a fixed set of training tasks; 0 draws new tasks each time."""


@dataclass(frozen=True, kw_only=True)
class FewShotRun(BaseRun):
    """All settings that affect the results of a few-shot run: the content of `config.json`.

    Args:
        agent: Name of the learner.
        family: Name of the family with its options, or the user's own `module:function`.
        training: Settings of the run.
        agent_config: Settings of the learner, an instance of its `Config`.
        spaces: Sizes of the examples that the learner was built for.
        own_agent: See `BaseRun`.
    """

    group: ClassVar[str] = LEARNERS

    training: ShotsTrainConfig
    spaces: ShotSpaces

    def to_json(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return {
            "experience": EXPERIENCE,
            "agent": self.agent,
            "family": self.family,
            "training": settings.to_json(self.training),
            "agent_config": settings.to_json(self.agent_config),
            "spaces": dataclasses.asdict(self.spaces),
        }

    @classmethod
    def read(cls, run_dir: Path, agent: type[MetaAgent[Any]] | None = None) -> FewShotRun:
        """See `BaseRun.read`."""
        path, value = read_config(run_dir)
        if not is_few_shot(value):
            raise ValueError(f"{run_dir}: got a run on episodes, expected one on a few-shot family")
        kind = agent_of_config(path, value, agent, LEARNERS)
        try:
            if not isinstance(value["family"], str):
                raise ValueError(f"family: got {value['family']!r}, expected a name")
            return cls(
                agent=value["agent"],
                family=value["family"],
                training=settings.from_json(ShotsTrainConfig, value["training"], "training."),
                agent_config=settings.from_json(kind.Config, value["agent_config"], "agent."),
                spaces=settings.from_json(ShotSpaces, value["spaces"], "spaces."),
                own_agent=agent,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: got a configuration that does not fit this version ({error})") from error


def is_few_shot(value: Any) -> bool:
    """Whether the content of a `config.json` is that of a few-shot run."""
    return isinstance(value, Mapping) and value.get("experience") == EXPERIENCE
