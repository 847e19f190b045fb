"""What the commands share: reading arguments, refusing bad input in one line, ending with JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import json
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import tyro

from metarl.own_code.errors import EnvError
from metarl.scripts.ending import is_ending
from metarl.scripts.versions import explanation

LONGEST = 300
"""Characters of a word that is shown whole."""


def refuse(message: object) -> NoReturn:
    """Ends the command with one line on stderr and exit code 2."""
    words = (word if len(word) <= LONGEST else f"{word[: LONGEST // 2]}..." for word in str(message).split())
    print(f"metarl: error: {' '.join(words)}", file=sys.stderr)
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
    except BrokenPipeError:
        raise  # nobody reads the output
    except EnvError as failure:
        _raise_if_ending(failure)
        cause = failure.__cause__
        told = explanation(cause) if isinstance(cause, ImportError | OSError) else None
        refuse_environment(failure, f"; {told}" if told else "")
    except (ValueError, OSError) as error:
        _raise_if_ending(error)
        refuse(error)
    except ImportError as error:
        told = explanation(error)
        if told is None:
            raise
        refuse(told)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        refuse(f"memory: {error or 'there is no more'}; try smaller sizes")


def _raise_if_ending(error: Exception) -> None:
    """Raises KeyboardInterrupt in place of what broke since the command was stopped."""
    if is_ending():
        raise KeyboardInterrupt from error


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
        said = _plain(complaints.getvalue())
        refuse(f"{said.rstrip('.')}.{_nearest(said, kind)} See {prog} --help")


def option_value(arguments: Sequence[str], option: str, default: str) -> str:
    """The last value of an option that decides what other options there are, so that it has to be read before them."""
    value = default
    for i, word in enumerate(arguments):
        if word == option and i + 1 < len(arguments):
            value = arguments[i + 1]
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


TITLES = "Parsing error|Value error|Missing argument|Invalid choice|Unrecognized options?|Required options"
"""Of tyro's boxes; what is inside says it again."""
ADDED = "Perhaps you meant|Argument helptext|Arguments similar to|For full helptext"
"""Where what tyro adds begins."""
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
"""What tyro says, and how it reads here."""


def _plain(text: str) -> str:
    """A boxed, coloured message as plain words on one line, without its title, its suggestions and its help."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"[\u2500-\u257f]+|-{5,}|^\s*[|+]|[|+]\s*$", " ", text, flags=re.MULTILINE)
    words = re.sub(rf"^({TITLES})\s+", "", " ".join(text.split()))
    words = re.sub(rf"({ADDED}).*$", "", words).rstrip(" .:")
    for said, better in WORDS:
        words = re.sub(rf"^{said}$", better, words)
    return words.replace(".)", ")")


def _nearest(words: str, kind: Any) -> str:
    """The option that the first unknown one may have been meant for."""
    unknown = re.findall(r"--[\w.-]+", words) if words.startswith("unknown: ") else []
    near = difflib.get_close_matches(unknown[0], _options(kind), n=1, cutoff=0.75) if unknown else []
    return f" Did you mean {near[0]}?" if near else ""


def _options(kind: Any, prefix: str = "") -> list[str]:
    """The options of a command line, `--` included."""
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
    """Prints one JSON value on one line, the last of stdout."""
    print(json.dumps(value, allow_nan=False), flush=True)
