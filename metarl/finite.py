"""Numbers that are not finite any more: noticed before they are saved, and said in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from metarl.agent import MetaAgent


class NotFiniteError(ValueError):
    """Rewards, actions or parameters are infinite or not a number: the training has blown up."""


def learned(agent: MetaAgent[Any]) -> Mapping[str, Tensor]:
    """What an agent has learned: its `learned()`, or all of its `tensors()` where it has no such method."""
    ask = getattr(agent, "learned", agent.tensors)
    tensors: Mapping[str, Tensor] = ask()
    return tensors


def check_finite(tensors: Mapping[str, Tensor], what: str = "the parameters") -> None:
    """Refuses arrays that hold infinities or no numbers.

    Args:
        tensors: The arrays by name.
        what: Name of all of them, for the message.

    Raises:
        NotFiniteError: One does; the message names the first.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            wrong = int((~tensor.isfinite()).sum())
            raise NotFiniteError(f"{what} are not finite ({wrong:,} of {tensor.numel():,} numbers of {name!r})")


@contextmanager
def naming(when: str) -> Iterator[None]:
    """Adds to the message of a `NotFiniteError` when it happened; a scalar that float32 cannot hold is one too."""
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"{when}: {error}") from error
    except RuntimeError as error:
        if "without overflow" not in str(error):
            raise
        raise NotFiniteError(f"{when}: a step size or a factor is beyond float32") from error


def remedies(config: object) -> str:
    """What to try after a training blew up, in words that follow "try": options of the agent, and smaller rewards.

    Args:
        config: The agent's settings.
    """
    names = [name for name in vars(config) if name in ("lr", "learning_rate") or name.endswith(("_lr", "_rate"))]
    options = [f"--agent.{name.replace('_', '-')}" for name in names]
    smaller = f"a smaller {' or '.join(options)}, or " if options else ""
    option = ""
    if hasattr(config, "reward_scale"):
        option = " (--agent.reward-scale)"
    elif getattr(config, "normalise_rewards", True) is False:
        option = " (--agent.normalise-rewards)"
    return f"{smaller}rewards that are scaled down{option}"
