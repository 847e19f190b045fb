"""What the commands share: reading arguments, refusing bad input in one line, ending with JSON."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from metarl.custom.rows import EnvError
from metarl.scripts.versions import explanation

T = TypeVar("T")


def refuse(message: object) -> NoReturn:
    """Ends the command with one line on stderr and exit code 2."""
    print(f"metarl: error: {' '.join(str(message).split())}", file=sys.stderr)
    raise SystemExit(2)


def refuse_environment(failure: EnvError, advice: str = "") -> NoReturn:
    """Ends the command with the environment's own traceback, one line, and exit code 2."""
    if failure.trace:
        print(failure.trace.rstrip(), file=sys.stderr)
    refuse(f"{failure}{advice}")


@contextlib.contextmanager
def border() -> Iterator[None]:
    """Turns what a check of outside input raises into one line and exit code 2 (an environment's traceback first).

    An import that fails while a package's version does not fit is answered with the versions.
    """
    try:
        yield
    except EnvError as failure:
        cause = failure.__cause__
        told = explanation(cause) if isinstance(cause, ImportError | OSError) else None
        refuse_environment(failure, f"; {told}" if told else "")
    except (ValueError, OSError) as error:
        refuse(error)
    except ImportError as error:
        told = explanation(error)
        if told is None:
            raise
        refuse(told)


def parse(kind: Any, prog: str, arguments: Sequence[str], default: Any = None) -> Any:
    """Reads a command line into a dataclass; a mistake in it becomes one line.

    Args:
        kind: The dataclass.
        prog: The command so far, for the help.
        arguments: What follows it.
        default: An instance to take defaults from.
    """
    complaints = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaints):
            extra = {} if default is None else {"default": default}
            return tyro.cli(kind, prog=prog, args=list(arguments), **extra)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        refuse(f"{_plain(complaints.getvalue())}; see {prog} --help")


def option_value(arguments: Sequence[str], option: str, default: str) -> str:
    """The last value of an option that decides what other options there are, so that it has to be read before them."""
    value = default
    for i, word in enumerate(arguments):
        if word == option and i + 1 < len(arguments):
            value = arguments[i + 1]
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def _plain(text: str) -> str:
    """A boxed, coloured message as plain words on one line, without its pointer to the help."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"[\u2500-\u257f]+", " ", text)
    words = " ".join(text.split())
    words = re.sub(r"For full helptext, (see|run) .*$", "", words)
    return re.sub(r"^(Parsing error|Unrecognized options?|Required options?)\s*", r"\1: ", words).rstrip(" .:")


def end_with_json(value: Any) -> None:
    """Prints one JSON value on one line, the last of stdout."""
    print(json.dumps(value, allow_nan=False), flush=True)
