"""Early ends of a command: Ctrl-C, SIGTERM, and output whose reader is gone."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, NoReturn

SIGINT, SIGTERM = 2, 15
"""Signals by number: the module `signal` takes a millisecond to load, and `metarl --help` does not need it."""
THREAD_SECONDS = 1.0
"""Seconds in which threads may end by themselves after the command."""
STOPPED = "stopped"
"""The word that a stopped command prints."""


class Ending:
    """Guards a command, so that an early end prints one word and no traceback.

    The first Ctrl-C raises KeyboardInterrupt, so that files and processes are closed. The second ends the process at
    once; so does the first during imports and at the end of the process, when nothing is open. A signal that the parent
    process ignores stays ignored: shells do so for background commands.

    Args:
        own_process: Whether the command is the whole process. Otherwise signal handlers are restored at the end, and
            the process continues.
    """

    def __init__(self, own_process: bool) -> None:
        self._own_process, self._process = own_process, os.getpid()
        self._previous: dict[int, Any] = {}
        self._hook = sys.unraisablehook
        self.at_once = False
        self.signal = 0

    def __enter__(self) -> Ending:
        if self._own_process:
            _open_streams()
        return self

    def take_signals(self) -> None:
        """Installs the handlers of Ctrl-C and SIGTERM, unless these are ignored or already handled."""
        import signal

        if self._own_process:
            sys.unraisablehook = self._unraisable
        for number, default in ((SIGINT, signal.default_int_handler), (SIGTERM, signal.SIG_DFL)):
            if signal.getsignal(number) == default:
                try:
                    self._previous[number] = signal.signal(number, self._handle)
                except ValueError:  # not the main thread, which alone handles signals
                    break

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.at_once = True
        if self._own_process:
            return  # handlers stay until the interpreter ends
        if self._previous:
            import signal

            for number, handler in self._previous.items():
                signal.signal(number, handler)

    def exit_code(self, command: Callable[[], int]) -> int:
        """Runs a command; returns its exit code, also after an early end.

        An environment's threads would keep the process alive; they are ended, with a warning.
        """
        try:
            code = self._exit_code(command)
        except SystemExit as stop:
            if self._own_process and isinstance(stop.code, int):
                _leave_threads(stop.code)
            raise
        if self._own_process:
            _leave_threads(code)
        return code

    def _exit_code(self, command: Callable[[], int]) -> int:
        try:
            code = command()
            return _flushed(code)
        except SystemExit as stop:
            if self.signal:
                return self._stopped()
            if isinstance(stop.__context__, BrokenPipeError):  # rich's exception for it
                return _quiet()
            _flushed(0)
            raise
        except BaseException as error:
            if self.signal or isinstance(error, KeyboardInterrupt):
                return self._stopped()
            if isinstance(error, BrokenPipeError) and output_is_closed():
                return _quiet()
            if isinstance(error, OSError) and error.filename is None:  # a disk that is full, for instance
                return _no_room(error)
            raise

    def _stopped(self) -> int:
        if self._own_process:
            _end_children()
        _quiet()
        try:
            print(f"\n{STOPPED}" if sys.stderr.isatty() else STOPPED, file=sys.stderr, flush=True)
        except OSError:
            _quiet()
        return 128 + (self.signal or SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a copy made by a fork
            os._exit(128 + number)
        again, self.signal = self.signal, number
        if self._own_process and (again or self.at_once):
            self._leave()
        raise KeyboardInterrupt

    def _unraisable(self, problem: Any) -> None:
        """Ends the process if Ctrl-C came in a callback, where it cannot be raised."""
        if issubclass(problem.exc_type, KeyboardInterrupt):
            self._leave()
        self._hook(problem)

    def _leave(self) -> NoReturn:
        """Ends the process and its children at once."""
        _end_children()
        with contextlib.suppress(OSError):
            os.write(2, f"{STOPPED}\n".encode())
        os._exit(128 + (self.signal or SIGINT))


def run_as_process(command: Callable[[], int]) -> NoReturn:
    """Runs a command as the whole process, for `python -m metarl.scripts.COMMAND`, guarded as `metarl COMMAND` is."""
    with Ending(own_process=True) as ending:
        ending.take_signals()
        raise SystemExit(ending.exit_code(command))


class StopRequest:
    """Set by the first Ctrl-C or SIGTERM: the run finishes the iteration, saves and ends.

    The second signal ends the run at once. The request is also set if the reader of the output is gone. An ignored
    signal stays ignored.

    Attributes:
        requested: Whether it is set.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> StopRequest:
        import signal

        heard = [s for s in (SIGINT, SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]
        self._previous = {s: signal.signal(s, self._handle) for s in heard}
        return self

    def __exit__(self, *_: object) -> None:
        import signal

        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Context for output: requests a stop if its reader is gone."""
        try:
            yield
        except BrokenPipeError:
            if not output_is_closed():
                raise
            self.requested = True
            _quiet()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with contextlib.suppress(OSError):
            line = "\nfinishing this iteration, then saving (Ctrl-C again leaves at once)"
            print(line, file=sys.stderr, flush=True)


def _leave_threads(code: int) -> None:
    """Ends the process if an environment's threads are still running; Python would wait for them."""
    threading = sys.modules.get("threading")
    if threading is None:
        return
    pools = sys.modules.get("concurrent.futures.thread")
    pooled = set(pools._threads_queues) if pools else set()  # these end with Python
    others = {t for t in threading.enumerate() if not t.daemon} - pooled - {threading.main_thread()}
    end = time.monotonic() + THREAD_SECONDS
    for thread in others:
        thread.join(max(end - time.monotonic(), 0.0))
    left = sorted(thread.name for thread in others if thread.is_alive())
    if left:
        print(f"warning: ended with threads at work that were left running: {', '.join(left)}", file=sys.stderr)
        atexit._run_exitfuncs()
        code = _flushed(code)
        os._exit(code)


def _end_children() -> None:
    """Kills the remaining worker processes, which would otherwise report closed pipes."""
    if "multiprocessing" in sys.modules:
        children = sys.modules["multiprocessing"].active_children()
        for child in children:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, 9)  # a worker leads a group of its own, with the processes of its environments
            child.kill()
        for child in children:
            child.join()


def is_ending() -> bool:
    """Whether a signal has asked this process to end; later failures are not reported as errors."""
    import signal

    handler = signal.getsignal(SIGINT), signal.getsignal(SIGTERM)
    guards = (getattr(one, "__self__", None) for one in handler)
    return any(isinstance(guard, Ending) and guard.signal for guard in guards)


def output_is_closed() -> bool:
    """Whether stdout or stderr is a pipe whose reader is gone."""
    import select

    for stream in (sys.stdout, sys.stderr):
        try:
            poll = select.poll()
            poll.register(stream.fileno(), 0)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                return True
        except (AttributeError, OSError, ValueError):
            continue  # not a file of the system
    return False


def _open_streams() -> None:
    """Reopens standard streams that the parent process closed, and sets an encoding that accepts every character."""
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            file = os.open(os.devnull, os.O_RDWR)  # else the next file that is opened would get our output
            if file != number:
                os.dup2(file, number)
                os.close(file)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8"))
        elif number and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flushed(code: int) -> int:
    """Flushes all output and returns the exit code; 2 if the output cannot be written."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _quiet()
    except OSError as error:
        return _no_room(error)
    return code


def _no_room(error: OSError) -> int:
    """Reports output that cannot be written, on one line; returns exit code 2."""
    _to_nowhere(sys.stdout)
    try:
        print(f"metarl: error: the output cannot be written: {error}", file=sys.stderr, flush=True)
    except OSError:
        _to_nowhere(sys.stderr)
    return 2


def _quiet() -> int:
    """Discards the rest of the output, whose reader is gone; returns exit code 0."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _to_nowhere(stream)
    return 0


def _to_nowhere(stream: Any) -> None:
    """Redirects a stream to the null device, so that the interpreter can flush it on exit."""
    try:
        file = os.open(os.devnull, os.O_WRONLY)
        os.dup2(file, stream.fileno())
        os.close(file)
    except (OSError, ValueError):
        pass
