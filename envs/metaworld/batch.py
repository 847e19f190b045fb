"""Meta-World's tasks stepped as one batch, with rows grouped by task class.

A step moves the hands' targets, runs five physics steps and a forward pass in a thread pool, and then computes on
arrays: shared parts of the observation for the whole batch, rewards and success for all rows of a class. Physics and
array computations do not overlap, because the threads would wait for the interpreter lock after every row.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from metarl.envs.camera import Camera
from metarl.envs.metaworld.goals import STATE, ClassGoals
from metarl.envs.metaworld.scene import COMMON_SENSORS, Manipulation, Scene, Verdict, add_quaternions, geom
from metarl.envs.metaworld.sensing import FINGERS, Spans, Touch
from metarl.envs.metaworld.shaping import distance
from metarl.envs.mujoco_batch import DATA_BYTES, FATAL_WARNINGS, Simulation
from metarl.envs.scattered import Scattered
from metarl.envs.workers import Workers
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv

HORIZON = 500
FRAME_SKIP = 5
FRAME = 18  # numbers in one frame of the observation: hand, gripper opening, objects
OBJECTS = 14
OBSERVATION = 39
FRAME_UNITS = ("m",) * 3 + ("1",) + (("m",) * 3 + ("1",) * 4) * 2
NO_ROWS = np.zeros((0, OBSERVATION))
NO_CONTROLS = np.zeros((0, 3)), np.zeros((0, 2))
FINGER_SIGNS = np.array([1.0, -1.0])
HAND_LOW, HAND_HIGH = np.array([-0.525, 0.348, -0.0525]), np.array([0.525, 1.025, 0.7])
FULLY_OPEN = 0.1  # m between the fingers
COMMON = ("hand", "right_claw", "left_claw")
VERDICT_TERMS = tuple(field.name for field in fields(Verdict))
CAMERA = "corner2"  # mounted upside down
FRAME_LOW = np.concatenate([HAND_LOW, [-1.0], np.full(OBJECTS, -np.inf)])
FRAME_HIGH = np.concatenate([HAND_HIGH, [1.0], np.full(OBJECTS, np.inf)])


class ClassRows:
    """The rows of one task class: a model for each of its tasks in the batch, and persistent data for each row.

    Args:
        kind: The task class.
        goals: The goals of the class.
        model: `MjModel` compiled from the class's XML file; each task gets a copy.
        num_tasks: Capacity: largest number of tasks of this class in a batch.
        episodes: `E`, rows per task.

    Attributes:
        constants: Goal constants of each row by name, `[rows, size]`.
    """

    def __init__(self, kind: type[Manipulation], goals: ClassGoals, model: Any, num_tasks: int, episodes: int) -> None:
        self.kind, self.goals, self.num_tasks, self.episodes = kind, goals, num_tasks, episodes
        self.models = [copy.copy(model) for _ in range(num_tasks)]
        self.data = [mujoco.MjData(model) for model in self.models for _ in range(episodes)]
        self.row_bytes, self.task_bytes = DATA_BYTES + self.data[0].nbuffer, self.models[0].nbuffer
        self._model_of = [model for model in self.models for _ in range(episodes)]
        self._mocap = Scattered([[d.mocap_pos[0]] for d in self.data])
        self._fingers = Scattered([[d.ctrl] for d in self.data])
        sensors, self._touch = {**COMMON_SENSORS, **kind.sensors}, None
        if kind.main_object:
            sensors |= {name: geom(place) for name, place in {"main_object": kind.main_object, **FINGERS}.items()}
            self._touch = Touch(model, self.data, kind.main_object)
        spans = Spans(self.data[0], sensors)
        self._columns = spans.columns
        self._sensed = Scattered([spans.views(d) for d in self.data])
        self._chosen = np.zeros(len(self.data), dtype=np.int64)  # index of each row's goal
        self.constants: dict[str, Floats] = {}
        self._targets, self._grips = NO_CONTROLS  # until `bind`

    def bind(self, targets: Floats, grips: Floats) -> None:
        """Sets the arrays that hold the controls of the first rows.

        Args:
            targets: Target positions of the hands, `[rows, 3]` in m.
            grips: Controls of the two fingers, `[rows, 2]`.
        """
        self._targets, self._grips = targets, grips

    def set_goals(self, chosen: Sequence[int]) -> None:
        """Sets the goals, by index, of the class's first tasks, and adapts their models."""
        for model, goal in zip(self.models, chosen, strict=False):
            for name, values in self.goals.fields.items():
                getattr(model, name)[...] = values[goal]
        self._chosen = np.repeat(np.asarray(chosen, dtype=np.int64), self.episodes)
        self.constants = {name: values[self._chosen] for name, values in self.goals.constants.items()}

    def reset(self, rows: np.ndarray) -> Floats:
        """Puts rows into the initial states of their goals; returns the first observations, `[rows, 39]`."""
        chosen = self._chosen[rows]
        for i, goal in zip(rows.tolist(), chosen.tolist(), strict=True):
            mujoco.mj_setState(self._model_of[i], self.data[i], self.goals.states[goal], STATE)
            self.data[i].warning.number[:] = 0
        self._mocap.read(rows)
        self._targets[rows] = self._mocap.array[rows]
        return self.goals.observations[chosen]

    def control(self, rows: np.ndarray) -> None:
        """Writes the controls of rows into their simulations."""
        self._mocap.write(rows, self._targets[rows])
        self._fingers.write(rows, self._grips[rows])

    def physics(self, rows: Sequence[int]) -> None:
        """Steps rows; called in a worker thread."""
        models, data = self._model_of, self.data
        mj_step, mj_forward = mujoco.mj_step, mujoco.mj_forward
        for i in rows:
            mj_step(models[i], data[i], FRAME_SKIP)
            mj_forward(models[i], data[i])

    def simulations(self, rows: int) -> list[Simulation]:
        """The simulations of the first rows."""
        pairs = list(zip(self._model_of, self.data, strict=True))[:rows]
        return [Simulation(model, data, FRAME_SKIP, mujoco.mj_forward) for model, data in pairs]

    def sense(self, rows: np.ndarray) -> dict[str, Floats]:
        """Sensor readings of rows by name, `[rows, size]`."""
        self._sensed.read(rows)
        numbers = self._sensed.array
        if len(rows) < len(numbers):
            numbers = numbers[rows]
        return {name: numbers[:, columns] for name, columns in self._columns.items()}

    def touching(self, rows: np.ndarray, sensed: Mapping[str, Floats]) -> Bools:
        """Whether both fingers press on the class's main object, `[rows]`."""
        if self._touch is None:
            return np.zeros(len(rows), dtype=np.bool_)
        return self._touch(rows, sensed["main_object"], [sensed[name] for name in FINGERS])


@dataclass(frozen=True)
class Live:
    """The rows of a step or reset, sorted by class.

    Attributes:
        order: Indices that sort the requested rows by class, `[rows]`.
        at: Indices of these rows among all rows of the batch sorted by class.
        members: For each class, its rows within the class and their slice of the sorted rows.
    """

    order: np.ndarray
    at: np.ndarray | slice
    members: Sequence[tuple[ClassRows, np.ndarray, slice]]

    def __len__(self) -> int:
        return len(self.order)


class MetaWorldEnvs(TaskVecEnv):
    """A batch of Meta-World tasks. Step infos are the fields of `Verdict` but `reward`, `[N]` each.

    Observation (39 numbers), action (4) and reward are described in `metarl.envs.metaworld.families`.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        kinds: The task classes, in the order of the numbers in tasks.
        goals: Goals of each class by its name.
        threads: Number of physics threads; all available cores by default.
    """

    observation_units = FRAME_UNITS + FRAME_UNITS + ("m",) * 3
    action_names = ("hand x", "hand y", "hand z", "gripper")
    step_seconds = 0.0125  # FRAME_SKIP physics steps

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
        self._workers = Workers(threads)
        self._classes: dict[str, ClassRows] = {}  # all classes used so far
        # Sorted by class, not in the order of the batch:
        self._groups: list[tuple[ClassRows, np.ndarray]] = []  # classes of the current tasks, their rows in the batch
        self._order = np.arange(self.num_envs)  # position of each row of the batch after sorting by class
        self._in_order = np.arange(self.num_envs)
        self._warnings: Scattered  # MuJoCo's warning counters of each row
        self._all_rows: Live | None = None
        self._targets = np.zeros((self.num_envs, 3))  # target positions of the hands, m
        self._bounds = np.zeros((2, self.num_envs, 3))  # lowest and highest target, m
        self._scale = np.zeros((self.num_envs, 1))  # m per unit of action
        self._grips = np.zeros((self.num_envs, 2))
        self._frames = np.zeros((self.num_envs, FRAME))  # frame of the last step
        # In the order of the batch:
        self._seen = np.zeros((self.num_envs, OBSERVATION))
        self._camera: Camera | None = None

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        chosen: dict[str, list[tuple[int, int]]] = {}  # by class: task indices in the batch, goals
        for place, task in enumerate(tasks):
            kind = self._kinds[int(task["class"][0])]
            chosen.setdefault(kind.name, []).append((place, int(task["goal"][0])))
        self._make_classes({name: len(members) for name, members in chosen.items()})
        self._groups = []
        for name, members in chosen.items():
            have = self._classes[name]
            have.set_goals([goal for _, goal in members])
            places = np.array([place for place, _ in members])
            rows = (places[:, None] * self.episodes + np.arange(self.episodes)).reshape(-1)
            self._groups.append((have, rows))
        self._order[np.concatenate([rows for _, rows in self._groups])] = self._in_order
        data = [d for group, rows in self._groups for d in group.data[: len(rows)]]
        self._warnings = Scattered([[d.warning.number] for d in data])
        start = 0
        for group, rows in self._groups:
            own = slice(start, start + len(rows))
            self._bounds[:, own] = group.goals.mocap_bounds[:, None]
            self._scale[own] = group.goals.action_scale
            group.bind(self._targets[own], self._grips[own])
            start += len(rows)
        self._all_rows = None
        self._all_rows = self._by_class(np.arange(self.num_envs))

    def _make_classes(self, num_tasks: Mapping[str, int]) -> None:
        """Grows classes to a capacity of `num_tasks`; compiles the XML files, which classes share, in parallel."""
        short = [n for n, count in num_tasks.items() if n not in self._classes or self._classes[n].num_tasks < count]
        paths = sorted({self._goals[name].model_path for name in short})
        models = dict(zip(paths, self._workers.map(mujoco.MjModel.from_xml_path, paths), strict=True))
        kinds = {kind.name: kind for kind in self._kinds}
        for name in short:
            goals = self._goals[name]
            model = models[goals.model_path]
            self._classes[name] = ClassRows(kinds[name], goals, model, num_tasks[name], self.episodes)

    def _by_class(self, rows: np.ndarray) -> Live:
        """Sorts rows of the batch, given in ascending order, by class."""
        all_rows = len(rows) == self.num_envs
        if all_rows and self._all_rows is not None:
            return self._all_rows
        position = self._order[rows]
        order = np.argsort(position)
        ordered, members, start = position[order], [], 0
        for group, own_rows in self._groups:
            first, last = np.searchsorted(ordered, (start, start + len(own_rows))).tolist()
            if first < last:
                members.append((group, ordered[first:last] - start, slice(first, last)))
            start += len(own_rows)
        return Live(order, slice(None) if all_rows else ordered, members)

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        live = self._by_class(rows)
        observations = np.concatenate([NO_ROWS, *(group.reset(own) for group, own, _ in live.members)])
        self._frames[live.at] = observations[:, :FRAME]
        self._seen[rows[live.order]] = observations

    def _aim(self, live: Live, actions: Floats) -> None:
        """Moves the hands' targets and sets the grippers, from actions `[rows, 4]` sorted by class."""
        low, high = self._bounds[:, live.at]
        moved = self._targets[live.at] + np.clip(actions[:, :3], -1.0, 1.0) * self._scale[live.at]
        self._targets[live.at] = np.clip(moved, low, high)
        self._grips[live.at] = actions[:, 3:] * FINGER_SIGNS

    def _physics(self, live: Live) -> None:
        """Steps rows; each thread gets an equal share of every class, because classes differ in cost."""

        def step_share(first: int) -> None:
            for group, own, _ in live.members:
                group.physics(own[first :: self._workers.count].tolist())

        self._workers.run(step_share, range(self._workers.count))

    def _step_rows(self, rows: np.ndarray, actions: Floats) -> tuple[Floats, Bools, Bools, dict[str, np.ndarray]]:
        live = self._by_class(rows)
        actions = actions.astype(np.float64)[live.order]
        self._aim(live, actions)
        for group, own, _ in live.members:
            group.control(own)
        self._physics(live)
        observations, verdicts, diverged_by_class = self._judged(live, actions)
        self._seen[rows[live.order]] = observations
        terms = {}
        for name in VERDICT_TERMS:
            terms[name] = np.empty(len(rows))
            if verdicts:
                terms[name][live.order] = np.concatenate([getattr(verdict, name) for verdict in verdicts])
        diverged = np.empty(len(rows), dtype=np.bool_)
        diverged[live.order] = diverged_by_class
        reward = terms.pop("reward")
        infos = {**terms, "success": terms["success"] > 0.0}
        return reward, np.zeros(len(rows), dtype=np.bool_), diverged, infos

    def _judged(self, live: Live, actions: Floats) -> tuple[Floats, list[Verdict], Bools]:
        """Observations `[rows, 39]`, verdicts per class, and diverged simulations `[rows]`, sorted by class."""
        sensed = [group.sense(own) for group, own, _ in live.members]
        add_quaternions(sensed)
        if not sensed:
            return NO_ROWS, [], np.zeros(0, dtype=np.bool_)
        common = {name: np.concatenate([one[name] for one in sensed]) for name in COMMON}
        frames = np.zeros((len(live), FRAME))
        frames[:, :3] = common["hand"]
        frames[:, 3] = np.minimum(distance(common["right_claw"], common["left_claw"]) / FULLY_OPEN, 1.0)
        for (group, _, these), one in zip(live.members, sensed, strict=True):
            objects = group.kind.objects(one)
            frames[these, 4 : 4 + objects.shape[1]] = objects
        frames = np.minimum(np.maximum(frames, FRAME_LOW), FRAME_HIGH)
        observations = np.concatenate([frames, self._frames[live.at], np.zeros((len(live), 3))], axis=1)
        self._frames[live.at] = frames
        verdicts, all_rows = [], isinstance(live.at, slice)
        for (group, own, these), one in zip(live.members, sensed, strict=True):
            scene = Scene(
                sensed=one,
                goal=group.constants if all_rows else {name: v[own] for name, v in group.constants.items()},
                observation=observations[these],
                actions=actions[these],
                touching=group.touching(own, one),
            )
            verdicts.append(group.kind.judge(scene))
        self._warnings.read(self._in_order[live.at])
        diverged: Bools = np.any(self._warnings.array[live.at][:, FATAL_WARNINGS], axis=1)
        return observations, verdicts, diverged

    def _observe(self, rows: np.ndarray) -> Floats:
        return self._seen[rows]

    def simulations(self) -> list[Simulation]:
        """The simulation of each row, for the tasks that are set."""
        found = [simulation for group, rows in self._groups for simulation in group.simulations(len(rows))]
        return [found[place] for place in self._order]

    def render_row(self, row: int, width: int, height: int) -> np.ndarray:
        """A picture `[height, width, 3]` (bytes) of one row, from Meta-World's camera `corner2`.

        Raises:
            ValueError: `row` is out of range.
        """
        for group, members in self._groups:
            for own in np.flatnonzero(members == row):
                model, data = group.models[own // group.episodes], group.data[own]
                mujoco.mj_kinematics(model, data)  # a reset leaves body positions out of date; physics is unaffected
                mujoco.mj_comPos(model, data)
                mujoco.mj_camlight(model, data)
                if self._camera is None or self._camera.model is not model or self._camera.size != (width, height):
                    if self._camera is not None:
                        self._camera.close()
                    self._camera = Camera(model, width, height, name=CAMERA)
                return self._camera.picture(data)[::-1, ::-1]
        raise ValueError(f"render_row: got row {row}, expected 0 to {self.num_envs - 1}")

    def close_extras(self, **kwargs: Any) -> None:
        """Stops the threads and frees the camera."""
        self._workers.close()
        if self._camera is not None:
            self._camera.close()
