"""Families made of Gymnasium environments."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from metarl.gymnasium_envs.answers import Success
from metarl.gymnasium_envs.batch import GymnasiumBatch
from metarl.gymnasium_envs.delivery import (
    has_method,
    is_unexpected_keyword,
    keywords,
    number_attributes,
    refuse_strangers,
    settable,
    takes,
    takes_any,
)
from metarl.gymnasium_envs.kind import check_env_is_ours, check_is_env, check_spaces
from metarl.gymnasium_envs.rows import Env, Layout, Maker, farewell
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import guest
from metarl.own_code.modules import own_error
from metarl.parameters import refuse_twice
from metarl.stepping import Stepping
from metarl.tasks import ContinuousTasks, Family, Parameter, TaskDistribution
from metarl.types import Task

DEFAULT_HORIZON = 200
"""Steps of an episode, for an environment that registers no time limit."""

Delivery = Literal["auto", "arguments", "attributes", "set_task", "options"]


@dataclass(frozen=True)
class GymnasiumEnvs:
    """Makes batches of Gymnasium environments; `make_envs` and `single_envs` of a `Family`.

    Args:
        maker: Makes an environment for a task.
        layout: The environment's spaces.
        stepping: Time limit of a call.
        reports_success: Whether the infos report success, perhaps only when it happens.
    """

    maker: Maker
    layout: Layout
    stepping: Stepping
    reports_success: bool = False

    def __call__(self, num_tasks: int, episodes: int, horizon: int) -> GymnasiumBatch:
        """The batch; its environments are made at the first reset."""
        envs = GymnasiumBatch(
            num_tasks, episodes, horizon, maker=self.maker, layout=self.layout, stepping=self.stepping
        )
        envs.reports_success = self.reports_success
        return envs

    def with_stepping(self, stepping: Stepping) -> GymnasiumEnvs:
        """The same environments with other settings."""
        return replace(self, stepping=stepping)

    def drawing(self) -> GymnasiumEnvs:
        """The same environments, made with `render_mode="rgb_array"`.

        Raises:
            ValueError: They take no `render_mode`.
        """
        if not takes(self.maker.make_env, "render_mode"):
            raise ValueError(
                "got environments that cannot render; give the constructor an argument render_mode, and let render() "
                'return an array [height, width, 3] if it is "rgb_array"'
            )
        maker = replace(self.maker, make_env=partial(self.maker.make_env, render_mode="rgb_array"))
        return replace(self, maker=maker)


def gymnasium_envs_of(family: Family) -> GymnasiumEnvs | None:
    """The Gymnasium environments of a family; None for any other kind."""
    return family.single_envs if isinstance(family.single_envs, GymnasiumEnvs) else None


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
    timeout: float = 60.0,
    reports_success: bool = False,
    success: Success | None = None,
) -> Family:
    """A family of tasks from a Gymnasium environment.

    Args:
        make_env: Makes one environment: its class, or a function. Worker processes need it importable by name, or
            picklable, unless a command line names the family.
        name: Name of the family.
        parameters: Parameters in which its tasks differ, each with its range: `uniform("goal", -1, 1, meaning="m")`.
        distribution: Distribution of its tasks, instead of `parameters`.
        horizon: `T`, steps of an episode, unless the run sets it.
        summary: One line for `metarl list`.
        task_by: How an environment receives its task. `set_task`: `env.set_task(values)`, with a dict from name to
            float, or to an array for several components. `options`: `env.reset(options={"task": values})`.
            `arguments`: keywords of `make_env`. `attributes`: attributes of the unwrapped environment. `auto`:
            `set_task` if the environment has it; otherwise, for each parameter, the argument of that name, else the
            attribute, else an argument passed through `**keywords`.
        integers: Parameters to pass as `int`.
        observation_units: Unit of each number of the flattened observation, such as `m` or `rad/s`. Normalisation uses
            them to distinguish jitter from signals that are small in their unit. Unknown by default.
        timeout: Time limit of one call of an environment, s, unless the run sets it; a slower call counts as hung.
        reports_success: Declares that infos report success, perhaps only when it happens. Success rates before the
            first success are then 0, otherwise unknown.
        success: Key of the infos, such as "succeed", or function of the infos that reports success, if it is neither
            `info["success"]` nor `info["is_success"]`. Implies `reports_success`.

    Raises:
        ValueError: There is no parameter, the environment cannot receive one, a space fits no agent, or the number of
            units is not that of the observation.
        EnvError: The environment cannot be made.
    """
    if (distribution is None) == (not parameters):
        raise ValueError(f"family {name!r}: got both or neither of parameters and distribution, expected one of them")
    if task_by not in get_args(Delivery):
        raise ValueError(f"family {name!r}: got task_by={task_by!r}, expected one of {', '.join(get_args(Delivery))}")
    tasks = distribution or ContinuousTasks(name, tuple(parameters))
    refuse_twice(name, tasks.parameters)
    first = tasks.train_tasks(1)[0]
    unknown = [integer for integer in integers if integer not in dict(first.parameters)]
    if unknown:
        raise ValueError(f"family {name!r}: got {unknown[0]!r} among integers, expected names of its parameters")
    maker = _maker(name, make_env, first, task_by, tuple(integers))
    values = maker.values(first)
    with made(name, lambda: maker.make(values), lambda env: maker.tell(env, values)) as env:
        check_env_is_ours(name, env, takes_options=maker.delivery == "options")
        layout = Layout(env.observation_space, env.action_space, tuple(observation_units), success)
        check_spaces(name, layout)
    envs = GymnasiumEnvs(maker, layout, Stepping(timeout=timeout), reports_success or success is not None)
    return Family(
        name=name,
        summary=summary or (inspect.getdoc(getattr(make_env, "func", make_env)) or name).split("\n")[0],
        distribution=tasks,
        horizon=horizon,
        make_envs=envs,
        single_envs=envs,
    )


@contextlib.contextmanager
def made(name: str, make_env: Callable[[], Env], tell: Callable[[Env], Env] | None = None) -> Iterator[Env]:
    """Makes an environment for inspection, and closes it afterwards.

    Args:
        name: Name of the family.
        make_env: Makes the environment.
        tell: Passes the task to the environment.

    Raises:
        ValueError: The object is no `gymnasium.Env`.
        EnvError: The user's code raised.
    """
    with _made_by_the_user(name):
        env = make_env()
    check_is_env(name, env)
    if tell is not None:
        with _made_by_the_user(name):
            env = tell(env)
    try:
        yield env
    finally:
        farewell(env)


@contextlib.contextmanager
def _made_by_the_user(name: str) -> Iterator[None]:
    """Turns all exceptions of the user's code, sys.exit included, into an `EnvError`."""
    with guest():
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise own_error(f"family {name!r}: the environment", "when it was made", error) from error


def _maker(name: str, make_env: Callable[..., Env], task: Task, task_by: Delivery, integers: tuple[str, ...]) -> Maker:
    """Chooses how an environment receives its parameters, by the signature and attributes of an example."""
    told = Maker(make_env=make_env, delivery="set_task", integers=integers)
    if task_by in ("set_task", "options"):
        return replace(told, delivery=task_by)
    parameters = [key for key, _ in task.parameters]
    with looked_up(name):
        taken, any_keyword = keywords(make_env), takes_any(make_env)
    if task_by == "arguments":
        if any_keyword:
            _refuse_unexpected(name, replace(told, delivery="attributes", arguments=tuple(parameters)), task, taken)
        else:
            refuse_strangers(name, parameters, list(taken), "keywords of make_env", (), None)
    arguments = () if task_by == "attributes" else tuple(p for p in parameters if p in taken or task_by == "arguments")
    missing = [key for key, needed in taken.items() if needed and key not in arguments]
    if missing and not any_keyword:
        raise ValueError(
            f"family {name!r}: the constructor also needs {', '.join(missing)}; give it a default, let it vary, or set "
            f'it with --set "{missing[0]}=VALUE"'
        )
    values, others = told.values(task), [p for p in parameters if p not in arguments]
    with made(name, lambda: make_env(**{key: values[key] for key in arguments})) as env:
        if task_by == "auto" and has_method(env, "set_task") and not any(taken.get(key) for key in arguments):
            return told
        strangers, bare = [p for p in others if not settable(env.unwrapped, p)], env.unwrapped
        numbers = number_attributes(bare) if strangers else []
        if strangers and (task_by == "attributes" or not any_keyword):
            known = [*taken, *numbers] if task_by == "auto" else numbers
            fits = [p for p in others if p not in strangers]
            refuse_strangers(name, parameters, [*known, *arguments, *fits], "arguments", [*numbers, *fits], bare)
    maker = replace(told, delivery="attributes", arguments=(*arguments, *strangers))
    if strangers:  # only **keywords can take them
        _refuse_unexpected(name, maker, task, {**taken, **dict.fromkeys(numbers, False)})
    return maker


def _refuse_unexpected(name: str, maker: Maker, task: Task, known: Collection[str]) -> None:
    """Raises ValueError if a function with `**keywords` passes a parameter to a constructor that does not take it."""
    values = maker.values(task)
    try:
        with made(name, lambda: maker.make_env(**{key: values[key] for key in maker.arguments})):
            return
    except EnvError as failure:
        if is_unexpected_keyword(failure.__cause__):
            unexpected = [p for p in maker.arguments if repr(p) in str(failure.__cause__)] or list(maker.arguments)
            refuse_strangers(name, unexpected, [k for k in known if k not in unexpected], "arguments", (), None)
        raise


@contextlib.contextmanager
def looked_up(name: str) -> Iterator[None]:
    """Names the missing module if the module of a registered environment cannot be imported."""
    try:
        yield
    except (Exception, SystemExit) as error:
        raise own_error(f"family {name!r}: the environment", "when it was looked up", error) from error
