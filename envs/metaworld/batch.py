"""Meta-World's tasks stepped as one batch, rows grouped by class of tasks.

A step moves the hand's target, runs five physics steps and a forward pass in a pool of threads, and computes
observation, reward and success of all rows of a class at once. The two do not overlap: while arrays are computed here,
the threads would wait for the interpreter lock after every row (measured: 29 ms a step in place of 22).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from metarl.envs.camera import Camera
from metarl.envs.metaworld.goals import STATE, ClassGoals
from metarl.envs.metaworld.scene import COMMON_SENSORS, Manipulation, Scene, Verdict
from metarl.envs.metaworld.shaping import distance
from metarl.envs.mujoco_batch import FATAL_WARNINGS, Gathered
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv, available_cores

HORIZON = 500
FRAME_SKIP = 5
FRAME = 18  # numbers of one frame of the observation: hand, opening, objects
OBJECTS = 14
HAND_LOW, HAND_HIGH = np.array([-0.525, 0.348, -0.0525]), np.array([0.525, 1.025, 0.7])
FULLY_OPEN = 0.1  # m between the fingers
SLACK = 1e-6  # m
FINGERS = ("leftpad_geom", "rightpad_geom")
VERDICT_TERMS = tuple(field.name for field in fields(Verdict))
CAMERA = "corner2"  # hangs upside down
FRAME_LOW = np.concatenate([HAND_LOW, [-1.0], np.full(OBJECTS, -np.inf)])
FRAME_HIGH = np.concatenate([HAND_HIGH, [1.0], np.full(OBJECTS, np.inf)])


class ClassRows:
    """The rows of one class: a model for each of its tasks in the batch, and persistent data for each row.

    Args:
        kind: The class of tasks.
        goals: Its goals.
        num_tasks: How many tasks of the batch may be of this class.
        episodes: `E`, rows of each.
    """

    def __init__(self, kind: type[Manipulation], goals: ClassGoals, num_tasks: int, episodes: int) -> None:
        self.kind, self.goals, self.num_tasks, self.episodes = kind, goals, num_tasks, episodes
        first = mujoco.MjModel.from_xml_path(goals.model_path)
        self.models = [first, *(copy.copy(first) for _ in range(num_tasks - 1))]
        self.data = [mujoco.MjData(model) for model in self.models for _ in range(episodes)]
        self._ctrl = [d.ctrl for d in self.data]
        self._mocap = [d.mocap_pos[0] for d in self.data]
        sensors = {**COMMON_SENSORS, **kind.sensors}
        self._sensed = Gathered([[sensor(d) for sensor in sensors.values()] for d in self.data])
        sizes = [sensor(self.data[0]).size for sensor in sensors.values()]
        ends = np.cumsum(sizes)
        self._columns = {n: slice(e - size, e) for n, e, size in zip(sensors, ends, sizes, strict=True)}
        self._targets = Gathered([[place] for place in self._mocap])
        self._warnings = Gathered([[d.warning.number] for d in self.data])
        self._touch = Touch(first, self.data, kind.main_object) if kind.main_object else None
        rows = len(self.data)
        self.frames = np.zeros((rows, FRAME))  # the frame of the last step
        self.chosen = np.zeros(rows, dtype=np.int64)  # the goal of each row
        self.constants: dict[str, Floats] = {}

    def set_goals(self, chosen: Sequence[int]) -> None:
        """Gives the first tasks of the class their goals, and changes their models accordingly."""
        for model, goal in zip(self.models, chosen, strict=False):
            for name, values in self.goals.fields.items():
                getattr(model, name)[...] = values[goal]
        rows = np.repeat(np.asarray(chosen, dtype=np.int64), self.episodes)
        self.chosen[: len(rows)] = rows
        self.constants = {name: values[self.chosen] for name, values in self.goals.constants.items()}

    def reset(self, rows: np.ndarray) -> Floats:
        """Puts rows at the start of their goals; gives the first observations, `[rows, 39]`."""
        chosen = self.chosen[rows]
        for i, goal in zip(rows.tolist(), chosen.tolist(), strict=True):
            data = self.data[i]
            mujoco.mj_setState(self.models[i // self.episodes], data, self.goals.states[goal], STATE)
            data.warning.number[:] = 0
        self._targets.refresh(rows)
        observations = self.goals.observations[chosen]
        self.frames[rows] = observations[:, :FRAME]
        return observations

    def set_actions(self, rows: np.ndarray, actions: Floats) -> None:
        """Moves the hands' targets and sets the grippers."""
        low, high = self.goals.mocap_bounds
        targets = self._targets.array
        moved = targets[rows] + np.clip(actions[:, :3], -1.0, 1.0) * self.goals.action_scale
        targets[rows] = np.clip(moved, low, high)
        for i, place, grip in zip(rows.tolist(), targets[rows], actions[:, 3].tolist(), strict=True):
            self._mocap[i][:] = place
            self._ctrl[i][:] = (grip, -grip)

    def physics(self, rows: Sequence[int]) -> None:
        """Steps rows; runs in a thread."""
        models, data, episodes = self.models, self.data, self.episodes
        mj_step, mj_forward = mujoco.mj_step, mujoco.mj_forward
        for i in rows:
            model = models[i // episodes]
            mj_step(model, data[i], FRAME_SKIP)
            mj_forward(model, data[i])

    def gather(self, rows: np.ndarray) -> None:
        """Copies out what is sensed of rows."""
        self._sensed.refresh(rows)
        self._warnings.refresh(rows)

    def judge(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Verdict, Bools]:
        """Observations `[rows, 39]`, verdict, and whether the simulation blew up, after the physics."""
        everyone = len(rows) == len(self.data)
        numbers = self._sensed.array if everyone else self._sensed.array[rows]
        sensed = {name: numbers[:, columns] for name, columns in self._columns.items()}
        frames = np.zeros((len(rows), FRAME))
        frames[:, :3] = sensed["hand"]
        frames[:, 3] = np.minimum(distance(sensed["right_claw"], sensed["left_claw"]) / FULLY_OPEN, 1.0)
        objects = self.kind.objects(sensed)
        frames[:, 4 : 4 + objects.shape[1]] = objects
        frames = np.minimum(np.maximum(frames, FRAME_LOW), FRAME_HIGH)
        observations = np.concatenate([frames, self.frames[rows], np.zeros((len(rows), 3))], axis=1)
        self.frames[rows] = frames
        scene = Scene(
            sensed=sensed,
            goal=self.constants if everyone else {name: values[rows] for name, values in self.constants.items()},
            observation=observations,
            actions=actions,
            touching=self._touch(rows) if self._touch else np.zeros(len(rows), dtype=np.bool_),
        )
        blown = np.any(self._warnings.array[rows][:, FATAL_WARNINGS], axis=1)
        return observations, self.kind.judge(scene), blown


def _step_share(share: Sequence[tuple[ClassRows, Sequence[int]]]) -> None:
    """What one thread does in a step."""
    for group, rows in share:
        group.physics(rows)


class Touch:
    """Whether contacts press both fingers on an object.

    Args:
        model: The model of all rows.
        data: The data of each row.
        name: Of the object's geom.
    """

    def __init__(self, model: Any, data: Sequence[Any], name: str) -> None:
        self._data = data
        self._geoms = [model.geom(geom).id for geom in (name, *FINGERS)]
        self._places = Gathered([[d.geom_xpos[geom] for geom in self._geoms] for d in data])
        bounds, margins = model.geom_rbound[self._geoms], model.geom_margin[self._geoms]
        # Geoms whose bounding spheres are further apart cannot touch: most rows need no look at their contacts.
        self._reach = bounds[0] + bounds[1:] + np.maximum(margins[0], margins[1:])

    def __call__(self, rows: np.ndarray) -> Bools:
        """For rows, `[rows]`."""
        self._places.refresh(rows)
        places = self._places.array[rows].reshape(len(rows), 3, 3)
        apart = places[:, 1:] - places[:, :1]
        near = np.sqrt((apart**2).sum(axis=2)) <= self._reach + SLACK
        result = near.all(axis=1)
        for at in np.flatnonzero(result).tolist():
            result[at] = self._pressed(self._data[rows[at]])
        return result

    def _pressed(self, data: Any) -> bool:
        """Whether the constraint forces of the contacts with each finger add up to more than nothing."""
        pairs, addresses, forces = data.contact.geom, data.contact.efc_address, data.efc_force
        with_object = (pairs == self._geoms[0]).any(axis=1)
        return all(
            sum(forces[addresses[with_object & (pairs == finger).any(axis=1)]]) > 0.0 for finger in self._geoms[1:]
        )


class MetaWorldEnvs(TaskVecEnv):
    """Tasks of Meta-World; infos are those of `Verdict` beside `success`.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        kinds: The classes that tasks may be of, in the order that tasks number them.
        goals: The goals of each class, by name.
        threads: Threads to step with; all available cores by default.
    """

    def __init__(
        self,
        num_tasks: int,
        episodes: int,
        horizon: int,
        *,
        kinds: Sequence[type[Manipulation]],
        goals: Mapping[str, ClassGoals],
        threads: int | None = None,
    ) -> None:
        super().__init__(
            num_tasks,
            episodes,
            horizon,
            spaces.Box(
                np.concatenate([FRAME_LOW, FRAME_LOW, np.zeros(3)]),
                np.concatenate([FRAME_HIGH, FRAME_HIGH, np.zeros(3)]),
                dtype=np.float64,
            ),
            spaces.Box(-1.0, 1.0, (4,), np.float32),
        )
        self._kinds, self._goals = tuple(kinds), goals
        self._threads = threads or available_cores()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="metaworld")
        self._classes: dict[str, ClassRows] = {}  # of all classes met so far
        self._groups: list[tuple[ClassRows, np.ndarray]] = []  # those of the tasks now, and their rows in the batch
        self._seen = np.zeros((self.num_envs, 39))
        self._camera: Camera | None = None

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        chosen: dict[str, list[tuple[int, int]]] = {}  # by class: places in the batch and goals
        for place, task in enumerate(tasks):
            kind = self._kinds[int(task["class"][0])]
            chosen.setdefault(kind.name, []).append((place, int(task["goal"][0])))
        self._groups = []
        for name, members in chosen.items():
            kind = next(k for k in self._kinds if k.name == name)
            have = self._classes.get(name)
            if have is None or have.num_tasks < len(members):
                have = ClassRows(kind, self._goals[name], len(members), self.episodes)
                self._classes[name] = have
            have.set_goals([goal for _, goal in members])
            places = np.array([place for place, _ in members])
            rows = (places[:, None] * self.episodes + np.arange(self.episodes)).reshape(-1)
            self._groups.append((have, rows))

    def _members(self, rows: np.ndarray) -> list[tuple[ClassRows, np.ndarray, np.ndarray]]:
        """The classes that rows of the batch belong to: each with its own rows, and their places in `rows`."""
        place = np.full(self.num_envs, -1)
        place[rows] = np.arange(len(rows))
        result = []
        for group, members in self._groups:
            own = np.flatnonzero(place[members] >= 0)
            if len(own):
                result.append((group, own, place[members[own]]))
        return result

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        for group, own, places in self._members(rows):
            self._seen[rows[places]] = group.reset(own)

    def set_controls(self, rows: np.ndarray, actions: Floats) -> None:
        """Sets targets and grippers that `bare_physics` then steps with, from actions `[rows, 4]`."""
        for group, own, places in self._members(rows):
            group.set_actions(own, actions[places].astype(np.float64))

    def bare_physics(self, rows: np.ndarray) -> None:
        """Steps rows without observing or judging them: the floor under the cost of a step."""
        self._physics(self._members(rows))

    def _physics(self, members: Sequence[tuple[ClassRows, np.ndarray, np.ndarray]]) -> None:
        """Steps rows of classes: each thread an equal share of every class, for classes differ in cost."""
        shares = [
            [(group, own[i :: self._threads].tolist()) for group, own, _ in members] for i in range(self._threads)
        ]
        for future in [self._pool.submit(_step_share, share) for share in shares]:
            future.result()

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        actions = actions.astype(np.float64)
        members = self._members(rows)
        for group, own, places in members:
            group.set_actions(own, actions[places])
        self._physics(members)
        terms = {name: np.zeros(len(rows)) for name in VERDICT_TERMS}
        blown = np.zeros(len(rows), dtype=np.bool_)
        for group, own, places in members:
            group.gather(own)
            self._seen[rows[places]], verdict, blown[places] = group.judge(own, actions[places])
            for name in VERDICT_TERMS:
                terms[name][places] = getattr(verdict, name)
        reward = terms.pop("reward")
        infos = {**terms, "success": terms["success"] > 0.0}
        return reward, np.zeros(len(rows), dtype=np.bool_), blown, infos

    def _observe(self, rows: np.ndarray) -> Floats:
        return self._seen[rows]

    def render_row(self, row: int, width: int, height: int) -> np.ndarray:
        """A picture of one row, `[height, width, 3]` bytes, from Meta-World's own corner."""
        for group, members in self._groups:
            for own in np.flatnonzero(members == row):
                model, data = group.models[own // group.episodes], group.data[own]
                mujoco.mj_kinematics(model, data)  # after a reset positions are those of before; no effect on physics
                mujoco.mj_comPos(model, data)
                mujoco.mj_camlight(model, data)
                if self._camera is None or self._camera.model is not model or self._camera.size != (width, height):
                    if self._camera is not None:
                        self._camera.close()
                    self._camera = Camera(model, width, height, name=CAMERA)
                return self._camera.picture(data)[::-1, ::-1]
        raise ValueError(f"render_row: got row {row}, expected 0 to {self.num_envs - 1}")

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the threads, and puts the camera away."""
        self._pool.shutdown(wait=True)
        if self._camera is not None:
            self._camera.close()
