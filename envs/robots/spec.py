"""The name of a robot's family: `mjcf:PATH?NAME=uniform(LOW,HIGH)&OPTION=VALUE&...`, and `menagerie:NAME?...`.

| written | meaning |
|---|---|
| `payload=uniform(0,5)` | a named variation with the distribution of its values |
| `payload.body=trunk` | a further word of a variation |
| `command=uniform(0.3,0.8)` | a commanded velocity that differs between tasks and is observed |
| `goal=uniform([0.1,-0.2,0.1],[0.3,0.2,0.3])` | the box of the hidden goals of `task=reach` |
| `reward.energy=0.01` | the weight of a reward term |
| `keyframe=home` | an option; `OPTIONS` has all of them |

Regular expressions and `float` read it; nothing is evaluated as code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from metarl.config import Range
from metarl.gymnasium_envs.vary import Variation, parse_variation
from metarl.names import did_you_mean

MJCF, MENAGERIE = "mjcf", "menagerie"
PART = r"\s*([A-Za-z_]\w*)(?:\.(\w+))?\s*=(.*)"
COMMAND, GOAL, REWARD = "command", "goal", "reward"
RANGE, GOAL_RANGE = "uniform(LOW,HIGH)", "uniform([X,Y,Z],[X,Y,Z])"
"""Forms of the distributions, for messages."""
COMMANDS = 3
"""Numbers of a command: velocity forwards and to the left in m/s, rate of turning to the left in rad/s."""
OWN_FUNCTION = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
WALK, REACH, HOLD = "walk", "reach", "hold"
TASKS = (WALK, REACH, HOLD)


@dataclass(frozen=True)
class Option:
    """An option of a robot's family.

    Args:
        meaning: Description with unit, for messages.
        limits: Range of a number; None for a word.
        words: The possible words; empty for any.
        whole: Whether the number has to be whole.
    """

    meaning: str
    limits: Range | None = None
    words: tuple[str, ...] = ()
    whole: bool = False

    @property
    def possible(self) -> str:
        """The possible values, in words."""
        if self.limits is not None:
            return f"a {'whole ' if self.whole else ''}number {self.limits} ({self.meaning})"
        return " or ".join(self.words) if self.words else self.meaning

    def read(self, text: str) -> Any:
        """The value of a text.

        Raises:
            ValueError: The text is not possible.
        """
        if self.limits is not None:
            number = float(text)
            if number not in self.limits or not math.isfinite(number) or (self.whole and not number.is_integer()):
                raise ValueError
            return number
        if not text or (self.words and text not in self.words):
            raise ValueError
        return text


OPTIONS: Mapping[str, Option] = {
    "task": Option("walk, reach, hold, or your own reward as module:function"),
    "keyframe": Option("the name of a keyframe of the model, where episodes start"),
    "action": Option("kind of the actions", words=("servo", "torque", "pd")),
    "scale": Option(
        "largest distance of a joint's target from home, rad; share of the largest torque", Range(1e-3, 10)
    ),
    "kp": Option("stiffness of action=pd, N m/rad", Range(0, 1e5, open_low=True)),
    "kd": Option("damping of action=pd, N m s/rad", Range(0, 1e5)),
    "rate": Option("actions per second, Hz", Range(1, 1000)),
    "timestep": Option("physics step, s; the model's by default", Range(1e-5, 0.02)),
    "cone": Option("friction cone of contacts; the model's by default", words=("pyramidal", "elliptic")),
    "horizon": Option("steps of an episode", Range(1, 100_000), whole=True),
    "base": Option("the name of a body: it carries the payload and is pushed"),
    "site": Option("the name of a site, geom or body that reaches the goal"),
    "goal_range": Option("largest distance of a joint from home in the poses that give goals, rad", Range(1e-3, 10)),
    "tolerance": Option("distance to the goal that counts as success, m", Range(1e-4, 10)),
    "tilt": Option("tilt of the base that ends an episode, degrees; 180 for none", Range(1, 180)),
    "height": Option("height of the base that ends an episode, share of the height at home; 0 for none", Range(0, 1)),
    "limit": Option("distance of a joint beyond its range that ends an episode, rad or m", Range(0, 100)),
    "start_noise": Option("half-width of the uniform noise on initial joint positions, rad", Range(0, 10)),
    "base_velocity": Option("whether the base's linear velocity is observed", words=("yes", "no")),
}
"""The options, by name."""


@dataclass(frozen=True)
class RobotSpec:
    """The name of a robot's family, read.

    Args:
        text: The whole name.
        scheme: `mjcf` or `menagerie`.
        place: Path of the MJCF file, or name of the robot.
        variations: The parameters that vary: named variations, `command`, `goal`.
        words: Further words of the variations, by variation.
        options: Options, by name; numbers are floats.
        command: The constant command `[3]`.
        weights: Weights of reward terms that were given.
    """

    text: str
    scheme: str
    place: str
    variations: tuple[Variation, ...] = ()
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[float, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)

    def varied(self, name: str) -> Variation | None:
        """The variation of a name; None if it does not vary."""
        return next((one for one in self.variations if one.name == name), None)

    def number(self, name: str, default: float) -> float:
        """A numeric option."""
        return float(self.options.get(name, default))

    @property
    def own_reward(self) -> str:
        """`module:function` of one's own reward; empty if it is one of metarl's."""
        task = str(self.options.get("task", ""))
        return task if ":" in task else ""

    @property
    def what(self) -> str:
        """First words of messages."""
        return f"family {self.text!r}"


def names_own_code(text: str) -> bool:
    """Whether a family's name names a function of the user's, `task=module:function`.

    A name that cannot be read counts as one.
    """
    try:
        return bool(read_spec(text, None).own_reward)
    except ValueError:
        return True


def read_spec(text: str, known: Sequence[str] | None) -> RobotSpec:
    """Reads the name of a robot's family.

    Args:
        text: The name.
        known: The named variations that there are; None accepts any.

    Raises:
        ValueError: The name has no path, or a part of it is unknown, repeated or not possible.
    """
    scheme, _, rest = text.partition(":")
    place, _, query = rest.partition("?")
    if not place:
        raise ValueError(
            f"family {text!r}: got no {'name of a robot' if scheme == MENAGERIE else 'path'}, expected {USAGES[scheme]}"
        )
    reader = _Reader(f"family {text!r}", known)
    for part in filter(None, query.split("&")):
        reader.read(part)
    return reader.finish(text, scheme, place)


USAGES = {
    MJCF: "mjcf:PATH?payload=uniform(0,5) for a robot of your own, as a MuJoCo XML file",
    MENAGERIE: "menagerie:NAME?payload=uniform(0,5) for a robot of MuJoCo Menagerie",
}
"""Forms of the names, by scheme."""


class _Reader:
    """Reads the parts of a name one by one.

    Args:
        what: First words of messages.
        known: The named variations that there are; None accepts any.
    """

    def __init__(self, what: str, known: Sequence[str] | None) -> None:
        self._what, self._known = what, known
        self._seen: set[str] = set()
        self._variations: list[Variation] = []
        self._words: dict[str, dict[str, str]] = {}
        self._options: dict[str, Any] = {}
        self._weights: dict[str, float] = {}
        self._command: tuple[float, ...] = ()

    def read(self, part: str) -> None:
        """Reads `NAME=VALUE` or `NAME.WORD=VALUE`."""
        match = re.fullmatch(PART, part)
        if not match:
            raise ValueError(f"{self._what}: got {part!r}, expected NAME=uniform(LOW,HIGH) or OPTION=VALUE")
        name, word, value = match[1], match[2], match[3].strip()
        key = name if word is None else f"{name}.{word}"
        if key in self._seen:
            raise ValueError(f"{self._what}: got {key!r} twice, expected it once")
        self._seen.add(key)
        if word is not None:
            self._read_word(name, word, value)
        elif re.match(r"[a-z]+\s*\(", value):
            self._read_variation(name, f"{name}={value}")
        elif name == COMMAND:
            self._command = self._numbers(part, value)
        else:
            self._read_option(name, value)

    def _read_word(self, name: str, word: str, value: str) -> None:
        if name in (*OPTIONS, COMMAND, GOAL):
            raise ValueError(f"{self._what}: got {name}.{word}={value}, but {name!r} has no further words")
        if name != REWARD:
            if self._known is not None and name not in self._known:
                raise ValueError(self._unknown(name))
            self._words.setdefault(name, {})[word] = value
            return
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise ValueError(f"{self._what}: got reward.{word}={value}, expected a number, the weight of a term")
        self._weights[word] = weight

    def _read_variation(self, name: str, text: str) -> None:
        if name in OPTIONS:
            raise ValueError(
                f"{self._what}: got {text!r}, but {name!r} is the same in all tasks: expected {name}=VALUE, "
                f"{OPTIONS[name].possible}"
            )
        if name not in (COMMAND, GOAL) and self._known is not None and name not in self._known:
            raise ValueError(self._unknown(name))
        found = parse_variation(text, self._what)
        if name not in (COMMAND, GOAL) and (found.is_choice or found.size != 1 or not found.hidden):
            raise ValueError(f"{self._what}: got {text!r}, expected {name}={RANGE}")
        size = {GOAL: 3, COMMAND: found.size if found.size in (1, COMMANDS) else COMMANDS}.get(name, 1)
        if found.is_choice or found.size != size:
            raise ValueError(
                f"{self._what}: got {text!r}, expected "
                + (f"{GOAL}={GOAL_RANGE}" if name == GOAL else "command=uniform(LOW,HIGH), in m/s")
            )
        self._variations.append(found)

    def _read_option(self, name: str, value: str) -> None:
        if name == GOAL or name in (self._known or ()):
            form, fixed = (GOAL_RANGE, "place") if name == GOAL else (RANGE, "number")
            raise ValueError(
                f"{self._what}: got {name}={value}, expected {name}={form}; for a fixed {fixed}, make the range narrow"
            )
        if name not in OPTIONS:
            raise ValueError(self._unknown(name))
        option = OPTIONS[name]
        own = name == "task" and (value in TASKS or re.fullmatch(OWN_FUNCTION, value))
        try:
            if name == "task" and not own:
                raise ValueError
            self._options[name] = option.read(value)
        except ValueError:
            near = did_you_mean(value, TASKS if name == "task" else option.words)
            raise ValueError(
                f"{self._what}: got {name}={value}, expected {option.possible}.{near}".rstrip(".")
            ) from None

    def _numbers(self, part: str, value: str) -> tuple[float, ...]:
        try:
            numbers = tuple(float(x) for x in value.strip("[]").split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, COMMANDS) or not all(math.isfinite(x) for x in numbers):
            raise ValueError(
                f"{self._what}: got {part!r}, expected command=FORWARD in m/s, command=[FORWARD,LEFT,TURN] with the "
                "rate of turning in rad/s, or command=uniform(LOW,HIGH)"
            )
        return numbers

    def _unknown(self, name: str) -> str:
        known = [*(self._known or ()), COMMAND, GOAL, *OPTIONS]
        return (
            f"{self._what}: got {name!r}, which is neither a variation nor an option.{did_you_mean(name, known)} "
            f"Variations: {', '.join([*(self._known or ()), COMMAND, GOAL])}; options: {', '.join(OPTIONS)}; "
            "weights: reward.TERM"
        )

    def finish(self, text: str, scheme: str, place: str) -> RobotSpec:
        """The whole name."""
        varied = [one.name for one in self._variations]
        for name in self._words:
            if name not in varied:
                raise ValueError(
                    f"{self._what}: got {name}.{next(iter(self._words[name]))} without {name}, expected "
                    f"{name}={RANGE} too"
                )
        command = self._command
        if COMMAND in varied and command:
            raise ValueError(f"{self._what}: got command twice, expected it once")
        return RobotSpec(
            text=text,
            scheme=scheme,
            place=place,
            variations=tuple(self._variations),
            words=self._words,
            options=self._options,
            command=command + (0.0,) * (COMMANDS - len(command)) if command else (),
            weights=self._weights,
        )
