"""The report of a study: `tuning.md` and `tuning.png`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from metarl.files import write_bytes
from metarl.scripts.display import clock
from metarl.scripts.tuning.confirm import Confirmation
from metarl.scripts.tuning.picture import picture
from metarl.scripts.tuning.result import ORDER, Result, shown, steps_vary
from metarl.scripts.tuning.scores import LAST
from metarl.scripts.tuning.study import Tried

PAGE, PICTURE = "tuning.md", "tuning.png"


def write_report(out: Path, result: Result, go_on: str) -> None:
    """Writes the page and the picture of a study, over those of an earlier state.

    Args:
        out: The folder of the study.
        result: The study.
        go_on: Command that goes on with the study; empty if all of its trials have ended.
    """
    drawn = any(one.score is not None for one in result.trials)
    if drawn:
        write_bytes(out / PICTURE, picture(result))
    write_bytes(out / PAGE, ("\n".join(_page(result, drawn, go_on)) + "\n").encode())


def _page(result: Result, drawn: bool, go_on: str) -> Iterator[str]:
    record = result.record
    yield f"# {record.agent} on {record.family}: {len(result.trials)} trials\n"
    yield from summary(result)
    yield ""
    if result.best is not None:
        yield f"Settings of trial {result.best.number}:\n\n```sh\n{command(result, result.best)}\n```\n"
    if go_on:
        yield f"The study is not finished. To go on:\n\n```sh\n{go_on}\n```\n"
    if drawn:
        yield f"![scores of the trials]({PICTURE})\n"
    if result.confirmation:
        yield from _confirmed(result.confirmation, record.score)
    yield "## Trials\n"
    yield from _table(result)
    yield ""
    yield "## Method\n"
    yield from _method(result)


def command(result: Result, one: Tried) -> str:
    """The command that trains with the settings of a trial."""
    return shlex.join(["metarl", *result.words(one)])


def summary(result: Result) -> Iterator[str]:
    """Sentences on the best trial, its difference to the preset, and the cost."""
    best, preset, gain = result.best, result.preset, result.gain
    if best is None:
        yield "No trial is complete, so nothing is recommended."
    elif preset is None:
        yield f"Best: trial {best.number}, score {best.score:.4g}. The preset has no score to compare it with."
    elif best.preset:
        yield f"No trial beat the preset, whose score is {best.score:.4g}. Keep the preset."
    else:
        yield f"Best: trial {best.number}, score {best.score:.4g}; the preset: {preset.score:.4g} ({gain:+.4g})."
        if result.confirmation is None:
            yield (
                f"This difference is optimistic: the best of {len(result.complete)} noisy scores is high partly by "
                "luck, even if all settings were equally good. Train both with fresh seeds (`--resume --confirm 3`) "
                "before you believe it."
            )
        else:
            yield _verdict(result.confirmation)
    yield (
        f"Cost: {result.env_steps:,} env steps and {clock(result.seconds)} of training (added up over trials), "
        f"{', '.join(f'{result.count(state)} {state}' for state in ORDER if result.count(state)) or 'no trial'}."
    )


def _verdict(one: Confirmation) -> str:
    over = "both" if len(one.seeds) > 1 else "tasks"
    interval = one.differences[over]
    names = {"both": "new trainings on new tasks", "tasks": "new tasks, the same single training"}
    said = (
        f"With {_seeds(len(one.seeds))}, best minus preset is {_interval(interval)} (return; 95 % over {names[over]})."
    )
    low, high = interval["ci_low"], interval["ci_high"]
    if low is None or high is None:
        return f"{said} There are too few seeds for an interval."
    if low > 0:
        return f"{said} The gain is confirmed on the tuning tasks."
    return (
        f"{said} The best is worse than the preset: keep the preset."
        if high < 0
        else (f"{said} The interval includes zero: the gain is not confirmed.")
    )


def _seeds(count: int) -> str:
    return f"{count} fresh seed{'s' if count > 1 else ''} each"


def _interval(point: Mapping[str, float | None]) -> str:
    mean, low, high = point["mean"], point["ci_low"], point["ci_high"]
    text = "unknown" if mean is None else f"{mean:+.4g}"
    return text if low is None or high is None else f"{text} [{low:+.4g}, {high:+.4g}]"


def _confirmed(one: Confirmation, score: str) -> Iterator[str]:
    yield "## Confirmation\n"
    seeds = ", ".join(map(str, one.seeds))
    yield (
        f"Trial {one.best} and the preset, trained again with seeds that no trial had ({seeds}), and evaluated on "
        f"{one.tasks} tuning tasks at the end of training. Differences are paired by task."
    )
    if score != "return":
        yield f"Trials were chosen by {score}; this comparison is of returns."
    yield "\n| | return of each seed |\n| --- | --- |"
    yield f"| trial {one.best} | {', '.join(f'{value:.4g}' for value in one.best_returns)} |"
    yield f"| preset | {', '.join(f'{value:.4g}' for value in one.preset_returns)} |"
    yield "\n| best minus preset, 95 % interval over | |\n| --- | --- |"
    for over, point in one.differences.items():
        yield f"| {over} | {_interval(point)} |"
    yield "\nThe settings were chosen on the same tuning tasks. Report results on held-out tasks: `metarl compare`.\n"


def _table(result: Result) -> Iterator[str]:
    names = [setting.name for setting in result.varied]
    yield "| " + " | ".join(["trial", "state", "score", *names, "iterations", "env steps", "time", "note"]) + " |"
    yield "|" + " --- |" * (len(names) + 7)
    for one in result.sorted:
        values = [_cell(shown(result.value(one, setting))) for setting in result.varied]
        score = "" if one.score is None else f"{one.score:.4g}"
        cost = [f"{one.iteration}", f"{one.env_steps:,}", clock(one.seconds)]
        yield "| " + " | ".join([str(one.number), one.state, score, *values, *cost, _note(one)]) + " |"


def _note(one: Tried) -> str:
    parts = ["preset"] if one.preset else []
    parts += [f"same settings as trial {one.same_as}, not trained again"] if one.same_as is not None else []
    parts += [_cell(one.error)] if one.error else []
    return "; ".join(parts)


def _cell(text: str) -> str:
    """Text in a cell of a table, on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def _method(result: Result) -> Iterator[str]:
    record, training = result.record, result.record.settings.training
    yield f"- Varied: {', '.join(f'`{setting.text}`' for setting in result.varied)}. Trial 0 is the preset itself."
    yield (
        f"- Score: mean of the last {LAST} evaluations of a training on {training.eval_tasks} tuning tasks "
        f"(every {training.eval_every} iterations, `{record.score}` after the last adaptation), seeds "
        f"{', '.join(map(str, record.seed_list))}. Held-out tasks that tables report are not used, unless the family "
        "has no others."
    )
    yield (
        "- Pruned: a trial whose best score so far is below the median of the complete trials at the same iteration, "
        f"from iteration {record.first_pruned} of {record.iterations} on. The preset is never pruned. A pruned trial's "
        "score is its last one."
    )
    if steps_vary(result.varied):
        yield "- Trials have equal iterations, not equal env steps: tasks or episodes vary. Compare the costs as well."
