"""Imports and calls the user's own code; turns its errors into messages."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from gymnasium.error import DependencyNotInstalled

from metarl.names import did_you_mean
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import guest, words_of

INSTALLED_AS = {
    "mujoco": '"gymnasium[mujoco]"',
    "Box2D": 'swig "gymnasium[box2d]"',
    "pygame": '"gymnasium[classic-control]"',
    "jax": '"gymnasium[jax]" flax',
    "ale_py": "ale-py",
    "gymnasium_robotics": "gymnasium-robotics",
    "panda_gym": "panda-gym",
    "pybullet": "pybullet",
    "minigrid": "minigrid",
    "mo_gymnasium": "mo-gymnasium",
    "dm_control": "dm-control",
    "shimmy": '"shimmy[dm-control]"',
    "robosuite": "robosuite",
    "PyFlyt": "PyFlyt",
    "gym_pusht": "gym-pusht",
    "gym_aloha": "gym-aloha",
    "cv2": "opencv-python",
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
}
"""Packages to install for modules that environments often need."""
LISTED = 12
"""Largest number of names in a message."""


def import_paths(paths: Sequence[str], folder: str) -> list[str]:
    """Entries of `sys.path` for code in a folder: the folder is appended, unless it is listed already.

    It comes last, so that a file named like an installed package does not replace that package. Workers on other
    machines need the same entries; processes that `multiprocessing` starts inherit them.

    Args:
        paths: Present entries; an empty one means the working folder.
        folder: The working folder.
    """
    return list(paths) if {"", folder} & set(paths) else [*paths, folder]


def own_module(name: str, what: str, form: str) -> ModuleType:
    """Imports a module that a command line names; it may be in the working folder.

    Args:
        name: Name of the module, `package.module` included.
        what: First words of messages, such as "family 'my_arm:reach'".
        form: The expected form, such as `module:function`.

    Raises:
        ValueError: There is no such module.
        EnvError: The import of the module raised; includes its traceback.
    """
    if not name or name[0] == "." or name.endswith(".py") or {"/", os.sep} & set(name):
        plain = name.removesuffix(".py").strip("./").replace(os.sep, ".").replace("/", ".")
        instead = f"; a file is written without .py, with dots for folders: {plain}" if plain else ""
        raise ValueError(f"{what}: got the module {name!r}, expected an importable {form}{instead}")
    sys.path[:] = import_paths(sys.path, os.getcwd())
    importlib.invalidate_caches()
    try:
        with guest():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not (error.name and f"{name}.".startswith(f"{error.name}.")):
            raise own_error(f"{what}: the module {name!r}", "while it was imported", error) from error
        raise ValueError(_not_found(name, what, form, error)) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit, or a test runner's exception to skip a module
        raise own_error(f"{what}: the module {name!r}", "while it was imported", error) from error


def _not_found(name: str, what: str, form: str, error: ModuleNotFoundError) -> str:
    """A line about a missing module: the nearest name, or the package to install."""
    top, _, rest = name.partition(".")
    near = ""
    if top in INSTALLED_AS:
        where = f" (pip install {INSTALLED_AS[top]})"
    elif error.name == top:
        where, near = " in this folder, nor installed", did_you_mean(top, _stems(Path.cwd()))
    else:
        folder = _place(sys.modules.get(top))
        where, near = f" ({top}: {folder})", did_you_mean(rest, _stems(Path(folder)))
    return f"{what}: got {error}{where}, expected an importable {form}.{near}".rstrip(".")


def _stems(folder: Path) -> list[str]:
    """Names of the modules in a folder."""
    return [path.stem for path in folder.glob("*.py")]


def attribute(module: ModuleType, name: str, what: str, form: str, known: Collection[str], kinds: str) -> Any:
    """An attribute of a user's module.

    Args:
        module: The module.
        name: Name of the attribute.
        what: As for `own_module`.
        form: As for `own_module`.
        known: Names to suggest.
        kinds: Expected kind of object, in words.

    Raises:
        ValueError: The module has no such attribute; the message has the nearest name.
        EnvError: Reading the attribute raised.
    """
    try:
        return getattr(module, name)
    except AttributeError:
        pass
    except Exception as error:
        raise own_error(f"{what}: the module {module.__name__!r}", f"when asked for {name!r}", error) from error
    near = did_you_mean(name, known)
    there = ", ".join([*list(known)[:LISTED], *(["..."] if len(known) > LISTED else [])]) or "nothing of that kind"
    raise ValueError(
        f"{what}: {module.__name__} ({_place(module)}) has no {name!r}, expected an importable {form} "
        f"({kinds}).{near or f' It has: {there}'}"
    )


def _place(module: ModuleType | None) -> str:
    """The file of a module, and any file in the working folder that it shadows."""
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), "")
    if module is None or not file:
        return "a part of Python"
    hidden = Path.cwd() / f"{module.__name__.partition('.')[0]}.py"
    if hidden.exists() and not Path(file).is_relative_to(Path.cwd()):
        return f"{file}; it hides {hidden.name} of this folder, rename that"
    return str(file)


def own_names(module: ModuleType, is_kind: Callable[[object], bool]) -> list[str]:
    """Public names that a module defines itself, of one kind: `inspect.isfunction`, `inspect.isclass`."""
    return [
        name
        for name, value in vars(module).items()
        if is_kind(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    ]


def call_own(function: Callable[..., Any], what: str) -> Any:
    """Calls a user's function and returns its result.

    Args:
        function: Called without arguments.
        what: Family and function, for messages.

    Raises:
        ValueError: A metarl function that it calls raised ValueError.
        EnvError: The function raised; includes its traceback.
    """
    try:
        with guest():
            return function()
    except EnvError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ValueError) and _raised_in(error, "metarl"):
            raise
        raise own_error(what, "when it was called", error) from error


def own_error(what: str, when: str, error: BaseException) -> EnvError:
    """Turns an exception of the user's code into one line with a traceback; no traceback if a package is missing.

    Args:
        what: Subject of the line: "family 'my_arm:reach': the module 'my_arm'".
        when: Time of the error: "when it was called".
        error: The exception.
    """
    said = words_of(error).rstrip(".")
    of_gymnasium = isinstance(error, ImportError) and _raised_in(error, "gymnasium")
    if isinstance(error, ModuleNotFoundError):
        of_simulator = (error.name or "").partition(".")[0] in {*INSTALLED_AS, "gym"}
        if of_gymnasium or of_simulator:
            line = "" if of_gymnasium else _line_of(error)
            return EnvError(f"{what} needs a package that is not installed: {said}{line}{missing_advice(error)}")
    elif isinstance(error, DependencyNotInstalled) or of_gymnasium:
        return EnvError(f"{what} cannot be made here: {said}")
    kind = "called sys.exit" if isinstance(error, SystemExit) else f"raised {type(error).__name__}"
    return EnvError(f"{what} {kind} {when}{f' ({said})' if said else ''}{missing_advice(error)}", own_trace(error))


def _line_of(error: BaseException) -> str:
    """File and line of the exception, in words."""
    trace = _last_frame(error)
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace else ""


def missing_advice(error: BaseException) -> str:
    """Advice on what to install for a missing module; empty for other errors."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    top = error.name.partition(".")[0]
    if top == "gym":
        return "; gym's successor is Gymnasium: write `import gymnasium as gym`, with its reset and step"
    if top in INSTALLED_AS:
        return f"; pip install {INSTALLED_AS[top]}"
    return f"; {top!r} is neither in this folder nor installed with metarl ({sys.prefix})"


def own_trace(error: BaseException) -> str:
    """The traceback from the first frame that is neither metarl's nor the import system's."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and (_is_of_imports(trace) or _is_metarls(trace)):
        trace = trace.tb_next
    if trace is None:  # a syntax error has no frame
        return "".join(traceback.format_exception_only(error))
    return "".join(traceback.format_exception(type(error), error, trace))


def _last_frame(error: BaseException) -> TracebackType | None:
    """The frame that raised, without those of the import system."""
    found, trace = None, error.__traceback__
    while trace is not None:
        found = found if _is_of_imports(trace) else trace
        trace = trace.tb_next
    return found


def _raised_in(error: BaseException, package: str) -> bool:
    trace = _last_frame(error)
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == package


def _is_of_imports(trace: TracebackType) -> bool:
    code = trace.tb_frame.f_code
    return code.co_filename.startswith("<frozen ") or trace.tb_frame.f_globals.get("__name__") == "importlib"


def _is_metarls(trace: TracebackType) -> bool:
    return str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == "metarl"
