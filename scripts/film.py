"""Recording of frames during an evaluation, and composition of frames into videos and pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import imageio.v3 as iio
import numpy as np
from gymnasium.vector import VectorWrapper
from PIL import Image, ImageDraw, ImageFont

from metarl.agent import MetaAgent
from metarl.evaluation import evaluate
from metarl.memory import Need, check_memory
from metarl.report import first_label, wrapped
from metarl.seeding import Streams
from metarl.tasks import Family
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv

NATIVE_FPS = 30
"""Steps per second of environments without Gymnasium's metadata `render_fps`."""
CAPTION = 44  # pixels above each picture
TITLE_MARGIN, TITLE_LINE = 8, 18  # pixels above all, and of each line of the title
CHARACTER = 8  # pixels of its width
GAP = 8
MOMENTS = 3
"""Number of frames per episode in a picture."""


@dataclass
class Take:
    """The recorded frames of one episode.

    Attributes:
        frames: Frames `[H, W, 3]`, bytes.
        steps: Number of steps before each frame.
        returns: Sum of rewards before each frame.
    """

    frames: list[np.ndarray] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)


if TYPE_CHECKING:
    VectorFilter = VectorWrapper[Floats, Floats, Floats, Floats, Any]
else:
    VectorFilter = VectorWrapper  # not generic before Gymnasium 1.4


class Filmed(VectorFilter):
    """A wrapper that records frames of row 0 in selected episodes.

    Args:
        envs: The environments.
        episodes: Indices of the episodes to record; episode 0 follows the first reset.
        size: Width and height of a frame, pixels.
        fps: Largest number of frames per second. Every n-th step is recorded, and the last one.
        on_picture: Called after each frame with the number of frames so far and an upper bound of the total.

    Attributes:
        takes: The recording of each selected episode.
        fps: Frames per second at which the recording plays in real time.
    """

    def __init__(
        self,
        envs: TaskVecEnv,
        episodes: Collection[int],
        size: tuple[int, int],
        fps: int,
        on_picture: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.row_envs = envs
        super().__init__(envs)
        self._size, self._on_picture = size, on_picture
        native = int(envs.metadata.get("render_fps", NATIVE_FPS))
        self._every = max(1, round(native / fps))
        self.fps = native / self._every
        self.takes = {k: Take() for k in episodes}
        self._episode, self._step, self._return, self._over = -1, 0, 0.0, True

    def __getattr__(self, name: str) -> Any:
        """Attributes of `TaskVecEnv` that the wrapper does not forward, such as `set_tasks` and `spaces`."""
        return getattr(self.row_envs, name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Floats, dict[str, Any]]:
        """Resets the environments and starts the next episode."""
        result = self.row_envs.reset(seed=seed, options=options)
        self._episode += 1
        self._step, self._return, self._over = 0, 0.0, False
        self._take_picture()
        return result

    def step(self, actions: Floats) -> tuple[Floats, Floats, Bools, Bools, dict[str, Any]]:
        """Steps the environments with actions `[N, A]` and records a frame if one is due."""
        result = self.row_envs.step(actions)
        _, rewards, terminated, truncated, _ = result
        if not self._over:
            self._step += 1
            self._return += float(rewards[0])
            self._over = bool(terminated[0] or truncated[0])
            if self._over or self._step % self._every == 0:
                self._take_picture()
        return result

    def _take_picture(self) -> None:
        take = self.takes.get(self._episode)
        if take is None:
            return
        take.frames.append(self.row_envs.render_row(0, *self._size))
        take.steps.append(self._step)
        take.returns.append(self._return)
        total = len(self.takes) * (1 + -(-self.row_envs.horizon // self._every))
        self._on_picture(sum(len(t.frames) for t in self.takes.values()), total)


@dataclass(frozen=True)
class Recording:
    """Episodes of one task before and after adaptation.

    Args:
        takes: The first episode and the one after the last adaptation step; a single one without adaptation.
        headings: Their names.
        fps: Frames per second at which they play in real time.
    """

    takes: list[Take]
    headings: list[str]
    fps: float


def recorded(
    agent: MetaAgent[Any],
    family: Family,
    task: Task,
    *,
    split: str,
    steps: int,
    episodes: int,
    horizon: int,
    seed: int,
    size: tuple[int, int],
    fps: int,
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> Recording:
    """Adapts to a task and records the first environment, before and after.

    Args:
        agent: The agent.
        family: The family, made for rendering.
        task: The task.
        split: Its split.
        steps: Adaptation steps, `K`.
        episodes: Episodes per collect, `E`.
        horizon: `T`.
        seed: Seed of resets and actions.
        size: Width and height of a frame, pixels.
        fps: Largest number of frames per second.
        on_picture: Called after each frame with the number of frames so far and an upper bound of the total.

    Raises:
        ValueError: The frames do not fit into memory, or the family has no rendering.
    """
    check_memory([_film_memory(size, horizon)])
    films: list[Filmed] = []

    def filmed_envs(num_tasks: int, episodes: int, horizon: int) -> TaskVecEnv:
        films[:] = [Filmed(family.make_envs(num_tasks, episodes, horizon), {0, steps}, size, fps, on_picture)]
        return cast(TaskVecEnv, films[0])  # it forwards everything that an evaluation uses

    result = evaluate(
        agent,
        replace(family, make_envs=filmed_envs),
        [task],
        Streams.for_evaluation(seed),
        split=split,
        adapt_steps=steps,
        episodes=episodes,
        horizon=horizon,
        diverged_limit=1.0,  # a video may show a simulation that diverges
    )
    takes = list(films[0].takes.values())
    headings = [first_label(result.adapts_within_episodes), _after(steps, result.episodes[-1])]
    return Recording(takes, headings[: len(takes)], films[0].fps)


def _film_memory(size: tuple[int, int], horizon: int) -> Need:
    """Upper bound of the memory of both episodes' frames and of the frames side by side."""
    frames, (width, height) = 2 * 2 * (horizon + 1), size
    return Need(
        f"keeping {frames:,} frames of {width:,} by {height:,} pixels",
        3 * frames * width * height,
        "a smaller --width and --height",
    )


def _after(steps: int, episodes: int) -> str:
    return f"after {_count(steps, 'adaptation step')} ({_count(episodes, 'episode')})"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"


def side_by_side(takes: Sequence[Take], headings: Sequence[str], title: str, size: tuple[int, int]) -> list[np.ndarray]:
    """Frames of a video that shows all takes at the same time. A shorter take stays at its last frame.

    Args:
        takes: The recorded episodes.
        headings: Heading of each take.
        title: Title of the video.
        size: Width and height to which each take is fitted, pixels.

    Returns:
        Frames `[height, width, 3]`, bytes. Height and width are even, as video codecs require.
    """
    lasts = [len(take.frames) - 1 for take in takes]
    moments = [[(take, min(i, last)) for take, last in zip(takes, lasts, strict=True)] for i in range(max(lasts) + 1)]
    return [_sheet([moment], headings, title, size) for moment in moments]


def still(takes: Sequence[Take], headings: Sequence[str], title: str, size: tuple[int, int]) -> np.ndarray:
    """One picture `[height, width, 3]` (bytes) with a column per take and a row per moment, the last one the end.

    Arguments as in `side_by_side`.
    """
    rows = [
        [(take, round((len(take.frames) - 1) * moment / MOMENTS)) for take in takes] for moment in range(1, MOMENTS + 1)
    ]
    return _sheet(rows, headings, title, size)


def _sheet(
    rows: Sequence[Sequence[tuple[Take, int]]], headings: Sequence[str], title: str, size: tuple[int, int]
) -> np.ndarray:
    """Frames with captions on a white sheet; the arguments are rows of takes and frame indices."""
    width, height = size
    columns = len(rows[0])
    across = columns * (width + GAP) + GAP
    title = wrapped(title, max((across - 2 * GAP) // CHARACTER, 1))
    top = TITLE_MARGIN + TITLE_LINE * (title.count("\n") + 1)
    total = (across, top + len(rows) * (height + CAPTION) + GAP)
    sheet = Image.new("RGB", (total[0] + total[0] % 2, total[1] + total[1] % 2), "white")
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(15), ImageFont.load_default(13)
    draw.text((GAP, 5), title, fill="black", font=large)
    for i, row in enumerate(rows):
        for j, (take, index) in enumerate(row):
            x, y = GAP + j * (width + GAP), top + i * (height + CAPTION)
            draw.text((x, y + 4), headings[j], fill="black", font=small)
            facts = f"step {take.steps[index]}, return {take.returns[index]:.1f}"
            draw.text((x, y + 22), facts, fill=(90, 90, 90), font=small)
            sheet.paste(_fitted(take.frames[index], size), (x, y + CAPTION))
    return np.asarray(sheet)


def _fitted(frame: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A frame scaled to fit `size` with its aspect ratio, centred on white."""
    image = Image.fromarray(np.ascontiguousarray(frame, dtype=np.uint8))
    if image.size == size:
        return image
    scale = min(size[0] / image.width, size[1] / image.height)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    sheet = Image.new("RGB", size, "white")
    sheet.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return sheet


def encoded(frames: Sequence[np.ndarray], fps: float, ending: str) -> bytes:
    """The content of a video file.

    Args:
        frames: Frames `[H, W, 3]`, bytes.
        fps: Frames per second.
        ending: Format: `.mp4` (H.264) or `.gif`.
    """
    stack = np.stack(frames)
    if ending == ".gif":
        return iio.imwrite("<bytes>", stack, extension=ending, duration=1000.0 / fps, loop=0)
    return iio.imwrite("<bytes>", stack, extension=ending, plugin="pyav", codec="h264", fps=round(fps))
