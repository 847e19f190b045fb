"""A small alphabet in Omniglot's layout, and small recordings of skills."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from metarl.envs.few_shot import skill_recordings, skills

CHARACTERS, DRAWINGS, SIDE = 3, 8, 105
SMALL = skill_recordings.Size(
    (
        "button-press-v3",
        "door-close-v3",
        "door-open-v3",
        "drawer-open-v3",
        "plate-slide-v3",
        "push-v3",
        "reach-v3",
        "window-open-v3",
    ),
    episodes=5,
    frames=14,
)


def draw_character(path: Path, number: int, drawing: int) -> None:
    """Writes a character: a few lines in black on white, which wobble from drawing to drawing."""
    rng, wobble = np.random.default_rng(number), np.random.default_rng([number, drawing])
    corners = rng.integers(15, 90, size=(4, 2)) + wobble.integers(-4, 5, size=(4, 2))
    image = Image.new("1", (SIDE, SIDE), 1)
    ImageDraw.Draw(image).line([(int(x), int(y)) for x, y in corners], fill=0, width=4)
    image.save(path)


@pytest.fixture
def alphabets(tmp_path: Path) -> Path:
    """A folder of six characters for training and six that are held out."""
    number = 0
    for half in ("images_background", "images_evaluation"):
        for alphabet in ("Angelic", "Futurama"):
            for character in range(1, CHARACTERS + 1):
                folder = tmp_path / "omniglot" / half / alphabet / f"character{character:02d}"
                folder.mkdir(parents=True)
                number += 1
                for drawing in range(1, DRAWINGS + 1):
                    draw_character(folder / f"{number:04d}_{drawing:02d}.png", number, drawing)
    return tmp_path / "omniglot"


@pytest.fixture
def small_skills(monkeypatch: pytest.MonkeyPatch) -> skill_recordings.Size:
    """Recordings of a few classes, instead of all."""
    monkeypatch.setattr(skills, "FULL", SMALL)
    return SMALL
