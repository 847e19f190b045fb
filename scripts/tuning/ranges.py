"""Ranges of settings in words: `learning_rate=log(1e-4,1e-2)`."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from metarl.names import did_you_mean
from metarl.run_setup import RunSettings
from metarl.scripts.tuning.words import kind_of, text_of, value_of

Form = Literal["log", "uniform", "int", "choice"]
FORMS = "NAME=log(LOW,HIGH), NAME=uniform(LOW,HIGH), NAME=int(LOW,HIGH), NAME=choice(A,B,...)"
PATTERN = re.compile(r"\s*([A-Za-z_][\w.-]*)\s*=\s*([A-Za-z]+)\s*\(([^()]*)\)\s*")
DIGITS = 4
"""Significant digits of a drawn number; no training is so exact that more would change its score reliably."""
OF_RUN = ("tasks", "episodes", "train_tasks")
"""Settings of a run that may vary; the others decide how a trial is scored, or do not change a result."""
AGENT = "agent."


@dataclass(frozen=True)
class VariedSetting:
    """A setting and the values that trials may give it.

    Args:
        name: Name of the field.
        of_agent: Whether it is a setting of the agent; otherwise one of the run.
        form: Kind of the range.
        low: Lowest value; not of `choice`.
        high: Highest value; not of `choice`.
        choices: Words of the values of `choice`.
        hint: Type of the field.
    """

    name: str
    of_agent: bool
    form: Form
    low: float
    high: float
    choices: tuple[str, ...]
    hint: Any = dataclasses.field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The range in words, in one spelling."""
        inside = self.choices if self.form == "choice" else (f"{self.low:.12g}", f"{self.high:.12g}")
        return f"{self.name}={self.form}({','.join(inside)})"

    @property
    def ends(self) -> list[Any]:
        """The values by which the range is checked: both ends, or every choice."""
        if self.form == "choice":
            return [self.value(choice) for choice in self.choices]
        return [self.value(self.low), self.value(self.high)]

    def value(self, drawn: Any) -> Any:
        """The value of the setting for a drawn number or word."""
        if self.form == "choice":
            return value_of(drawn, self.hint)
        if self.form == "int":
            return int(drawn)
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)

    def drawn(self, value: Any) -> Any:
        """The number or word that gives a value; None if the range does not contain it."""
        if self.form == "choice":
            return next((word for word in self.choices if self.value(word) == value), None)
        if value is None or not self.low <= value <= self.high:
            return None
        return value

    def of(self, settings: RunSettings) -> Any:
        """The value that some settings have."""
        return getattr(settings.agent if self.of_agent else settings.training, self.name)


def with_values(settings: RunSettings, varied: Sequence[VariedSetting], values: Mapping[str, Any]) -> RunSettings:
    """Settings with other values.

    Args:
        settings: The settings to begin with.
        varied: The varied settings.
        values: Values by name; settings that are not among them stay.
    """
    mine = {one.name: values[one.name] for one in varied if one.of_agent and one.name in values}
    of_run = {one.name: values[one.name] for one in varied if not one.of_agent and one.name in values}
    training = dataclasses.replace(settings.training, **of_run)
    return dataclasses.replace(settings, training=training, agent=dataclasses.replace(settings.agent, **mine))


def read_ranges(texts: Sequence[str], settings: RunSettings) -> tuple[VariedSetting, ...]:
    """Reads and checks the ranges of a command line.

    Args:
        texts: Arguments of `--vary`.
        settings: The settings that they vary; their classes declare types and limits.

    Raises:
        ValueError: A range is malformed, names no setting, or contains a value that the setting cannot have.
    """
    ranges = tuple(_read(text, settings) for text in texts)
    names = [one.name for one in ranges]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"--vary: got {twice!r} twice, expected one range for each setting")
    for one in ranges:
        for value in one.ends:
            try:
                with_values(settings, [one], {one.name: value}).checked()
            except ValueError as error:
                raise ValueError(f"--vary: got {one.text!r}, which holds an impossible value; {error}") from None
    return ranges


def _read(text: str, settings: RunSettings) -> VariedSetting:
    match = PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"--vary: got {text!r}, expected {FORMS}")
    named, form, inside = match.groups()
    name, of_agent = _resolved(named, settings)
    if form not in typing.get_args(Form):
        raise ValueError(f"--vary: got {form!r} in {text!r}, expected {FORMS}")
    config = settings.agent if of_agent else settings.training
    hint = typing.get_type_hints(type(config), include_extras=True)[name]
    parts = [part.strip() for part in inside.split(",")]
    low, high, choices = math.nan, math.nan, tuple[str, ...]()
    if form == "choice":
        choices = _choices(text, parts, hint)
    else:
        low, high = _ends(text, form, parts, hint)
    return VariedSetting(name, of_agent, typing.cast(Form, form), low, high, choices, hint)


def _resolved(named: str, settings: RunSettings) -> tuple[str, bool]:
    """Field of a name as it is typed, and whether it belongs to the agent."""
    agents = [field.name for field in dataclasses.fields(settings.agent)]
    name = named.removeprefix(AGENT).replace("-", "_")
    if name in agents:
        return name, True
    if name in OF_RUN and not named.startswith(AGENT):
        return name, False
    of_run = [field.name for field in dataclasses.fields(settings.training)]
    possible = [*agents, *OF_RUN]
    if name in of_run and not named.startswith(AGENT):
        raise ValueError(
            f"--vary: got {named!r}, a setting that all trials share, since it decides how long or on which tasks they "
            f"are scored; of the run may vary: {', '.join(OF_RUN)}"
        )
    raise ValueError(
        f"--vary: got {named!r}, which is no setting.{did_you_mean(name, possible)} There are: {', '.join(possible)}"
    )


def _choices(text: str, parts: Sequence[str], hint: Any) -> tuple[str, ...]:
    values = []
    for part in parts:
        try:
            values.append(value_of(part, hint))
        except ValueError as error:
            raise ValueError(f"--vary: {error} in {text!r}") from None
    if len(values) < 2 or any(value in values[:i] for i, value in enumerate(values)):
        raise ValueError(f"--vary: got {text!r}, expected at least two different values")
    return tuple(text_of(value) for value in values)


def _ends(text: str, form: str, parts: Sequence[str], hint: Any) -> tuple[float, float]:
    kind, _ = kind_of(hint)
    needed = int if form == "int" else float
    if kind is not needed:
        better = {int: "int or choice", float: "log, uniform or choice"}.get(kind, "choice")
        raise ValueError(f"--vary: got {form!r} in {text!r}, expected {better} for this setting")
    if len(parts) != 2:
        raise ValueError(f"--vary: got {len(parts)} numbers in {text!r}, expected the lowest and the highest value")
    try:
        low, high = (needed(part) for part in parts)
    except ValueError:
        whole = "whole " if form == "int" else ""
        raise ValueError(f"--vary: got {text!r}, expected {whole}numbers in {form}(LOW,HIGH)") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"--vary: got {text!r}, expected finite numbers, the lower one first")
    if form == "log" and low <= 0:
        raise ValueError(f"--vary: got {text!r}, expected numbers above 0 in log(LOW,HIGH)")
    return float(low), float(high)
