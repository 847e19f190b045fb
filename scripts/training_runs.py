"""Running the trainings that `metarl train` has read and checked."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from metarl.checkpoint import UnfitError
from metarl.config import RoundsOrNone, check
from metarl.few_shot.family import FewShotFamily
from metarl.finite import NotFiniteError
from metarl.own_code.errors import EnvError
from metarl.presets import PresetName
from metarl.run_config import BaseRun
from metarl.run_folder import new_run_dir
from metarl.run_setup import out_of_memory
from metarl.scripts.common import border, end_with_block, end_with_json, own_agent_failure, refuse, refuse_environment
from metarl.scripts.display import RunDisplay
from metarl.scripts.ending import StopRequest
from metarl.scripts.refusals import DEFAULT_SAMPLING, DEFAULT_TRACK, advice, how_to_go_on, say_that_it_blew_up
from metarl.scripts.sampling import SamplingOptions
from metarl.session import run_session
from metarl.tasks import Family
from metarl.watch import trackers
from metarl.workers.faults import BlockError, WorkersError

RunT = TypeVar("RunT", bound=BaseRun)
BLEW_UP = 2
"""Exit code of a diverged training."""


@dataclass(frozen=True, kw_only=True)
class RunDoor:
    """Folder, start and output of a run."""

    out: Path | None = None
    """Folder of the run; by default a new one under runs/."""
    preset: PresetName = "default"
    """Default settings: default (sized for two cores) or published (if `metarl list` shows one)."""
    resume: bool = False
    """Resume from the newest intact checkpoint in --out."""
    seeds: RoundsOrNone = 0
    """Number of runs, trained one after another with seeds from --seed on, in OUT/seed-S; 0 for one run in OUT."""
    track: str = DEFAULT_TRACK
    """Trackers of the metrics, separated by commas: tensorboard, csv, wandb, mlflow; or none."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def train_all(door: RunDoor, runs: Sequence[tuple[Path | None, BaseRun]], family: Family | FewShotFamily) -> int:
    """Trains runs one after another, and prints their ends.

    Args:
        door: Folder, start and output.
        runs: Folder and configuration of each run; see `one_per_seed`.
        family: The family.

    Returns:
        The exit code.
    """
    ends, blown = [], []
    sampling = door if isinstance(door, SamplingOptions) else DEFAULT_SAMPLING
    for folder, one_run in runs:
        code, end, stopped = _train_here(door, folder, one_run, family, sampling)
        ends.append(end)
        if stopped and not code and len(ends) < len(runs):
            code = 130
            go_on = how_to_go_on(one_run, Path(end["run"]), door.seeds, door.track, sampling)
            print(f"stopped before {runs[len(ends)][0]}; {go_on}", file=sys.stderr)
        if code == BLEW_UP:  # the other seeds may not diverge
            blown.append(str(end["run"]))
        elif code:
            break
    if blown and door.seeds:
        print(f"metarl: error: {len(blown)} of {len(runs)} seeds diverged: {', '.join(blown)}", file=sys.stderr)
    if door.json:
        end_with_json(ends if door.seeds else ends[0])
    return code or (BLEW_UP if blown else 0)


def one_per_seed(door: RunDoor, run: RunT) -> list[tuple[Path | None, RunT]]:
    """The run itself; with --seeds, one run for each seed from the run's seed on, in subfolders of --out.

    Args:
        door: Folder, start and output.
        run: The configuration.

    Returns:
        Folder (None for a new one) and configuration of each run.

    Raises:
        ValueError: The folder holds a single run.
    """
    if not door.seeds:
        return [(door.out, run)]
    parent, first = door.out or new_run_dir(run.agent, run.family), run.training.seed
    check(dataclasses.replace(run.training, seed=first + door.seeds - 1))
    if (parent / "config.json").exists():
        raise ValueError(f"--seeds: got --out {parent}, which is a single run; expected a folder for several")
    return [
        (
            parent / f"seed-{seed}",
            dataclasses.replace(run, training=dataclasses.replace(run.training, seed=seed)),
        )
        for seed in range(first, first + door.seeds)
    ]


def _train_here(
    door: RunDoor, folder: Path | None, run: BaseRun, family: Family | FewShotFamily, sampling: SamplingOptions
) -> tuple[int, dict[str, Any], bool]:
    """Trains one run in its folder; returns the exit code, the counters at its end, and whether Ctrl-C was pressed."""
    stop = StopRequest()
    display = RunDisplay(stop)
    with border():
        out = folder or new_run_dir(run.agent, run.family)
        watch = [*trackers(door.track), display]  # its clock starts last
        how: dict[str, Any] = {"watch": watch, "stop": lambda: stop.requested, "workers": sampling.choice()}
        session = run_session(run, family, out, resume=door.resume, **how)
    go_on = how_to_go_on(run, out, door.seeds, door.track, sampling)
    try:
        with contextlib.closing(session), stop:
            for _ in session:
                pass
    except EnvError as failure:
        refuse_environment(failure, advice(out, go_on))
    except UnfitError as error:
        refuse(error)
    except BlockError as failure:
        end_with_block(failure, advice(out, go_on))
    except WorkersError as error:
        refuse(f"{error}{advice(out, go_on)}")
    except OSError as error:
        refuse(f"{error}{advice(out, go_on)}")
    except NotFiniteError as error:
        say_that_it_blew_up(run, error, out, go_on)
        return BLEW_UP, {"run": str(out), "iteration": None, "env_steps": None}, False
    except KeyboardInterrupt:
        print(f"stopped at once; {go_on}", file=sys.stderr)
        return 130, {"run": str(out), "iteration": None, "env_steps": None}, True
    except Exception as error:
        if said := out_of_memory(error):
            refuse(f"{said}{advice(out, go_on)}")
        if run.own_agent is None:
            raise
        refuse_environment(own_agent_failure(run.agent, "in training", error), advice(out, go_on))
    progress = display.progress
    end = {"run": str(out), "iteration": progress.iteration, "env_steps": progress.env_steps}
    if progress.iteration < run.training.iterations:
        print(f"saved after iteration {progress.iteration}; {go_on}", file=sys.stderr)
        return 130, end, stop.requested
    print(f"run: {out}\ntraining curve: {out / 'training.png'}")
    return 0, end, stop.requested
