"""`metarl bench`: measurements of sampling, of the meta-update, and of whole iterations."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from metarl.scripts.common import refuse

MEASUREMENTS = {
    "rollout": "environment steps per second by number of workers, compared with the limit and with Gymnasium",
    "update": "time and memory of a meta-update, compared with the same update written as a plain loop",
    "memory": "time and memory of each kind of memory (--agent.cell) against the length of a trial",
    "planning": "control steps per second of agents that plan, compared with a plain loop over environments",
    "iteration": "time of each part of a training iteration, with our update and with the plain one",
    "all": "all measurements on one page, each next to its physical limit",
}
HELP = f"""usage: metarl bench MEASUREMENT [options] [--json]

{chr(10).join(f"  {name:<10} {meaning}" for name, meaning in MEASUREMENTS.items())}

  metarl bench MEASUREMENT --help   options of a measurement
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the measurement named by the first word; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        print(HELP, flush=True)
        refuse(f"bench: got no measurement, expected one of {', '.join(MEASUREMENTS)}")
    if words[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if words[0] not in MEASUREMENTS:
        refuse(f"bench: got {words[0]!r}, expected one of {', '.join(MEASUREMENTS)}")
    importlib.import_module("metarl.learning.device.process").keep_freed_memory()  # as in a training
    module = "everything" if words[0] == "all" else words[0]
    code: int = importlib.import_module(f"metarl.scripts.bench.{module}").main(words[1:])
    return code
