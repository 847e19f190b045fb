"""Reading of a folder of hand-drawn characters in Omniglot's published layout."""

from __future__ import annotations

import functools
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from metarl.types import Floats

TRAIN, HELD_OUT = "images_background", "images_evaluation"
"""Folders of the alphabets for training, and of those that are held out."""
LAYOUT = f"the published layout: {TRAIN}/ALPHABET/CHARACTER/*.png and {HELD_OUT}/ALPHABET/CHARACTER/*.png"
SIDE = 28
"""Height and width of an image that a learner sees, pixels."""
LARGEST_SIDE = 1024
"""Largest side of a file's image, pixels; the published ones have 105."""
MOST_BYTES = 2**20
"""Largest size of a file; the published ones have a few hundred bytes."""
MOST_FILES = 250_000
"""Largest number of files; there are 32,460 published ones."""
MODES = ("1", "L", "P", "RGB")
"""Kinds of pixels (pillow's modes) that are read; the published ones are black or white."""


@dataclass(frozen=True)
class Drawings:
    """The images of all characters.

    Args:
        ink: Images of each character, `[n, 28, 28]` uint8; 255 is ink. Characters for training come first.
        train: Number of characters for training.
    """

    ink: tuple[Floats, ...]
    train: int

    @property
    def fewest(self) -> int:
        """Images of the character that has the fewest."""
        return min(map(len, self.ink))


def read_drawings(folder: Path) -> Drawings:
    """Reads all images of a folder.

    Raises:
        ValueError: The folder is missing or has another layout, or a file is no image of a suitable size.
    """
    train, held_out = (_characters(folder, half) for half in (TRAIN, HELD_OUT))
    count = sum(map(len, [*train, *held_out]))
    if count > MOST_FILES:
        raise ValueError(f"{folder}: got {count:,} images, expected at most {MOST_FILES:,}, in {LAYOUT}")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        ink = tuple(np.stack([_read(path) for path in files]) for files in (*train, *held_out))
    return Drawings(ink, len(train))


def _characters(folder: Path, half: str) -> list[list[Path]]:
    """The files of each character of a half, in the order of their names."""
    place = folder / half
    if not place.is_dir():
        missing = place if folder.is_dir() else folder
        here = "" if folder.is_absolute() else f" (from {Path.cwd()})"
        raise ValueError(f"{missing}: got no such folder{here}, expected {LAYOUT}")
    found = [_files(character) for alphabet in _folders(place) for character in _folders(alphabet)]
    if not found:
        raise ValueError(f"{place}: got a folder without characters, expected {LAYOUT}")
    return found


def _folders(place: Path) -> Sequence[Path]:
    return sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))


def _files(character: Path) -> list[Path]:
    files = sorted(one for one in character.glob("*.png") if not one.name.startswith("."))
    if not files:
        raise ValueError(f"{character}: got a folder without images (*.png), expected {LAYOUT}")
    return files


def _read(path: Path) -> Floats:
    """One image, `[28, 28]` uint8: 255 times the share of a pixel's area that is ink.

    Sizes are checked before the pixels are unpacked.

    Raises:
        ValueError: The file is no such image.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ValueError(f"{size:,} bytes, more than {MOST_BYTES:,}")
        with Image.open(path, formats=("PNG",)) as image:
            width, height = image.size
            if width != height or not SIDE <= width <= LARGEST_SIDE:
                raise ValueError(f"{width} x {height} pixels")
            if image.mode not in MODES:
                raise ValueError(f"pixels of mode {image.mode}")
            darkness = 255 - np.asarray(image.convert("L"), dtype=np.float64)
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise ValueError(
            f"{path}: got a file that cannot be used ({error}), expected a square PNG image of {SIDE} to "
            f"{LARGEST_SIDE} pixels, dark on white; restore or remove it"
        ) from error
    shares = _shares(width)
    return np.rint(shares @ darkness @ shares.T).astype(np.uint8)


@functools.cache
def _shares(side: int) -> Floats:
    """Share of each file's row in the rows of a small image, `[28, side]`; each row sums to 1."""
    edges = np.arange(SIDE + 1) * side / SIDE
    rows = np.arange(side)
    overlap = np.minimum(edges[1:, None], rows + 1) - np.maximum(edges[:-1, None], rows)
    return np.maximum(overlap, 0.0) * SIDE / side
