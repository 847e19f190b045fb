from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from metarl.envs.point_robot import point_robot
from metarl.evaluation import evaluate
from metarl.report import wrapped
from metarl.rollout import collect
from metarl.scripts.film import (
    CAPTION,
    CHARACTER,
    GAP,
    TITLE_LINE,
    TITLE_MARGIN,
    Filmed,
    Take,
    encoded,
    side_by_side,
    still,
)
from metarl.seeding import Streams
from metarl.tasks import Family

TITLE = TITLE_MARGIN + TITLE_LINE
"""Pixels above all, with a title of one line."""
SIZE = (40, 30)


def grey(value: int, width: int = 40, height: int = 30) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


def test_filming_changes_nothing_and_the_returns_are_the_evaluations(make_agent: Any) -> None:
    family = point_robot()
    envs = family.make_envs(1, 3, 12)
    agent = make_agent(spaces=envs.spaces)
    films: list[Filmed] = []

    def filmed(m: int, e: int, t: int) -> Any:
        films[:] = [Filmed(family.make_envs(m, e, t), {0, 2}, SIZE, 25)]
        return films[0]

    def returns(make_envs: Any) -> np.ndarray:
        family_of = Family(
            name=family.name, summary="", distribution=family.distribution, horizon=12, make_envs=make_envs
        )
        tasks = family.distribution.held_out(1)
        return evaluate(agent, family_of, tasks, Streams.for_evaluation(1), adapt_steps=2, episodes=3).returns

    plain, recorded = returns(family.make_envs), returns(filmed)
    assert np.array_equal(plain, recorded)
    assert list(films[0].takes) == [0, 2]
    for k, take in films[0].takes.items():
        assert take.returns[-1] == pytest.approx(plain[0, k, 0], rel=1e-6)
        assert take.steps == list(range(13))
        assert all(frame.shape == (30, 40, 3) for frame in take.frames)
        assert len({frame.tobytes() for frame in take.frames}) > 5, "the point moves"


def test_steps_are_thinned_out_to_the_frame_rate_and_the_last_one_is_kept(make_agent: Any) -> None:
    envs = point_robot().make_envs(2, 1, 11)
    envs.metadata["render_fps"] = 100
    pictures: list[tuple[int, int]] = []
    film = Filmed(envs, {0}, SIZE, 25, lambda done, total: pictures.append((done, total)))
    assert film.fps == 25
    envs.set_tasks(point_robot().distribution.held_out(2))
    agent = make_agent(spaces=envs.spaces)
    collect(cast(Any, film), agent, agent.begin(envs.tasks, 1), Streams(0))
    assert film.takes[0].steps == [0, 4, 8, 11]
    assert pictures == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_clip_is_as_long_as_the_longest_take_and_a_shorter_one_stays_at_its_end() -> None:
    short = Take([grey(10), grey(20)], [0, 1], [0.0, -1.0])
    long = Take([grey(30), grey(40), grey(50)], [0, 1, 2], [0.0, -1.0, -2.0])
    frames = side_by_side([short, long], ["before", "after"], "title", SIZE)
    assert len(frames) == 3
    assert all(frame.shape[0] % 2 == 0 and frame.shape[1] % 2 == 0 for frame in frames)
    y, left, right = TITLE + CAPTION + 15, GAP + 20, GAP + 40 + GAP + 20
    assert [int(frame[y, left, 0]) for frame in frames] == [10, 20, 20]
    assert [int(frame[y, right, 0]) for frame in frames] == [30, 40, 50]


def test_a_still_shows_three_moments_of_each_take_the_last_one_the_end() -> None:
    take = Take([grey(10 * i) for i in range(10)], list(range(10)), [0.0] * 10)
    sheet = still([take, take], ["before", "after"], "title", SIZE)
    ys = [TITLE + i * (30 + CAPTION) + CAPTION + 15 for i in range(3)]
    assert [int(sheet[y, GAP + 20, 0]) for y in ys] == [30, 60, 90]
    assert [int(sheet[y, 2 * GAP + 60, 0]) for y in ys] == [30, 60, 90]


def test_a_long_title_takes_several_lines() -> None:
    take = Take([grey(50)], [0], [0.0])
    sheet = side_by_side([take], ["only"], "rl2 on a robot", SIZE)[0]
    lines = len(wrapped("rl2 on a robot", 40 // CHARACTER).splitlines())
    assert lines == 3
    assert int(sheet[TITLE_MARGIN + lines * TITLE_LINE + CAPTION + 15, GAP + 20, 0]) == 50


def test_pictures_of_another_size_are_fitted_with_their_proportions() -> None:
    take = Take([grey(0, width=10, height=30)], [0], [0.0])
    sheet = side_by_side([take], ["only"], "", SIZE)[0]
    row = sheet[TITLE + CAPTION + 15, GAP : GAP + 40, 0]
    assert int((row < 128).sum()) == 10
    assert row[20] == 0
    assert row[0] == 255


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_clips_can_be_read_back(ending: str, tmp_path: Any) -> None:
    import imageio.v3 as iio

    frames = [np.kron(np.eye(2, dtype=np.uint8) * 20 * i, np.ones((16, 16), dtype=np.uint8)) for i in range(6)]
    data = encoded([np.repeat(frame[..., None], 3, axis=2) for frame in frames], 10.0, ending)
    path = tmp_path / f"clip{ending}"
    path.write_bytes(data)
    back = iio.imread(path, plugin="pyav" if ending == ".mp4" else None)
    assert back.shape[:3] == (6, 32, 32)
    assert abs(int(back[5, 4, 4].mean()) - 100) < 12
    assert int(back[5, 4, 28].mean()) < 12
