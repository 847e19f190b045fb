"""Families of any robot from its MJCF file: `mjcf:PATH?...` and `menagerie:NAME?...`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from metarl.envs.draws import Uniform
from metarl.envs.elements import motors
from metarl.envs.robots.actions import make_actions
from metarl.envs.robots.digest import robot_digest
from metarl.envs.robots.effects import Declared, Effect, Robot
from metarl.envs.robots.files import menagerie_names, robot_file
from metarl.envs.robots.goals import beyond_reach, reachable_goals
from metarl.envs.robots.loading import LoadedRobot, load_robot
from metarl.envs.robots.pose import Start, base_body, free_joint, grounds, scalar_joints, start_pose
from metarl.envs.robots.rewards import Term, terms_of, weights_of
from metarl.envs.robots.robot import Ends, RobotEnvs, RobotSetup
from metarl.envs.robots.spec import (
    COMMAND,
    GOAL,
    HOLD,
    MENAGERIE,
    MJCF,
    REACH,
    USAGES,
    WALK,
    RobotSpec,
    names_own_code,
    read_spec,
)
from metarl.envs.robots.state import RobotState, Sensors, find_site
from metarl.envs.robots.variations import KINDS, bind
from metarl.envs.task_sets import Factor, combined_tasks
from metarl.own_code.errors import EnvError
from metarl.own_code.modules import attribute, call_own, own_module, own_names
from metarl.parameters import Parameter, uniform
from metarl.schemes import Scheme
from metarl.tasks import Family
from metarl.types import Floats

RATE = 50.0
"""Actions per second, Hz."""
HORIZONS = {WALK: 200, REACH: 100, HOLD: 200}
"""Steps of an episode, by task; 200 for one's own reward."""
BALL = int(mujoco.mjtJoint.mjJNT_BALL)
EXAMPLE = "payload=uniform(0,5)"
"""A variation, for suggestions."""
SPEED = 0.5
"""Commanded velocity forwards, m/s."""
TILT, HEIGHT, START_NOISE, GOAL_RANGE, TOLERANCE = 60.0, 0.5, 0.05, 0.8, 0.03
"""Defaults of the options of these names."""


def robot_family(name: str) -> Family:
    """The family of `mjcf:PATH?...` or `menagerie:NAME?...`.

    Raises:
        ValueError: The name cannot be read, the robot cannot be loaded, or an option or variation does not fit it.
        EnvError: The module of one's own reward raised.
    """
    spec = read_spec(name, tuple(KINDS))
    return _Maker(spec).family()


class _Maker:
    """Makes the family of one name.

    Args:
        spec: The name, read.
    """

    def __init__(self, spec: RobotSpec) -> None:
        self.spec = spec
        self.loaded: LoadedRobot = load_robot(robot_file(spec), spec)
        self.model = self.loaded.model
        self.base_joint = free_joint(self.model)
        self.start: Start = start_pose(self.model, spec, self.base_joint)
        self.base = base_body(self.model, spec, self.base_joint)
        self.task = task_of(spec, self.base_joint)
        if self.task == WALK and self.base_joint < 0:
            raise ValueError(
                f"{spec.what}: got task=walk for a robot that is fixed to the world, expected reach or hold"
            )

    def family(self) -> Family:
        """The family."""
        spec, task = self.spec, self.task
        effects, site = self._effects(), self._site()
        factors: list[Factor] = [effect.factor for effect in effects] + self._factors(site)
        if not factors:
            raise ValueError(
                f"{spec.what}: got nothing that varies between tasks, expected at least one of "
                f"{', '.join(sorted(KINDS))}, such as payload=uniform(0,5), or {COMMAND}=uniform(0.3,0.8)"
            )
        commanded = self.base_joint >= 0 and task not in (REACH, HOLD)
        sensors = Sensors(
            model=self.model,
            home=self.start.qpos,
            joints=tuple(scalar_joints(self.model, self.base_joint)),
            base_joint=self.base_joint,
            site=site,
            commanded=commanded,
            base_velocity=spec.options.get("base_velocity", "yes") == "yes",
        )
        varied = tuple(factor.name for factor in factors)
        how = str(spec.options.get("action", ""))
        scale = spec.options.get("scale")
        actions = make_actions(self.model, self.start.ctrl, scale, legs=self.base_joint >= 0, how=how)
        latency = next(
            (d.distribution.values(np.ones(1)) for d in self._declared() if d.name == "latency"), np.zeros(1)
        )
        setup = RobotSetup(
            loaded=self.loaded,
            qpos=self.start.qpos,
            key=self.start.key,
            base=self.base,
            effects=tuple(effects),
            actions=actions,
            sensors=sensors,
            reward=self._reward(commanded, goal=task == REACH),
            ends=self._ends(),
            command=np.array(spec.command or (SPEED, 0.0, 0.0)) if commanded else np.zeros(0),
            varied=varied,
            most_latency=math.ceil(float(latency[0])),
            tolerance=spec.number("tolerance", TOLERANCE),
            start_noise=spec.number("start_noise", START_NOISE),
            frame_skip=self._frame_skip(),
        )
        rate = f"{1.0 / (setup.frame_skip * self.model.opt.timestep):g} actions per second"
        further = (*self._torques(), *self.loaded.notes, *self._unobserved(), *self._far_goals(site))
        notes = (f"task={task}, {rate}; {self.start.note}", actions.note, *further)
        return Family(
            name=spec.text,
            summary=f"{Path(spec.place).name}: {task} with {', '.join(varied)} different in each task",
            distribution=combined_tasks(spec.text, factors),
            horizon=int(spec.number("horizon", HORIZONS.get(task, HORIZONS[WALK]))),
            make_envs=partial(RobotEnvs, setup=setup),
            notes=notes,
            digest=partial(robot_digest, self.loaded.path, spec.what),
        )

    def _torques(self) -> list[str]:
        """Advice for a robot with a free base whose motors have torques as actions by default."""
        chosen = "action" in self.spec.options or self.base_joint < 0
        return [] if chosen or not motors(self.model).any() else ["torques; targets often learn more easily: action=pd"]

    def _far_goals(self, site: tuple[str, int] | None) -> list[str]:
        """A sentence on goals of the given box that the site cannot reach; refuses a box without any others."""
        given = self.spec.varied(GOAL)
        if given is None or site is None or self.base_joint >= 0:
            return []
        low, high = (np.array(values, dtype=np.float64) for values in given.values)
        share, words = beyond_reach(self.model, self.start.qpos, site, low, high)
        if share == 1.0:
            raise ValueError(f"{self.spec.what}: got a goal that cannot be reached, expected one nearer: {words}")
        return [words] if words else []

    def _unobserved(self) -> list[str]:
        """A sentence on joints that are neither hinges nor slides, besides that of the base."""
        kinds = self.model.jnt_type
        balls = [self.model.joint(int(j)).name or f"joint {j}" for j in np.flatnonzero(kinds == BALL)]
        return [f"ball joints are not observed: {', '.join(balls)}"] if balls else []

    def _declared(self) -> list[Declared]:
        """The named variations."""
        return [
            Declared(one.name, Uniform(one.values[0][0], one.values[1][0]), dict(self.spec.words.get(one.name, {})))
            for one in self.spec.variations
            if one.name not in (COMMAND, GOAL)
        ]

    def _effects(self) -> list[Effect]:
        robot = Robot(self.model, self.start.qpos, self.start.ctrl, self.base, grounds(self.model))
        try:
            return bind(robot, self._declared())
        except ValueError as error:
            raise ValueError(f"{self.spec.what}: {error}") from error

    def _site(self) -> tuple[str, int] | None:
        """The part that reaches; None for a robot that does not reach."""
        if self.task != REACH and "site" not in self.spec.options:
            return None
        try:
            return find_site(self.model, self.spec.options.get("site"))
        except ValueError as error:
            raise ValueError(f"{self.spec.what}: got {error}") from error

    def _factors(self, site: tuple[str, int] | None) -> list[Factor]:
        """The parameters of the task that change no model: command and goal."""
        found: list[Factor] = []
        command, goal = self.spec.varied(COMMAND), self.spec.varied(GOAL)
        if (command is not None or self.spec.command) and (self.base_joint < 0 or self.task in (REACH, HOLD)):
            raise ValueError(f"{self.spec.what}: got a command for task={self.task}, expected it for task=walk only")
        if command is not None:
            meaning = (
                "commanded velocity forwards, m/s"
                if command.size == 1
                else ("commanded velocity forwards and to the left, m/s, and rate of turning, rad/s")
            )
            low, high = (list(v) if len(v) > 1 else v[0] for v in command.values)
            found.append(uniform(COMMAND, low, high, size=command.size, meaning=meaning, hidden=False))
        if self.task == REACH:
            assert site is not None
            found.append(self._goal(site))
        elif goal is not None:
            raise ValueError(f"{self.spec.what}: got a goal for task={self.task}, expected it for task=reach only")
        return found

    def _goal(self, site: tuple[str, int]) -> Parameter:
        given, meaning = self.spec.varied(GOAL), "place for the site to reach, world frame, m"
        if given is not None:
            return uniform(GOAL, list(given.values[0]), list(given.values[1]), size=3, meaning=meaning)
        within = self.spec.number("goal_range", GOAL_RANGE)
        try:
            places = reachable_goals(self.model, self.start.qpos, site, within, bool(grounds(self.model)))
        except ValueError as error:
            raise ValueError(f"{self.spec.what}: {error}") from error
        return Parameter(
            name=GOAL,
            meaning=f"{meaning}; where it is in a pose with each joint within {within:g} of home, uniformly",
            hidden=True,
            variates=len(places.joints),
            transform=places,
        )

    def _reward(self, commanded: bool, goal: bool) -> Callable[[RobotState], Mapping[str, Floats]]:
        terms = terms_of(base=self.base_joint >= 0, commanded=commanded, goal=goal)
        try:
            weights = weights_of(self.task, self.spec.weights, terms)
        except ValueError as error:
            raise ValueError(f"{self.spec.what}: got {error}") from error
        own = own_reward(self.spec) if self.spec.own_reward else None
        if not weights and own is None:
            raise ValueError(
                f"{self.spec.what}: got the weight 0 for all terms of the reward, expected one that is not 0"
            )
        return Weighted({name: terms[name] for name in weights}, weights, own, self.spec.own_reward)

    def _ends(self) -> Ends:
        spec, limit = self.spec, self.spec.number("limit", math.inf)
        if self.base_joint < 0:
            return Ends(beyond=limit)
        height = float(self.start.qpos[self.model.jnt_qposadr[self.base_joint] + 2])
        return Ends(
            down=-math.cos(math.radians(spec.number("tilt", TILT))),
            height=height * spec.number("height", HEIGHT) if spec.number("height", HEIGHT) else -math.inf,
            beyond=limit,
        )

    def _frame_skip(self) -> int:
        rate, timestep = self.spec.number("rate", RATE), float(self.model.opt.timestep)
        steps = 1.0 / (rate * timestep)
        whole = round(steps)
        if whole >= 1 and abs(steps - whole) < 1e-6 * steps:
            return whole
        if "rate" not in self.spec.options:
            return max(1, whole)
        near = ", ".join(f"{1.0 / (n * timestep):g}" for n in sorted({max(1, whole - 1), max(1, whole), whole + 1}))
        raise ValueError(
            f"{self.spec.what}: got rate={rate:g}, expected a whole number of physics steps of {timestep:g} s per "
            f"action: {near} or another"
        )


def task_of(spec: RobotSpec, base_joint: int) -> str:
    """The task: the given one, else walk for a robot with a free base, and reach for one that is fixed."""
    return str(spec.options.get("task", WALK if base_joint >= 0 else REACH))


@dataclass(frozen=True)
class Weighted:
    """A reward: weighted terms, and one's own.

    Args:
        terms: The terms.
        weights: Their weights.
        own: One's own function of the state: an array `[R]`, or terms by name, each `[R]`; None for none.
        what: Its name.
    """

    terms: Mapping[str, Term]
    weights: Mapping[str, float]
    own: Callable[[RobotState], Any] | None
    what: str

    def __call__(self, state: RobotState) -> dict[str, Floats]:
        """The weighted terms, `[R]` each.

        Raises:
            EnvError: One's own function raised, or returned no array `[R]`.
        """
        found = {name: self.weights[name] * term(state) for name, term in self.terms.items()}
        if self.own is not None:
            found |= self._own_terms(state)
        return found

    def _own_terms(self, state: RobotState) -> dict[str, Floats]:
        assert self.own is not None
        given = call_own(partial(self.own, state), f"reward {self.what!r}")
        named = given if isinstance(given, Mapping) else {"own": given}
        rows, terms = len(state.power), {}
        for name, values in named.items():
            try:
                array = np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError):
                array = np.zeros(0)
            if array.shape != (rows,):
                raise EnvError(
                    f"reward {self.what!r}: got {type(values).__name__} of shape {np.shape(values)} for {rows} rows, "
                    f"expected an array of shape ({rows},), or such arrays by name"
                )
            terms[str(name)] = array
        return terms


def own_reward(spec: RobotSpec) -> Callable[[RobotState], Any]:
    """One's own reward function, which the command line names.

    Raises:
        ValueError: There is no such function.
        EnvError: Its module raised.
    """
    what, (module_name, _, last) = f"reward {spec.own_reward!r}", spec.own_reward.rpartition(":")
    module = own_module(module_name, what, "module:function")
    known = own_names(module, inspect.isfunction)
    found = attribute(module, last, what, "module:function", known, "a function of a RobotState")
    if not callable(found):
        raise ValueError(f"{what}: got {type(found).__name__}, expected a function of a RobotState")
    function: Callable[[RobotState], Any] = found
    return function


# The schemes mjcf: and menagerie: -------------------------------------------------------------------------


def full_name(name: str) -> str:
    """The name with the full path of its file; unchanged if there is no such file, or for a robot of Menagerie."""
    scheme, _, rest = name.partition(":")
    place, mark, query = rest.partition("?")
    path = Path(place).expanduser()
    return f"{scheme}:{path.resolve()}{mark}{query}" if scheme == MJCF and place and path.is_file() else name


def preset_name(name: str) -> str:
    """The name under which presets list the family: `robot-walk`, `robot-reach`, `robot-hold`, `robot-own`."""
    spec = read_spec(name, tuple(KINDS))
    if "task" not in spec.options:
        return f"robot-{_task_of_file(spec)}"
    return f"robot-{'own' if spec.own_reward else spec.options['task']}"


def _task_of_file(spec: RobotSpec) -> str:
    """The task of a robot whose name gives none."""
    return task_of(spec, free_joint(load_robot(robot_file(spec), spec).model))


def _file_named(name: str) -> str:
    """The name of the family of an XML file that was named without `mjcf:`."""
    place, _, query = name.partition("?")
    return repr(f"{MJCF}:{place}?{query or EXAMPLE}") if place.endswith(".xml") and Path(place).is_file() else ""


def _robot_named(name: str) -> str:
    """The name of the family of a robot of Menagerie that was named without `menagerie:`."""
    place, _, query = name.partition("?")
    return repr(f"{MENAGERIE}:{place}?{query or EXAMPLE}") if place in menagerie_names() else ""


MJCF_SCHEME, MENAGERIE_SCHEME = (
    Scheme(
        make_family=robot_family,
        usage=USAGES[scheme],
        is_own_code=names_own_code,
        suggestion=suggestion,
        full_name=full_name,
        preset=preset_name,
    )
    for scheme, suggestion in ((MJCF, _file_named), (MENAGERIE, _robot_named))
)
