"""`run_session`: a run, from its folder's lock to its last checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from metarl.agent import MetaAgent
from metarl.checkpoint import DAMAGED, load_newest, save_checkpoint, set_aside
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.run import FewShotRun
from metarl.few_shot.source import ShotSource
from metarl.files import write_bytes
from metarl.finite import naming
from metarl.learning.device.process import keep_freed_memory
from metarl.metrics_log import MetricsLog, keep_log, read_log
from metarl.report import tasks_label, training_picture
from metarl.run_config import BaseRun
from metarl.run_folder import describe, prepare, record_memory, sole_writer
from metarl.runs import RunConfig, resolve_device, use_matmul
from metarl.seeding import Streams
from metarl.source import EpisodeSource, Source
from metarl.tasks import Family, split_name
from metarl.training import IterationReport, meta_train
from metarl.types import Progress
from metarl.watch.protocol import RunStart, Watcher
from metarl.workers.choice import IN_PROCESS, WorkerChoice
from metarl.workers.main_module import refuse_second_run


def run_session(
    run: BaseRun,
    family: Family | FewShotFamily,
    out: Path,
    *,
    resume: bool = False,
    watch: Sequence[Watcher] = (),
    stop: Callable[[], bool] = lambda: False,
    workers: WorkerChoice = IN_PROCESS,
) -> Generator[IterationReport, None, None]:
    """Trains in a folder: metrics, evaluations on held-out tasks, checkpoints, and a picture at the end.

    The call itself makes or checks the folder, locks it and writes the configuration; the first `next` builds the agent
    and loads the newest intact checkpoint. A report is yielded after its iteration is logged, saved if a checkpoint is
    due, and passed to all watchers. Closing the generator, or a `stop` that returns True, ends the run after that
    iteration, which is saved; everything is closed.

    Args:
        run: The configuration, as `metarl.run_setup.set_up` makes it.
        family: Family of the run.
        out: Folder of the run; with `resume`, that of an earlier start.
        resume: Continue from the newest intact checkpoint.
        watch: Watchers, started in this order and closed in reverse.
        stop: Called once per iteration, before a checkpoint may be saved.
        workers: Who plays the episodes; results do not depend on it.

    Yields:
        The report of each iteration, with the metrics of an evaluation, if there was one.

    Raises:
        ValueError: The folder cannot hold this run, another process trains in it, or its newest checkpoint is intact
            but does not fit the agent.
        NotFiniteError: The training diverged; the message names the iteration.
        EnvError: A user's environment raised.
        BlockError: Some tasks failed in every worker that tried them. The last checkpoint is intact.
        WorkersError: Workers were asked for and cannot be used.
        OSError: A file cannot be written. The last checkpoint is intact.
    """
    refuse_second_run()
    use_matmul(run.training.matmul, torch.device(run.training.device))
    keep_freed_memory()
    warnings = prepare(out, run, resume=resume)
    session = _session(run, family, out, resume, warnings, watch, stop, workers)
    next(session)  # takes the lock and writes the configuration
    return cast(Generator[IterationReport, None, None], session)


def _session(
    run: BaseRun,
    family: Family | FewShotFamily,
    out: Path,
    resume: bool,
    warnings: list[str],
    watch: Sequence[Watcher],
    stop: Callable[[], bool],
    workers: WorkerChoice,
) -> Generator[IterationReport | None, None, None]:
    """Yields None when the lock is held, then the reports."""
    config = run.training
    with sole_writer(out):
        describe(out, run)
        yield None
        streams = Streams(config.seed)
        agent = run.build_agent(resolve_device(config.device), streams.learner)
        with contextlib.ExitStack() as closing:
            source = _source(run, family, workers)
            closing.callback(source.close)
            start = RunStart(
                run=run,
                out=out,
                progress=Progress(),
                adapts_within_episodes=agent.adapts_within_episodes,
                evaluated=split_name(source.distribution, "tune"),
                warnings=tuple(warnings),
                sampling=source.in_words,
                score=source.score,
                counted=source.counted,
            )
            if resume:
                start = _resumed(start, out, agent, streams)
            log = MetricsLog(out / "metrics.jsonl", after=start.progress.iteration)
            closing.callback(log.close)
            for watcher in watch:  # the last to start is the first to close
                closing.callback(watcher.close)
            for watcher in watch:
                watcher.start(start)
            loop = meta_train(
                agent,
                source.sampler,
                source.distribution,
                streams,
                iterations=config.iterations,
                start=start.progress,
            )
            for report in loop:
                progress = report.progress
                if config.eval_every and progress.iteration % config.eval_every == 0:
                    with naming(f"the evaluation after iteration {progress.iteration}"):
                        evaluated = source.evaluate(agent, progress)
                    report = replace(report, metrics=report.metrics | evaluated)
                log.add(progress, report.metrics)
                stopped = stop()  # called once, since a later request must not skip the checkpoint
                last = stopped or progress.iteration == config.iterations
                if saved := last or progress.iteration % config.checkpoint_every == 0:
                    log.sync()
                    save_checkpoint(out / "checkpoints", agent, streams, progress, config.checkpoints_kept)
                for watcher in watch:
                    watcher.iteration(report)
                try:
                    yield report
                except GeneratorExit:
                    stopped = True
                    if not saved:
                        log.sync()
                        save_checkpoint(out / "checkpoints", agent, streams, progress, config.checkpoints_kept)
                if stopped:
                    break
        record_memory(out)
        rows = read_log(out / "metrics.jsonl")
        if rows:
            title = f"{run.agent} on {run.family}, seed {config.seed}"
            labels = tasks_label(start.evaluated), start.adapts_within_episodes, start.score, start.counted
            write_bytes(out / "training.png", training_picture(rows, title, *labels))


def _source(run: BaseRun, family: Family | FewShotFamily, workers: WorkerChoice) -> Source:
    """The source of a run's experience."""
    if isinstance(run, FewShotRun):
        assert isinstance(family, FewShotFamily)
        return ShotSource(run, family)
    assert isinstance(run, RunConfig)
    assert isinstance(family, Family)
    return EpisodeSource(run, family, workers)


def _resumed(start: RunStart, out: Path, agent: MetaAgent[Any], streams: Streams) -> RunStart:
    """The start, with agent and streams restored from the newest intact checkpoint.

    If all checkpoints are damaged, they are renamed, so that new ones do not overwrite them.
    """
    folder = out / "checkpoints"
    found, complaints = load_newest(folder, agent, streams)
    if found:
        note = f"resuming after iteration {found.iteration}"
    elif complaints:
        set_aside(folder)
        keep_log(out / "metrics.jsonl")
        renamed = f"the damaged ones are renamed *{DAMAGED}, metrics.jsonl too"
        note = f"no intact checkpoint in {out}: starting from scratch ({renamed})"
    else:
        note = f"no checkpoint in {out}: starting from scratch"
    return replace(start, progress=found or start.progress, warnings=(*start.warnings, *complaints), note=note)
