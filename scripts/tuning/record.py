"""The record of a study: everything that its trials share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from metarl import config
from metarl.registry import agent_class
from metarl.run_setup import RunSettings
from metarl.runs import TrainConfig
from metarl.scripts.tuning.scores import Metric
from metarl.stepping import Stepping

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """The part that all trials of a study share.

    Args:
        agent: Name of the agent.
        family: Name of the family.
        preset: Word of `--preset`; empty for none.
        settings: Settings of the preset trial.
        vary: The ranges in words.
        seeds: Trainings of a trial.
        score: The evaluated quantity.
        prune_after: Share of a trial's iterations before which none is pruned.
        cores: Cores of the machine that began the study; the default number of blocks follows from it.
    """

    agent: str
    family: str
    preset: str
    settings: RunSettings
    vary: tuple[str, ...]
    seeds: int
    score: Metric
    prune_after: float
    cores: int

    @property
    def seed_list(self) -> list[int]:
        """The seeds of a trial."""
        first = self.settings.training.seed
        return list(range(first, first + self.seeds))

    @property
    def iterations(self) -> int:
        """Iterations of a whole trial, all seeds together."""
        return self.seeds * self.settings.training.iterations

    @property
    def first_pruned(self) -> int:
        """First iteration after which a trial may be pruned; beyond the last one if none may."""
        return self.iterations + 1 if self.prune_after >= 1.0 else round(self.prune_after * self.iterations)

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON value."""
        stepping = self.settings.stepping
        return {
            "format": FORMAT,
            "agent": self.agent,
            "family": self.family,
            "preset": self.preset,
            "training": config.to_json(self.settings.training),
            "agent_config": config.to_json(self.settings.agent),
            "stepping": config.to_json(stepping) if stepping else None,
            "vary": list(self.vary),
            "seeds": self.seeds,
            "score": self.score,
            "prune_after": self.prune_after,
            "cores": self.cores,
        }

    def changed(self, other: Record) -> list[str]:
        """Names of the settings that differ from those of another record, as options."""
        mine, theirs = self.to_json(), other.to_json()
        names = []
        for key, prefix in (("training", "--"), ("agent_config", "--agent."), ("stepping", "--")):
            one, two = mine.pop(key) or {}, theirs.pop(key) or {}
            names += [prefix + name for name in one | two if one.get(name) != two.get(name)]
        names += [f"--{name}" for name in mine if name != "cores" and mine[name] != theirs[name]]
        return sorted(name.replace("_", "-") for name in names)


def record_of_json(path: Path, text: str, agent: str, family: str) -> Record:
    """The record in a file, checked.

    Args:
        path: The file.
        text: The record as JSON.
        agent: Name of the agent on the command line.
        family: Name of the family, likewise.

    Raises:
        ValueError: It does not fit this version, or it is of another agent or family.
    """
    try:
        value = json.loads(text)
        names = str(value["agent"]), str(value["family"])
    except (json.JSONDecodeError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: got a study with a damaged record ({error}), expected one of metarl tune") from error
    if names != (agent, family):
        raise ValueError(
            f"{path}: got a study of {names[0]} on {names[1]}, expected one of {agent} on {family}; name those, or "
            "choose another --out"
        )
    try:
        stepping = config.from_json(Stepping, value["stepping"], "stepping.") if value["stepping"] else None
        settings = RunSettings(
            training=config.from_json(TrainConfig, value["training"], "training."),
            agent=config.from_json(agent_class(agent).Config, value["agent_config"], "agent."),
            stepping=stepping,
        )
        return Record(
            agent=agent,
            family=family,
            preset=_text(value["preset"]),
            settings=settings,
            vary=tuple(map(_text, value["vary"])),
            seeds=int(value["seeds"]),
            score=_metric(value["score"]),
            prune_after=float(value["prune_after"]),
            cores=int(value["cores"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: got a study that does not fit this version ({error})") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"got {value!r}, expected text")
    return value


def _metric(value: Any) -> Metric:
    if value not in get_args(Metric):
        raise ValueError(f"score: got {value!r}, expected one of {', '.join(get_args(Metric))}")
    return cast(Metric, value)


def words_of_preset(preset: str) -> Sequence[str]:
    """The words that choose the preset on a command line."""
    return ["--preset", preset] if preset else []
