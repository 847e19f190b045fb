"""Whether what somebody brings is a Gymnasium environment of spaces that agents can use; one line where it is not."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.gymnasium_envs.rows import Env, Layout
from metarl.tasks import Family


def not_an_env(name: str, kind: type) -> str:
    """What to do about a class, or an object of it, that is no `gymnasium.Env`."""
    package = kind.__module__.partition(".")[0]
    bases = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "gym" in bases:
        advice = "it is one of the old package gym: write `import gymnasium as gym` where it is defined"
    elif issubclass(kind, gymnasium.vector.VectorEnv):
        advice = "it is a batch of environments: give a single one"
    elif bases & {"dm_env", "dm_control", "pettingzoo"}:
        advice = f"it is one of {package}: wrap it by the package shimmy"
    elif issubclass(kind, Family):
        advice = "it is a family already: name it without gym:"
    else:
        advice = "let the class inherit from it"
    return f"family {name!r}: got a {kind.__name__}, expected a gymnasium.Env; {advice}"


def check_is_env(name: str, env: object) -> None:
    """Raises ValueError for anything but a Gymnasium environment with two spaces."""
    if env is None:
        raise ValueError(f"family {name!r}: make_env returned None, expected a gymnasium.Env; return it")
    if not isinstance(env, gymnasium.Env):
        raise ValueError(not_an_env(name, type(env)))
    for which in ("observation_space", "action_space"):
        space = getattr(env, which, None)
        if not isinstance(space, spaces.Space):
            got = "none" if space is None else f"a {type(space).__module__}.{type(space).__name__}"
            raise ValueError(
                f"family {name!r}: got {got} as {which} of {type(env.unwrapped).__name__}, expected one of "
                "gymnasium.spaces, set when the environment is made"
            )


def check_env_is_ours(name: str, env: Env, *, takes_options: bool) -> None:
    """Raises ValueError where a reset takes no seed, as in the old API, or no options where they carry the task."""
    level: Any = env
    takes_options = takes_options or isinstance(env, gymnasium.Wrapper)  # which hands them on, if only None
    while level is not None:
        inner = getattr(level, "env", None) if isinstance(level, gymnasium.Wrapper) else None
        needed = ("seed", "options") if takes_options and inner is None else ("seed",)
        try:
            taken = inspect.signature(level.reset).parameters
        except (TypeError, ValueError):
            return
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
            for keyword in needed:
                if keyword not in taken:
                    raise ValueError(
                        f"family {name!r}: reset of {type(level).__name__} takes no {keyword}, expected "
                        "reset(self, *, seed=None, options=None) as in Gymnasium"
                    )
        level = inner


def check_spaces(name: str, layout: Layout) -> None:
    """Raises ValueError where observations are no row of numbers, actions no numbers or choice, or units do not fit."""
    observation, action = layout.observation_space, layout.action_space
    if not _flattens(observation):
        raise ValueError(
            f"family {name!r}: got the observation space {observation}, expected one that flattens to numbers: Box, "
            "Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these"
        )
    continuous = isinstance(action, spaces.Box) and np.issubdtype(action.dtype, np.floating)
    if not continuous and not isinstance(action, spaces.Discrete):
        raise ValueError(
            f"family {name!r}: got the action space {action}, expected a Discrete, or a Box of floating-point numbers"
        )
    if not layout.observation_size:
        raise ValueError(
            f"family {name!r}: got an observation space of no numbers, {observation}, expected at least one; let it "
            "be Box(0, 1, (1,)), and observe np.zeros(1)"
        )
    if not layout.action_size:
        raise ValueError(f"family {name!r}: got an action space of no numbers, {action}, expected at least one")
    if layout.units and len(layout.units) != layout.observation_size:
        raise ValueError(
            f"family {name!r}: got {len(layout.units)} observation_units, expected {layout.observation_size}, one for "
            "each number of the flattened observation"
        )


def _flattens(space: spaces.Space[Any]) -> bool:
    """Whether a space flattens to a row of numbers of one length."""
    try:
        return bool(space.is_np_flattenable) and isinstance(spaces.flatten_space(space), spaces.Box)
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return False
