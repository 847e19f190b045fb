"""The promises of the README and the documents about whole runs, measured through the command line.

`make bench-check` runs all of them, one at a time. `make test-slow` runs a sample: four sampling families, those whose
code changed, and one training. `docs/bench-check.md` lists them.
"""

from __future__ import annotations

import ast
import json
import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl.registry import FAMILIES, make_family
from metarl.runs import versions
from metarl.scripts.reference.environments import GYMNASIUM_IDS
from metarl.vector import available_cores

ROOT = Path(__file__).resolve().parent.parent
METARL = str(Path(sys.executable).parent / "metarl")
ALL_CORES = ("--workers", str(available_cores()))
"""One worker process per core."""
FULL_SPEED = 67_100
"""Half-cheetahs per second in bare MuJoCo on a machine that has to keep the promises made in seconds."""
SAMPLED = ("half-cheetah-vel", "humanoid-dir-2d", "ant-crippled", "hopper-gravity")
"""Sampling families that `make test-slow` always times."""


def run(*words: object, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def bench(*words: object) -> dict[str, Any]:
    """The output of `metarl bench` as one flat table of the last row: of the largest number of workers or tasks."""
    value = json.loads(run(METARL, "bench", *words, "--json").splitlines()[-1])
    return value | (value.get("rows") or [{}])[-1]


def train_and_evaluate(out: Path, *words: object) -> tuple[dict[str, Any], float]:
    """The JSON of `metarl evaluate`, and the median seconds of an iteration."""
    run(METARL, "train", "maml-trpo", *words, "--eval-every", "0", "--out", out)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    seconds = statistics.median(r["time/sample_s"] + r["time/update_s"] for r in rows)
    return json.loads(run(METARL, "evaluate", out, "--json").splitlines()[-1]), seconds


# Families whose code changed --------------------------------------------------------------------------------


def code(source: str) -> str:
    """A module's syntax tree without comments, docstrings and field strings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, [s for s in statements if not is_text(s)])
    return ast.dump(tree)


def is_text(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def git(root: Path, *words: str) -> str | None:
    """The output of a git command; None if it fails, or if there is no git."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def changed_modules(root: Path) -> set[str]:
    """Python files whose code differs from the merge base with the main branch; on that branch, from `HEAD~1`.

    Empty without git, or in a shallow clone that holds neither.
    """
    head = git(root, "rev-parse", "HEAD")
    base = git(root, "merge-base", "HEAD", "origin/HEAD")
    if base is None or base == head:
        base = git(root, "rev-parse", "HEAD~1")
    if base is None:
        return set()
    names = (git(root, "diff", "--name-only", "--diff-filter=d", base.strip(), "--", "*.py") or "").splitlines()
    before = {name: git(root, "show", f"{base.strip()}:{name}") for name in names}
    return {name for name, old in before.items() if old is None or code(old) != code((root / name).read_text())}


def sampled(changed: set[str]) -> list[str]:
    """Sampling families for `make test-slow`."""
    points = {point.name: point.value.partition(":")[0] for point in entry_points(group=FAMILIES)}
    files = {name: points[name].removeprefix("metarl.").replace(".", "/") + ".py" for name in GYMNASIUM_IDS}
    return [name for name in GYMNASIUM_IDS if name in SAMPLED or files[name] in changed]


SLOW_TOO = sampled(changed_modules(ROOT))


def test_a_family_is_timed_when_its_code_changed() -> None:
    assert set(sampled(set())) == set(SAMPLED)
    assert len(SAMPLED) == 4
    added = set(sampled({"envs/walker2d.py", "envs/bandit.py", "README.py"})) - set(SAMPLED)
    assert added == {name for name in GYMNASIUM_IDS if name.startswith("walker2d")}


def test_code_that_changed_is_told_from_words_that_changed(tmp_path: Path) -> None:
    def commit() -> None:
        git(tmp_path, "add", ".")
        made = git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", "x")
        assert made is not None

    assert changed_modules(tmp_path) == set(), "no git"
    assert git(tmp_path, "init", "--quiet") is not None
    (tmp_path / "words.py").write_text('"""Old."""\nx = 1\n"""Number."""\n')
    (tmp_path / "code.py").write_text('"""Old."""\nx = 1\n')
    (tmp_path / "gone.py").write_text("x = 1\n")
    commit()
    assert changed_modules(tmp_path) == set(), "a shallow clone holds no other commit"
    (tmp_path / "words.py").write_text('"""New."""\nx = 1  # one\n"""A number."""\n')
    (tmp_path / "code.py").write_text('"""Old."""\nx = 2\n')
    (tmp_path / "gone.py").unlink()
    (tmp_path / "new.py").write_text("x = 1\n")
    commit()
    assert changed_modules(tmp_path) == {"code.py", "new.py"}


# Trainings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["train", "evaluate"])
def test_the_scripts_are_doors_to_the_same_functions(tmp_path: Path, trained_run: Path, tiny, door: str) -> None:
    script = ROOT / "scripts" / f"{door}.py"
    if door == "train":
        out = run(sys.executable, script, "maml-trpo", "point-robot", "--out", tmp_path / "new", *tiny, "--json")
        assert json.loads(out.splitlines()[-1])["iteration"] == 3
    else:
        out = run(sys.executable, script, trained_run, "--tasks", "2", "--json")
        assert json.loads(out.splitlines()[-1])["tasks"] == 2


@pytest.mark.bench_check
def test_point_robot_in_50_iterations(tmp_path: Path) -> None:
    speeds = [half_cheetahs_per_s()]
    value, seconds = train_and_evaluate(tmp_path / "run", "point-robot", "--iterations", "50")
    speeds.append(half_cheetahs_per_s())
    before, after = (point["mean"] for point in value["curve"])
    assert after >= -18
    assert before < -30
    assert at_full_speed(seconds, min(speeds)) <= 2.0


@pytest.mark.slow
def test_half_cheetah_vel_in_30_iterations(tmp_path: Path) -> None:
    """Half as many as `make train` makes; -45 after adaptation, 20 more than before it."""
    value, _ = train_and_evaluate(tmp_path / "run", "half-cheetah-vel", "--iterations", "30")
    assert value["split"] == "test"
    assert value["tasks"] == 40
    assert value["curve"][1]["mean"] >= -50
    assert value["differences"][0]["mean"] >= 15
    assert value["differences"][0]["ci_low"] > 0


@pytest.mark.bench_check
def test_half_cheetah_vel_in_60_iterations(tmp_path: Path) -> None:
    """As many as `make train` makes."""
    value, _ = train_and_evaluate(tmp_path / "run", "half-cheetah-vel", "--iterations", "60")
    assert value["split"] == "test"
    assert value["tasks"] == 40
    assert value["curve"][1]["mean"] >= -45
    assert value["differences"][0]["mean"] >= 10
    assert value["differences"][0]["ci_low"] > 0


@pytest.mark.bench_check
def test_half_cheetah_dir_in_60_iterations(tmp_path: Path) -> None:
    value, _ = train_and_evaluate(tmp_path / "run", "half-cheetah-dir", "--iterations", "60")
    assert value["split"] == "train", "two tasks: no held-out ones"
    assert value["curve"][1]["mean"] >= 80


# Timings ----------------------------------------------------------------------------------------------------


def at_full_speed(seconds: float, half_cheetahs_per_s: float) -> float:
    """Seconds at `FULL_SPEED` of work timed on a machine of the given speed; a faster machine gets no credit.

    The same machine has stepped 82,300 half-cheetahs per second and, hours later, 37,900.
    """
    return seconds * min(1.0, half_cheetahs_per_s / FULL_SPEED)


def half_cheetahs_per_s() -> float:
    words = ("rollout", "--family", "half-cheetah-vel", "--tasks", "20", "--episodes", "20", "--rounds", "1")
    return float(bench(*words, "--no-processes", "--workers", "0")["physics_limit"])


def best_of_three(
    words: Sequence[str],
    at_least: Mapping[str, float],
    at_most: Mapping[str, float] | None = None,
    measure: Callable[..., dict[str, Any]] = bench,
) -> None:
    """Require one call of three to keep the bounds: another process can only make `metarl bench` look worse."""
    calls: list[dict[str, Any]] = []
    upper = at_most or {}
    for _ in range(3):
        calls.append(measure(*words))
        enough = all(calls[-1][name] >= bound for name, bound in at_least.items())
        if enough and all(calls[-1][name] <= bound for name, bound in upper.items()):
            return
    shown = [{name: call[name] for name in (*at_least, *upper)} for call in calls]
    pytest.fail(f"no call of three has at least {at_least} and at most {upper}: {shown}")


def measured_iteration(*words: object) -> dict[str, Any]:
    """The output of `metarl bench iteration`, with `seconds` at full speed by the physics limit of the same rounds."""
    value = bench("iteration", *words)
    return value | {"seconds": at_full_speed(value["seconds"], value["physics_limit"])}


@pytest.mark.bench_check
def test_an_iteration_takes_no_longer_than_promised() -> None:
    words = ("--agent", "maml-trpo", "--family", "half-cheetah-vel", *ALL_CORES)
    at_least = {"ratio_vs_reference": 1 / 0.65, "fraction_of_limit": 0.75}
    best_of_three(words, at_least, {"seconds": 4.0}, measured_iteration)


def seconds_of(*words: object) -> float:
    begun = time.perf_counter()
    run(METARL, *words)
    return time.perf_counter() - begun


@pytest.mark.bench_check
def test_help_answers_in_under_a_second() -> None:
    """At the first try."""
    assert seconds_of("--help") < 1.0


@pytest.mark.bench_check
def test_it_starts_soon(tmp_path: Path) -> None:
    """The first iteration, with the start and the end of the command; one try of three has to do, as above.

    Ten seconds, down to half of full speed; a slower machine gets more in proportion.
    """
    one = ("train", "maml-trpo", "half-cheetah-vel", "--iterations", "1", "--out")
    assert min(seconds_of("--help") for _ in range(3)) < 1.0
    allowed = 10.0 * max(1.0, FULL_SPEED / 2 / half_cheetahs_per_s())
    assert min(seconds_of(*one, tmp_path / str(i)) for i in range(3)) <= allowed


@pytest.mark.bench_check
@pytest.mark.parametrize(
    ("agent", "family", "ratio"),
    [
        ("maml-trpo", "half-cheetah-vel", 2.0),
        ("promp", "half-cheetah-vel", 2.0),
        ("rl2", "half-cheetah-vel-3", 1.0),
        ("varibad", "half-cheetah-vel-3", 1.0),
        ("pearl", "half-cheetah-vel-3", 1.05),
    ],
)
def test_an_update_beats_its_plain_reference(agent: str, family: str, ratio: float) -> None:
    words = ("update", "--agent", agent, "--family", family, "--tasks", "20", "--rounds", "3")
    best_of_three(words, {"ratio_vs_reference": ratio})


@pytest.mark.bench_check
@pytest.mark.parametrize("agent", ["mb-mpc", "grbal"])
def test_planning_is_fast_and_beats_a_planner_per_environment(agent: str) -> None:
    words = ("planning", "--agents", agent, "--rounds", "5")
    best_of_three(words, {"steps_per_s": 20.0, "ratio_vs_plain": 3.0})
    best_of_three(("planning", "--agents", agent, "--rounds", "1"), {"steps_per_s": 20.0, "ratio_vs_plain": 1.5})


PEARL_AS_PUBLISHED = ("update", "--agent", "pearl", "--family", "half-cheetah-vel-3", "--preset", "published")
PEARL_AS_PUBLISHED += ("--tasks", "16", "--gradient-steps", "5", "--rounds", "5")


@pytest.mark.bench_check
def test_an_update_of_pearl_as_published_beats_its_plain_reference() -> None:
    best_of_three(PEARL_AS_PUBLISHED, {"ratio_vs_reference": 1.05})


@pytest.mark.bench_check
@pytest.mark.xfail("Intel" in versions()["machine"]["processor"], reason="0.67 to 0.71 on two cores of an Intel Xeon")
def test_an_update_of_pearl_as_published_is_mostly_its_matrix_products() -> None:
    best_of_three(PEARL_AS_PUBLISHED, {"fraction_of_products": 0.75})


@pytest.mark.bench_check
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW_TOO)) for name in GYMNASIUM_IDS]
)
def test_sampling_stays_near_the_physics_limit(family: str) -> None:
    words = ("rollout", "--family", family, "--tasks", "20", "--episodes", "20", "--rounds", "2", *ALL_CORES)
    if family == "half-cheetah-vel":
        best_of_three(words, {"fraction_of_limit": 0.80, "ratio_vs_sync": 2.2, "ratio_vs_async": 5.0})
    else:
        if family.startswith(("ant", "humanoid")):  # a quarter of their episodes, which take longest
            words += ("--horizon", "50")
        sync = 1.5 if family.startswith("humanoid") else 1.9
        best_of_three((*words, "--no-processes"), {"fraction_of_limit": 0.75, "ratio_vs_sync": sync})


@pytest.mark.bench_check
def test_sampling_of_meta_world_stays_near_the_physics_limit() -> None:
    words = ("rollout", "--family", "ml10", "--tasks", "20", "--episodes", "10", "--rounds", "2", *ALL_CORES)
    best_of_three(words, {"fraction_of_limit": 0.80, "ratio_vs_sync": 6.0}, {"reset_ms": 10.0})


@pytest.mark.bench_check
def test_meta_worlds_largest_benchmark_is_soon_there_and_fits_into_memory() -> None:
    words = ("rollout", "--family", "ml45", "--tasks", "45", "--episodes", "10", "--horizon", "50", "--rounds", "2")
    words += ALL_CORES
    make_family("ml45").distribution.sample(1, np.random.default_rng(0))  # derives its goals, unless they are there
    at_most = {"tasks_s": 3.0, "set_tasks_ms": 200.0, "peak_mib": 4096}
    best_of_three(words, {"fraction_of_limit": 0.70}, at_most)


# Packages ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_holds_every_package_under_its_import_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(source)], check=True)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "__init__",
        "envs/half_cheetah",
        "envs/metaworld/families",
        "agents/maml_trpo",
        "scripts/cli",
        "scripts/reference/maml_trpo",
    ):
        assert f"metarl/{name}.py" in names
    assert "metarl/py.typed" in names
    assert not [n for n in names if n.split("/")[0] in ("envs", "agents", "scripts", "tests")]
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    code = "import metarl, metarl.envs.half_cheetah as f, metarl.agents, metarl.scripts.cli; print(f.__file__)"
    installed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert installed.stdout.strip() == str(site / "metarl" / "envs" / "half_cheetah.py")
