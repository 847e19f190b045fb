"""Detection of non-finite numbers before they are saved, with one-line messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from metarl.agent import MetaAgent


class NotFiniteError(ValueError):
    """Rewards, actions or parameters are infinite or not a number: the training has diverged."""


def learned(agent: MetaAgent[Any]) -> Mapping[str, Tensor]:
    """The arrays that an agent has learned: its `learned()` if it has that method, else its `tensors()`."""
    ask = getattr(agent, "learned", agent.tensors)
    tensors: Mapping[str, Tensor] = ask()
    return tensors


def check_finite(tensors: Mapping[str, Tensor], what: str = "the parameters") -> None:
    """Checks that arrays hold no infinity and no NaN.

    Args:
        tensors: Arrays by name.
        what: Common name of the arrays, for the message.

    Raises:
        NotFiniteError: An array is not finite; the message names the first.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            wrong = int((~tensor.isfinite()).sum())
            raise NotFiniteError(f"{what} are not finite ({wrong:,} of {tensor.numel():,} numbers of {name!r})")


@contextmanager
def naming(when: str) -> Iterator[None]:
    """Prefixes a `NotFiniteError` with the time of the error; converts float32 overflows to such errors."""
    try:
        yield
    except (NotFiniteError, RuntimeError) as error:
        found = as_not_finite(error)
        if found is None:
            raise
        raise NotFiniteError(f"{when}: {found}") from error


def as_not_finite(error: BaseException) -> NotFiniteError | None:
    """The error of non-finite numbers that an exception is or, as a float32 overflow, stands for; None for any other.

    Args:
        error: The exception.
    """
    if isinstance(error, NotFiniteError):
        return error
    if isinstance(error, RuntimeError) and "without overflow" in str(error):
        return NotFiniteError("a step size or a factor overflows float32")
    return None


def remedies(config: object, experience: str = "rewards") -> str:
    """Remedies after a training diverged, worded to follow "try": options of the agent, and smaller rewards.

    Args:
        config: The agent's settings.
        experience: Name of the numbers that the agent learns from.
    """
    names = [name for name in vars(config) if name in ("lr", "learning_rate") or name.endswith(("_lr", "_rate"))]
    options = [f"--agent.{name.replace('_', '-')}" for name in names]
    smaller = f"a smaller {' or '.join(options)}, or " if options else ""
    option = ""
    if hasattr(config, "reward_scale"):
        option = " (--agent.reward-scale)"
    elif getattr(config, "normalise_rewards", True) is False:
        option = " (--agent.normalise-rewards)"
    return f"{smaller}{experience} that are scaled down{option}"
