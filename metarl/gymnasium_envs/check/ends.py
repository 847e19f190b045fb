"""Parameters at both ends of their ranges, with reasons from whoever knows the simulation.

A reason comes from an analysis of the environments, such as of a MuJoCo model (`metarl.envs.silence`), which the caller
passes in: this package knows no simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metarl.gymnasium_envs.check.findings import Clock, Note, Problem, Seen
from metarl.gymnasium_envs.check.playing import Recording, difference, play, varied_actions
from metarl.gymnasium_envs.check.tasks_apart import Part, partners
from metarl.parameters import Parameter
from metarl.tasks import Family
from metarl.types import Floats, Task
from metarl.vector import TaskVecEnv


@dataclass(frozen=True)
class Reason:
    """A reason why a parameter has no effect, or another one than its name promises.

    Args:
        words: The reason and its remedy.
        hides: `all` explains that no effect is seen and is reported only then. `most` is a problem and `part` a note
            even if an effect is seen.
    """

    words: str
    hides: Literal["all", "most", "part"] = "all"


NEAR = 1e-9
"""Distance from the ends of the unit interval of variates, where some transforms have no value."""
BETWEEN = 0.382
"""Place between the ends of a range."""
Reasons = Callable[[TaskVecEnv, str, Task, Task], Sequence[Reason]]
"""Maps a batch, a parameter and two tasks that differ in it alone to reasons. It may set other tasks."""


def end_tasks(family: Family, base: Task, parameter: Parameter) -> list[Task]:
    """Tasks that differ in one parameter: at the lower end of its range, at the upper end, and between.

    The ends of a range may be alike, such as those of an angle. A parameter without a range has the enumerated tasks
    that differ in it alone; the list is empty if there are none.
    """
    if not parameter.variates:
        others = partners(family, base, Part(parameter.name), 2)
        return [base, *others] if others else []
    points = np.array([[NEAR], [1.0 - NEAR], [BETWEEN]]) * np.ones(parameter.variates)
    values = [parameter.transform(point[None])[0] for point in points]
    return [Task.of(base.family, **{**dict(base.parameters), parameter.name: value}) for value in values]


def at_both_ends(
    envs: TaskVecEnv, family: Family, base: Task, clock: Clock, reasons: Reasons, said: set[str]
) -> Iterator[Problem | Note | Seen]:
    """Plays each hidden parameter at both ends under the same seeds and actions, and says which has no effect, and why.

    Args:
        envs: One task of `E` rows.
        family: The family.
        base: The task that all other parameters are taken from.
        clock: Time limit.
        reasons: Finds reasons.
        said: Parameters whose lack of effect was reported before, with its reasons.
    """
    actions = varied_actions(envs)
    for parameter in family.distribution.parameters:
        name = parameter.name
        if not parameter.hidden or not clock.start(f"ends of {name!r}"):
            continue
        tasks = end_tasks(family, base, parameter)
        if len(set(tasks)) < 2:
            continue
        (low, high), seen, clipped = tasks[:2], False, False
        clock.pause()
        one = play(envs, low, actions, going=clock.going)
        for other in tasks[1:]:
            clock.pause()
            two = play(envs, other, actions[: one.steps], going=clock.going)
            clipped |= not (_whole(one, actions) and _whole(two, actions[: one.steps]))
            seen |= bool(difference(one, two))
            if seen:
                break
        if clipped and not seen:
            clock.skipped.append(f"ends of {name!r}")
            continue
        found = reasons(envs, name, low, high)
        ends = range_in_words(name, low, high)
        for reason in found:
            if seen and reason.hides == "most":
                yield Problem("effect", f"{ends}: {reason.words}")
            elif seen and reason.hides == "part":
                yield Note("effect", f"{ends}: {reason.words}")
        if seen or name in said:
            continue
        words = (
            f"{ends} changes nothing in {envs.num_envs} random episodes, the longest of {one.steps} of {envs.horizon} "
            "steps"
        )
        if found:
            yield Problem("effect", f"{words}. A reason: {'; '.join(reason.words for reason in found)}")
        elif one.steps == envs.horizon:
            yield Problem("effect", f"{words}; no reason was found in the model")
        else:
            yield Note("effect", f"{words}; no reason was found in the model, and its effect may come later")


def _whole(recording: Recording, actions: Floats) -> bool:
    """Whether episodes were played to the last action, or to the end of all; else the time was up."""
    ended = (recording.terminated | recording.truncated).any(axis=0)
    return recording.steps > 0 and (recording.steps == len(actions) or bool(ended.all()))


def reasons_of(
    reasons: Reasons, envs: TaskVecEnv, family: Family, base: Task, name: str
) -> tuple[str, Sequence[Reason]]:
    """A parameter with the ends of its range in words, and the reasons that it may have no effect."""
    parameter = next((one for one in family.distribution.parameters if one.name == name), None)
    tasks = end_tasks(family, base, parameter) if parameter else []
    return (range_in_words(name, *tasks[:2]), reasons(envs, name, *tasks[:2])) if tasks else ("", ())


def range_in_words(name: str, low: Task, high: Task) -> str:
    """A parameter with its values in two tasks, for messages; values as small as `NEAR` of the others count as 0."""
    pair = np.array([low[name], high[name]])
    pair[np.abs(pair) <= 2 * NEAR * np.abs(pair).max()] = 0.0
    return f"{name!r} from {_short(pair[0])} to {_short(pair[1])}"


def _short(values: Floats) -> str:
    words = [f"{x:.4g}" for x in values[:4]] + (["..."] if len(values) > 4 else [])
    return words[0] if len(words) == 1 else f"({', '.join(words)})"
