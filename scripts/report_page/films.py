"""Films of an agent before and after adaptation, as data that a page can hold."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import imageio.v3 as iio

from metarl.agent import MetaAgent
from metarl.report import counted, first_label, last_label
from metarl.scripts.film import Take, encoded, recorded
from metarl.scripts.report_page.blocks import Film, number
from metarl.tasks import Family
from metarl.types import Task

SIZE = (320, 240)
"""Width and height, pixels; even, as the codec requires."""
FPS = 25


def films_of(
    label: str,
    agent: MetaAgent[Any],
    family: Family,
    task: Task,
    *,
    split: str,
    named: str,
    episodes: int,
    horizon: int,
    digits: int,
) -> list[Film]:
    """The first episode of an agent on a task, and one after adaptation.

    Args:
        label: Name of the agent.
        agent: The agent.
        family: The family, made for rendering.
        task: The task.
        split: Its split.
        named: The task in words.
        episodes: Episodes per collect, `E`.
        horizon: `T`.
        digits: Decimals of returns.

    Raises:
        ValueError: The frames do not fit into memory, or the family has no rendering.
    """
    recording = recorded(
        agent,
        family,
        task,
        split=split,
        steps=agent.adaptation_steps,
        episodes=episodes,
        horizon=horizon,
        seed=0,
        size=SIZE,
        fps=FPS,
    )
    within = agent.adapts_within_episodes
    titles = first_label(within), last_label(within)
    return [
        _film(f"{label}, {title}", heading, take, recording.fps, named, digits)
        for title, heading, take in zip(titles, recording.headings, recording.takes, strict=False)
    ]


def _film(title: str, heading: str, take: Take, fps: float, named: str, digits: int) -> Film:
    frames = [_even(frame) for frame in take.frames]
    earned = f"return {number(take.returns[-1], digits)} in {counted(take.steps[-1], 'steps')}"
    height, width = frames[0].shape[:2]
    return Film(
        title=title,
        alt=f"Film of one episode of {title} on {named}, {len(frames) / fps:.0f} s long: {earned}",
        caption=f"{named[0].upper()}{named[1:]}, {heading}: {earned}.",
        video=base64.b64encode(encoded(frames, fps, ".mp4")).decode(),
        poster=base64.b64encode(_jpeg(frames)).decode(),
        size=(width, height),
    )


def _even(frame: Any) -> Any:
    """A frame without its last row or column if their number is odd."""
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


def _jpeg(frames: Sequence[Any]) -> bytes:
    """The frame in the middle, which stands for the film on paper and before it plays."""
    return iio.imwrite("<bytes>", frames[len(frames) // 2], extension=".jpg", quality=70)
