"""The command `metarl`: finds the subcommand; imports nothing heavy before it is needed."""

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
    "evaluate": "adaptation curve of a trained agent on held-out tasks",
    "compare": "several runs in one table and one picture",
    "render": "a clip of a trained agent before and after adaptation",
    "list": "agents, families and presets",
    "check": "what is wrong with a family, and what to change",
    "bench": "measure sampling, updates and whole iterations",
    "versions": "what is installed, what metarl asks for, and what to install",
}
MODULES = {name: "catalogue" if name == "list" else name for name in COMMANDS}

HELP = f"""usage: metarl COMMAND ...

Meta-reinforcement learning for robot agents.

commands:
{chr(10).join(f"  {name:<10} {meaning}" for name, meaning in COMMANDS.items())}

  metarl COMMAND --help   options of a command
  metarl --version        version

two commands to start with:
  metarl train maml-trpo half-cheetah-vel --out runs/first
  metarl evaluate runs/first
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns its exit code, 130 after Ctrl-C."""
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
            f"metarl: error: unknown command {words[0]!r}. Did you mean {near!r}? There are: {', '.join(COMMANDS)}",
            file=sys.stderr,
        )
        return 2
    ending.take_signals()
    ending.at_once = True  # there is nothing to close yet, and an import may lose a KeyboardInterrupt
    command = _imported(f"metarl.scripts.{MODULES[words[0]]}")
    ending.at_once = False
    code: int = command.main(words[1:])
    return code


def _imported(name: str) -> ModuleType:
    """A module whose import makes a million objects that stay.

    The garbage collector need not walk through them, neither meanwhile nor at the end of the process: that saves up to
    a second of every command.
    """
    gc.disable()
    try:
        module = importlib.import_module(name)
    except Exception as error:
        from metarl.scripts.versions import explanation  # imports nothing that may not fit

        told = explanation(error)
        if told is None:
            raise
        print(f"metarl: error: {told}", file=sys.stderr)
        raise SystemExit(2) from None
    gc.freeze()
    gc.enable()
    return module


if __name__ == "__main__":
    raise SystemExit(main())
