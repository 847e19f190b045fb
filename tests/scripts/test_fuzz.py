"""Command lines at random: exit code 0, or 2 with one line; never a traceback, never without an end.

The commands' own reading, checks and estimates run for real. Everything after them is replaced, and memory counts as
short, so that a command line that passes costs little.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import random
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from metarl.config import Range
from metarl.few_shot.run import ShotsTrainConfig
from metarl.registry import AGENTS, LEARNERS, agent_class, names
from metarl.runs import TrainConfig
from metarl.scripts.bench.everything import EverythingCommand
from metarl.scripts.bench.iteration import IterationCommand
from metarl.scripts.bench.rollout import RolloutCommand
from metarl.scripts.bench.update import UpdateCommand
from metarl.scripts.catalogue import ListCommand
from metarl.scripts.check import CheckCommand
from metarl.scripts.cli import main
from metarl.scripts.compare import CompareCommand
from metarl.scripts.evaluate import EvaluateCommand
from metarl.scripts.export import ExportCommand
from metarl.scripts.render import RenderCommand
from metarl.scripts.report import ReportCommand
from metarl.scripts.train import GymDoor
from metarl.scripts.training_runs import RunDoor
from metarl.scripts.tune import TuneOptions
from metarl.stepping import Stepping

SEED, LINES = 17, 300
SHORT_MEMORY = 256.0 * 2**20

NUMBERS = [
    "0",
    "1",
    "2",
    "3",
    "7",
    "-1",
    "-0",
    "1000",
    "100000",
    "100001",
    "1000000000",
    "2147483648",
    "-9223372036854775809",
]
NUMBERS += [
    "9223372036854775807",
    "18446744073709551616",
    "1" + "0" * 30,
    "1" + "0" * 400,
    "0.5",
    "1e3",
    "1e308",
    "1e-300",
]
NUMBERS += [
    "-1e308",
    "1e400",
    "nan",
    "-inf",
    "inf",
    "",
    " ",
    "\uff11\uff12",
    "\u00b2",
    "0x10",
    "1_000",
    "+3",
    "true",
    "None",
    "--",
    "1,2",
    "é",
]
FAMILIES = [
    "point-robot",
    "half-cheetah-vel",
    "bandit",
    "tabular-mdp",
    "half-cheetah-dir",
    "gym:Pendulum-v1",
    "gym:CartPole-v1",
]
FAMILIES += [
    "gym:Nothing-v9",
    "gym:ALE/Pong-v5",
    "gym:",
    "gym:Pendulum-v1?",
    "gym:Pendulum-v1?g=uniform(1,2)",
    "gym:no.such:X-v0",
]
FAMILIES += [
    "gym:Pendulum-v1?g=uniform(1,2)&g=uniform(1,2)",
    "os:getcwd",
    "math:pi",
    "nowhere:family",
    "math:",
    ":",
    ":f",
    "",
    "-",
]
FAMILIES += [
    "bandit:arms={}",
    "bandit:pulls={}",
    "tabular-mdp:states={},actions={}",
    "delayed-recall:delay={},cues={}",
    "bandit:arms=2,arms=3",
    "bandit:=,",
    "robot",
]
FAMILIES += [
    "point-robot:size=3",
    "ml1:nothing-v3",
    "half-cheetah-vell",
    "[/b]",
    "gym:Pendulum-v1?g=uniform(1,2,size={})",
]
FEW_SHOT = [
    "sinusoid",
    "sinusoid:shots={},queries={}",
    "sinusoid:ways=2",
    "omniglot:empty",
    "omniglot:nowhere,ways={}",
    "omniglot",
    "robot-dynamics:point-robot",
    "robot-dynamics:point-robot,shots={}",
    "robot-dynamics:bandit",
    "robot-dynamics:",
    "skills:ways={},nothing=1",
]
VARIATIONS = [
    "g=uniform(5,15)",
    "g=uniform({},{})",
    "g=uniform(1,2,size={})",
    "g=choice({},{})",
    "m=choice(1,2,3)",
    "g",
    "=",
    "g=f()",
]
VARIATIONS += [
    "nothing=uniform(1,2)",
    "g=uniform(1e308,2e308)",
    "g=uniform(-1e308,1e308)",
    "gravity=uniform(5,15)",
    "dt=uniform(1,2",
]
RANGES = ["learning_rate=log({},{})", "gamma=uniform({},{})", "units=int({},{})", "tasks=int({},{})"]
RANGES += ["hidden=choice({}x{},none)", "cell=choice(gru,{})", "anneal=choice(true,false)", "inner-lr=log(0.01,0.1)"]
RANGES += ["agent.{}=log(1,2)", "seed=int(1,2)", "gamma=choice(0.9", "gamma=choice(,)", "=log(1,2)", "{}"]
PATHS = [
    "run",
    "run/config.json",
    "empty",
    "nowhere",
    "",
    "/dev/null",
    "no/such/folder",
    "a" * 300,
    "clip.gif",
    "clip.png",
    "ü",
    "run/",
]
WORDS = [
    "auto",
    "cpu",
    "cuda",
    "train",
    "mode",
    "default",
    "published",
    "tanh",
    "all",
    "async",
    "ray:2",
    "é",
    "",
    "None",
    "1",
    "-1",
    "--help",
]


class CommandLines:
    """Command lines by a grammar of all options that the commands have.

    Args:
        seed: Seed of the random numbers.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def number(self) -> str:
        """A number, or a word that resembles one."""
        return self.rng.choice(NUMBERS)

    def filled(self, texts: Sequence[str]) -> str:
        """One of the texts, numbers filled in."""
        text = self.rng.choice(texts)
        while "{}" in text:
            text = text.replace("{}", self.number(), 1)
        return text

    def value(self, hint: Any, name: str) -> list[str]:
        """The words of a value: most often of the right kind."""
        if self.rng.random() < 0.1:
            return [self.rng.choice([*WORDS, *NUMBERS])] * self.rng.randint(0, 2)
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = typing.get_args(hint)[0]
        limits = None
        if typing.get_origin(hint) is typing.Annotated:
            hint, *extras = typing.get_args(hint)
            limits = next((extra for extra in extras if isinstance(extra, Range)), None)
        if typing.get_origin(hint) is tuple and name != "vary":
            return [word for _ in range(self.rng.randint(0, 3)) for word in self.value(typing.get_args(hint)[0], name)]
        if typing.get_origin(hint) is typing.Literal:
            return [self.rng.choice([*map(str, typing.get_args(hint)), *WORDS[:2]])]
        if limits is not None:
            ends = [end for end in (limits.low, limits.high) if abs(end) < 1e300]
            near = [
                f"{end + step:.17g}" if hint is float else str(int(end + step)) for end in ends for step in (-1, 0, 1)
            ]
            return [self.rng.choice([*near, "2", "0.5" if hint is float else "3", self.number()])]
        if hint is Path:
            return [self.rng.choice(PATHS)]
        return [
            self.filled(VARIATIONS) if name == "vary" else self.filled(FAMILIES) if name == "family" else self.number()
        ]

    def options(self, kind: type, prefix: str = "", among: int = 3) -> list[str]:
        """Some options of a dataclass, some of them misspelt, twice, or without a value."""
        hints = typing.get_type_hints(kind, include_extras=True)
        words: list[str] = []
        for name in self.rng.sample(sorted(hints), min(self.rng.randint(0, among), len(hints))):
            option = f"--{prefix}{name.replace('_', '-')}"
            if hints[name] is bool:
                words.append(option if self.rng.random() < 0.7 else f"--{prefix}no-{name.replace('_', '-')}")
                continue
            value = self.value(hints[name], name)
            if self.rng.random() < 0.05:
                option = option[:-1]
            words += [f"{option}={value[0]}"] if len(value) == 1 and self.rng.random() < 0.3 else [option, *value]
            if self.rng.random() < 0.05:
                words += [option, *value]
        return words

    def line(self) -> list[str]:
        """One command line."""
        rng = self.rng
        command = rng.choice(
            ["train"] * 6
            + ["tune"] * 2
            + ["evaluate", "evaluate", "compare", "render", "export", "report", "list", "check", "check"]
            + ["bench"] * 3
        )
        if command == "train" and rng.random() < 0.25:
            learner = rng.choice(names(LEARNERS))
            family = self.filled(FEW_SHOT)
            words = [learner, family, *self.options(ShotsTrainConfig), *self.options(RunDoor, among=2)]
            words += self.options(agent_class(learner, LEARNERS).Config, "agent.", among=2)
        elif command == "train":
            agent = rng.choice([*names(AGENTS), "maml-trpo", "rl3", ""])
            family = "point-robot" if rng.random() < 0.4 else self.filled(FAMILIES)
            words = [agent, family, *self.options(TrainConfig), *self.options(GymDoor, among=2)]
            if agent in names(AGENTS):
                words += self.options(agent_class(agent).Config, "agent.", among=2)
            if family.startswith("gym:"):
                words += ["--vary", self.filled(VARIATIONS), *self.options(Stepping, among=1)]
        elif command == "tune":
            agent = rng.choice([*names(AGENTS), "maml-trpo", "rl3", ""])
            words = [agent, "point-robot" if rng.random() < 0.7 else self.filled(FAMILIES)]
            words += [*self.options(TrainConfig, among=2), *self.options(TuneOptions)]
            words += ["--vary", self.filled(RANGES)] if rng.random() < 0.5 else []
        elif command == "bench":
            kinds = {
                "rollout": RolloutCommand,
                "update": UpdateCommand,
                "iteration": IterationCommand,
                "all": EverythingCommand,
            }
            measurement = rng.choice([*kinds, "nothing"])
            words = [measurement, *self.options(kinds.get(measurement, RolloutCommand))]
            if measurement in ("update", "iteration") and "--agent" not in words:
                words += self.options(agent_class("maml-trpo").Config, "config.", among=1)
        else:
            kinds = {"evaluate": EvaluateCommand, "compare": CompareCommand, "render": RenderCommand}
            kind = {**kinds, "export": ExportCommand, "report": ReportCommand}.get(command)
            if kind:
                places = ["run"] if rng.random() < 0.8 else [rng.choice(PATHS) for _ in range(rng.randint(0, 2))]
                results = {"render": "clip.gif", "export": "robot", "report": "page.html"}
                out = ["--out", results[command]] if command in results else []
                words = [*places, *(out if rng.random() < 0.8 else []), *self.options(kind)]
            elif command == "check":
                words = [self.filled(FAMILIES), *self.options(CheckCommand)]
            else:
                words = self.options(ListCommand)
        if rng.random() < 0.03:
            words.insert(
                rng.randint(0, len(words)), rng.choice(["--nothing", "-x", "--agent.nothing", "1", "--", "@", "--help"])
            )
        return [command, *words]


def stop(*_: object, **__: object) -> Any:
    """Replaces the work of a command, after its checks."""
    raise SystemExit(0)


CUT = {
    "metarl.scripts.training_runs": ["run_session"],
    "metarl.evaluation": ["collects"],
    "metarl.scripts.render": [],
    "metarl.scripts.export": ["onnx_graph"],
    "metarl.scripts.report": ["evaluation_of"],
    "metarl.scripts.tuning.run": ["tune"],
    "metarl.scripts.check": ["examine"],
    "metarl.scripts.catalogue": ["catalogue"],
    "metarl.scripts.bench.rollout": ["bench_rollout"],
    "metarl.scripts.bench.update": ["bench_shape"],
    "metarl.scripts.bench.iteration": ["Sampling"],
    "metarl.scripts.bench.everything": ["page"],
}
"""Functions that are replaced, by module."""


@pytest.fixture
def fuzzed_folder(trained_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a run and an empty folder in it; the heavy parts of commands are cut off."""
    for module, functions in CUT.items():
        for function in functions:
            monkeypatch.setattr(importlib.import_module(module), function, stop)
    for command in ("render", "report"):
        monkeypatch.setattr(f"metarl.scripts.{command}.use_off_screen_rendering", lambda: None)
    monkeypatch.setattr("metarl.memory.free_memory", lambda: SHORT_MEMORY)
    (trained_run.parent / "empty").mkdir()
    return trained_run.parent


def outcome(words: Sequence[str]) -> tuple[int, str]:
    """Exit code and stderr of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return code, err.getvalue()


def faults(count: int, seed: int) -> Iterator[tuple[list[str], str]]:
    """The command lines that do not end as they should, and what happened."""
    lines = CommandLines(seed)
    for _ in range(count):
        words = lines.line()
        try:
            code, err = outcome(words)
        except BaseException as error:  # whatever it is, a user would see it
            yield words, f"{type(error).__name__}: {error}"
            continue
        complaint = [line for line in err.splitlines() if "error" in line]
        if code not in (0, 2) or "Traceback" in err or (code == 2 and len(complaint) != 1):
            yield words, f"exit code {code}: {err}"


def test_no_command_line_ends_with_a_traceback(fuzzed_folder: Path) -> None:
    assert list(faults(LINES, SEED)) == []
