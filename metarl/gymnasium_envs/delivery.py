"""Constructor arguments and attributes through which an environment can receive a task."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from metarl.gymnasium_envs.rows import Env
from metarl.names import did_you_mean

METARLS_OWN = ("render_mode", "max_episode_steps", "disable_env_checker")
"""Arguments that metarl sets itself."""
MISSING = object()


def signature(make_env: Callable[..., Any]) -> Sequence[inspect.Parameter]:
    """The parameters of a function, a class, or a registered id's constructor; empty if Python does not know them.

    Raises:
        Exception: Raised by the module of a registered id when it is imported.
    """
    if isinstance(make_env, partial) and make_env.func is gymnasium.make:
        point = gymnasium.spec(make_env.args[0].rpartition(":")[2]).entry_point
        if isinstance(point, str):
            module, _, attribute = point.partition(":")
            point = getattr(importlib.import_module(module), attribute)
        make_env = point or make_env
    try:
        return list(inspect.signature(make_env).parameters.values())
    except (TypeError, ValueError):
        return []


def takes_any(make_env: Callable[..., Any]) -> bool:
    """Whether a callable takes any keyword (`**keywords`)."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature(make_env))


def takes(make_env: Callable[..., Any], keyword: str) -> bool:
    """Whether a callable takes a keyword of that name, or any keyword."""
    return takes_any(make_env) or any(p.name == keyword for p in signature(make_env))


def keywords(make_env: Callable[..., Any]) -> dict[str, bool]:
    """Maps each named argument to whether it is required; for a function, a class, or a registered id."""
    found = signature(make_env)
    named = [p for p in found if p.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    return {p.name: p.default is inspect.Parameter.empty for p in named if p.name not in METARLS_OWN}


def has_method(env: Env, method: str) -> bool:
    """Whether the environment or one of its wrappers has a method of that name."""
    try:
        return callable(env.get_wrapper_attr(method))
    except AttributeError:
        return False


def settable(bare: Env, name: str) -> bool:
    """Whether the attribute exists and can be set: methods and properties without a setter cannot."""
    found = inspect.getattr_static(bare, name, MISSING)
    if isinstance(found, property):
        return found.fset is not None
    return found is not MISSING and not isinstance(found, staticmethod | classmethod) and not inspect.isroutine(found)


def number_attributes(bare: Env) -> list[str]:
    """Names of the public attributes of an environment that are numbers and can be set."""
    found = []
    for name in dir(bare):
        if not name.startswith("_") and settable(bare, name):
            try:
                value = getattr(bare, name)
            except Exception:  # a property may need a reset first
                continue
            if isinstance(value, int | float | np.ndarray | np.number) and not isinstance(value, bool):
                found.append(name)
    return found


def is_unexpected_keyword(error: BaseException | None) -> bool:
    """Whether the error comes from a call with an unknown keyword."""
    return isinstance(error, TypeError) and "unexpected keyword argument" in str(error)


def refuse_strangers(
    family: str, parameters: Sequence[str], known: Sequence[str], kind: str, attributes: Sequence[str], bare: Env | None
) -> None:
    """Raises ValueError for the first parameter that is neither argument nor attribute; suggests the nearest name.

    Args:
        family: Name of the family, for the message.
        parameters: Names of the parameters.
        known: Names that can receive a value: arguments, then attributes.
        kind: The word for the arguments in the message.
        attributes: The attributes among `known`.
        bare: The unwrapped environment; None if it could not be made.
    """
    for parameter in parameters:
        if parameter in known:
            continue
        arguments = ", ".join(k for k in known if k not in attributes) or "none"
        more = f"; numbers among its attributes: {', '.join(attributes)}" if attributes else ""
        there = inspect.getattr_static(bare, parameter, MISSING) if bare is not None else MISSING
        what = "which the environment does not have"
        if there is not MISSING:
            what = f"which is a {'property without a setter' if isinstance(there, property) else 'method'} of it"
        raise ValueError(
            f"family {family!r}: got the parameter {parameter!r}, {what}.{did_you_mean(parameter, known)} "
            f"Its {kind}: {arguments}{more}"
        )
