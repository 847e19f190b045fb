"""Reads the return values of reset, step and render as numbers; errors are one line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces

Success: TypeAlias = str | Callable[[Mapping[str, Any]], Any]
"""Key of the infos under which success is reported, or a function that computes it from the infos."""
SUCCESS_KEYS = ("success", "is_success")
"""Keys of the infos under which success is read by default."""
NAN, NUMBERS = float("nan"), (float, int)
FLOAT32_MAX = float(np.finfo(np.float32).max)
"""Largest finite number for agents, which compute in float32."""
UNBOUNDED = 1e30
"""Action bounds of at least this size count as infinite, such as `Box(-np.finfo(np.float32).max, ...)`."""


class AnswerError(ValueError):
    """A return value of an environment that does not follow Gymnasium's API; the message names it."""


def words(value: Any) -> str:
    """A short description of a value."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        return f"an array of shape {tuple(shape)}" if isinstance(value, np.ndarray) else f"a {_kind(value)} of {shape}"
    if isinstance(value, tuple | list) and len(value) != 1:
        return f"a {_kind(value)} of {len(value)} values"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"a {_kind(value)}"


def _kind(value: Any) -> str:
    return type(value).__name__


def reset_answer(answer: Any) -> tuple[Any, Mapping[str, Any]]:
    """Observation and infos from the return value of `reset`.

    Raises:
        AnswerError: The value has another form, such as the observation alone (the old API of gym).
    """
    if isinstance(answer, tuple | list) and len(answer) == 2 and isinstance(answer[1], Mapping | None):
        return answer[0], answer[1] or {}
    if isinstance(answer, tuple) and len(answer) == 2:
        raise AnswerError(
            f"reset returned {words(answer[1])} as info, expected (observation, info) with a dict as info"
        )
    raise AnswerError(
        f"reset returned {words(answer)}, expected (observation, info); in the old API of gym it was the observation "
        "alone: return observation, {}"
    )


def step_answer(answer: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Observation, reward, terminated, truncated and infos from the return value of `step`.

    Raises:
        AnswerError: The value has another form, such as four values (the old API of gym).
    """
    if type(answer) is tuple and len(answer) == 5:
        return answer
    if isinstance(answer, tuple | list) and len(answer) == 5:
        observation, reward, terminated, truncated, info = answer
        return observation, reward, terminated, truncated, info
    got = f"{len(answer)} values" if isinstance(answer, tuple | list) else words(answer)
    raise AnswerError(
        f"step returned {got}, expected 5: observation, reward, terminated, truncated, info (the old API of gym had "
        "4, with `done` instead of terminated and truncated)"
    )


def number(value: Any, what: str) -> float:
    """Converts a value that holds one number (Python, NumPy, an array or a tensor) to `float`.

    Raises:
        AnswerError: The value holds no number, or several.
    """
    if isinstance(value, NUMBERS):
        return float(value)
    try:
        if value is None:
            raise TypeError
        return float(value.item() if hasattr(value, "item") else np.asarray(value, dtype=np.float64).item())
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise AnswerError(f"{what} is {words(value)}, expected a single number") from error


def flag(value: Any, what: str) -> bool:
    """Converts a value to `bool`; None is False.

    Raises:
        AnswerError: The value is neither a truth value nor a single number.
    """
    if value is True or value is False:
        return value
    if value is None:
        return False
    return number(value, what) != 0.0


def success(info: Any, told_by: Success | None) -> float:
    """Whether a step succeeded, as 1.0 or 0.0; NaN if the infos do not report it.

    Args:
        info: Infos that `step` returned.
        told_by: Key or function of the infos; None for `SUCCESS_KEYS`.

    Raises:
        AnswerError: The infos are no dict, or the value is no truth value.
    """
    if type(info) is not dict and not isinstance(info, Mapping):
        raise AnswerError(f"step returned {words(info)} as info, expected a dict")
    if callable(told_by):
        value, what = told_by(info), "the value of `success(info)`"
    else:
        for key in (told_by,) if told_by else SUCCESS_KEYS:
            if key in info:
                break
        else:
            return NAN
        value, what = info[key], f"info[{key!r}]"
    if value is None:
        return NAN
    try:
        return number(value, what)
    except AnswerError as error:
        raise AnswerError(
            f"{error}; name the info that reports success, or a function of the infos: "
            "gymnasium_family(..., success=...)"
        ) from error


def exact(space: spaces.Space[Any]) -> bool:
    """Whether flattening a value of this space keeps its numbers exactly: true for boxes of floats only."""
    if isinstance(space, spaces.Dict):
        return all(exact(part) for part in space.spaces.values())
    if isinstance(space, spaces.Tuple):
        return all(exact(part) for part in space.spaces)
    return isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)


def misfit(space: spaces.Space[Any], value: Any) -> str | None:
    """Describes a value that flattening would change, such as a fraction in a box of whole numbers; None if exact."""
    if isinstance(space, spaces.Dict) and isinstance(value, Mapping):
        return next((m for k, part in space.spaces.items() if k in value and (m := misfit(part, value[k]))), None)
    if isinstance(space, spaces.Tuple) and isinstance(value, tuple | list):
        return next((m for part, v in zip(space.spaces, value, strict=False) if (m := misfit(part, v))), None)
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        array = np.asarray(value)
        if array.dtype == space.dtype or np.issubdtype(space.dtype, np.floating) or array.dtype.kind not in "iuf":
            return None
        with np.errstate(invalid="ignore"):
            kept = array.astype(space.dtype) == array
        return None if kept.all() else f"{array[~kept].flat[0]} is no {space.dtype}"
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        array = np.asarray(value)
        low = np.asarray(space.start)
        high = low + (space.n if isinstance(space, spaces.Discrete) else space.nvec)
        if array.dtype.kind in "iuf" and not ((array >= low) & (array < high) & (array == np.rint(array))).all():
            return f"{words(value) if array.ndim else array} is not in {space}"
    return None


def picture(frame: Any) -> np.ndarray:
    """Converts the return value of `render` to bytes `[height, width, 3]`; floats in [0, 1] are multiplied by 255.

    Raises:
        AnswerError: The value is no image.
    """
    array = np.asarray(frame)
    if array.ndim != 3 or array.shape[2] != 3:
        got = "None" if frame is None else f"an array of shape {array.shape}"
        raise AnswerError(
            f'render returned {got}, expected [height, width, 3]; the environment was made with render_mode="rgb_array"'
        )
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "biuf" or not ((array >= 0) & (array <= 255)).all():
        raise AnswerError(
            f"render returned {array.dtype} numbers that are no colours, expected bytes from 0 to 255, or floats from "
            "0 to 1"
        )
    if array.dtype.kind in "bf" and array.max(initial=0) <= 1:
        return np.rint(array * 255.0).astype(np.uint8)
    return np.rint(array).astype(np.uint8)


@contextlib.contextmanager
def plain_flags(env: gymnasium.Env[Any, Any]) -> Iterator[None]:
    """Converts `numpy.bool_` in the return value of `step` to `bool`, for checks that compare with `is False`."""
    step: Any = env.step
    own = env.__dict__.get("step")

    def with_plain_flags(action: Any) -> Any:
        answer = step(action)
        if not isinstance(answer, tuple):
            return answer
        return tuple(bool(part) if isinstance(part, np.bool_) else part for part in answer)

    env.__dict__["step"] = with_plain_flags
    try:
        yield
    finally:
        del env.__dict__["step"]
        if own is not None:
            env.__dict__["step"] = own
