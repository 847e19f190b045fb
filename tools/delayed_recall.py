"""Success of every memory in recalling a cue, against the number of steps since it was shown: a table and a picture.

Trains `rl2` on `delayed-recall:delay=L` for each memory and delay, in turn, and evaluates each run. A run whose folder
has all its iterations is not trained again. It takes hours on two cores.

    python tools/delayed_recall.py --out runs/recall
    python tools/delayed_recall.py --out runs/recall --memories gru s5 --delays 50 200

The training for a delay of 1,000 steps has 40 trials per iteration instead of 160.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metarl.files import write_bytes

MEMORIES = {
    **{cell: ("--agent.cell", cell) for cell in ("gru", "lstm", "mingru", "s5", "attention", "snail")},
    "gru-max": ("--agent.aggregate", "max"),
}
"""Options of `rl2` by the name of the memory."""
SMALLER = {1000: ("--tasks", "20", "--episodes", "2")}
"""Sizes of the training for long delays."""
EPISODES = 100
"""Episodes per cue of an evaluation."""


def folder(out: Path, memory: str, delay: int) -> Path:
    """Folder of the run of a memory with a delay."""
    return out / f"recall-{delay}-{memory.split('-')[-1]}"


def metarl(*words: object) -> str:
    """Output of a command of metarl."""
    call = "import sys; from metarl.scripts.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", call, *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measured(out: Path, memory: str, delay: int, iterations: int) -> dict[str, Any]:
    """Trains unless that is done, and evaluates.

    Args:
        out: Folder of all runs.
        memory: Key of `MEMORIES`.
        delay: Steps from the cue to the question.
        iterations: Iterations of the training.

    Returns:
        Success at the last point, with its interval over cues, and the number of iterations.
    """
    run = folder(out, memory, delay)
    words = (*MEMORIES[memory], *SMALLER.get(delay, ()), "--iterations", iterations, "--eval-every", 0)
    resume = ("--resume",) if run.exists() else ()
    if not _finished(run, iterations):
        metarl("train", "rl2", f"delayed-recall:delay={delay}", *words, *resume, "--out", run)
    found = json.loads(metarl("evaluate", run, "--episodes", EPISODES, "--json").splitlines()[-1])
    point = found["curve"][-1]
    return {
        "memory": memory,
        "delay": delay,
        "iterations": found["iteration"],
        "success": point["success_last"],
        "low": point["success_last_ci_low"],
        "high": point["success_last_ci_high"],
    }


def _finished(run: Path, iterations: int) -> bool:
    """Whether a run has made all its iterations, by its log."""
    log = run / "metrics.jsonl"
    if not log.is_file():
        return False
    lines = log.read_text(encoding="utf-8").splitlines()
    try:
        return bool(lines) and json.loads(lines[-1]).get("iteration") == iterations
    except json.JSONDecodeError:  # the run was ended while it wrote the line
        return False


def merged(before: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows of earlier calls and of this one, by memory and delay; a new row replaces an old one."""
    rows = {(row["memory"], row["delay"]): row for row in (*before, *new)}
    order = list(MEMORIES)
    return sorted(rows.values(), key=lambda row: (row["delay"], order.index(row["memory"])))


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number of at least 1")
    return number


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: a line per memory, a column per delay."""
    delays = list(dict.fromkeys(row["delay"] for row in rows))
    lines = [["memory", *(f"{delay:,} steps" for delay in delays)], ["---"] * (len(delays) + 1)]
    for memory in dict.fromkeys(row["memory"] for row in rows):
        mine = {row["delay"]: row["success"] for row in rows if row["memory"] == memory}
        lines.append([f"`{memory}`", *(f"{mine[d]:.2f}" if d in mine else "" for d in delays)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def picture(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draws success against the delay, one line per memory, into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for memory in dict.fromkeys(row["memory"] for row in rows):
        mine = [row for row in rows if row["memory"] == memory]
        axes.plot([row["delay"] for row in mine], [row["success"] for row in mine], marker="o", label=memory)
    axes.axhline(0.25, color="0.4", linestyle="--", label="a guess")
    axes.set(xscale="log", ylim=(0, 1.05), xlabel="steps since the cue", ylabel="success")
    delays = sorted({row["delay"] for row in rows})
    axes.set_xticks(delays, [f"{delay:,}" for delay in delays])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(file)


def main() -> None:
    """Measures all memories and delays, and writes `recall.json` and `recall.png` beside the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    options: dict[str, Any] = {"nargs": "+", "default": list(MEMORIES), "choices": list(MEMORIES)}
    parser.add_argument("--memories", help="memories to measure, all by default", **options)
    parser.add_argument(
        "--delays", nargs="+", type=positive, default=[50, 200, 1000], help="steps since the cue (50 200 1000)"
    )
    parser.add_argument("--iterations", type=positive, default=100, help="iterations of each training (100)")
    read = parser.parse_args()
    if read.out.exists() and not read.out.is_dir():
        parser.error(f"--out: got {read.out}, which is a file, expected a folder")
    read.out.mkdir(parents=True, exist_ok=True)
    file = read.out / "recall.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    for delay in read.delays:
        for memory in read.memories:
            try:
                rows = merged(rows, [measured(read.out, memory, delay, read.iterations)])
            except subprocess.CalledProcessError as error:  # the command has said why
                parser.exit(2, f"{memory}, {delay:,} steps: {folder(read.out, memory, delay)} failed ({error})\n")
            write_bytes(file, json.dumps(rows, indent=1).encode())
            print(f"{memory}, {delay:,} steps: done", file=sys.stderr, flush=True)
    picture(rows, read.out / "recall.png")
    print(table(rows))


if __name__ == "__main__":
    main()
