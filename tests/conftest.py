"""Fixtures that several tests share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from metarl.agents.maml_trpo import MamlTrpo, MamlTrpoConfig
from metarl.checkpoint import list_checkpoints
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.registry import FAMILIES, agent_class, make_family, names
from metarl.rollout import TrajectoryBuilder
from metarl.scripts.reference.policy import PlainPolicy
from metarl.storage import read_tensors
from metarl.types import Spaces, Task, Trajectories


@pytest.fixture(autouse=True)
def no_module_of_a_test_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forgets the modules that a test imported from a temporary folder: another test may have one of the same name."""
    before, folder = set(sys.modules), str(tmp_path_factory.getbasetemp())
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(folder):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Tests may run side by side: torch's threads would slow one another down."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> None:
    """A shell has Ctrl-C ignored by what it runs in the background, and commands keep that; tests send it."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes that share a session's tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache folder per session, instead of the user's."""
    monkeypatch.setenv("METARL_CACHE", str(cache))


@pytest.fixture(
    params=[pytest.param(False, id="counted"), pytest.param(True, id="timed", marks=pytest.mark.bench_check)]
)
def within(request: pytest.FixtureRequest) -> Callable[[float], contextlib.AbstractContextManager[None]]:
    """Bounds the seconds of a block, under `make bench-check` only; the test also counts what takes that time."""

    @contextlib.contextmanager
    def bounded(seconds: float) -> Iterator[None]:
        began = time.monotonic()
        yield
        assert not request.param or time.monotonic() - began < seconds

    return bounded


WITH_MANY_CLASSES = ("ml10", "ml25", "ml45")
"""The first use of their goals takes a second per class."""


@pytest.fixture
def with_goals(cache: Path) -> Callable[[str], None]:
    """Derives the goals of a family with many classes: one process does, while the others wait."""

    def derive(name: str) -> None:
        with open(cache / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            make_family(name).distribution.held_out(1)

    return derive


@pytest.fixture(params=[pytest.param(n, marks=[pytest.mark.slow] * (n in WITH_MANY_CLASSES)) for n in names(FAMILIES)])
def family_name(request: pytest.FixtureRequest, with_goals: Callable[[str], None]) -> str:
    """Every family that comes with metarl."""
    name = str(request.param)
    if name in WITH_MANY_CLASSES:
        with_goals(name)
    return name


@pytest.fixture
def run_metarl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Any]:
    """Runs `metarl WORDS` in this process, in an empty folder: `(exit code, stdout, stderr)`."""
    from metarl.scripts.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        try:
            code = main([str(w) for w in words])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


class Suited(NamedTuple):
    """A light family that an agent can be trained on, and settings that fit episodes of three steps.

    Attributes:
        family: Name of the family: point-robot, unless the agent needs a reward that is the same in all tasks.
        settings: Settings of such an agent; none for the others.
    """

    family: str
    settings: dict[str, Any]

    @property
    def words(self) -> tuple[str, ...]:
        """The settings as options."""
        return tuple(
            w for key, value in self.settings.items() for w in (f"--agent.{key.replace('_', '-')}", f"{value}")
        )


PLANNING = {"plan_steps": 2, "candidates": 8, "rounds": 1, "elites": 2, "gradient_steps": 2, "batch_windows": 4}
WINDOWS = {"window": 3, "past": 2, "future": 1}


@pytest.fixture
def suited() -> Callable[[str], Suited]:
    """The family and the settings with which a test can train an agent, by its name."""

    def suit(agent: str) -> Suited:
        kind = agent_class(agent)
        if not getattr(kind, "needs_reward", False):
            return Suited("point-robot", {})
        windows = {name: steps for name, steps in WINDOWS.items() if hasattr(kind.Config(), name)}
        return Suited("half-cheetah-crippled", {**PLANNING, **windows})

    return suit


TINY = ("--iterations", "3", "--tasks", "3", "--episodes", "2", "--horizon", "12")
TINY += ("--eval-every", "2", "--eval-tasks", "3", "--checkpoint-every", "1")
"""Options under which a run takes a second."""


@pytest.fixture
def tiny() -> tuple[str, ...]:
    return TINY


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny finished run of maml-trpo on point-robot, to be copied."""
    from metarl.scripts.cli import main

    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "maml-trpo", "point-robot", "--out", str(out), *TINY]) == 0
    return out


@pytest.fixture
def trained_run(run_metarl: Callable[..., Any], trained_once: Path, tmp_path: Path) -> Path:
    """Such a run of the test's own, in its working folder."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))


@pytest.fixture
def read_within_a_trial(tmp_path: Path) -> Callable[..., Any]:
    """Compares a reader of exported policies with its agent, whose file is from the middle of a trial."""

    def compare(agent: Any, reader: Callable[[Path], Any], rng: np.random.Generator) -> Any:
        """Plays three episodes in a world of noise by modes; the reader acts from the second on, and is returned."""
        state, policy, path = agent.begin([Task("a task")], 1), None, tmp_path / "adapted.safetensors"
        for _ in range(3):
            seen = rng.standard_normal(3).astype(np.float32)
            builder = TrajectoryBuilder(1, 1, agent.spaces, seen, agent.recorded)
            while builder.unfinished:
                action, state = agent.act(state, builder.step, rng, mode=True)
                if policy is not None:
                    assert policy.act(seen) == pytest.approx(action.single(), rel=1e-4, abs=1e-5)
                reward, seen = float(rng.standard_normal()), rng.standard_normal(3).astype(np.float32)
                builder.add(action, seen, reward, False, False)
                if policy is not None:
                    policy.observe(action.single(), reward, not builder.unfinished)
            state = agent.adapt(state, builder.build())
            if policy is None:
                agent.save_policy(state, path)
                policy = reader(path)
        return policy

    return compare


@pytest.fixture
def spaces() -> Spaces:
    return Spaces(observation_size=3, action_low=(-1.0, -2.0), action_high=(1.0, 4.0), horizon=5)


@pytest.fixture
def random_samples() -> Callable[..., Samples]:
    """Makes samples of a random policy with random advantages, some steps masked."""

    def make(m: int, b: int, spaces: Spaces, seed: int, dtype: torch.dtype = torch.float64) -> Samples:
        rng = np.random.default_rng(seed)
        mask = rng.random((m, b)) < 0.8
        arrays = (
            rng.standard_normal((m, b, spaces.observation_size)),
            rng.integers(spaces.choices, size=(m, b, 1))
            if spaces.choices
            else rng.standard_normal((m, b, spaces.action_size)),
            rng.standard_normal((m, b)) * mask,
            mask / mask.sum(axis=1, keepdims=True),
        )
        return Samples(*(torch.tensor(a, dtype=dtype) for a in arrays))

    return make


@pytest.fixture
def discrete_spaces() -> Spaces:
    return Spaces(observation_size=3, action_low=(0.0,), action_high=(3.0,), horizon=5, choices=4)


@pytest.fixture
def plain() -> Callable[[StackedPolicy], PlainPolicy]:
    """The same policy by PyTorch's own layers, which autograd differentiates any number of times."""
    return PlainPolicy


@pytest.fixture
def make_agent(spaces: Spaces) -> Callable[..., MamlTrpo]:
    """Makes an agent with a small network, none of whose parameters is zero."""

    def make(seed: int = 0, spaces: Spaces = spaces, **settings: Any) -> MamlTrpo:
        config = MamlTrpoConfig(**{"hidden": (5, 4), **settings})
        agent = MamlTrpo(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))
        tensors = agent.tensors()
        noise = torch.randn(tensors["parameters"].shape, generator=torch.Generator().manual_seed(seed))
        agent.restore({**tensors, "parameters": tensors["parameters"] + 0.1 * noise}, {})
        return agent

    return make


@pytest.fixture
def play() -> Callable[..., list[Trajectories]]:
    """Lets an agent play a trial in a world of random observations and rewards, whose episodes end when told to.

    `lengths` is `[K, M, E]`: the steps of each row's episode in each collect; one shorter than the horizon ends
    by termination. Without `adapt` between them the collects would be separate trials.
    """

    def run(agent: Any, lengths: Any, seed: int = 0, tasks: list[Task] | None = None) -> list[Trajectories]:
        lengths = np.asarray(lengths)
        _, m, e = lengths.shape
        rng, spaces = np.random.default_rng(seed), agent.spaces
        state = agent.begin_training(tasks or [Task.of("noise", number=i) for i in range(m)], e)
        trajectories: list[Trajectories] = []
        for k, length in enumerate(lengths):
            if k:
                state = agent.adapt(state, trajectories[-1])
            builder = TrajectoryBuilder(m, e, spaces, rng.standard_normal((m, e, spaces.observation_size)))
            t = 0
            while builder.unfinished:
                action, state = agent.act(state, builder.step, rng)
                t += 1
                builder.add(
                    action,
                    rng.standard_normal((m, e, spaces.observation_size)),
                    rng.standard_normal((m, e)),
                    (length == t) & (length < spaces.horizon),
                    (length == t) & (length == spaces.horizon),
                )
            trajectories.append(builder.build())
        return trajectories

    return run


def _logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def _without_times(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if not name.startswith("time/")}


@pytest.fixture
def logged() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads the lines of a run's log."""
    return _logged


@pytest.fixture
def assert_same_run() -> Callable[[Path, Path], None]:
    """Compares two runs: all arrays and counters bit for bit, all metrics but for the times."""

    def check(one: Path, two: Path) -> None:
        newest = [list_checkpoints(run / "checkpoints")[-1] for run in (one, two)]
        (mine, my_counters), (theirs, their_counters) = map(read_tensors, newest)
        assert newest[0].name == newest[1].name
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            assert torch.equal(tensor, theirs[name]), name
        assert my_counters == their_counters
        for a, b in zip(_logged(one), _logged(two), strict=True):
            assert _without_times(a) == _without_times(b)

    return check


# Few-shot families ------------------------------------------------------------------------------------------


def _draw_character(path: Path, number: int, drawing: int) -> None:
    """Writes a character: a few lines in black on white, which wobble from drawing to drawing."""
    rng, wobble = np.random.default_rng(number), np.random.default_rng([number, drawing])
    corners = rng.integers(15, 90, size=(4, 2)) + wobble.integers(-4, 5, size=(4, 2))
    image = Image.new("1", (105, 105), 1)
    ImageDraw.Draw(image).line([(int(x), int(y)) for x, y in corners], fill=0, width=4)
    image.save(path)


@pytest.fixture
def alphabets(tmp_path: Path) -> Path:
    """A folder in Omniglot's layout: six characters for training and six that are held out, eight drawings of each."""
    number = 0
    for half in ("images_background", "images_evaluation"):
        for alphabet in ("Angelic", "Futurama"):
            for character in range(1, 4):
                folder = tmp_path / "omniglot" / half / alphabet / f"character{character:02d}"
                folder.mkdir(parents=True)
                number += 1
                for drawing in range(1, 9):
                    _draw_character(folder / f"{number:04d}_{drawing:02d}.png", number, drawing)
    return tmp_path / "omniglot"


@pytest.fixture
def small_skills(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The family `skills` with eight classes, two of them held out, and five short episodes of each."""
    from metarl.envs.few_shot import skills  # imported late: no other test pays for it

    objects = ("button-press", "door-close", "door-open", "drawer-open", "plate-slide", "push", "reach", "window-open")
    size = skills.Size(tuple(f"{name}-v3" for name in objects), episodes=5, frames=14)
    monkeypatch.setattr(skills, "FULL", size)
    return size
