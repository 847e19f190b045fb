"""The search: trials as processes side by side, pruned by their running evaluation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import Trial

from metarl.run_setup import RunSettings
from metarl.scripts.child import TICK_SECONDS, Child, wait_for_orphans
from metarl.scripts.tuning.ranges import VariedSetting, with_values
from metarl.scripts.tuning.record import Record, words_of_preset
from metarl.scripts.tuning.scores import TrialReading, read_trial
from metarl.scripts.tuning.study import Tried, TuningStudy, is_preset
from metarl.scripts.tuning.words import differing_words
from metarl.workers.blocks import default_blocks

OUTPUT = "output.txt"
"""File in the folder of a training that holds all that it printed."""
FIRST_FAILURES = 5
"""Failures without a success after which a study ends: a sixth trial would fail as well."""
READ_SECONDS = 0.5
"""Pause between two readings of a log."""


@dataclass(frozen=True)
class Machine:
    """How trials are run.

    Args:
        jobs: Largest number of trials at once; each then has one thread, unless it is 1.
        base: The settings of `metarl train AGENT FAMILY` without further options.
    """

    jobs: int
    base: RunSettings

    def start(self, record: Record, settings: RunSettings, folder: Path, seeds: int = 0) -> Child:
        """Starts or resumes the trainings in a folder.

        Args:
            record: The record of the study.
            settings: Settings of the training.
            folder: The folder.
            seeds: Number of seeds; 0 for a single run in the folder itself.
        """
        training = settings.training
        if not training.blocks:  # by the machine's cores, as for a training that has them all
            training = dataclasses.replace(training, blocks=default_blocks(training.tasks, record.cores))
        words = ["train", record.agent, record.family, "--out", str(folder), "--resume", "--track", "none"]
        words += words_of_preset(record.preset)
        words += differing_words(dataclasses.replace(settings, training=training), self.base)
        words += ["--seeds", str(seeds)] if seeds else []
        words += ["--workers", "0"] if self.jobs > 1 else []
        return Child(words, folder / OUTPUT, one_thread=self.jobs > 1)


def winning_words(record: Record, settings: RunSettings, base: RunSettings) -> list[str]:
    """The words after `metarl` that train with some settings."""
    words = ["train", record.agent, record.family, *words_of_preset(record.preset)]
    return words + differing_words(settings, base)


@dataclass
class Running:
    """A trial whose training runs.

    Args:
        trial: The trial.
        child: Its process.
        folder: Its folder.
        earlier: Seconds that it trained before this start.
        preset: Whether it is the preset itself, which is never pruned.
        reading: Its log so far.
        reported: Steps that the study has.
        next_reading: Time of the next look at its log.
        pruned: Whether it was asked to stop since its score is poor.
    """

    trial: Trial
    child: Child
    folder: Path
    earlier: float
    preset: bool
    reading: TrialReading
    reported: set[int]
    next_reading: float = 0.0
    pruned: bool = False


class AllFailedError(ValueError):
    """The first trials of a study all failed."""


class Search:
    """The search for settings in the folder of a study.

    Args:
        study: The study.
        out: The folder.
        machine: How trials are run.
        trials: Number of trials of the whole study.
        seconds: Seconds after which no trial goes on; 0 for no limit.
        stop: Whether Ctrl-C was pressed.
        ended: Called with each trial that ends.
        tick: Called all the time with the trials that run.
    """

    def __init__(
        self,
        study: TuningStudy,
        out: Path,
        machine: Machine,
        *,
        trials: int,
        seconds: float,
        stop: Callable[[], bool],
        ended: Callable[[Tried], None],
        tick: Callable[[list[Running]], None],
    ) -> None:
        self._study, self._out, self._machine, self._trials = study, out, machine, trials
        self._until = time.monotonic() + seconds if seconds else float("inf")
        self._stop, self._ended, self._tick = stop, ended, tick
        self._running: list[Running] = []
        self._failures = 0
        self._success = any(one.state in ("complete", "pruned") for one in study.tried())

    @property
    def out_of_time(self) -> bool:
        """Whether the seconds are over."""
        return time.monotonic() > self._until

    def run(self) -> None:
        """Runs the trials that are left; those that had begun go on first.

        Raises:
            AllFailedError: The first trials all failed.
            ValueError: Another process trains in the folder of a trial.
        """
        waiting = self._study.unfinished()
        for trial in waiting:
            folder = self._folder(trial)
            wait_for_orphans([folder, *folder.glob("seed-*")])
        try:
            while True:
                ending = self._stop() or self.out_of_time
                if ending:
                    for one in self._running:
                        one.child.stop()
                while not ending and len(self._running) < self._machine.jobs and self._failures < FIRST_FAILURES:
                    if waiting:
                        self._begin(waiting.pop(0))
                    elif len(self._study.tried()) < self._trials:
                        self._begin(self._study.ask())
                    else:
                        break
                if not self._running:
                    break
                for one in list(self._running):
                    self._look(one)
                self._tick(self._running)
                time.sleep(TICK_SECONDS)
        finally:
            for one in self._running:  # only after an error, or Ctrl-C twice
                one.child.kill()
        if self._failures >= FIRST_FAILURES and not self._success:
            raise AllFailedError(f"the first {self._failures} trials all failed")

    def _folder(self, trial: Trial) -> Path:
        return self._out / f"trial-{trial.number}"

    def _begin(self, trial: Trial) -> None:
        study, record = self._study, self._study.record
        values = study.values(trial)
        same = study.same_as(trial)
        if same is not None:
            trial.set_user_attr("same_as", same.number)
            study.tell(trial, "complete", same.score)
            self._ended(self._tried(trial))
            return
        folder = self._folder(trial)
        settings = with_values(record.settings, study.varied, values)
        child = self._machine.start(record, settings, folder, record.seeds if record.seeds > 1 else 0)
        earlier = float(trial.user_attrs.get("seconds", 0.0))
        reported = {step for step, _ in self._tried(trial).curve}
        self._running.append(Running(trial, child, folder, earlier, is_preset(trial), self._read(folder), reported))

    def _read(self, folder: Path) -> TrialReading:
        record = self._study.record
        return read_trial(folder, record.seed_list, record.settings.training.iterations, record.score)

    def _look(self, one: Running) -> None:
        """Passes new evaluations on to Optuna, prunes, and ends the trial when its process has ended."""
        code = one.child.exit_code()  # before the reading, which is then complete
        if code is None and time.monotonic() < one.next_reading:
            return
        one.next_reading = time.monotonic() + READ_SECONDS
        one.reading = self._read(one.folder)
        for step, score in one.reading.steps:
            if step not in one.reported:
                one.trial.report(score, step)
                one.reported.add(step)
        if code is None:
            if not (one.preset or one.child.asked) and one.reading.steps and one.trial.should_prune():
                one.pruned = True
                one.child.stop()
            return
        self._running.remove(one)
        self._end(one, code)

    def _end(self, one: Running, code: int) -> None:
        trial, reading = one.trial, one.reading
        took = {"iteration": reading.iteration, "env_steps": reading.env_steps}
        for name, value in (took | {"seconds": round(one.earlier + one.child.seconds, 1)}).items():
            trial.set_user_attr(name, value)
        if code == 0 and reading.score is not None:
            self._success = True
            self._study.tell(trial, "complete", reading.score)
        elif one.child.stopped and one.pruned:
            self._success = True
            self._study.tell(trial, "pruned")
        elif one.child.stopped:
            return  # Ctrl-C or the end of the time: it goes on after --resume
        else:
            metric = self._study.record.score
            missing = f"its evaluations have no finite {metric}: metrics.jsonl has no number evaluation/{metric}/..."
            trial.set_user_attr("error", missing if code == 0 else one.child.error())
            self._study.tell(trial, "failed")
            self._failures = 0 if self._success else self._failures + 1
        self._ended(self._tried(trial))

    def _tried(self, trial: Trial) -> Tried:
        return next(one for one in self._study.tried() if one.number == trial.number)


def settings_of(tried: Tried, record: Record, varied: tuple[VariedSetting, ...]) -> RunSettings:
    """The settings of a trial."""
    drawn = {} if tried.preset else tried.drawn
    values = {one.name: one.value(drawn[one.name]) for one in varied if one.name in drawn}
    return with_values(record.settings, varied, values)
