"""The state of a study as a value: its trials, the best one, and its difference to the preset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metarl.run_setup import RunSettings
from metarl.scripts.tuning.confirm import Confirmation
from metarl.scripts.tuning.ranges import VariedSetting
from metarl.scripts.tuning.record import Record
from metarl.scripts.tuning.search import settings_of, winning_words
from metarl.scripts.tuning.study import Tried
from metarl.scripts.tuning.words import text_of

ORDER = ("complete", "pruned", "unfinished", "failed")
NO_SCORE = float("-inf")


@dataclass(frozen=True)
class Result:
    """A study as it stands.

    Args:
        record: The record.
        varied: The varied settings.
        trials: All trials that have begun.
        base: The settings of `metarl train AGENT FAMILY` without further options.
        confirmation: Result of the confirmation, if there was one.
    """

    record: Record
    varied: tuple[VariedSetting, ...]
    trials: tuple[Tried, ...]
    base: RunSettings
    confirmation: Confirmation | None = None

    @property
    def complete(self) -> list[Tried]:
        """The complete trials."""
        return [one for one in self.trials if one.state == "complete"]

    @property
    def best(self) -> Tried | None:
        """The complete trial with the highest score, the earliest of equal ones."""
        return max(self.complete, key=lambda one: (_score(one), -one.number), default=None)

    @property
    def preset(self) -> Tried | None:
        """The complete trial of the preset."""
        return next((one for one in self.complete if one.preset), None)

    @property
    def gain(self) -> float | None:
        """Score of the best trial minus that of the preset."""
        if self.best is None or self.preset is None:
            return None
        return _score(self.best) - _score(self.preset)

    @property
    def sorted(self) -> list[Tried]:
        """The trials by score, complete ones first."""
        return sorted(self.trials, key=lambda one: (ORDER.index(one.state), -_score(one), one.number))

    @property
    def env_steps(self) -> int:
        """Environment steps of all trials."""
        return sum(one.env_steps for one in self.trials)

    @property
    def seconds(self) -> float:
        """Seconds of training of all trials."""
        return sum(one.seconds for one in self.trials)

    def count(self, state: str) -> int:
        """Number of trials in a state."""
        return sum(one.state == state for one in self.trials)

    def settings(self, one: Tried) -> RunSettings:
        """The settings of a trial."""
        return settings_of(one, self.record, self.varied)

    def words(self, one: Tried) -> list[str]:
        """The words after `metarl` that train with the settings of a trial."""
        return winning_words(self.record, self.settings(one), self.base)

    def value(self, one: Tried, setting: VariedSetting) -> Any:
        """The value of a setting in a trial."""
        return setting.of(self.settings(one))

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON value."""

        def brief(one: Tried | None) -> dict[str, Any] | None:
            if one is None:
                return None
            values = {setting.name: text_of(self.value(one, setting)) for setting in self.varied}
            return {"trial": one.number, "score": one.score, "settings": values}

        confirmed = self.confirmation
        return {
            "agent": self.record.agent,
            "family": self.record.family,
            "trials": len(self.trials),
            **{state: self.count(state) for state in ORDER},
            "best": brief(self.best),
            "preset": brief(self.preset),
            "gain": self.gain,
            "words": self.words(self.best) if self.best else None,
            "confirmed": dict(confirmed.differences) if confirmed else None,
            "env_steps": self.env_steps,
            "seconds": self.seconds,
        }


def _score(one: Tried) -> float:
    return NO_SCORE if one.score is None else one.score


def shown(value: Any) -> str:
    """A value in a table: four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else text_of(value)


def steps_vary(varied: Sequence[VariedSetting]) -> bool:
    """Whether trials differ in the environment steps of an iteration."""
    return any(not one.of_agent and one.name in ("tasks", "episodes") for one in varied)
