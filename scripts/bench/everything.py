"""`metarl bench all`: all measurements in turn, as one page, and as a short table for the README."""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from metarl.config import Rounds, Rows, check
from metarl.files import write_bytes
from metarl.registry import FAMILIES, make_family, names
from metarl.runs import versions
from metarl.scripts.bench.iteration import PARTS, IterationCommand, bench_iteration
from metarl.scripts.bench.rollout import RolloutCommand, bench_rollout
from metarl.scripts.bench.stopwatch import Stopwatch
from metarl.scripts.bench.tables import markdown, paragraph
from metarl.scripts.bench.update import UpdateCommand, bench_update
from metarl.scripts.common import border, parse
from metarl.scripts.presets import default_settings
from metarl.vector import available_cores

Section = Literal["sampling", "cpu", "iterations", "gpu"]
SECTIONS: tuple[Section, ...] = ("sampling", "cpu", "iterations", "gpu")
SIZES = (10, 20, 40, 80)
"""Tasks per meta-batch of the updates on the CPU."""
GPU_SIZES = (40, 160, 640)
"""Tasks per meta-batch of the updates on a GPU."""
GPU_REFERENCE_UP_TO = 40
"""Largest number of tasks for which the reference is measured on a GPU; a loop over 640 tasks takes minutes."""
ITERATIONS = {
    "maml-trpo": "half-cheetah-vel",
    "promp": "half-cheetah-vel",
    "rl2": "half-cheetah-vel-3",
    "varibad": "half-cheetah-vel-3",
    "pearl": "half-cheetah-vel-3",
}
"""Family of the iterations and updates of each agent."""
LONG = ("ml", "ml1", "ml10", "ml25", "ml45")
"""Families of Meta-World, left out by default (minutes each); see `docs/results/meta-world.md`."""
BY_WORKERS = ("half-cheetah-vel", "ml10")
"""Families that are measured with every number of workers."""
MANY_CORES = 16
"""Number of cores below which the page says that more were not measured."""
SHORT = ("half-cheetah-vel", "ant-goal", "hopper-rand-params", "point-robot")
"""Families in the table of the README."""


@dataclass(frozen=True, kw_only=True)
class EverythingCommand:
    """Measures sampling, updates and iterations in turn; takes about an hour on two cores."""

    sections: tuple[Section, ...] = SECTIONS
    """Measurements: sampling, updates on the CPU, whole iterations, updates on a GPU if there is one."""

    out: Path = Path("docs/performance.md")
    """File to write the page to; an existing file is overwritten."""
    rounds: Rounds = 5
    """Measurements of each contender, after a warm-up round."""
    families: tuple[str, ...] = ()
    """Families whose sampling is measured; by default all except Meta-World's."""
    agents: tuple[str, ...] = tuple(ITERATIONS)
    """Agents whose updates and iterations are measured."""
    tasks: tuple[Rows, ...] = SIZES
    """Tasks per meta-batch (M) of the updates on the CPU."""


def memory_bandwidth(device: torch.device, mib: int = 256) -> float:
    """Bytes per second read and written by a copy of a large array."""
    source = torch.ones(mib * 2**18, device=device)
    target, stopwatch = torch.empty_like(source), Stopwatch(device)
    stopwatch(lambda: target.copy_(source))
    return 2 * mib * 2**20 / statistics.median(stopwatch(lambda: target.copy_(source)) for _ in range(5))


def sampling_section(families: Sequence[str], rounds: int) -> tuple[str, list[dict[str, Any]]]:
    """The section on sampling, and its rows."""
    counts = tuple(sorted({0, available_cores()}))
    rows, by_workers = [], []
    for name in families:
        command = RolloutCommand(family=name, workers=() if name in BY_WORKERS else counts, rounds=rounds)
        row = bench_rollout(make_family(name), command)
        rows.append({**row, "one_process": row["rows"][0]["env_steps_per_s"]})
        if name in BY_WORKERS:
            by_workers.append(workers_section(name, row["rows"], rounds))
    columns = {
        "family": "family",
        "env_steps_per_s": "env steps/s",
        "one_process": "in one process",
        "physics_limit": "limit, steps/s",
        "fraction_of_limit": "fraction of limit",
        "ratio_vs_sync": "ratio to sync",
        "ratio_vs_async": "ratio to async",
        "set_tasks_ms": "setting the tasks, ms",
    }
    about = paragraph(
        f"`metarl bench rollout --family F --workers {' '.join(map(str, counts))} --rounds {rounds} --json`: 20 tasks",
        "of 20 environments, random actions, whole episodes with their reset and recording. Sampling by one worker",
        "process per core, and in one process whose threads step the physics. The limit is MuJoCo alone: one process",
        "with one thread per core steps an equal share of the rows, and none of our code runs.",
        "*Sync* and *async* are Gymnasium's vector environments over 40 single ones (ours if Gymnasium has none).",
        "Meta-World's are in [results/meta-world.md](results/meta-world.md).",
    )
    text = f"## Sampling\n\n{about}\n\n{markdown(columns, rows)}\n"
    return "\n".join([text, *by_workers]), rows


def workers_section(family: str, rows: Sequence[Mapping[str, Any]], rounds: int) -> str:
    """The section on the speed of a family by number of workers.

    Args:
        family: The family.
        rows: `rows` of `metarl bench rollout`.
        rounds: Measurements of each contender.
    """
    columns = {
        "workers": "workers",
        "env_steps_per_s": "env steps/s",
        "physics_limit": "limit, steps/s",
        "fraction_of_limit": "fraction of limit",
    }
    cores = available_cores()
    other = "" if cores >= MANY_CORES else f" {MANY_CORES} cores: not measured."
    about = paragraph(
        f"`metarl bench rollout --family {family} --rounds {rounds} --json` on {cores} cores; 0 workers is one process",
        f"whose threads step the physics.{other}",
    )
    return f"### {family} by number of workers\n\n{about}\n\n{markdown(columns, rows)}\n"


def update_section(
    agents: Sequence[str], sizes: Sequence[int], rounds: int, device: str, **also: Any
) -> tuple[str, list[dict[str, Any]]]:
    """The section on meta-updates on a device, and its rows; `update` in a row names the agent.

    Args:
        agents: Agents to measure.
        sizes: Tasks of the meta-batches.
        rounds: Measurements of each contender.
        device: Device of the updates.
        also: Further options of every `metarl bench update`.
    """
    text = [f"## Meta-updates on {device}\n"]
    about = paragraph(
        "One meta-update on synthetic experience of the preset's shape, and the same update by the plain reference",
        "(maml-trpo, promp: task after task with double backward; rl2, varibad: the recurrence step after step; pearl:",
        "tasks sampled and networks applied one by one; 50 gradient steps, unless the command says another number).",
        "The limit is the time of the update's own matrix products, each measured by itself at its shape, in turn with",
        "ours; *of products* is their share of our seconds. Memory is the rise of the memory in use during the update.",
    )
    text.append(f"{about}\n")
    columns = {
        "tasks": "tasks",
        "seconds": "seconds",
        "reference_seconds": "reference",
        "ratio_vs_reference": "ratio",
        "tasks_per_second": "tasks/s",
        "gflops": "GFLOP",
        "products_seconds": "its matrix products, s",
        "fraction_of_products": "of products",
        "adapt_seconds": "adaptation, s",
        "peak_mib": "memory, MiB",
    }
    every: list[dict[str, Any]] = []

    def measure(title: str, agent: str, sizes: Sequence[int], **options: Any) -> None:
        command = UpdateCommand(
            agent=agent,
            family=ITERATIONS[agent],
            tasks=tuple(sizes),
            rounds=rounds,
            device=device,  # type: ignore[arg-type]
            **also,
            **options,
        )
        value = bench_update(command, default_settings(agent, command.family, command.preset)[1])
        steps = "" if value["gradient_steps"] is None else f" ({value['gradient_steps']} gradient steps)"
        rows = [{"update": title + steps, "gflops": row["flops"] / 1e9, **row} for row in value["rows"]]
        every.extend(rows)
        episodes = rows[0]["episodes"]
        shape = f"{episodes} episode{'s' * (episodes > 1)} of {rows[0]['horizon']} steps each"
        growth = "" if value["exponent"] is None else f", time grows as M^{value['exponent']:.2f}"
        growth += "" if value["mib_per_task"] is None else f", memory by {value['mib_per_task']:.2f} MiB per task"
        if value["gradient_steps"] is not None:
            rates = [f"{value['gradient_steps'] / row['seconds']:.3g}" for row in rows]
            growth += f"; gradient steps per second: {', '.join(rates)}"
        words = {"agent": agent, "family": command.family, "tasks": tuple(sizes), **options}
        words |= {"rounds": rounds, "device": device, **also}
        line = f"metarl bench update {as_options(words)} --json"
        text.append(f"### {title}\n\n{shape}{growth}.\n\n    {line}\n\n{markdown(columns, rows)}\n")

    for agent in agents:
        measure(agent, agent, sizes)
    if "pearl" in agents:
        steps = 5 if device == "cpu" else 100
        measure("pearl, as published", "pearl", (16,), preset="published", gradient_steps=steps)
    return "\n".join(text), every


def gpu_section(agents: Sequence[str], rounds: int) -> str:
    """The section on meta-updates on a GPU."""
    if not torch.cuda.is_available():
        return "## Meta-updates on a GPU\n\nNot measured: this machine has none.\n"
    text, _ = update_section(agents, GPU_SIZES, rounds, "cuda", reference_up_to=GPU_REFERENCE_UP_TO)
    bandwidth = memory_bandwidth(torch.device("cuda"))
    return f"{text}\nA copy in the GPU's memory: {bandwidth / 1e9:.0f} GB/s.\n"


def as_command(command: EverythingCommand) -> str:
    """The command line, without options that have their defaults and without `--out`."""
    default = EverythingCommand(out=command.out)
    changed = {f.name: getattr(command, f.name) for f in dataclasses.fields(command)}
    changed = {name: value for name, value in changed.items() if value != getattr(default, name)}
    return f"metarl bench all {as_options(changed)}".rstrip()


def as_options(words: Mapping[str, Any]) -> str:
    """Values by name, as command-line options."""
    values = {name: value if isinstance(value, tuple) else (value,) for name, value in words.items()}
    return " ".join(f"--{name.replace('_', '-')} {' '.join(map(str, value))}" for name, value in values.items())


def iteration_section(agents: Sequence[str], rounds: int) -> tuple[str, list[dict[str, Any]]]:
    """The section on whole iterations, and its rows."""
    counts, rows = tuple(sorted({0, available_cores()})), []
    for agent in agents:
        command = IterationCommand(agent=agent, family=ITERATIONS[agent], workers=counts, rounds=rounds)
        value = bench_iteration(command, default_settings(agent, command.family)[1])
        alone = {"one_process": value["rows"][0]["sampling"], "acting": value["rows"][0]["acting_seconds"]}
        rows.append({**value, **value["parts"], **alone})
    columns = {
        "agent": "agent",
        "family": "family",
        "seconds": "seconds",
        **{part: part for part in PARTS},
        "one_process": "sampling in one process",
        "acting": "acting, within it",
        "fraction_of_limit": "sampling: fraction of limit",
        "reference_seconds": "with the reference's update",
        "ratio_vs_reference": "ratio",
    }
    about = paragraph(
        f"`metarl bench iteration --agent A --family F --workers {' '.join(map(str, counts))} --rounds {rounds}",
        "--json`: iterations of the preset by part, in seconds, sampled by one worker process per core. *Fraction of",
        "limit* is the speed of sampling with the policy in the loop, over that of MuJoCo alone on all cores with",
        "random actions.",
    )
    text = f"## Iterations\n\n{about}\n\n{markdown(columns, rows)}\n"
    return text, rows


def page(command: EverythingCommand, progress: Callable[[str], None], save: Callable[[str], None]) -> tuple[str, str]:
    """The page, and the short table.

    Args:
        command: Options of the measurements.
        progress: Prints what begins.
        save: Is called with the page so far after each section.
    """
    families = command.families or tuple(name for name in names(FAMILIES) if name not in LONG)
    about = versions()
    machine, packages = about["machine"], about["packages"]
    cpu = torch.device("cpu")
    head = "\n\n".join(
        [
            "# Speed and its limits",
            paragraph(
                f"Written by `{as_command(command)}`; every table names the command that prints it. Medians",
                f"over {command.rounds} rounds, contenders in turn, ratios within a round.",
            ),
            paragraph(
                f"Machine: {machine['processor']}, {machine['cores']} cores, {torch.get_num_threads()} torch threads,",
                f"GPU: {machine['gpu'] or 'none'}. A copy in memory: {memory_bandwidth(cpu) / 1e9:.1f} GB/s. Python",
                f"{about['python']}, torch {packages['torch']}, mujoco {packages['mujoco']}, gymnasium",
                f"{packages['gymnasium']}, numpy {packages['numpy']}.",
            ),
            "",
        ]
    )
    texts, sampled, updates, iterations = [head], list[Any](), list[Any](), list[Any]()
    for section in command.sections:
        progress(section)
        if section == "sampling":
            text, sampled = sampling_section(families, command.rounds)
        elif section == "cpu":
            text, updates = update_section(command.agents, command.tasks, command.rounds, "cpu")
        elif section == "iterations":
            text, iterations = iteration_section(command.agents, command.rounds)
        else:
            text = gpu_section(command.agents, command.rounds)
        texts.append(text)
        save("\n".join(texts))
    shown: dict[str, dict[str, Any]] = {}
    for row in sorted(updates, key=lambda row: abs(row["tasks"] - 20)):
        shown.setdefault(row["update"], row)
    short = markdown(
        {"what": "quantity", "ours": "metarl", "beside": "compared with", "ratio": "ratio"},
        [
            *(
                {
                    "what": f"env steps/s, {row['family']}",
                    "ours": row["env_steps_per_s"],
                    "beside": "Gymnasium's SyncVectorEnv",
                    "ratio": row["ratio_vs_sync"],
                }
                for row in sampled
                if row["family"] in SHORT
            ),
            *(
                {
                    "what": f"seconds of an update, {update}, {row['tasks']} tasks",
                    "ours": row["seconds"],
                    "beside": "the plain reference",
                    "ratio": row["ratio_vs_reference"],
                }
                for update, row in shown.items()
            ),
            *(
                {
                    "what": f"seconds of an iteration, {row['agent']}, {row['family']}",
                    "ours": row["seconds"],
                    "beside": "with the reference's update",
                    "ratio": row["ratio_vs_reference"],
                }
                for row in iterations
            ),
        ],
    )
    return "\n".join(texts), short


def main(arguments: Sequence[str]) -> int:
    """Runs `metarl bench all`; returns its exit code."""
    with border():
        command: EverythingCommand = parse(EverythingCommand, "metarl bench all", arguments)
        check(command)
        for agent in command.agents:
            if agent not in ITERATIONS:
                raise ValueError(f"agents: got {agent!r}, expected one or more of {', '.join(ITERATIONS)}")
        command.out.parent.mkdir(parents=True, exist_ok=True)
        begun = time.perf_counter()

        def progress(what: str) -> None:
            print(f"{time.perf_counter() - begun:6.0f} s: {what}", file=sys.stderr, flush=True)

        so_far = command.out.with_name(f"{command.out.stem}.so-far{command.out.suffix}")

        def save(text: str) -> None:
            write_bytes(so_far, text.encode())
            progress(f"written so far: {so_far}")

        text, short = page(command, progress, save)
        write_bytes(command.out, text.encode())
        so_far.unlink()
    if set(command.sections) != {"gpu"}:
        print(short)
    print(f"written: {command.out}")
    return 0
