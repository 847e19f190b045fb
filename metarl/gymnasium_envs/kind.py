"""Checks that an object is a Gymnasium environment with spaces that agents can use; one-line errors for others."""

from __future__ import annotations

import inspect
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.gymnasium_envs.rows import Env, Layout
from metarl.tasks import Family


def not_an_env(name: str, kind: type) -> str:
    """A message with advice about a class, or its instance, that is no `gymnasium.Env`."""
    package = kind.__module__.partition(".")[0]
    bases = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "gym" in bases:
        advice = "it comes from the old package gym: write `import gymnasium as gym` in its module"
    elif issubclass(kind, gymnasium.vector.VectorEnv):
        advice = "it is a batch of environments: name a single one"
    elif bases & {"dm_env", "dm_control", "pettingzoo"}:
        advice = f"it comes from {package}: wrap it with the package shimmy"
    elif issubclass(kind, Family):
        advice = "it is a family already: name it without gym:"
    else:
        advice = "inherit from gymnasium.Env"
    return f"family {name!r}: got a {kind.__name__}, expected a gymnasium.Env; {advice}"


def check_is_env(name: str, env: object) -> None:
    """Raises ValueError unless the object is a Gymnasium environment with both spaces."""
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
    """Raises ValueError if reset takes no seed (the old API of gym), or no options although they contain the task."""
    level: Any = env
    takes_options = takes_options or isinstance(env, gymnasium.Wrapper)  # a wrapper passes options on, if only None
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
    """Raises ValueError for an observation or action space that no agent supports, or a wrong number of units."""
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
            f"family {name!r}: got the empty observation space {observation}, expected at least one number; "
            "declare Box(0, 1, (1,)), and observe np.zeros(1)"
        )
    if not layout.action_size:
        raise ValueError(f"family {name!r}: got the empty action space {action}, expected at least one number")
    if layout.units and len(layout.units) != layout.observation_size:
        raise ValueError(
            f"family {name!r}: got {len(layout.units)} observation_units, expected {layout.observation_size}, one for "
            "each number of the flattened observation"
        )


def _flattens(space: spaces.Space[Any]) -> bool:
    """Whether a space flattens to a vector of fixed length."""
    try:
        return bool(space.is_np_flattenable) and isinstance(spaces.flatten_space(space), spaces.Box)
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return False
