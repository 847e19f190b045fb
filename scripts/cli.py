"""The command `metarl`: dispatches to a subcommand and imports only what that needs."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

import metarl
from metarl.scripts.ending import Ending

COMMANDS = {
    "train": "train an agent on a family of tasks",
    "tune": "search settings of an agent on a family, scored on tuning tasks",
    "evaluate": "plot the adaptation curve of a trained agent on held-out tasks",
    "compare": "compare runs in one table and one picture",
    "reproduce": "make a table of docs/results by one command, or check it",
    "render": "render a trained agent before and after adaptation to a video",
    "export": "write a trained policy as an ONNX graph, to run without metarl",
    "report": "write a page on one or several runs that can be sent to others",
    "list": "list agents, families and presets",
    "check": "check a family of your own and explain what to change",
    "bench": "measure the speed of sampling, updates and whole iterations",
    "versions": "show installed and required versions, and how to repair them",
}
MODULES = {name: "catalogue" if name == "list" else name for name in COMMANDS}

HELP = f"""usage: metarl COMMAND ...

Meta-reinforcement learning for robot agents.

Commands:
{chr(10).join(f"  {name:<10} {meaning}" for name, meaning in COMMANDS.items())}

  metarl COMMAND --help   options of a command
  metarl --version        version

First steps:
  metarl train maml-trpo half-cheetah-vel --out runs/first
  metarl evaluate runs/first
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        arguments: Words after `metarl`; those of the process by default.

    Returns:
        The exit code: 0, 1 if a check found something, 2 for bad input, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with Ending(own_process=arguments is None) as ending:
        return ending.exit_code(lambda: _run(words, ending))


def _run(words: Sequence[str], ending: Ending) -> int:
    if not words:
        print(HELP, flush=True)
        print(f"metarl: error: got no command, expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    if words[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if words[0] == "--version":
        print(f"metarl {metarl.__version__}")
        return 0
    if words[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(words[0], COMMANDS, n=1, cutoff=0.0)[0]
        print(
            f"metarl: error: unknown command {words[0]!r}. Did you mean {near!r}? Commands: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    ending.take_signals()
    ending.at_once = True  # nothing is open yet, and an import may swallow a KeyboardInterrupt
    command = _imported(f"metarl.scripts.{MODULES[words[0]]}")
    ending.at_once = False
    code: int = command.main(words[1:])
    return code


def _imported(name: str) -> ModuleType:
    """Imports a module with the garbage collector off, and then freezes its objects.

    An import creates a million permanent objects. Not scanning them saves up to a second in every command.
    """
    gc.disable()
    try:
        module = importlib.import_module(name)
    except Exception as error:
        from metarl.scripts.versions import explanation  # imports only packages that work with any versions

        message = explanation(error)
        if message is None:
            raise
        print(f"metarl: error: {message}", file=sys.stderr)
        raise SystemExit(2) from None
    gc.freeze()
    gc.enable()
    return module


if __name__ == "__main__":
    raise SystemExit(main())
