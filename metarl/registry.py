"""Finding agents and families by name, through Python entry points.

This package announces its own in `pyproject.toml`, under the groups `metarl.agents` and `metarl.families`;
any other package can do the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import gymnasium

from metarl.agent import MetaAgent
from metarl.gymnasium_envs.from_gym import PREFIX, gym_family
from metarl.names import did_you_mean
from metarl.own_code.modules import attribute, call_own, own_error, own_functions, own_module
from metarl.tasks import Family

AGENTS, FAMILIES = "metarl.agents", "metarl.families"
FORM = "module:function"


def _announced(group: str) -> dict[str, list[EntryPoint]]:
    """What packages announce under a group, by name, sorted; more than one where packages use the same name."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        others = found.setdefault(point.name, [])
        if point.value not in [other.value for other in others]:
            others.append(point)
    return found


def names(group: str) -> list[str]:
    """What is announced under a group, sorted."""
    return list(_announced(group))


def announcement(group: str, name: str) -> str:
    """Who announces a name, in words: package and value of each entry point."""
    points = _announced(group).get(name, [])
    return " and ".join(f"{point.dist.name if point.dist else 'a package'} ({point.value})" for point in points)


def _find(group: str, kind: str, name: str) -> EntryPoint:
    announced = _announced(group)
    if name not in announced:
        raise ValueError(f"unknown {kind} {name!r}.{did_you_mean(name, announced)} There are: {', '.join(announced)}")
    if len(announced[name]) > 1:
        way = "; or name the one you mean as module:function" if group == FAMILIES else ""
        raise ValueError(
            f"{kind} {name!r}: got it from {announcement(group, name)}, expected one package that announces it; "
            f"uninstall the others{way}"
        )
    return announced[name][0]


def _loaded(group: str, kind: str, name: str) -> Any:
    """What an entry point stands for.

    Raises:
        ValueError: There is none of that name, or two packages announce it.
        EnvError: It cannot be imported.
    """
    point = _find(group, kind, name)
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        raise own_error(f"{kind} {name!r} of {announcement(group, name)}", "when it was imported", error) from error


def agent_class(name: str) -> type[MetaAgent[Any]]:
    """The class of an agent, from its name or as `module:Class`.

    Only ever call this with `module:Class` from the command line, never from a file: importing runs code.

    Raises:
        ValueError: There is none of that name; the message has the nearest, if one is near.
        EnvError: The package that announces it cannot be imported.
    """
    if ":" in name:
        module_name, _, attribute_name = name.partition(":")
        module = own_module(module_name, name, "module:Class")
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and hasattr(value, "Config")]
        own: type[MetaAgent[Any]] = attribute(module, attribute_name, name, "module:Class", classes, "an agent's class")
        if not isinstance(own, type) or not hasattr(own, "Config") or not hasattr(own, "summary"):
            raise ValueError(f"agent {name!r}: got {own!r}, expected a class with Config, summary")
        return own
    loaded: type[MetaAgent[Any]] = _loaded(AGENTS, "agent", name)
    if not isinstance(loaded, type) or not hasattr(loaded, "Config") or not hasattr(loaded, "summary"):
        raise ValueError(
            f"agent {name!r}: got {loaded!r} from {announcement(AGENTS, name)}, expected a class with Config, summary"
        )
    return loaded


def is_own_code(spec: str) -> bool:
    """Whether a family is given as the user's own `module:function` (or `gym:module:ID`), not by an announced name."""
    if spec.startswith(PREFIX):
        return ":" in spec.removeprefix(PREFIX).partition("?")[0]
    return ":" in spec and spec.partition(":")[0] not in names(FAMILIES)


def make_family(spec: str) -> Family:
    """A family from its name, its name with options (`bandit:arms=10,pulls=100`), `gym:ID?...`, or `module:function`.

    A module of the user's own may lie in the working folder. Only ever call this with `module:function` from the
    command line, never from a file: importing runs code (`is_own_code` tells).

    Raises:
        ValueError: There is none of that name (the message has the nearest, if one is near), it takes no such options,
            or the function gives no family.
        EnvError: The user's module or function raised; with its own traceback.
    """
    name, _, argument = spec.partition(":")
    if spec.startswith(PREFIX):
        return gym_family(spec)
    if is_own_code(spec):
        return _of_ones_own(spec, name, argument)
    if name not in names(FAMILIES):
        raise ValueError(f"unknown family {name!r}.{_instead(name)} There are: {', '.join(names(FAMILIES))}; {WAYS}")
    factory = _loaded(FAMILIES, "family", name)
    what = f"family {spec!r} of {announcement(FAMILIES, name)}"
    if isinstance(factory, Family) and not argument:
        return factory
    if not callable(factory):
        raise ValueError(f"{what}: got {_kind(factory)}, expected a function that gives a metarl.Family")
    if argument and not inspect.signature(factory).parameters:
        raise ValueError(f"family {spec!r}: got options {argument!r}, but {name!r} takes none")
    try:
        return _family(spec, what, (lambda: factory(argument)) if argument else factory)
    except ValueError as error:
        if argument and Path(f"{name}.py").is_file():
            raise ValueError(f"{error}; the family {name!r} hides {name}.py of this folder, rename that") from error
        raise


WAYS = "any of Gymnasium's is gym:ID, any of a package or of your own gym:MODULE:ID, your own function MODULE:FUNCTION"


def _instead(name: str) -> str:
    """What an unknown family's name may have been meant for."""
    if name in gymnasium.registry:
        return f" Did you mean '{PREFIX}{name} --vary \"NAME=uniform(LOW,HIGH)\"'?"
    module, _, last = name.removesuffix(".py").rpartition(".")
    if Path(f"{(module or last).replace('.', '/')}.py").is_file():
        return f" Did you mean {f'{module}:{last}' if module else f'{last}:FUNCTION'!r}?"
    return did_you_mean(name, names(FAMILIES))


def _of_ones_own(spec: str, name: str, function: str) -> Family:
    """The family of a user's `module:function`."""
    module = own_module(name, spec, FORM)
    found = attribute(module, function, spec, FORM, own_functions(module), "a function that gives a metarl.Family")
    if isinstance(found, Family):
        return found
    if isinstance(found, type) and issubclass(found, gymnasium.Env):
        raise ValueError(f"family {spec!r}: {_as_environment(spec)}")
    if not callable(found):
        raise ValueError(f"family {spec!r}: got {_kind(found)}, expected a function that gives a metarl.Family")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise ValueError(
            f"family {spec!r}: {function} cannot be called without arguments ({error}), expected a function that can"
        ) from error
    except ValueError:
        pass  # a signature that nobody knows
    return _family(spec, f"family {spec!r}: the function {function!r}", found)


def _family(spec: str, what: str, factory: Callable[[], Any]) -> Family:
    """What a function gives, if that is a family."""
    made = call_own(factory, what)
    if isinstance(made, gymnasium.Env):
        made.close()
        raise ValueError(f"family {spec!r}: {_as_environment(spec)}")
    if not isinstance(made, Family):
        raise ValueError(f"{what}: got {_kind(made)}, expected a metarl.Family")
    return made


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _as_environment(spec: str) -> str:
    return (
        "got an environment, expected a metarl.Family; make one with metarl.gymnasium_family, or name what varies: "
        f'{PREFIX}{spec} --vary "NAME=uniform(LOW,HIGH)"'
    )
