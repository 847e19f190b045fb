"""Whether tasks, their parameters one by one, and the components of those change anything; and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from metarl.gymnasium_envs.check.findings import Clock, Note, Problem, Seen
from metarl.gymnasium_envs.check.playing import Change, Difference, Recording, RewardKind, difference, reward_kind
from metarl.gymnasium_envs.check.tasks_apart import partners, parts_of, told_apart
from metarl.tasks import Family
from metarl.types import Task

REWARDS: dict[RewardKind, str] = {
    "constant": "reward was constant in all episodes played; an effect in reward cannot be seen",
    "action": "reward followed the action alone in all episodes played; an effect in what it pays for reaching a place "
    "or a state cannot be seen",
    "state": "rewards changed with the state in these episodes; what they pay beyond could still hide an effect",
}
"""What the rewards seen say about an effect that was not seen."""
MUCH_STEPS, MUCH = 20, 200
"""Steps of an episode, and of all together, from which on seeing no effect counts as much."""
ALL_COMPONENTS = 16
"""Parameters with more components are tested as a whole only."""


@dataclass(frozen=True)
class Played:
    """How tasks were played, for the sentences.

    Args:
        play: Plays a task, always under the same seeds and actions; with True, only until it differs from the base.
        base: The task that others are compared with.
        recording: That task, played.
        episodes: Rows.
        steps: Steps that an episode may last.
        whole: Whether that is the whole horizon.
    """

    play: Callable[[Task, bool], Recording]
    base: Task
    recording: Recording
    episodes: int
    steps: int
    whole: bool

    @property
    def extent(self) -> str:
        """What was played, in words."""
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
    """Says of the tasks, of each parameter and of each component what it changed.

    Args:
        family: The family.
        tasks: The tasks played, `played.base` first.
        recordings: One of each.
        played: How.
        longer: Plays the base task for longer, where there is more to play; asked at most once.
        reasons: What is known about why a parameter could have no effect.
        clock: For the time.
        shifted: Tasks that seem to differ from the base in the order of random numbers.
    """
    differences = [difference(played.recording, r) for r in recordings[1:]]
    kind, further, names = reward_kind(recordings), _Once(longer), [name for name, _ in played.base.parameters]
    if tasks[1:] and not any(differences):
        if (more := further()) and any(difference(more.recording, more.play(t, True)) for t in tasks[1:]):
            yield Seen(f"tasks differ in nothing within {played.extent}, but within {more.extent}")
        else:
            yield _nothing(
                f"{len(tasks)} tasks give the same rewards and transitions under the same seed and actions",
                "the environment {} use the task it is told (is it set before reset, and on the bare environment?)",
                more or played,
                kind,
                [f"{name!r}: {reason}" for name in names for reason in reasons(name)],
            )
            return
    elif shifted and not _told_by_returns(played, recordings, tasks, shifted):
        yield Note(
            "effect",
            f"tasks give other episodes, but perhaps only since random numbers come in another order; {played.episodes}"
            " episodes of each do not tell the tasks apart by their returns or their observations",
        )
        return
    if len(parts_of(played.base)) == 1:
        yield Seen(_sentence(repr(names[0]), differences, kind, played))
        return
    if any(differences):
        yield Seen(_sentence("tasks", differences, kind, played))
    yield from _part_by_part(family, played, further, reasons, clock, kind)


class _Once:
    """Calls a function at most once, and keeps what it returned."""

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
    """Each parameter with all others held, then each component."""
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
                "the environment {} use it (it could be read only when the environment is made: then take it as an "
                "argument)",
                where,
                kind,
                reasons(part.name),
            )
    if together:
        yield Seen(f"not tested one by one, since no two tasks differ in one alone: {', '.join(together)}")
    for name, effects_seen in alive.items():
        yield _components(name, effects_seen, played if all(effects_seen) else further() or played, kind)


def _components(name: str, alive: Sequence[bool], played: Played, kind: RewardKind) -> Note | Seen:
    """What is said of the components of a parameter that has an effect as a whole."""
    none = [f"{name}[{i}]" for i, effect in enumerate(alive) if not effect]
    if not none:
        return Seen(f"each of the {len(alive)} components of {name!r} has an effect on its own")
    return Note(
        "effect",
        f"{', '.join(none)}: {len(none)} of {len(alive)} components of {name!r} tested on their own, which change "
        f"nothing that could be seen in {played.extent} ({REWARDS[kind]})",
    )


def _compared(played: Played, others: Sequence[Task], *, briefly: bool) -> list[Difference]:
    """Differences of other tasks from the base, up to the first in both observations and rewards."""
    found = list[Difference]()
    for other in others:
        found.append(difference(played.recording, played.play(other, briefly)))
        if (found[-1].rewards and found[-1].observations) or (briefly and found[-1]):
            break
    return found


def _nothing(seen: str, meaning: str, played: Played, kind: RewardKind, reasons: Sequence[str]) -> Problem | Note:
    """No effect seen: a problem where there is a reason for it, or where rewards could have shown it; else a note."""
    played_much = played.whole or (played.steps >= MUCH_STEPS and played.steps * played.episodes >= MUCH)
    sure = bool(reasons) or (kind == "state" and played_much)
    words = f"{seen}, in {played.extent}; {meaning.format('most likely does not' if sure else 'may not')}"
    if reasons:
        return Problem("effect", f"{words}. A reason: {'; '.join(reasons)}")
    if sure:
        return Problem("effect", f"{words}; {REWARDS[kind]}")
    if kind == "state":
        return Note("effect", f"{words}, or it may show only later: that is little to judge by")
    return Note("effect", f"{words}, or its reward may be too sparse to show it: {REWARDS[kind]}")


def _sentence(name: str, found: Sequence[Difference], kind: RewardKind, played: Played) -> str:
    """What a parameter changed, in words."""
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
    grown = "; it began as rounding, so chaos may have made it" if all(c.grown for c in changes) else ""
    where = "at reset" if first == 0 else f"from step {first}"
    percent = f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"
    return f"({where}, by up to {percent} % of their spread{grown})"


def _told_by_returns(
    played: Played, recordings: Sequence[Recording], tasks: Sequence[Task], shifted: set[Task]
) -> bool:
    """Whether returns, or means of observations, tell a task from the base beyond what random numbers do."""
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
