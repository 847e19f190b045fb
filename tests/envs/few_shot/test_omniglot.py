"""`omniglot:FOLDER`: characters in the published layout."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metarl.envs.few_shot import drawings
from metarl.envs.few_shot.drawings import read_drawings
from metarl.envs.few_shot.omniglot import omniglot
from metarl.registry import find_family

CHARACTERS, DRAWINGS, SIDE = 3, 8, 105
"""Characters of an alphabet, drawings of each, and pixels of a side, of the folder that `alphabets` draws."""
FIRST = "images_background/Angelic/character01"


def family_of(folder: Path, options: str = "ways=3,shots=2,queries=3") -> Any:
    return find_family(f"omniglot:{folder},{options}")


def test_sizes_and_classes(alphabets: Path) -> None:
    family = family_of(alphabets)
    assert family.spaces.x_shape == (1, 28, 28)
    assert (family.spaces.y_size, family.spaces.shots, family.spaces.queries) == (3, 2, 3)
    assert family.distribution.train == tuple(range(4 * 2 * CHARACTERS))
    assert family.distribution.withheld == tuple(range(4 * 2 * CHARACTERS, 4 * 2 * CHARACTERS + 2 * CHARACTERS))
    assert family.most_shots == DRAWINGS - 3
    support, query = family.draw(family.distribution.held_out(4), 2, 3, np.random.default_rng(0))
    assert support.x.shape == (4, 1, 6, 1, 28, 28)
    assert query.y.shape == (4, 1, 9, 3)
    assert support.x.dtype == np.float32


def test_ink_is_one_and_paper_zero(alphabets: Path) -> None:
    path = alphabets / FIRST / "0001_01.png"
    image = Image.new("1", (SIDE, SIDE), 1)
    image.paste(0, (0, 0, SIDE, 61))  # 3.75 rows become one: 16 whole ones, and 1 / 3.75 of the next
    image.save(path)
    ink = read_drawings(alphabets).ink[0][0]
    assert (ink[:16] == 255).all()
    np.testing.assert_allclose(ink[16], 255 / 3.75, atol=1.0)
    assert (ink[17:] == 0).all()
    family = family_of(alphabets)
    support, _ = family.draw(family.distribution.train_tasks(20), 5, 3, np.random.default_rng(0))
    assert support.x.min() == 0.0
    assert support.x.max() == 1.0


def test_training_characters_are_turned_by_quarters_and_held_out_ones_are_upright(alphabets: Path) -> None:
    classes = family_of(alphabets).draw.__self__
    ink = read_drawings(alphabets).ink
    for character in range(2 * CHARACTERS):
        for turns in range(4):
            np.testing.assert_array_equal(
                classes[4 * character + turns][:, 0], np.rot90(ink[character], turns, axes=(1, 2))
            )
    for character in range(2 * CHARACTERS):
        np.testing.assert_array_equal(classes[8 * CHARACTERS + character][:, 0], ink[2 * CHARACTERS + character])
    assert len(classes) == len(list(classes)) == 10 * CHARACTERS


def test_no_held_out_character_is_in_a_training_task(alphabets: Path) -> None:
    tasks = family_of(alphabets).distribution
    seen = {one for task in tasks.sample(200, np.random.default_rng(0)) for one in task["classes"]}
    held_out = {one for task in tasks.held_out() for one in task["classes"]}
    assert seen == set(range(24))
    assert held_out == set(range(24, 30))


def test_support_and_queries_share_no_image(alphabets: Path) -> None:
    family = family_of(alphabets)
    support, query = family.draw(family.distribution.held_out(5), 4, 4, np.random.default_rng(0))
    for m in range(5):
        images = [one.tobytes() for one in (*support.x[m, 0], *query.x[m, 0])]
        assert len(set(images)) == len(images) == 24


def test_images_of_a_class_have_its_label_and_the_first_shots_have_each_class_once(alphabets: Path) -> None:
    family = family_of(alphabets)
    [task] = family.distribution.held_out(1)
    support, query = family.draw([task], 4, 4, np.random.default_rng(0))
    known = [family.draw.__self__[int(index)].astype(np.float32) / 255 for index in task["classes"]]
    for x, y in [*zip(support.x[0, 0], support.y[0, 0], strict=True), *zip(query.x[0, 0], query.y[0, 0], strict=True)]:
        assert any(np.array_equal(x, one) for one in known[int(y.argmax())])
    np.testing.assert_array_equal(support.y[0, 0, :3], np.eye(3))


def test_the_same_generator_draws_the_same_images(alphabets: Path) -> None:
    families = family_of(alphabets), family_of(alphabets)
    drawn = [f.draw(f.distribution.train_tasks(3), 2, 2, np.random.default_rng(4)) for f in families]
    np.testing.assert_array_equal(drawn[0][0].x, drawn[1][0].x)
    np.testing.assert_array_equal(drawn[0][1].x, drawn[1][1].x)


def test_a_folder_relative_to_here_or_to_home(alphabets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(alphabets.parent)
    monkeypatch.setenv("HOME", str(alphabets.parent))
    for folder in ("omniglot", "~/omniglot"):
        assert omniglot(f"{folder},ways=2,queries=3").spaces.y_size == 2
    monkeypatch.chdir(alphabets)
    with pytest.raises(ValueError, match=r"omniglot: got no such folder \(from .*omniglot\), expected the published"):
        omniglot("omniglot")


def test_other_files_and_hidden_ones_are_ignored(alphabets: Path) -> None:
    before = read_drawings(alphabets)
    (alphabets / FIRST / "notes.txt").write_text("by hand")
    (alphabets / FIRST / "._0001_01.png").write_bytes(b"of another system")
    (alphabets / "images_background" / ".cache").mkdir()
    after = read_drawings(alphabets)
    assert all(np.array_equal(a, b) for a, b in zip(before.ink, after.ink, strict=True))


def test_small_pixels_are_means_over_areas() -> None:
    """Each pixel is divided into 28 x 28 equal parts; a part belongs to one pixel of either image."""
    shares, side = drawings._shares(35), 35
    picture = np.random.default_rng(0).random((side, side))
    parts = np.kron(picture, np.ones((28, 28))).reshape(28, side, 28, side)
    np.testing.assert_allclose(shares @ picture @ shares.T, parts.mean(axis=(1, 3)), atol=1e-12)
    np.testing.assert_array_equal(drawings._shares(28), np.eye(28))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_kinds_of_pixels_give_the_same_ink(alphabets: Path, mode: str) -> None:
    path = alphabets / FIRST / "0001_01.png"
    before = read_drawings(alphabets).ink[0][0]
    with Image.open(path) as image:
        image.convert(mode).save(path)
    np.testing.assert_array_equal(read_drawings(alphabets).ink[0][0], before)


def bomb(path: Path, side: int) -> None:
    """A PNG file of a few bytes that says it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"no image"), "cannot identify image file"),
        (lambda path: path.write_bytes(b""), "cannot identify image file"),
        (lambda path: path.write_bytes(path.read_bytes()[:120]), "cannot be used"),
        (lambda path: Image.new("L", (105, 50)).save(path), "105 x 50 pixels"),
        (lambda path: Image.new("L", (20, 20)).save(path), "20 x 20 pixels"),
        (lambda path: Image.new("L", (2000, 2000)).save(path), "2000 x 2000 pixels"),
        (lambda path: Image.new("RGBA", (105, 105)).save(path), "pixels of mode RGBA"),
        (lambda path: Image.new("I;16", (105, 105)).save(path), "pixels of mode I"),
        (lambda path: Image.new("L", (105, 105)).save(path, format="GIF"), "cannot identify image file"),
        (lambda path: bomb(path, 5000), "5000 x 5000 pixels"),
        (lambda path: bomb(path, 12_000), "decompression bomb"),
        (lambda path: bomb(path, 60_000), "decompression bomb"),
        (lambda path: path.write_bytes(b"\0" * 2_000_000), "2,000,000 bytes, more than 1,048,576"),
        (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
    ],
)
def test_files_that_are_no_images_are_named(alphabets: Path, spoil: Any, said: str) -> None:
    path = alphabets / FIRST / "0001_03.png"
    spoil(path)
    with pytest.raises(ValueError, match=said) as caught:
        family_of(alphabets)
    assert str(caught.value).startswith(f"{path}: got a file that cannot be used (")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (shutil.rmtree, "omniglot: got no such folder, expected the published layout"),
        (lambda f: shutil.rmtree(f / "images_evaluation"), "omniglot/images_evaluation: got no such folder"),
        (lambda f: shutil.rmtree(f / "images_background" / "Angelic" / "character02"), None),
        (lambda f: [p.unlink() for p in (f / FIRST).iterdir()], "character01: got a folder without images"),
        (
            lambda f: [shutil.rmtree(p) for p in (f / "images_background").iterdir()],
            "images_background: got a folder without characters",
        ),
    ],
)
def test_layouts_that_are_refused(alphabets: Path, spoil: Any, said: str | None) -> None:
    spoil(alphabets)
    if said is None:
        assert len(family_of(alphabets).distribution.train) == 20  # any number of characters is a layout
        return
    with pytest.raises(ValueError, match=said):
        family_of(alphabets)


def test_too_many_files_are_refused(alphabets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawings, "MOST_FILES", 50)
    with pytest.raises(ValueError, match=r"omniglot: got 96 images, expected at most 50, in the published layout"):
        family_of(alphabets)


def test_more_ways_or_shots_than_there_are(alphabets: Path) -> None:
    with pytest.raises(ValueError, match="got ways=7, expected 2 to 6: it has 24 classes for training and 6 that"):
        family_of(alphabets, "ways=7,shots=1,queries=1")
    with pytest.raises(ValueError, match="got 5 shots and 4 queries per class, expected at most 8 in total"):
        family_of(alphabets, "ways=2,shots=5,queries=4")
    (alphabets / FIRST / "0001_01.png").unlink()
    with pytest.raises(ValueError, match="expected at most 7 in total"):
        family_of(alphabets, "ways=2,shots=4,queries=4")


def test_the_command_line_says_one_line_and_ends_with_2(alphabets: Path, run_metarl: Any) -> None:
    empty = alphabets.parent / "empty"
    empty.mkdir()
    for spec, said in (
        ("omniglot", "got no folder, expected omniglot:FOLDER"),
        (f"omniglot:{empty}", "empty/images_background: got no such folder"),
        ("omniglot:nowhere", "nowhere: got no such folder (from "),
        (f"omniglot:{alphabets},ways=7,shots=1,queries=1", "got ways=7, expected 2 to 6"),
        (f"omniglot:{alphabets},way=2", "got no such folder"),
    ):
        code, out, err = run_metarl("train", "maml", spec, "--out", "run")
        assert (code, out) == (2, "")
        assert said in err
        assert len(err.strip().splitlines()) == 1
        assert not Path("run").exists()


def test_a_learner_trains_on_it(alphabets: Path, run_metarl: Any) -> None:
    words = ("--iterations", "2", "--tasks", "2", "--eval-every", "2", "--eval-tasks", "2", "--out", "run")
    code, _, err = run_metarl("train", "maml", f"omniglot:{alphabets},ways=2,shots=1,queries=2", *words)
    assert code == 0, err


def test_a_relative_folder_is_found_from_where_the_run_was_started_only(
    alphabets: Path, run_metarl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, spec = alphabets.parent / "run", f"{alphabets.name},ways=2,shots=1,queries=2"
    assert run_metarl("train", "maml", f"omniglot:{spec}", "--iterations", "1", "--tasks", "1", "--out", run)[0] == 0
    assert run_metarl("evaluate", run, "--tasks", "2", "--no-oracle")[0] == 0
    monkeypatch.chdir(alphabets)
    code, _, err = run_metarl("evaluate", run, "--tasks", "2", "--no-oracle")
    assert code == 2
    assert "omniglot: got no such folder (from " in err
    assert len(err.strip().splitlines()) == 1
