"""The main module in worker processes: imported again only if it defines the agent or the environments.

`multiprocessing` lets every new process import the main module of its owner. A script would run once more there.
"""

from __future__ import annotations

import ast
import contextlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from metarl.workers.faults import WorkersError
from metarl.workers.packed import Packed

WORKER = "metarl-worker"
"""Name of every worker process."""
RUNS_AGAIN = 78
"""Exit code of a worker in which the script would have started its work again."""
GUARD = 'put the script\'s work under `if __name__ == "__main__":`'

_one_start = threading.Lock()


def is_needed(packed: Packed) -> bool:
    """Whether a packed value refers to the main module by name."""
    return b"__main__" in packed.data


def check_importable() -> None:
    """Checks that workers can import the main module, which defines the agent or the environments.

    Raises:
        WorkersError: It has no file, or would do its work again.
    """
    main = sys.modules["__main__"]
    path = Path(getattr(main, "__file__", None) or "")
    name = getattr(getattr(main, "__spec__", None), "name", None) or ""
    if not path.is_file() or name.rpartition(".")[2] == "__main__":
        raise WorkersError(
            "the agent or the environments are defined in the main program, which worker processes cannot import; "
            "define them in a module of their own"
        )
    if not _has_guard(path):
        raise WorkersError(
            f"{path.name} defines the agent or the environments, and worker processes would run it again; {GUARD}"
        )


def _has_guard(path: Path) -> bool:
    """Whether a script asks for `__name__` at its top level."""
    try:
        statements = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return True
    tests = [statement.test for statement in statements if isinstance(statement, ast.If)]
    return any(isinstance(part, ast.Name) and part.id == "__name__" for test in tests for part in ast.walk(test))


def refuse_second_run() -> None:
    """Ends a worker that runs its owner's script again; the owner names the cause.

    Raises:
        WorkersError: Another process is being started and runs the script again.
    """
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False):
        if process.name == WORKER:
            os._exit(RUNS_AGAIN)
        raise WorkersError(f"a process that is being started runs this script again; {GUARD}")


class _LeftOut:
    """A `__spec__` that names the main module `__main__` to one thread; its new processes then do not import it.

    Args:
        spec: The `__spec__` that all other threads see.
    """

    def __init__(self, spec: Any) -> None:
        self._spec, self._thread = spec, threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        return "__main__" if name == "name" and threading.get_ident() == self._thread else getattr(self._spec, name)


@contextlib.contextmanager
def one_start(*, with_main: bool) -> Iterator[None]:
    """Context of one thread at a time, whose new process imports the main module or not.

    Args:
        with_main: Whether it does.
    """
    with _one_start:
        main: ModuleType = sys.modules["__main__"]
        spec: Any = main.__spec__
        if not with_main:
            main.__spec__ = _LeftOut(spec)  # type: ignore[assignment]  # it is only asked for its name
        try:
            yield
        finally:
            main.__spec__ = spec
