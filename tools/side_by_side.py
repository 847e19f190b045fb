"""Times another checkout of metarl against this one, in turn on the same machine.

Each checkout is served by a process of its own, which imports metarl from there. Every round asks both, the first one
alternating, for an iteration of training, which has an update, or for sampling with random actions. The output is the
median of each, and the median of the ratios within a round; a ratio above 1 means that this checkout is faster.

    git worktree add --detach ../before 78e9477
    python tools/side_by_side.py ../before --cases two-cores --rounds 5 --train 60
    python tools/side_by_side.py ../before --cases memories --rounds 5
    python tools/side_by_side.py ../before --cases many-cores --rounds 5
    python tools/side_by_side.py ../before --cases rl2,half-cheetah-vel-3 random,ml10,20x10x500

The other checkout may be as old as commit 78e9477. It runs in this interpreter, unless `--python` names another one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from side_by_side_server import NOT_SLOWER, RANDOM, Case

ROOT = Path(__file__).resolve().parent.parent
SERVER = Path(__file__).resolve().parent / "side_by_side_server.py"
REST_SECONDS = 0.3
"""Pause before each measurement, s: idle threads of the other process stop spinning."""


CASES = {
    "two-cores": (
        Case("rl2", "half-cheetah-vel-3", sampling=1.6),
        Case("varibad", "half-cheetah-vel-3", sampling=1.6),
        Case("maml-trpo", "half-cheetah-vel", sampling=1.1),
        Case("rl2", "ml10", sampling=1.1, update=False),
        Case("promp", "half-cheetah-vel"),
        Case("pearl", "half-cheetah-vel-3"),
        Case(RANDOM, "half-cheetah-vel", 40, 20, 100, of_limit=0.8),
        Case(RANDOM, "ml10", 20, 10, 500),
    ),
    "memories": (
        *(
            Case("rl2", "half-cheetah-vel-3", tasks, 1, 200, learning=2.0 if tasks == 40 else 1.0)
            for tasks in (40, 20, 10)
        ),
        *(
            Case("varibad", "half-cheetah-vel-3", tasks, 1, 200, learning=2.0 if tasks == 40 else 1.0)
            for tasks in (40, 20, 10)
        ),
        Case("rl2", "ml10", learning=1.25),
    ),
    "many-cores": (
        Case(RANDOM, "half-cheetah-vel", 40, 20, 100, sampling=3.3, of_limit=0.8),
        Case("maml-trpo", "half-cheetah-vel", 40, 20, 100, sampling=3.3, of_limit=0.8, update=False),
        Case(RANDOM, "ml10", 20, 10, 500, sampling=3.0),
        Case("maml-trpo", "ml10", 20, 10, 500, sampling=3.0, update=False),
        Case("maml-trpo", "half-cheetah-vel", 20, 20, 100, iteration=1 / 0.35),
    ),
}
"""Measurements of the machine's kinds, with the least ratios that are asked for."""


@dataclass(frozen=True)
class Checkout:
    """A checkout with the interpreter that runs it."""

    folder: Path
    python: str

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of its processes."""
        return {**os.environ, "PYTHONPATH": str(self.folder)}

    @contextlib.contextmanager
    def process(self, request: dict[str, Any]) -> Iterator[Callable[[str], Any]]:
        """Context with a function that asks a new process of this checkout."""
        with tempfile.TemporaryDirectory() as folder:
            words = [self.python, str(SERVER)]
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=folder,
                env=self.environment,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            wanted, given = process.stdin, process.stdout

            def ask(do: str) -> Any:
                wanted.write(json.dumps({**request, "do": do}) + "\n")
                wanted.flush()
                line = given.readline()
                if not line:
                    raise SystemExit(f"side_by_side: the process of {self.folder} ended; see its output above")
                return json.loads(line)

            try:
                ask("start")
                yield ask
            finally:
                wanted.close()
                process.wait()
                given.close()

    def train(self, iterations: int) -> float:
        """Seconds of `metarl train maml-trpo half-cheetah-vel`, the start included."""
        call = "import sys; from metarl.scripts.cli import main; sys.exit(main(sys.argv[1:]))"
        with tempfile.TemporaryDirectory() as folder:
            words = [
                "train",
                "maml-trpo",
                "half-cheetah-vel",
                "--iterations",
                str(iterations),
                "--out",
                f"{folder}/run",
            ]
            clock = time.perf_counter()
            subprocess.run(
                [self.python, "-c", call, *words],
                cwd=folder,
                env=self.environment,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            return time.perf_counter() - clock


def in_turn(rounds: int, ask: Sequence[Callable[[], Any]]) -> list[list[Any]]:
    """The answers of each contender, round after round; the first one alternates."""
    answers: list[list[Any]] = [[] for _ in ask]
    for i in range(rounds):
        for k in sorted(range(len(ask)), reverse=i % 2 == 1):
            time.sleep(REST_SECONDS)
            answers[k].append(ask[k]())
    return answers


def compared(name: str, theirs: Sequence[float], ours: Sequence[float], bound: float, unit: str) -> dict[str, Any]:
    """A row of the output: medians, and the median of the ratios `ours / theirs` of each round.

    Args:
        name: Name of the measurement.
        theirs: Speeds of the other checkout.
        ours: Speeds of this one.
        bound: Least ratio.
        unit: Unit of the speeds.
    """
    ratios = [b / a for a, b in zip(theirs, ours, strict=True)]
    return {
        "case": name,
        "unit": unit,
        "theirs": statistics.median(theirs),
        "ours": statistics.median(ours),
        "ratio": statistics.median(ratios),
        "range": [min(ratios), max(ratios)],
        "bound": bound,
        "holds": statistics.median(ratios) >= bound,
    }


def measure(case: Case, checkouts: Sequence[Checkout], rounds: int, device: str, workers: str) -> list[dict[str, Any]]:
    """The rows of a case: sampling, the update, the whole iteration, and the fraction of the limit."""
    request = {"case": dataclasses.asdict(case), "device": device, "workers": workers}
    with contextlib.ExitStack() as closing:
        asks = [closing.enter_context(checkout.process(request)) for checkout in checkouts]
        theirs, ours = in_turn(rounds, [lambda ask=ask: ask("iterate") for ask in asks])  # type: ignore[misc]
        limit = asks[1]("limit") if case.of_limit else None
    if theirs[0]["sizes"] != ours[0]["sizes"]:
        raise SystemExit(f"side_by_side: got sizes {theirs[0]['sizes']} and {ours[0]['sizes']}, expected the same")
    name = f"{case.agent} on {case.family}, {' x '.join(map(str, ours[0]['sizes']))}"
    speeds = [[one["env_steps"] / one["sampling"] for one in answers] for answers in (theirs, ours)]
    rows = [compared(f"{name}: sampling", speeds[0], speeds[1], case.sampling, "env steps/s")]
    if case.update and case.agent != RANDOM:
        for part, bound in (("update", case.learning), ("iteration", case.iteration)):
            rates = [[1 / one[part] for one in answers] for answers in (theirs, ours)]
            rows.append(compared(f"{name}: {part}", rates[0], rates[1], bound, "1/s"))
    if limit is not None:
        fractions = [speed / limit for speed in speeds[1]]
        rows.append(compared(f"{name}: of the limit", [1.0] * rounds, fractions, case.of_limit, "fraction"))
    return rows


def main() -> int:
    """Measures and prints; exit code 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument(
        "--cases", nargs="+", default=["two-cores"], help=f"{', '.join(CASES)}, or AGENT,FAMILY[,MxExT]"
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, after a warm-up")
    parser.add_argument("--train", type=int, default=0, help="also time `metarl train` with this many iterations")
    parser.add_argument("--device", default="auto", help="device of networks and updates: auto, cpu, cuda")
    parser.add_argument("--workers", default="auto", help="workers of this checkout")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the other checkout")
    parser.add_argument("--json", action="store_true", help="print one JSON line per row")
    words = parser.parse_args()
    checkouts = [Checkout(words.other.resolve(), words.python), Checkout(ROOT, sys.executable)]
    try:
        cases = [case for name in words.cases for case in CASES.get(name) or (Case.read(name),)]
    except ValueError as error:
        parser.error(str(error))
    if not (words.other / "metarl").is_dir():
        parser.error(f"got {words.other}, expected the folder of a checkout of metarl")
    everything = []

    def show(row: dict[str, Any]) -> None:
        everything.append(row)
        low, high = row["range"]
        line = f"{row['theirs']:,.4g} -> {row['ours']:,.4g} {row['unit']}"
        line += f", ratio {row['ratio']:.2f} ({low:.2f} to {high:.2f})"
        verdict = "" if row["holds"] else "  NOT REACHED"
        print(
            json.dumps(row) if words.json else f"{row['case']}: {line}, at least {row['bound']:.2f}{verdict}",
            flush=True,
        )

    for case in cases:
        for row in measure(case, checkouts, words.rounds, words.device, words.workers):
            show(row)
    if words.train:
        seconds = in_turn(words.rounds, [lambda one=one: one.train(words.train) for one in checkouts])  # type: ignore[misc]
        rates = [[1 / one for one in each] for each in seconds]
        show(compared(f"metarl train, {words.train} iterations", rates[0], rates[1], NOT_SLOWER, "1/s"))
    return 0 if all(row["holds"] for row in everything) else 1


if __name__ == "__main__":
    raise SystemExit(main())
