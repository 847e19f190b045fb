"""Agents and families by name.

Packages register them as entry points of the groups `metarl.agents`, `metarl.families` and `metarl.schemes`, and for
few-shot learning of `metarl.few_shot_learners` and `metarl.few_shot_families`; this one does so in `pyproject.toml`.
A user's own code is named `module:Class` or `module:function`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metarl.few_shot.family import FewShotFamily
from metarl.names import did_you_mean
from metarl.own_code.errors import EnvError
from metarl.own_code.modules import attribute, call_own, own_error, own_module, own_names
from metarl.rewards import DeclaredReward
from metarl.schemes import Scheme
from metarl.tasks import Family

if TYPE_CHECKING:  # these import torch
    from metarl.agent import MetaAgent
    from metarl.runs import RunConfig

AGENTS, FAMILIES, SCHEMES = "metarl.agents", "metarl.families", "metarl.schemes"
LEARNERS, FEW_SHOT_FAMILIES = "metarl.few_shot_learners", "metarl.few_shot_families"
KINDS = {
    AGENTS: "agent",
    FAMILIES: "family",
    SCHEMES: "scheme",
    LEARNERS: "few-shot learner",
    FEW_SHOT_FAMILIES: "few-shot family",
}
FUNCTION, CLASS = "module:function", "module:Class"
OWN_FORMS = {AGENTS: CLASS, FAMILIES: FUNCTION, LEARNERS: CLASS, FEW_SHOT_FAMILIES: FUNCTION}


def _announced(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of a group by name, sorted; several under a name that several packages register."""
    found: dict[str, list[EntryPoint]] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        others = found.setdefault(point.name, [])
        if point.value not in [other.value for other in others]:
            others.append(point)
    return found


def names(group: str) -> list[str]:
    """The names that packages register in a group, sorted."""
    return list(_announced(group))


def announcement(group: str, name: str) -> str:
    """The packages that register a name, with the value of each entry point, in words."""
    points = _announced(group).get(name, [])
    return " and ".join(f"{point.dist.name if point.dist else 'a package'} ({point.value})" for point in points)


def find_entry(group: str, name: str) -> EntryPoint:
    """The entry point of a name that is registered."""
    points = _announced(group)[name]
    if len(points) > 1:
        way = f"; or name the one you mean as {OWN_FORMS[group]}" if group in OWN_FORMS else ""
        raise ValueError(
            f"{KINDS[group]} {name!r}: got it from {announcement(group, name)}, expected one package that registers "
            f"it; uninstall the others{way}"
        )
    return points[0]


def _loaded(group: str, name: str) -> Any:
    """The object of a registered name.

    Raises:
        ValueError: Several packages register the name.
        EnvError: The object cannot be imported.
    """
    point = find_entry(group, name)
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        what = f"{KINDS[group]} {name!r} of {announcement(group, name)}"
        raise own_error(what, "when it was imported", error) from error


# Agents -----------------------------------------------------------------------------------------------------


def is_own_agent(name: str) -> bool:
    """Whether an agent or a learner is a user's own class, named `module:Class`."""
    return ":" in name and name not in names(AGENTS) and name not in names(LEARNERS)


def agent_class(name: str, group: str = AGENTS) -> type[MetaAgent[Any]]:
    """The class of an agent from its registered name, or from a user's `module:Class`.

    Args:
        name: The name.
        group: `AGENTS`, or `LEARNERS` for a few-shot learner.

    A user's module may be in the working folder. Importing runs code, so call this with a name from a
    command line or a script, never with `module:Class` from a file (`metarl.run_config.agent_of_config`).

    Raises:
        ValueError: The name is unknown (the message has the nearest one), or the class is no agent.
        EnvError: The module cannot be imported; with its own traceback.
    """
    if is_own_agent(name):
        what, (module_name, _, last) = f"{KINDS[group]} {name!r}", name.partition(":")
        module = own_module(module_name, what, CLASS)
        classes = own_names(module, inspect.isclass)
        found = attribute(module, last, what, CLASS, classes, "a class with Config and summary")
        return _of_group(what, checked_agent(what, found), group)
    known, kind = names(group), KINDS[group]
    if name not in known:
        near = _of_other_kind(name, group) or _in_this_folder(name, "CLASS") or did_you_mean(name, known)
        raise ValueError(f"unknown {kind} {name!r}.{near} Known {kind}s: {', '.join(known)}; or your own {CLASS}")
    return checked_agent(f"{kind} {name!r} of {announcement(group, name)}", _loaded(group, name))


def _of_group(what: str, found: type[MetaAgent[Any]], group: str) -> type[MetaAgent[Any]]:
    """The class, checked to learn from the experience of its group: examples are predicted, episodes are acted in."""
    learner = hasattr(found, "predict")
    if learner and group == AGENTS:
        raise ValueError(f"{what}: got a few-shot learner (it has predict), expected an agent that acts in episodes")
    if not learner and group == LEARNERS:
        raise ValueError(f"{what}: got a class without predict, expected one that inherits from metarl.FewShotLearner")
    return found


def _of_other_kind(name: str, group: str) -> str:
    """A sentence on an agent that learns from the other kind of experience; empty if there is none of that name."""
    other, families = (LEARNERS, FEW_SHOT_FAMILIES) if group == AGENTS else (AGENTS, FAMILIES)
    if name not in names(other):
        return ""
    return f" There is the {KINDS[other]} {name!r}, for a {KINDS[families]}: {', '.join(names(families)[:4])}, ..."


def checked_agent(what: str, found: Any) -> type[MetaAgent[Any]]:
    """The object, checked to be the class of an agent.

    Args:
        what: Subject of a message: "agent 'my_agents:Mine'".
        found: The object.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(found, type):
        raise ValueError(f"{what}: got {_kind(found)}, expected a class with Config and summary")
    missing = [name for name in ("Config", "summary") if not hasattr(found, name)]
    if missing:
        raise ValueError(
            f"{what}: got a class without {' and '.join(missing)}, expected a dataclass Config (the agent's settings) "
            "and a line summary"
        )
    settings: Any = found.Config  # type: ignore[attr-defined]
    if not dataclasses.is_dataclass(settings):
        raise ValueError(f"{what}: got a Config that is no dataclass, expected @dataclass(frozen=True, kw_only=True)")
    bare = [
        one.name
        for one in dataclasses.fields(settings)
        if one.init and one.default is one.default_factory is dataclasses.MISSING
    ]
    if bare:
        raise ValueError(f"{what}: got a Config whose {bare[0]!r} has no default, expected one for every setting")
    if not hasattr(found, "build"):
        raise ValueError(f"{what}: got a class without build, expected one that inherits from metarl.agent.MetaAgent")
    return found


# Families ---------------------------------------------------------------------------------------------------


def scheme(name: str) -> Scheme:
    """A scheme that a package registers.

    Raises:
        ValueError: Several packages register the name, or the object is no scheme.
        EnvError: The package cannot be imported.
    """
    found = _loaded(SCHEMES, name)
    if not isinstance(found, Scheme):
        raise ValueError(
            f"scheme {name!r} of {announcement(SCHEMES, name)}: got {_kind(found)}, expected a metarl.schemes.Scheme"
        )
    return found


def _schemes() -> list[Scheme]:
    """Every registered scheme that can be loaded; broken ones are skipped, so that another error is still reported."""
    found = []
    for name in names(SCHEMES):
        try:
            found.append(scheme(name))
        except (ValueError, EnvError):
            continue
    return found


def is_own_code(spec: str) -> bool:
    """Whether a family is a user's own code: `module:function`, or a scheme's name such as `gym:module:ID`."""
    name = spec.partition(":")[0]
    if ":" not in spec or name in names(FAMILIES) or name in names(FEW_SHOT_FAMILIES):
        return False
    return name not in names(SCHEMES) or scheme(name).is_own_code(spec)


def full_name(spec: str) -> str:
    """The name of a family that a run records: for a scheme such as `mjcf:PATH`, one that means the same anywhere.

    Raises:
        ValueError: Several packages register the scheme.
        EnvError: Its package cannot be imported.
    """
    name = spec.partition(":")[0]
    return scheme(name).full_name(spec) if ":" in spec and name in names(SCHEMES) else spec


def preset_family(spec: str) -> str:
    """The name under which tables of presets list a family: without its options, or as its scheme says.

    Raises:
        ValueError: The scheme cannot read the name.
        EnvError: The scheme's package cannot be imported.
    """
    name = spec.partition(":")[0]
    return scheme(name).preset(spec) if ":" in spec and name in names(SCHEMES) else name


def make_family(spec: str) -> Family:
    """A family of environments; see `find_family`.

    Raises:
        ValueError: As `find_family`, or the family is a few-shot family, which has no environments.
        EnvError: As `find_family`.
    """
    found = find_family(spec)
    if not isinstance(found, Family):
        raise ValueError(
            f"family {spec!r}: got a few-shot family, whose tasks have examples instead of environments; expected one "
            "of environments (few-shot families are for metarl train, metarl evaluate and metarl.find_family)"
        )
    return found


def find_family(spec: str) -> Family | FewShotFamily:
    """A family from its name, its name with options (`bandit:arms=10,pulls=100`), `gym:ID?...`, or `module:function`.

    A user's module may be in the working folder. Importing runs code, so call this with `module:function`
    from a command line or a script, never from a file (`is_own_code` tells them apart).

    Raises:
        ValueError: The name is unknown (the message has the nearest one), takes no such options, or the function
            returns no family.
        EnvError: The user's module or function raised; with its own traceback.
    """
    name, _, argument = spec.partition(":")
    group = FEW_SHOT_FAMILIES if name in names(FEW_SHOT_FAMILIES) else FAMILIES
    known = names(group)
    if ":" in spec and name not in known:
        return scheme(name).make_family(spec) if name in names(SCHEMES) else _of_ones_own(spec, name, argument)
    if name not in known:
        ways = "; ".join([*(one.usage for one in _schemes()), f"{FUNCTION} for a function of your own"])
        known += names(FEW_SHOT_FAMILIES)
        raise ValueError(f"unknown family {name!r}.{_instead(name)} Known families: {', '.join(known)}; {ways}")
    factory = _loaded(group, name)
    what = f"family {spec!r} of {announcement(group, name)}"
    if isinstance(factory, Family | FewShotFamily) and not argument:
        return factory
    if not callable(factory):
        raise ValueError(f"{what}: got {_kind(factory)}, expected a function that returns a metarl.Family")
    if argument and not inspect.signature(factory).parameters:
        raise ValueError(f"family {spec!r}: got options {argument!r}, but {name!r} takes none")
    try:
        return _family(spec, what, (lambda: factory(argument)) if argument else factory)
    except ValueError as error:
        if argument and Path(f"{name}.py").is_file():
            raise ValueError(f"{error}; the family {name!r} hides {name}.py of this folder, rename that") from error
        raise


def _instead(name: str) -> str:
    """A sentence that suggests a family for an unknown name; empty for no suggestion."""
    suggestion = next(filter(None, (one.suggestion(name) for one in _schemes())), "")
    if suggestion:
        return f" Did you mean {suggestion}?"
    return _in_this_folder(name, "FUNCTION") or did_you_mean(name, [*names(FAMILIES), *names(FEW_SHOT_FAMILIES)])


def _in_this_folder(name: str, last: str) -> str:
    """A sentence that suggests `module:LAST` if the name is, or begins with, that of a file in this folder."""
    module, _, inner = name.removesuffix(".py").rpartition(".")
    if not Path(f"{(module or inner).replace('.', '/')}.py").is_file():
        return ""
    return f" Did you mean {f'{module}:{inner}' if module else f'{inner}:{last}'!r}?"


def _of_ones_own(spec: str, name: str, function: str) -> Family | FewShotFamily:
    """The family of a user's `module:function`."""
    what = f"family {spec!r}"
    module = own_module(name, what, FUNCTION)
    functions = own_names(module, inspect.isfunction)
    found = attribute(module, function, what, FUNCTION, functions, "a function that returns a metarl.Family")
    if isinstance(found, Family | FewShotFamily):
        return found
    if isinstance(found, type):
        _refuse_by_scheme(spec, found)
    if not callable(found):
        raise ValueError(f"{what}: got {_kind(found)}, expected a function that returns a metarl.Family")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise ValueError(
            f"{what}: {function} cannot be called without arguments ({error}), expected a function that can"
        ) from error
    except ValueError:
        pass  # a builtin without a signature
    return _family(spec, f"{what}: the function {function!r}", found)


def _family(spec: str, what: str, factory: Callable[[], Any]) -> Family | FewShotFamily:
    """The family that a function returns."""
    made = call_own(factory, what)
    if not isinstance(made, Family | FewShotFamily):
        _refuse_by_scheme(spec, made)
        raise ValueError(f"{what}: got {_kind(made)}, expected a metarl.Family")
    return made


def reward_for(agent: type, family: str) -> DeclaredReward | None:
    """The declared reward of a run's family, for an agent that plans with it.

    Args:
        agent: Class of the agent; one that plans has the class attribute `needs_reward`.
        family: Name of the family. A user's own code is not imported.

    Returns:
        None if the agent does not plan, the family declares none, or no package registers it.
    """
    if not getattr(agent, "needs_reward", False) or family.partition(":")[0] not in names(FAMILIES):
        return None
    return make_family(family).reward


def with_reward(run: RunConfig, family: Family | None) -> RunConfig:
    """The configuration of a run, with the declared reward of a family if the agent plans with it.

    Args:
        run: The configuration; it has the reward of the run's family if a package registers that.
        family: The family that a caller names; None for the run's.

    Raises:
        ValueError: The run's family is the user's own, and the caller does not name it.
    """
    if not getattr(run.agent_type, "needs_reward", False):
        return run
    if family is not None and family.reward is not None:
        return dataclasses.replace(run, spaces=dataclasses.replace(run.spaces, reward=family.reward))
    if run.spaces.reward is None and family is None:
        raise ValueError(
            f"family: got none, but the run's family {run.family!r} is your own, which a file alone does not import, "
            f"and {run.agent} plans with its reward; name it with --family (in Python: family=, a metarl.Family)"
        )
    return run


def _refuse_by_scheme(spec: str, found: object) -> None:
    """Raises ValueError if a scheme can make a family from the object."""
    advice = next(filter(None, (one.instead_of(spec, found) for one in _schemes())), "")
    if advice:
        raise ValueError(f"family {spec!r}: {advice}")


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
