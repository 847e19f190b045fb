"""Effects of tasks, single parameters and their components, with their certainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from metarl.gymnasium_envs.check.findings import Clock, Note, Problem, Seen
from metarl.gymnasium_envs.check.playing import Change, Difference, Recording, RewardKind, difference, reward_kind
from metarl.gymnasium_envs.check.tasks_apart import partners, parts_of, told_apart
from metarl.gymnasium_envs.family import gymnasium_envs_of
from metarl.tasks import Family
from metarl.types import Task

REWARDS: dict[RewardKind, str] = {
    "constant": "the reward was constant in all episodes, so an effect on it cannot be seen",
    "action": "the reward depended on the action alone in all episodes, so an effect on the reward of reaching a "
    "place or a state cannot be seen",
    "state": "the reward depended on the state in these episodes; an effect on the reward of other states is possible",
}
"""Sentences on whether the observed rewards could show an effect."""
CONSTRUCTED = " (if only the constructor reads it, make it an argument)"
"""Remedy for an environment of a class, whose parameters may be attributes; other families have no constructor."""
MUCH_STEPS, MUCH = 20, 200
"""Steps of an episode, and in total, from which the absence of an effect counts as evidence."""
ALL_COMPONENTS = 16
"""Parameters with more components are only tested as a whole."""


@dataclass(frozen=True)
class Played:
    """A way to play tasks, and the recording of the base task.

    Args:
        play: Plays a task under the same seeds and actions; with True, only until it differs from the base.
        base: The task that others are compared with.
        recording: Recording of the base task.
        episodes: Number of episodes (rows).
        steps: Largest number of steps of an episode.
        whole: Whether `steps` is the whole horizon.
    """

    play: Callable[[Task, bool], Recording]
    base: Task
    recording: Recording
    episodes: int
    steps: int
    whole: bool

    @property
    def extent(self) -> str:
        """The episodes that were played, in words."""
        if self.recording.steps < self.steps:
            return f"{self.episodes} random episodes, the longest of {self.recording.steps} steps"
        return f"{'' if self.whole else f'the first {self.steps} steps of '}{self.episodes} random episodes" + (
            f" of at most {self.steps} steps" if self.whole else ""
        )


def effects(
    family: Family,
    tasks: Sequence[Task],
    recordings: Sequence[Recording],
    played: Played,
    longer: Callable[[], Played | None],
    reasons: Callable[[str], list[str]],
    clock: Clock,
    shifted: set[Task],
) -> Iterator[Problem | Note | Seen]:
    """Reports the effect of the tasks, of each parameter and of each component.

    Args:
        family: The family.
        tasks: The tasks, `played.base` first.
        recordings: The recording of each task.
        played: The way they were played.
        longer: Plays the base task in longer episodes; None if there are none. Called at most once.
        reasons: Returns sentences on why a parameter may have no effect.
        clock: Time limit.
        shifted: Tasks that may differ from the base only in the order of random numbers.
    """
    differences = [difference(played.recording, r) for r in recordings[1:]]
    kind, further, names = reward_kind(recordings), _Once(longer), [name for name, _ in played.base.parameters]
    if tasks[1:] and not any(differences):
        if (more := further()) and any(difference(more.recording, more.play(t, True)) for t in tasks[1:]):
            yield Seen(f"tasks do not differ in {played.extent}, but do in {more.extent}")
        else:
            yield _nothing(
                f"{len(tasks)} tasks give the same rewards and transitions under the same seed and actions",
                "the environment {} use its task (is it set before reset, and on the unwrapped environment?)",
                more or played,
                kind,
                [f"{name!r}: {reason}" for name in names for reason in reasons(name)],
            )
            return
    elif shifted and not _told_by_returns(played, recordings, tasks, shifted):
        yield Note(
            "effect",
            f"tasks give other episodes, but perhaps only because random numbers are drawn in another order: "
            f"{played.episodes} episodes of each do not distinguish the tasks by returns or observations",
        )
        return
    if len(parts_of(played.base)) == 1:
        yield Seen(_sentence(repr(names[0]), differences, kind, played))
        return
    if any(differences):
        yield Seen(_sentence("tasks", differences, kind, played))
    yield from _part_by_part(family, played, further, reasons, clock, kind)


class _Once:
    """Calls a function at most once, and keeps its result."""

    def __init__(self, call: Callable[[], Played | None]) -> None:
        self._call, self._called = call, False
        self._result: Played | None = None

    def __call__(self) -> Played | None:
        if not self._called:
            self._called, self._result = True, self._call()
        return self._result


def _part_by_part(
    family: Family,
    played: Played,
    further: Callable[[], Played | None],
    reasons: Callable[[str], list[str]],
    clock: Clock,
    kind: RewardKind,
) -> Iterator[Problem | Note | Seen]:
    """Tests each parameter with all others fixed, then each component."""
    silent, together, alive = set[str](), list[str](), dict[str, list[bool]]()
    for part in parts_of(played.base):
        whole = part.component is None
        if not whole and (part.name in silent or len(played.base[part.name]) > ALL_COMPONENTS):
            continue
        if not clock.start(f"effect of {str(part)!r}"):
            continue
        others = partners(family, played.base, part, 2)
        if not others:
            together += [part.name] if whole else []
            continue
        where, found = played, _compared(played, others, briefly=not whole)
        if not any(found) and (more := further()):
            where, found = more, _compared(more, others, briefly=not whole)
        if not whole:
            alive.setdefault(part.name, []).append(any(found))
        elif any(found):
            yield Seen(_sentence(repr(part.name), found, kind, where))
        else:
            silent.add(part.name)
            yield _nothing(
                f"the parameter {part.name!r} changes neither rewards nor transitions",
                "the environment {} use it" + (CONSTRUCTED if gymnasium_envs_of(family) else ""),
                where,
                kind,
                reasons(part.name),
            )
    if together:
        yield Seen(f"not tested one by one, since no two tasks differ in one parameter alone: {', '.join(together)}")
    for name, effects_seen in alive.items():
        yield _components(name, effects_seen, played if all(effects_seen) else further() or played, kind)


def _components(name: str, alive: Sequence[bool], played: Played, kind: RewardKind) -> Note | Seen:
    """The finding on the components of a parameter with an effect."""
    none = [f"{name}[{i}]" for i, effect in enumerate(alive) if not effect]
    if not none:
        return Seen(f"each of the {len(alive)} components of {name!r} has an effect on its own")
    return Note(
        "effect",
        f"{', '.join(none)}: {len(none)} of {len(alive)} components of {name!r} have, on their own, no effect that "
        f"could be seen in {played.extent} ({REWARDS[kind]})",
    )


def _compared(played: Played, others: Sequence[Task], *, briefly: bool) -> list[Difference]:
    """Differences of other tasks from the base, up to the first task that differs in observations and in rewards."""
    found = list[Difference]()
    for other in others:
        found.append(difference(played.recording, played.play(other, briefly)))
        if (found[-1].rewards and found[-1].observations) or (briefly and found[-1]):
            break
    return found


def _nothing(seen: str, meaning: str, played: Played, kind: RewardKind, reasons: Sequence[str]) -> Problem | Note:
    """The finding of no effect: a problem if the reason is known or rewards could show an effect, else a note."""
    played_much = played.whole or (played.steps >= MUCH_STEPS and played.steps * played.episodes >= MUCH)
    sure = bool(reasons) or (kind == "state" and played_much)
    words = f"{seen}, in {played.extent}; {meaning.format('most likely does not' if sure else 'may not')}"
    if reasons:
        return Problem("effect", f"{words}. A reason: {'; '.join(reasons)}")
    if sure:
        return Problem("effect", f"{words}; {REWARDS[kind]}")
    if kind == "state":
        return Note("effect", f"{words}, or its effect comes later: these episodes are too few to tell")
    return Note("effect", f"{words}, or the reward is too sparse to show it: {REWARDS[kind]}")


def _sentence(name: str, found: Sequence[Difference], kind: RewardKind, played: Played) -> str:
    """A sentence on the effect of a parameter."""
    words = []
    for what, changes in (
        ("observations", [d.observations for d in found if d.observations]),
        ("rewards", [d.rewards for d in found if d.rewards]),
    ):
        if changes:
            words.append(f"changes {what} {_extent(changes)}")
        elif what == "rewards":
            hidden = f" ({REWARDS[kind]})" if kind != "state" else ""
            words.append(f"no change of rewards was seen{hidden}")
        else:
            words.append("no change of observations was seen")
    ends = [d.ends for d in found if d.ends]
    if ends:
        words.append(f"changes when episodes end (from step {min(ends)})")
    return f"{name}: {', '.join(words)}, in {played.extent}"


def _extent(changes: Sequence[Change]) -> str:
    first, share = min(c.step for c in changes), max(c.share for c in changes)
    grown = "; it began as a rounding error, so it may be chaos" if all(c.grown for c in changes) else ""
    where = "at reset" if first == 0 else f"from step {first}"
    percent = f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"
    return f"({where}, by up to {percent} % of their spread{grown})"


def _told_by_returns(
    played: Played, recordings: Sequence[Recording], tasks: Sequence[Task], shifted: set[Task]
) -> bool:
    """Whether returns or means of observations distinguish a task from the base beyond random variation."""
    one = _features(played.recording)
    for task, recording in zip(tasks[1:], recordings[1:], strict=True):
        if task not in shifted and difference(played.recording, recording):
            return True
        two = _features(recording)
        if any(told_apart(a, b, len(one) * len(tasks)) for a, b in zip(one, two, strict=True)):
            return True
    return False


def _features(recording: Recording) -> list[np.ndarray]:
    """Returns, lengths, and means and deviations of each component of the observations, `[E]` each."""
    mean, deviation = recording.observations.mean(axis=0).T, recording.observations.std(axis=0).T  # [O, E]
    return [recording.rewards.sum(axis=0), recording.live.sum(axis=0).astype(np.float64), *mean, *deviation]
