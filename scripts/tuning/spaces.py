"""The ranges that `metarl tune` varies without `--vary`: around the preset, for the settings an agent has."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

from metarl.config import Range
from metarl.run_setup import RunSettings
from metarl.scripts.tuning.words import limits_of

MOST = 5
"""Largest number of settings of a default space: the trials needed grow with it."""


def _log(factor: float) -> Callable[[float, Range], str]:
    def around(value: float, limits: Range) -> str:
        low, high = max(value / factor, limits.low), min(value * factor, limits.high)
        return f"log({low:.12g},{high:.12g})" if 0 < low < high else ""

    return around


def _log_or_none(value: float, limits: Range) -> str:
    return _log(10.0)(value, limits) if value > 0 else "choice(0.0,0.0003,0.001,0.003,0.01)"


def _discount(value: float, limits: Range) -> str:
    values = sorted({0.9, 0.95, 0.97, 0.99, 0.995, value})
    return f"choice({','.join(map(str, values))})"


def _trace(value: float, limits: Range) -> str:
    return f"uniform({min(0.9, value):g},1)"


def _doubled(value: float, limits: Range) -> str:
    values = sorted({max(1, int(value) // 2), int(value), 2 * int(value)})
    return f"choice({','.join(map(str, values))})"


SPACE: dict[str, Callable[[float, Range], str]] = {
    "learning_rate": _log(5.0),
    "lr": _log(5.0),
    "inner_lr": _log(5.0),
    "outer_lr": _log(5.0),
    "vae_learning_rate": _log(5.0),
    "max_kl": _log(4.0),
    "entropy_weight": _log_or_none,
    "gamma": _discount,
    "kl_weight": _log(10.0),
    "minibatches": _doubled,
    "gae_lambda": _trace,
    "reward_scale": _log(5.0),
    "tau": _log(5.0),
    "gradient_steps": _doubled,
    "plan_steps": _doubled,
}
"""Ranges by setting, the most important first; each is made from the preset's value and the limits of the setting."""


def default_space(settings: RunSettings) -> tuple[str, ...]:
    """The ranges of an agent, in the words of `--vary`; every one contains the preset's value.

    Args:
        settings: The settings to vary.

    Raises:
        ValueError: The agent has none of the settings that have a default range.
    """
    hints: dict[str, Any] = typing.get_type_hints(type(settings.agent), include_extras=True)
    texts = [
        f"{name}={text}"
        for name, make in SPACE.items()
        if name in hints and (text := make(getattr(settings.agent, name), limits_of(hints[name])))
    ]
    if not texts:
        names = ", ".join(field.name for field in dataclasses.fields(settings.agent)) or "none"
        raise ValueError(
            f'--vary: got none, and this agent has no setting with a default range; add --vary "NAME=log(LOW,HIGH)"; '
            f"there are: {names}"
        )
    return tuple(texts[:MOST])
