"""Shared parts of the commands: parsing of arguments, one-line errors, JSON output."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import json
import re
import sys
import traceback
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import tyro

from metarl.own_code.errors import EnvError
from metarl.own_code.modules import own_error
from metarl.scripts.ending import is_ending
from metarl.scripts.versions import explanation
from metarl.workers.faults import BlockError, WorkersError

LONGEST = 300
"""Length in characters above which a word of an error message is shortened."""


def refuse(message: object) -> NoReturn:
    """Exits with one line on stderr and exit code 2.

    Raises:
        SystemExit: Always.
    """
    words = (word if len(word) <= LONGEST else f"{word[: LONGEST // 2]}..." for word in str(message).split())
    print(f"metarl: error: {' '.join(words)}", file=sys.stderr)
    raise SystemExit(2)


def refuse_environment(failure: EnvError, advice: str = "") -> NoReturn:
    """Exits with the environment's traceback, one line, and exit code 2.

    Args:
        failure: The error of an environment.
        advice: Text to append to the line.

    Raises:
        SystemExit: Always.
    """
    if failure.trace:
        print(failure.trace.rstrip(), file=sys.stderr)
    refuse(f"{failure}{advice}")


def end_with_block(failure: BlockError, advice: str = "") -> NoReturn:
    """Exits with a worker's traceback, one line, and exit code 1.

    Args:
        failure: The error of a block of tasks.
        advice: Text to append to the line.

    Raises:
        SystemExit: Always.
    """
    if failure.trace:
        print(failure.trace.rstrip(), file=sys.stderr)
    print(f"metarl: error: {failure}{advice}", file=sys.stderr)
    raise SystemExit(1)


def own_agent_failure(agent: str, when: str, error: Exception) -> EnvError:
    """One line on an exception while an agent of the user's own is used, with its traceback.

    The traceback begins in the user's code. If none of that was running, the agent gave or lacks something that metarl
    uses, and the traceback is metarl's; a ValueError says what is wrong, and needs none.

    Args:
        agent: Name of the agent.
        when: Time of the error: "in training".
        error: The exception.
    """
    failure = own_error(f"agent {agent!r}", when, error)
    if isinstance(error, ValueError) or len(failure.trace.splitlines()) > 1:
        return failure
    return EnvError(failure.message, "".join(traceback.format_exception(error)))


@contextlib.contextmanager
def border(own_agent: str = "") -> Iterator[None]:
    """Turns errors about user input into one line and exit code 2.

    Errors of an environment print its traceback first. If a package version does not match, the message of a failed
    import says so.

    Args:
        own_agent: Name of a user's own agent, whose errors are handled like an environment's; empty for none.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of the output is gone
    except EnvError as failure:
        _raise_if_ending(failure)
        cause = failure.__cause__
        message = explanation(cause) if isinstance(cause, ImportError | OSError) else None
        refuse_environment(failure, f"; {message}" if message else "")
    except BlockError as failure:
        _raise_if_ending(failure)
        end_with_block(failure)
    except (ValueError, OSError, WorkersError) as error:
        _raise_if_ending(error)
        refuse(error)
    except ImportError as error:
        message = explanation(error)
        if message is None:
            raise
        refuse(message)
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            refuse(f"memory: {error or 'out of memory'}; use smaller sizes, such as fewer tasks or episodes")
        if not own_agent:
            raise
        _raise_if_ending(error)
        refuse_environment(own_agent_failure(own_agent, "in use", error))


def _raise_if_ending(error: Exception) -> None:
    """Raises KeyboardInterrupt instead of an error if the command is stopping."""
    if is_ending():
        raise KeyboardInterrupt from error


def parse(kind: Any, prog: str, arguments: Sequence[str], default: Any = None) -> Any:
    """Parses a command line into a dataclass.

    Args:
        kind: The dataclass.
        prog: The command, for the help text.
        arguments: Words after the command.
        default: Instance with the defaults; those of the dataclass if None.

    Raises:
        SystemExit: `--help` was given (code 0), or the words are wrong (code 2, after one line on stderr).
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            extra = {} if default is None else {"default": default}
            return tyro.cli(kind, prog=prog, args=list(arguments), **extra)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        message = _plain(errors.getvalue())
        refuse(f"{message.rstrip('.')}.{_nearest(message, kind)} See {prog} --help")


def option_value(arguments: Sequence[str], option: str, default: str) -> str:
    """The last value of an option; read before the full parse, since other options depend on it.

    Args:
        arguments: Words of the command line.
        option: The option, such as `--preset`.
        default: Value if the option is absent.
    """
    value = default
    for i, word in enumerate(arguments):
        if word == option and i + 1 < len(arguments):
            value = arguments[i + 1]
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


TITLES = "Parsing error|Value error|Missing argument|Invalid choice|Unrecognized options?|Required options"
"""Titles of tyro's error boxes, redundant with their content."""
ADDED = "Perhaps you meant|Argument helptext|Arguments similar to|For full helptext"
"""First words of the hints that tyro appends to an error."""
ERROR = r"Error parsing (--[\w.-]+):"
FROM = r"could be instantiated from \[(.*?)\]\. .+"
WORDS = (
    (rf"{ERROR} invalid literal for int\(\) with base 10: (.+)", r"\1: got \2, expected a whole number"),
    (rf"{ERROR} could not convert string to float: (.+)", r"\1: got \2, expected a number"),
    (
        rf"{ERROR} no type matching .+\|INT could .+ instantiated from \[(.*?)\]\. .+",
        r"\1: got \2, expected a whole number",
    ),
    (rf"{ERROR} no type matching .+ instantiated from \[(.*?)\]\. .+", r"\1: got \2, expected a value of another kind"),
    (rf"{ERROR} Could not find valid parse for arguments: \[(.*)\]", r"\1: got \2, expected values of another kind"),
    (r"invalid choice (.+) for argument '(.+)'\. Expected one of \((.+)\)", r"\2: got \1, expected one of \3"),
    (r"Missing value for argument '(.+)'\. Expected 1 values", r"\1: got nothing, expected a value"),
    (r"Missing from metarl [\w -]+?: (\S+) (.+) \(required\)", r"got no \1 (\2)"),
    (r"Unrecognized options: (.+)", r"unknown: \1"),
)
"""Patterns of tyro's messages, and our wording of each."""


def _plain(text: str) -> str:
    """A message of tyro as plain text on one line, without box, colours, title and hints."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"[\u2500-\u257f]+|-{5,}|^\s*[|+]|[|+]\s*$", " ", text, flags=re.MULTILINE)
    words = re.sub(rf"^({TITLES})\s+", "", " ".join(text.split()))
    words = re.sub(rf"({ADDED}).*$", "", words).rstrip(" .:")
    for pattern, wording in WORDS:
        words = re.sub(rf"^{pattern}$", wording, words)
    return words.replace(".)", ")")


def _nearest(words: str, kind: Any) -> str:
    """A suggestion for the first unknown option; empty if none is similar."""
    unknown = re.findall(r"--[\w.-]+", words) if words.startswith("unknown: ") else []
    near = difflib.get_close_matches(unknown[0], _options(kind), n=1, cutoff=0.75) if unknown else []
    return f" Did you mean {near[0]}?" if near else ""


def _options(kind: Any, prefix: str = "") -> list[str]:
    """All options of a command line, with `--`."""
    names: list[str] = []
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        inner, *extras = typing.get_args(hint) if typing.get_origin(hint) is typing.Annotated else (hint,)
        if dataclasses.is_dataclass(inner):
            flat = any(getattr(extra, "name", None) == "" for extra in extras)
            names += _options(inner, prefix if flat else f"{prefix}{name}.")
        else:
            names.append(f"--{prefix}{name.replace('_', '-')}")
    return names


def end_with_json(value: Any) -> None:
    """Prints a JSON value as the last line of stdout."""
    print(json.dumps(value, allow_nan=False), flush=True)
