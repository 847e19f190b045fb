"""Evaluations of runs: those that `metarl evaluate` left in their folders, or new ones by the same command."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metarl.digests import differ
from metarl.files import read_json
from metarl.report import first_label
from metarl.results import EvalResult
from metarl.run_config import BaseRun
from metarl.scripts.common import option_value, refuse
from metarl.scripts.evaluate import main as evaluate_main
from metarl.scripts.groups import iterations_done
from metarl.scripts.results_folder import results_folder
from metarl.types import Task

CHANGING = ("--checkpoint", "--adapt-steps", "--shots", "--queries")
"""Options of `metarl evaluate` under which its results are not those of a report."""


@dataclass(frozen=True)
class Wanted:
    """An evaluation that a report needs.

    Args:
        split: Label of the split, as in `evaluation.json`.
        tasks: The tasks.
        words: Options for `metarl evaluate`.
        family: The family on the command line; empty for that of the run.
        digest: Digest of the files that the family is made of now (`metarl.digests`); empty without any.
    """

    split: str
    tasks: tuple[Task, ...]
    words: tuple[str, ...]
    family: str = ""
    digest: str = ""


def evaluation_of(run_dir: Path, run: BaseRun, wanted: Wanted) -> tuple[Path, dict[str, Any]]:
    """Path and content of the `evaluation.json` of a run: one that fits, else a new one in the run's folder.

    Args:
        run_dir: Folder of the run.
        run: Its configuration.
        wanted: The evaluation.

    Raises:
        SystemExit: The evaluation was refused (code 2, after one line on stderr).
    """
    iteration = iterations_done(run_dir)
    for path in sorted(run_dir.glob("evaluation*/evaluation.json")):
        with contextlib.suppress(ValueError, OSError):  # a damaged file does not fit
            value = read_json(path)
            if fits(value, run, iteration, wanted):
                return path, value
    out = results_folder(run_dir, None)
    print(f"evaluating {run_dir}, iteration {iteration}", file=sys.stderr, flush=True)
    with contextlib.redirect_stdout(io.StringIO()):
        code = evaluate_main([str(run_dir), *wanted.words, "--out", str(out)])
    if code:
        raise SystemExit(code)
    path = out / "evaluation.json"
    value = read_json(path)
    if not fits(value, run, iteration, wanted):
        refuse(f"{run_dir}: its newest checkpoint is damaged; resume its training, or leave the run out")
    return path, value


def fits(value: Any, run: BaseRun, iteration: int, wanted: Wanted) -> bool:
    """Whether the content of an `evaluation.json` is the evaluation that a report needs.

    Args:
        value: The content.
        run: Configuration of the run.
        iteration: Iteration of the newest checkpoint.
        wanted: The evaluation.
    """
    try:
        words = [str(word) for word in value["command"]]
        episodes = getattr(run.training, "episodes", None)
        facts = (value["agent"], value["iteration"], value["split"], value["seed"])
        return (
            facts == (run.agent, iteration, wanted.split, 0)
            and value.get("protocol", "curve") == "curve"
            and value.get("actions", "sample") == "sample"
            and not value.get("end_at_success")
            and not differ(str(value.get("family_digest", "")), wanted.digest)
            and not any(option_value(words, option, "") for option in CHANGING)
            and option_value(words, "--family", "") in ("", wanted.family)
            and [Task.from_json(task) for task in value["task_list"]] == list(wanted.tasks)
            and (episodes is None or _checked(value["returns"], len(wanted.tasks)).shape[2] == episodes)
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def result_of(value: Mapping[str, Any], tasks: Sequence[Task]) -> EvalResult:
    """The results in an `evaluation.json`, episode by episode.

    Args:
        value: The content, checked by `fits`.
        tasks: The tasks.

    Raises:
        ValueError: Arrays are missing, or do not fit the tasks.
    """
    try:
        arrays = {
            name: None if value[key] is None else _checked(value[key], len(tasks))
            for name, key in (
                ("returns", "returns"),
                ("success", "successes"),
                ("last_step_success", "last_step_successes"),
                ("diverged", "diverged"),
            )
        }
        diverged, returns = arrays.pop("diverged"), arrays.pop("returns")
        if returns is None or any(a is not None and a.shape != returns.shape for a in (diverged, *arrays.values())):
            raise ValueError("arrays of different shapes")
        episodes = tuple(int(point["episodes"]) for point in value["curve"])
        if len(episodes) != returns.shape[1]:
            raise ValueError(f"{len(episodes)} points of the curve for returns of the shape {returns.shape}")
        return EvalResult(
            family=str(value["family"]),
            split=str(value["split"]),
            tasks=tuple(tasks),
            returns=returns,
            episodes=episodes,
            diverged=None if diverged is None else diverged > 0,
            actions="sample",
            adapts_within_episodes=value["first_point"] == first_label(True),
            **arrays,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"evaluation.json: got results that do not fit this version ({error})") from error


def untrained_of(value: Mapping[str, Any], result: EvalResult) -> EvalResult | None:
    """The results of the untrained agent in the same file; None if there are none that fit."""
    others = value.get("returns_of_others")
    try:
        returns = _checked(others["untrained"], len(result.tasks)) if isinstance(others, Mapping) else None
    except (KeyError, TypeError, ValueError):
        return None
    if returns is None or returns.shape != result.returns.shape:
        return None
    return replace(result, returns=returns, success=None, last_step_success=None, diverged=None)


def _checked(numbers: Any, tasks: int) -> np.ndarray:
    """An array `[task, k, repeat]` of finite numbers.

    Raises:
        ValueError: It is not.
    """
    array = np.asarray(numbers, dtype=np.float64)
    if array.ndim != 3 or len(array) != tasks or not array.size or not np.isfinite(array).all():
        raise ValueError(f"got numbers of the shape {array.shape}, expected finite ones of {tasks} tasks")
    return array
