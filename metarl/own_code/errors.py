"""The exception for errors in the user's own code."""


class EnvError(RuntimeError):
    """The user's own code raised an exception, died, hung, or returned a wrong value.

    Args:
        message: One line on what happened, and in which task.
        trace: The traceback within the user's code; empty if not known.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message, trace)
        self.message, self.trace = message, trace

    def __str__(self) -> str:
        return self.message
