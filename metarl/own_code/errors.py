"""What code of the user's own does wrong, as one error with its own traceback."""


class EnvError(RuntimeError):
    """An environment of the user's own raised, died, hung, or returned what it must not.

    Args:
        message: One line: what happened, in which task.
        trace: The environment's own traceback, or an empty text where there is none.
    """

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message, trace)
        self.message, self.trace = message, trace

    def __str__(self) -> str:
        return self.message
