"""Families made of Gymnasium environments: a helper for one's own, and `gym:ID` from the command line alone."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from metarl.custom.batch import GymnasiumBatch, Stepping
from metarl.custom.rows import Env, EnvError, Layout, Maker
from metarl.custom.vary import distribution_of, parse_variations
from metarl.tasks import ContinuousTasks, Family, Parameter, TaskDistribution
from metarl.types import Task
from metarl.vector import available_cores

PREFIX = "gym:"
"""How the name of a family begins that is a Gymnasium environment and what varies in it."""
DEFAULT_HORIZON = 200
"""Where an environment states no time limit."""
MEASURED_ROWS = 64
MEASURED_SECONDS = 0.5
CLEARLY_FASTER = 1.2
"""Worker processes are chosen where they are faster by this factor: close to 1 the simpler way is the better one."""

Delivery = Literal["auto", "arguments", "attributes", "set_task", "options"]


@dataclass(frozen=True)
class GymnasiumEnvs:
    """The `make_env` of a whole batch: what a `Family` holds as `make_envs`.

    Args:
        maker: How to get an environment for a task.
        layout: Its spaces.
        stepping: Who steps.
        reports_success: Whether the environment tells of successes, if only when they happen.
    """

    maker: Maker
    layout: Layout
    stepping: Stepping
    reports_success: bool = False

    def __call__(self, num_tasks: int, episodes: int, horizon: int) -> GymnasiumBatch:
        """The batch; no environment is made before its first reset."""
        envs = GymnasiumBatch(
            num_tasks, episodes, horizon, maker=self.maker, layout=self.layout, stepping=self.stepping
        )
        envs.reports_success = self.reports_success
        return envs


def gymnasium_family(
    make_env: Callable[..., Env],
    *,
    name: str,
    parameters: Sequence[Parameter] = (),
    distribution: TaskDistribution | None = None,
    horizon: int = DEFAULT_HORIZON,
    summary: str = "",
    task_by: Delivery = "auto",
    integers: Sequence[str] = (),
    observation_units: Sequence[str] = (),
    workers: Literal["auto", "sync", "async"] = "auto",
    timeout: float = 60.0,
    reports_success: bool = False,
) -> Family:
    """A family of tasks from a Gymnasium environment.

    Args:
        make_env: Makes one environment: its class, or a function. It has to be importable by name (or picklable)
            where worker processes are to run it.
        name: Name of the family.
        parameters: What its tasks differ in, each drawn from its range: `uniform("goal", -1, 1, meaning="m")`.
        distribution: Where its tasks come from, in place of `parameters`.
        horizon: `T`, steps of an episode, unless the run says otherwise.
        summary: One line for `metarl list`.
        task_by: How an environment gets its task. `set_task`: `env.set_task(values)`, where values is a dict from
            name to a float, or to an array where a parameter has several components. `options`:
            `env.reset(options={"task": values})`. `arguments`: keywords of `make_env`. `attributes`: set on the
            bare environment. `auto` takes `set_task` where the environment has it, otherwise for each parameter
            the argument of that name, or else the attribute.
        integers: Parameters that the environment wants as `int`.
        observation_units: Unit of each number of the flattened observation, such as `m` or `rad/s`: normalised
            observations need them to tell jitter from what is small in its unit. None by default.
        workers: Who steps, unless the run says otherwise; see `Stepping`.
        timeout: Seconds after which one call of an environment counts as hung.
        reports_success: Declares that the environment tells of successes in its infos, if only when they happen: rates
            are then 0, not unknown, before the first. Without the declaration they are known from the first on.

    Raises:
        ValueError: There is no parameter, nothing that takes it, a space that no agent can use, or another number
            of units than the observation has.
        EnvError: The environment cannot be made.
    """
    if (distribution is None) == (not parameters):
        raise ValueError(f"family {name!r}: got both or neither of parameters and distribution, expected one of them")
    tasks = distribution or ContinuousTasks(name, tuple(parameters))
    first = tasks.train_tasks(1)[0]
    maker = _maker(name, make_env, first, task_by, tuple(integers))
    with _made(name, lambda: maker.play(None, first)) as env:
        layout = Layout(env.observation_space, env.action_space, tuple(observation_units))
        _check_spaces(name, layout)
    stepping = Stepping(workers=workers, timeout=timeout)
    return Family(
        name=name,
        summary=summary or (inspect.getdoc(getattr(make_env, "func", make_env)) or name).split("\n")[0],
        distribution=tasks,
        horizon=horizon,
        make_envs=GymnasiumEnvs(maker, layout, stepping, reports_success),
    )


@contextlib.contextmanager
def _made(name: str, make_env: Callable[[], Env]) -> Iterator[Env]:
    """An environment to look at, closed afterwards."""
    try:
        env = make_env()
    except Exception as error:
        message = f"family {name!r}: the environment raised {type(error).__name__} when it was made ({error})"
        raise EnvError(message, traceback.format_exc()) from error
    try:
        yield env
    finally:
        env.close()


def _check_spaces(name: str, layout: Layout) -> None:
    """Raises ValueError where observations are no row of numbers, actions no numbers or choice, or units do not fit."""
    observation, action = layout.observation_space, layout.action_space
    if not observation.is_np_flattenable or not isinstance(spaces.flatten_space(observation), spaces.Box):
        raise ValueError(f"family {name!r}: got the observation space {observation}, expected one that flattens")
    continuous = isinstance(action, spaces.Box) and np.issubdtype(action.dtype, np.floating)
    if not continuous and not isinstance(action, spaces.Discrete):
        raise ValueError(
            f"family {name!r}: got the action space {action}, expected a Discrete, or a Box of floating-point numbers"
        )
    if layout.units and len(layout.units) != layout.observation_size:
        raise ValueError(
            f"family {name!r}: got {len(layout.units)} observation_units, expected {layout.observation_size}, one for "
            "each number of the flattened observation"
        )


def _maker(name: str, make_env: Callable[..., Env], task: Task, task_by: Delivery, integers: tuple[str, ...]) -> Maker:
    """How the parameters of tasks like this one reach an environment."""
    told = Maker(make_env=make_env, delivery="set_task", integers=integers)
    if task_by in ("set_task", "options"):
        return replace(told, delivery=task_by)
    parameters, taken = [key for key, _ in task.parameters], _keywords(make_env)
    if task_by == "arguments":
        _refuse_strangers(name, parameters, list(taken), "keywords of make_env", ())
    arguments = () if task_by == "attributes" else tuple(p for p in parameters if p in taken)
    values = told.values(task)
    with _made(name, lambda: make_env(**{key: values[key] for key in arguments})) as env:
        if task_by == "auto" and _has(env, "set_task") and not any(taken[key] for key in arguments):
            return told
        numbers = _numbers(env)
        if not set(parameters) - set(arguments) <= {*numbers, *vars(env.unwrapped)}:
            _refuse_strangers(name, parameters, [*taken, *numbers], "arguments", numbers)
    return replace(told, delivery="attributes", arguments=arguments)


def _has(env: Env, method: str) -> bool:
    try:
        return callable(env.get_wrapper_attr(method))
    except AttributeError:
        return False


def _numbers(env: Env) -> list[str]:
    """The public attributes of the bare environment that hold numbers, and can be set."""
    bare, kind = env.unwrapped, type(env.unwrapped)
    names = [k for k in dir(bare) if not k.startswith("_") and not isinstance(getattr(kind, k, None), property)]
    values = {k: getattr(bare, k, None) for k in names}
    return [
        k for k, v in values.items() if isinstance(v, int | float | np.ndarray | np.number) and not isinstance(v, bool)
    ]


def _signature(make_env: Callable[..., Any]) -> Sequence[inspect.Parameter]:
    """The parameters of a function or class, or of what a registered id makes; none where they cannot be known."""
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


def _takes(make_env: Callable[..., Any], keyword: str) -> bool:
    """Whether there is a keyword of that name, or room for any."""
    return any(p.name == keyword or p.kind is inspect.Parameter.VAR_KEYWORD for p in _signature(make_env))


def _keywords(make_env: Callable[..., Any]) -> dict[str, bool]:
    """Arguments in the signature of a function or class, or of what a registered id makes: whether each is required."""
    found = _signature(make_env)
    named = [p for p in found if p.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    return {p.name: p.default is inspect.Parameter.empty for p in named if p.name != "render_mode"}


def _refuse_strangers(
    name: str, parameters: Sequence[str], known: Sequence[str], kind: str, attributes: Sequence[str]
) -> None:
    """Raises ValueError for the first parameter that nothing takes, naming the nearest that something would."""
    for parameter in parameters:
        if parameter in known:
            continue
        near = difflib.get_close_matches(parameter, known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        arguments = ", ".join(k for k in known if k not in attributes) or "none"
        more = f"; numbers among its attributes: {', '.join(attributes)}" if attributes else ""
        raise ValueError(
            f"family {name!r}: got the parameter {parameter!r}, which the environment does not have.{hint} "
            f"Its {kind}: {arguments}{more}"
        )


# From the command line alone ------------------------------------------------------------------------------


def gym_spec(family: str, vary: Sequence[str]) -> str:
    """The name of a family with what `--vary` says added: `gym:Pendulum-v1?g=uniform(5,15)`.

    Raises:
        ValueError: The family is not `gym:ID`, or says itself what varies.
    """
    if not vary:
        return family
    if not family.startswith(PREFIX) or "?" in family:
        raise ValueError(f"--vary: got it with the family {family!r}, expected a family gym:ID (and none in its name)")
    return family + "?" + "&".join(v.text for v in parse_variations(vary))


def gym_family(spec: str) -> Family:
    """The family of `gym:ID?NAME=uniform(LOW,HIGH)&...`.

    `ID` is registered with Gymnasium, or `module:ID`, or `module:Class`; the latter two import the module. Numbers
    in the environment's signature become arguments of a new environment per task; any other is set as an attribute.

    Raises:
        ValueError: There is no such environment, nothing varies, or the environment has no such argument.
    """
    name, _, query = spec.removeprefix(PREFIX).partition("?")
    make_env, horizon = _environment(name)
    variations = parse_variations([part for part in query.split("&") if part])
    if not variations:
        raise ValueError(
            f'family {spec!r}: got nothing that varies, expected --vary "NAME=uniform(LOW,HIGH)", or '
            f"{spec}?NAME=uniform(LOW,HIGH) as the name; "
            f"{_what_could_vary(spec, make_env)}"
        )
    return gymnasium_family(
        make_env,
        name=spec,
        distribution=distribution_of(spec, variations),
        horizon=horizon,
        summary=f"{name} with {', '.join(v.text for v in variations)}",
        integers=[v.name for v in variations if v.as_int],
        task_by="auto",
    )


def _what_could_vary(name: str, make_env: Callable[..., Env]) -> str:
    """Arguments and attributes, for a message."""
    arguments = f"its arguments: {', '.join(_keywords(make_env)) or 'none'}"
    if any(_keywords(make_env).values()):
        return arguments  # it cannot be made without them
    with _made(name, make_env) as env:
        return f"{arguments}; its attributes: {', '.join(_numbers(env)) or 'none'}"


def _environment(name: str) -> tuple[Callable[..., Env], int]:
    """How to make an environment, and its time limit. The limit is the batch's to keep, so Gymnasium's is off."""
    module, _, last = name.rpartition(":")
    if module:
        try:
            found = getattr(importlib.import_module(module), last, None)
        except (ImportError, ValueError) as error:
            raise ValueError(f"family {PREFIX + name!r}: got {error}, expected an importable module:ID") from error
        if isinstance(found, type) and issubclass(found, gymnasium.Env):
            return found, DEFAULT_HORIZON
    if last not in gymnasium.registry:
        near = difflib.get_close_matches(last, gymnasium.registry, n=1, cutoff=0.0)
        raise ValueError(
            f"family {PREFIX + name!r}: Gymnasium knows no environment {last!r}. Did you mean {near[0]!r}?"
        )
    limit = gymnasium.registry[last].max_episode_steps
    return partial(gymnasium.make, name, max_episode_steps=-1, disable_env_checker=True), limit or DEFAULT_HORIZON


# Who steps ------------------------------------------------------------------------------------------------


def stepping_of(family: Family) -> Stepping | None:
    """Who steps a family's environments; None where they are no Gymnasium environments."""
    return family.make_envs.stepping if isinstance(family.make_envs, GymnasiumEnvs) else None


def with_stepping(family: Family, stepping: Stepping | None) -> Family:
    """The family, its Gymnasium environments stepped as told; any other family as it is."""
    if stepping is None or not isinstance(family.make_envs, GymnasiumEnvs):
        return family
    return replace(family, make_envs=replace(family.make_envs, stepping=stepping))


def drawing(family: Family) -> Family:
    """The family, its Gymnasium environments made with `render_mode="rgb_array"`, in this process; else as it is.

    Raises:
        ValueError: The environments take no `render_mode`.
    """
    made = family.make_envs
    if not isinstance(made, GymnasiumEnvs):
        return family
    if not _takes(made.maker.make_env, "render_mode"):
        raise ValueError(
            f"family {family.name!r}: got environments without pictures; add the argument render_mode to what makes "
            'them, and let render() return an array [height, width, 3] where it is "rgb_array"'
        )
    maker = replace(made.maker, make_env=partial(made.maker.make_env, render_mode="rgb_array"))
    return replace(family, make_envs=replace(made, maker=maker, stepping=replace(made.stepping, workers="sync")))


def settled(family: Family, rows: int) -> Stepping | None:
    """Who is to step a family's environments, `auto` resolved by measuring both for a moment.

    Args:
        family: The family.
        rows: `N`, environments of the batch to come.
    """
    stepping = stepping_of(family)
    if stepping is None or stepping.workers != "auto":
        return stepping
    sync, parallel = replace(stepping, workers="sync"), replace(stepping, workers="async")
    if available_cores() == 1 or rows == 1:
        return sync
    rates = [_steps_per_second(with_stepping(family, way), min(rows, MEASURED_ROWS)) for way in (sync, parallel)]
    return parallel if rates[1] > CLEARLY_FASTER * rates[0] else sync


def _steps_per_second(family: Family, rows: int) -> float:
    """Of random actions in a small batch; neither making the environments nor the first step counts."""
    envs = family.make_envs(1, rows, family.horizon)
    rng, space = np.random.default_rng(0), envs.single_action_space
    try:
        envs.set_tasks(family.distribution.train_tasks(1))
        envs.reset(seed=0)
        envs.step(random_actions(space, rows, rng))
        clock, steps = time.perf_counter(), 0
        while (seconds := time.perf_counter() - clock) < MEASURED_SECONDS:
            live = ~np.logical_or(*envs.step(random_actions(space, rows, rng))[2:4])
            steps += rows
            if not live.all():
                envs.reset(seed=0)
        return steps / seconds
    finally:
        envs.close()


def random_actions(space: spaces.Box | spaces.Discrete, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform random actions for every row, `[rows, A]`, or `[rows]` where they are discrete."""
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=rows) + int(space.start)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = np.isfinite(low) & np.isfinite(high)
    uniform = rng.uniform(np.where(bounded, low, -1.0), np.where(bounded, high, 1.0), (rows, *low.shape))
    return np.clip(uniform, low, high).astype(space.dtype)
