"""Families from options of the command line: `gym:ID --vary "NAME=uniform(LOW,HIGH)" --set "NAME=VALUE"`."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable, Sequence
from functools import partial

import gymnasium

from metarl.gymnasium_envs.constants import Constant, parse_constant, read_constant, refuse_repeated
from metarl.gymnasium_envs.delivery import METARLS_OWN, keywords, number_attributes, takes_any
from metarl.gymnasium_envs.family import DEFAULT_HORIZON, gymnasium_family, looked_up, made
from metarl.gymnasium_envs.rows import Env, farewell
from metarl.gymnasium_envs.vary import Variation, distribution_of, parse_variations
from metarl.names import did_you_mean, without_folders
from metarl.own_code.modules import attribute, own_module, own_names
from metarl.schemes import Scheme
from metarl.tasks import Family

PREFIX = "gym:"
"""Prefix of a family's name that consists of a Gymnasium environment and its varying parameters."""
FORM = "module:ID"
IN_A_MODULE = "a gymnasium.Env class, a function that makes an environment, or an id that the module registers"


def gym_spec(family: str, vary: Sequence[str], constants: Sequence[str] = ()) -> str:
    """A family's name with the options of the command line added: `gym:Pendulum-v1?g=uniform(5,15)`.

    Args:
        family: Name of the family.
        vary: Arguments of `--vary`.
        constants: Arguments of `--set`.

    Raises:
        ValueError: The family is not `gym:ID`, or its name contains variations already.
    """
    if not vary and not constants:
        return family
    if not family.startswith(PREFIX) or "?" in family:
        option = "--vary" if vary else "--set"
        raise ValueError(
            f"{option}: got it with the family {family!r}, expected a family gym:ID without ?NAME=... in its name"
        )
    variations, fixed = parse_variations(vary), [parse_constant(text) for text in constants]
    refuse_repeated(fixed, [v.name for v in variations])
    return family + "?" + "&".join([*(v.text for v in variations), *(c.text for c in fixed)])


def _read_spec(spec: str) -> tuple[str, tuple[Variation, ...], list[Constant]]:
    """Splits a family's name into environment, variations and constants."""
    name, _, query = spec.removeprefix(PREFIX).partition("?")
    parts = re.findall(r'(?:[^&"]|"(?:\\.|[^"\\])*"|")+', query)  # at every & outside of quotes
    varied = [part for part in parts if re.match(r"\s*[A-Za-z_]\w*\s*=\s*[a-z]+\s*\(|[^=]*$", part)]
    variations, constants = parse_variations(varied), [read_constant(part) for part in parts if part not in varied]
    refuse_repeated(constants, [v.name for v in variations])
    return name, variations, constants


def named_again(spec: str, named: str | None) -> str:
    """The family of a run: the recorded one if its name cannot run code, otherwise the one named again.

    Args:
        spec: The family recorded in the run's folder.
        named: The family named on the command line, if any; `gym:ID` alone stands for the run's `gym:ID?...`.

    Raises:
        ValueError: The family has to be named again on the command line.
    """
    if named is not None and not spec.startswith(f"{named}?"):
        return gym_spec(named, ())
    name, _, constants = _read_spec(spec) if spec.startswith(PREFIX) else ("", (), [])
    point = gymnasium.registry[name].entry_point if name in gymnasium.registry else None
    harmless = isinstance(point, str) and point.startswith("gymnasium.envs.")
    texts = [constant.name for constant in constants if constant.holds_text]
    if texts and not harmless:  # which may load a file or module by it
        raise ValueError(
            f"family: got {named or 'none'}, but the run's family passes a string ({', '.join(texts)}) to code that "
            f"is not Gymnasium's own; name it again in full: {shlex.quote(spec)}"
        )
    return spec


def gym_family(spec: str) -> Family:
    """The family of `gym:ID?NAME=uniform(LOW,HIGH)&NAME=true&...`.

    `ID` is an id registered with Gymnasium; or `module:ID`, `module:Class` or `module:function`, which import the
    module. Varying parameters are constructor arguments of a new environment per task if the signature has them,
    otherwise attributes. Constants are constructor arguments.

    Raises:
        ValueError: The environment is unknown, nothing varies, or the environment lacks an argument.
        EnvError: The environment cannot be made.
    """
    name, variations, constants = _read_spec(spec)
    make_env, horizon = _environment(name)
    if not variations:
        raise ValueError(
            f'family {spec!r}: got no variation, expected --vary "NAME=uniform(LOW,HIGH)", or '
            f"{PREFIX}{name}?NAME=uniform(LOW,HIGH) as the name; "
            f"{_what_could_vary(spec, make_env)}"
        )
    if constants:
        make_env = _with_constants(spec, make_env, constants)
    parts = [*(v.text for v in variations), *(without_folders(c.text) for c in constants)]
    return gymnasium_family(
        make_env,
        name=spec,
        distribution=distribution_of(spec, variations),
        horizon=horizon,
        summary=f"{name} with {', '.join(parts)}",
        integers=[v.name for v in variations if v.as_int],
        task_by="auto",
    )


def _with_constants(name: str, make_env: Callable[..., Env], constants: Sequence[Constant]) -> Callable[..., Env]:
    """`make_env` with constants for some of its arguments; raises ValueError for unknown ones."""
    with looked_up(name):
        taken, any_keyword = keywords(make_env), takes_any(make_env)
    for constant in constants:
        if constant.name in METARLS_OWN:
            raise ValueError(f"--set: got {constant.name!r}, which metarl sets itself; leave it out")
        if constant.name not in taken and not any_keyword:
            raise ValueError(
                f"--set: got {constant.name!r}, which the constructor of {name.partition('?')[0]!r} does not take."
                f"{did_you_mean(constant.name, taken)} It takes: {', '.join(taken) or 'nothing'}"
            )
    return partial(make_env, **{constant.name: constant.value for constant in constants})


def _what_could_vary(name: str, make_env: Callable[..., Env]) -> str:
    """The arguments and attributes that could vary, for a message."""
    with looked_up(name):
        taken = keywords(make_env)
    arguments = f"its arguments: {', '.join(taken) or 'none'}"
    if any(taken.values()):
        return arguments  # it cannot be made without values for them
    with made(name, make_env) as env:
        return f"{arguments}; its attributes: {', '.join(number_attributes(env.unwrapped)) or 'none'}"


def _environment(name: str) -> tuple[Callable[..., Env], int]:
    """A function that makes the environment, and the time limit, which the batch applies instead of Gymnasium."""
    what, (module_name, _, last) = f"family {PREFIX + name!r}", name.rpartition(":")
    if ":" in name:
        module = own_module(module_name, what, FORM)
        kind = vars(module).get(last)
        if isinstance(kind, type) and issubclass(kind, gymnasium.Env):
            return kind, DEFAULT_HORIZON
        if last not in gymnasium.registry:
            makers = [k for k, v in vars(module).items() if isinstance(v, type) and issubclass(v, gymnasium.Env)]
            known = dict.fromkeys([*own_names(module, inspect.isfunction), *makers])
            near = known if did_you_mean(last, known) else dict.fromkeys([*known, *_ids_of(module_name)])
            found = attribute(module, last, what, FORM, near, IN_A_MODULE)
            if not callable(found):
                raise ValueError(f"{what}: got {type(found).__name__}, expected {IN_A_MODULE}")
            return found, DEFAULT_HORIZON
    elif last not in gymnasium.registry:
        raise ValueError(
            f"{what}: Gymnasium knows no environment {last!r}."
            f"{did_you_mean(last, gymnasium.registry)} Name one of a package, or of your own, with its module: "
            f"{PREFIX}MODULE:{last or 'ID'} (or {PREFIX}MODULE:CLASS)"
        )
    limit = gymnasium.registry[last].max_episode_steps
    return partial(gymnasium.make, name, max_episode_steps=-1, disable_env_checker=True), limit or DEFAULT_HORIZON


def _ids_of(module: str) -> list[str]:
    """The registered ids of the environments in a module's package."""
    top = module.partition(".")[0]
    points = {
        key: getattr(spec.entry_point, "__module__", spec.entry_point) for key, spec in gymnasium.registry.items()
    }
    return [key for key, point in points.items() if str(point).partition(":")[0].partition(".")[0] == top]


# The scheme gym: --------------------------------------------------------------------------------------------


def _names_a_module(spec: str) -> bool:
    """Whether a name is `gym:MODULE:...`: making its family imports the module."""
    return ":" in spec.removeprefix(PREFIX).partition("?")[0]


def _suggestion(name: str) -> str:
    """The command line for a registered id that was named without `gym:`."""
    return f"'{PREFIX}{name} --vary \"NAME=uniform(LOW,HIGH)\"'" if name in gymnasium.registry else ""


def _instead_of(spec: str, found: object) -> str:
    """Advice if `module:function` is, or returned, an environment; closes the environment."""
    if isinstance(found, gymnasium.Env):
        farewell(found)
    elif not (isinstance(found, type) and issubclass(found, gymnasium.Env)):
        return ""
    return (
        "got an environment, expected a metarl.Family; make one with metarl.gymnasium_family, or name what varies: "
        f'{PREFIX}{spec} --vary "NAME=uniform(LOW,HIGH)"'
    )


SCHEME = Scheme(
    make_family=gym_family,
    usage="gym:ID for a registered Gymnasium environment, gym:MODULE:ID for one in a package or your own module",
    is_own_code=_names_a_module,
    suggestion=_suggestion,
    instead_of=_instead_of,
)
