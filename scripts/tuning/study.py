"""The study of `metarl tune` as Optuna keeps it, in an SQLite file.

Optuna reads attributes and ranges of such a file as JSON, never by pickle (`optuna.storages.RDBStorage`; its journals
and its CMA-ES sampler do use pickle, and are not used here).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from metarl.files import PARTIAL
from metarl.scripts.tuning.ranges import VariedSetting
from metarl.scripts.tuning.record import Record, record_of_json

DATABASE = "study.db"
NAME = "metarl"
"""Name of the study in its file, and of the attribute that holds its record."""
MAGIC = b"SQLite format 3\0"
PRESET = "preset"
"""Attribute of the trial of the preset itself."""
STARTUP = 4
"""Trials that have to be complete before one is pruned, and before Optuna models the scores."""
LOCKED_SECONDS = 30.0
State = Literal["complete", "pruned", "failed", "unfinished"]
STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
    TrialState.WAITING: "unfinished",
}
QUERY = "SELECT value_json FROM study_user_attributes WHERE key = ?"


@dataclass(frozen=True)
class Tried:
    """A trial of the study.

    Args:
        number: Number of the trial.
        state: State of the trial.
        preset: Whether it is the preset itself.
        score: Score of a complete trial; the last intermediate one of a pruned or unfinished trial.
        drawn: Drawn number or word by setting; settings that are not among them are the preset's.
        curve: Iteration and score of each evaluation.
        error: Line on the cause of a failure.
        iteration: Iterations made.
        env_steps: Environment steps.
        seconds: Seconds of training.
        same_as: An earlier trial with the same settings, whose score it has; None if it was trained.
    """

    number: int
    state: State
    preset: bool
    score: float | None
    drawn: Mapping[str, Any]
    curve: tuple[tuple[int, float], ...]
    error: str
    iteration: int
    env_steps: int
    seconds: float
    same_as: int | None


def _tried(trial: FrozenTrial) -> Tried:
    attributes, curve = trial.user_attrs, tuple(sorted(trial.intermediate_values.items()))
    score = trial.value if trial.state == TrialState.COMPLETE else curve[-1][1] if curve else None
    return Tried(
        number=trial.number,
        state=STATES[trial.state],
        preset=bool(attributes.get(PRESET)),
        score=score,
        drawn=dict(trial.params),
        curve=curve,
        error=str(attributes.get("error", "")),
        iteration=int(attributes.get("iteration", 0)),
        env_steps=int(attributes.get("env_steps", 0)),
        seconds=float(attributes.get("seconds", 0.0)),
        same_as=attributes.get("same_as"),
    )


class TuningStudy:
    """An open study.

    Args:
        study: Optuna's study.
        record: The record of the study.
        varied: The varied settings.
    """

    def __init__(self, study: optuna.Study, record: Record, varied: Sequence[VariedSetting]) -> None:
        self._study, self.record, self.varied = study, record, tuple(varied)

    def tried(self) -> list[Tried]:
        """All trials that have begun."""
        trials = self._study.get_trials(deepcopy=False)
        return [_tried(trial) for trial in trials if trial.state != TrialState.WAITING]

    def unfinished(self) -> list[Trial]:
        """Trials that had begun when the study was stopped or killed."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [Trial(self._study, trial._trial_id) for trial in running]

    def ask(self) -> Trial:
        """The next trial: first the preset, then those that Optuna chooses."""
        return self._study.ask()

    def values(self, trial: Trial) -> dict[str, Any]:
        """The values of the varied settings in a trial; none in that of the preset.

        A setting that the trial has already keeps its value, so a resumed trial has the values it began with.
        """
        preset = self.record.settings if is_preset(trial) else None
        values: dict[str, Any] = {}
        for one in self.varied:
            if preset is not None and one.drawn(one.of(preset)) is None:
                continue  # the preset is outside the range: Optuna is not told this value
            values[one.name] = one.value(suggested(trial, one))
        return {} if preset is not None else values

    def same_as(self, trial: Trial) -> Tried | None:
        """A complete trial with the same settings; their seeds are the same too, so the score would be."""
        drawn = trial.params
        earlier = (one for one in self.tried() if one.state == "complete" and one.number != trial.number)
        return next((one for one in earlier if len(one.drawn) == len(self.varied) and one.drawn == drawn), None)

    def tell(self, trial: Trial, state: Literal["complete", "pruned", "failed"], score: float | None = None) -> None:
        """Ends a trial."""
        ends = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        self._study.tell(trial, score if state == "complete" else None, ends[state])

    def close(self) -> None:
        """Closes the file."""
        _close(self._study)


def is_preset(trial: Trial) -> bool:
    """Whether a trial is that of the preset itself."""
    return bool(trial.user_attrs.get(PRESET))


def suggested(trial: Trial, one: VariedSetting) -> Any:
    """The number or word of a setting in a trial; choices are words, so that the file holds JSON only."""
    if one.form == "choice":
        return trial.suggest_categorical(one.name, one.choices)
    if one.form == "int":
        return trial.suggest_int(one.name, int(one.low), int(one.high))
    return trial.suggest_float(one.name, one.low, one.high, log=one.form == "log")


def create_study(path: Path, record: Record, varied: Sequence[VariedSetting]) -> TuningStudy:
    """A new study whose first trial is the preset.

    The file is written beside and renamed, so a study that exists has its record and its first trial.

    Args:
        path: File to write.
        record: The record.
        varied: The varied settings.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    beside.unlink(missing_ok=True)
    study = optuna.create_study(storage=_storage(beside), study_name=NAME, direction="maximize")
    study.set_user_attr(NAME, record.to_json())
    drawn = {one.name: one.drawn(one.of(record.settings)) for one in varied}
    study.enqueue_trial({name: value for name, value in drawn.items() if value is not None}, user_attrs={PRESET: True})
    _close(study)
    os.replace(beside, path)
    return open_study(path, record, varied)


def open_study(path: Path, record: Record, varied: Sequence[VariedSetting]) -> TuningStudy:
    """Opens a study that `read_record` has checked.

    Raises:
        ValueError: This version of Optuna cannot read the file.
    """
    pruner = optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=record.first_pruned)
    try:
        study = optuna.load_study(study_name=NAME, storage=_storage(path), pruner=pruner)
        # Optuna seeds a sampler anew at each start; with one seed a resumed study would draw its first values again.
        seed = (record.settings.training.seed + 7919 * len(study.get_trials(deepcopy=False))) % 2**32
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
    except (RuntimeError, KeyError, ValueError, optuna.exceptions.OptunaError) as error:
        raise ValueError(f"{path}: got a study that Optuna {optuna.__version__} cannot read ({error})") from error
    return TuningStudy(study, record, varied)


def read_record(path: Path, agent: str, family: str) -> Record:
    """The record of a study in a file, read without Optuna.

    Args:
        path: The file.
        agent: Name of the agent on the command line.
        family: Name of the family, likewise.

    Raises:
        ValueError: The file holds no study of `metarl tune`, or one of another agent or family.
    """
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise ValueError(f"{path}: got a file that is no SQLite database, expected a study of metarl tune")
    try:
        # Not read-only: after a kill, SQLite has to undo the transaction that was being written.
        place = f"file:{urllib.parse.quote(str(path.resolve()))}?mode=rw"
        with contextlib.closing(sqlite3.connect(place, uri=True, timeout=LOCKED_SECONDS)) as connection:
            rows = connection.execute(QUERY, (NAME,)).fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"{path}: got a database without a study of metarl tune ({error})") from error
    if len(rows) != 1 or not isinstance(rows[0][0], str):
        raise ValueError(f"{path}: got a database without a study of metarl tune, expected one written by it")
    return record_of_json(path, rows[0][0], agent, family)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """The storage of a file; the name of the file is not part of a URL, in which some characters have a meaning."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=LOCKED_SECONDS, check_same_thread=False)

    return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})


def _close(study: optuna.Study) -> None:
    storage: Any = study._storage
    storage = getattr(storage, "_backend", storage)
    storage.remove_session()
    storage.engine.dispose()
