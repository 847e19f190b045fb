"""Examples of a family are checked before a learner sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metarl.few_shot.draws import DrawError, drawn
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.shots import Shots, ShotSpaces
from metarl.parameters import uniform
from metarl.tasks import ContinuousTasks

TASKS, SHOTS, QUERIES, WAYS = 3, 4, 5, 3
REAL = ShotSpaces(x_shape=(2,), y_size=1, classification=False, shots=SHOTS, queries=QUERIES)
CLASSES = ShotSpaces(x_shape=(2,), y_size=WAYS, classification=True, shots=SHOTS, queries=QUERIES)


def _family(found: Any, spaces: ShotSpaces = REAL) -> FewShotFamily:
    """A family that draws the given examples, or calls a function."""
    return FewShotFamily(
        name="lines",
        summary="lines",
        distribution=ContinuousTasks("lines", (uniform("slope", -1.0, 1.0, meaning="slope"),)),
        spaces=spaces,
        draw=lambda tasks, shots, queries, rng: found() if callable(found) else found,
    )


def _shots(count: int, spaces: ShotSpaces = REAL) -> Shots:
    x = np.random.default_rng(0).standard_normal((TASKS, 1, count * spaces.per_shot, 2))
    if spaces.classification:
        return Shots(x, np.tile(np.eye(WAYS), (TASKS, 1, count, 1)), score_name="accuracy")
    return Shots(x, x.sum(axis=-1, keepdims=True))


def _drawn(found: Any, spaces: ShotSpaces = REAL) -> tuple[Shots, Shots]:
    family = _family(found, spaces)
    return drawn(family, family.distribution.train_tasks(TASKS), SHOTS, QUERIES, np.random.default_rng(0))


@pytest.mark.parametrize("spaces", [REAL, CLASSES])
def test_right_examples_pass_unchanged(spaces: ShotSpaces) -> None:
    given = _shots(SHOTS, spaces), _shots(QUERIES, spaces)
    for one, other in zip(_drawn(given, spaces), given, strict=True):
        assert one.x is other.x
        assert one.y is other.y
        assert one.score_name == other.score_name


def test_other_types_of_numbers_become_float32() -> None:
    support = _shots(SHOTS)
    support = Shots((support.x * 9).astype(np.int64), support.y.astype(np.longdouble))
    found, _ = _drawn((support, _shots(QUERIES)))
    assert found.x.dtype == found.y.dtype == np.float32
    np.testing.assert_array_equal(found.x, support.x)


def _changed(name: str, change: Any) -> tuple[Shots, Shots]:
    support = _shots(SHOTS)
    arrays = {"x": support.x, "y": support.y}
    return Shots(**arrays | {name: change(arrays[name].copy())}), _shots(QUERIES)


def _nan(values: np.ndarray) -> np.ndarray:
    values[1, 0, 2] = np.nan
    return values


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (None, "its draw gave None, expected two metarl.Shots"),
        ((np.zeros(3), np.zeros(3)), "expected two metarl.Shots"),
        (_changed("x", lambda x: x.tolist()), "a support with x of the type list, expected a NumPy array"),
        (_changed("y", lambda y: y.astype(object)), "with y of an array of object, expected"),
        (_changed("x", lambda x: x[..., :1]), r"with x of shape \(3, 1, 4, 1\), expected \(3, 1, 4, 2\)"),
        (_changed("y", lambda y: y[..., 0]), r"with y of shape \(3, 1, 4\), expected \(3, 1, 4, 1\)"),
        (_changed("y", lambda y: y.repeat(2, axis=-1)), r"with y of shape \(3, 1, 4, 2\), expected"),
        (_changed("x", lambda x: x[:1]), r"with x of shape \(1, 1, 4, 2\), expected \(3, 1, 4, 2\)"),
        (_changed("y", _nan), "with 1 of 12 numbers of y not finite"),
        ((_shots(0), _shots(QUERIES)), r"a support with x of shape \(3, 1, 0, 2\), expected"),
        ((_shots(SHOTS), _shots(1)), r"queries with x of shape \(3, 1, 1, 2\), expected \(3, 1, 5, 2\)"),
    ],
)
def test_wrong_examples_are_refused(found: Any, line: str) -> None:
    with pytest.raises(DrawError, match=f"^family 'lines': its draw gave .*|{line}") as caught:
        _drawn(found)
    assert caught.match(line)
    assert not caught.value.trace


@pytest.mark.parametrize("labels", [np.full((WAYS, WAYS), 1 / WAYS), np.zeros((WAYS, WAYS)), np.ones((WAYS, WAYS))])
def test_labels_that_are_not_one_hot_are_refused(labels: np.ndarray) -> None:
    support = _shots(SHOTS, CLASSES)
    wrong = Shots(support.x, np.tile(labels, (TASKS, 1, SHOTS, 1)))
    with pytest.raises(DrawError, match="y that is not one-hot, expected one 1 per example"):
        _drawn((wrong, _shots(QUERIES, CLASSES)), CLASSES)


def test_a_support_sorted_by_class_is_refused_and_such_queries_are_not() -> None:
    def by_class(shots: Shots) -> Shots:
        order = np.argsort(shots.y[0, 0].argmax(axis=-1), kind="stable")
        return Shots(shots.x[:, :, order], shots.y[:, :, order])

    support, queries = _shots(SHOTS, CLASSES), _shots(QUERIES, CLASSES)
    _drawn((support, by_class(queries)), CLASSES)
    with pytest.raises(DrawError, match="support in another order, expected shot after shot"):
        _drawn((by_class(support), queries), CLASSES)


def test_an_exception_of_the_users_draw_is_one_line_with_its_traceback() -> None:
    def draw() -> Any:
        raise ZeroDivisionError("no slope")

    with pytest.raises(
        DrawError, match=r"'lines' raised ZeroDivisionError when it drew examples \(no slope\)"
    ) as caught:
        _drawn(draw)
    assert "in draw" in caught.value.trace


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shots": 0}, "got shots 0, expected a whole number, at least 1"),
        ({"queries": 2.5}, "got queries 2.5, expected a whole number, at least 1"),
        ({"y_size": True}, "got y_size True, expected"),
        ({"classification": True}, "got y_size 1, expected a whole number, at least 2"),
        ({"x_shape": ()}, r"got x_shape \(\), expected \(I,\), or \(channels, height, width\)"),
        ({"x_shape": (2, 3)}, "got x_shape"),
        ({"x_shape": 2}, "got x_shape 2, expected"),
        ({"x_shape": (1, 0, 3)}, "got x_shape"),
    ],
)
def test_wrong_sizes_are_refused(changes: dict[str, Any], line: str) -> None:
    sizes: dict[str, Any] = {"x_shape": (2,), "y_size": 1, "classification": False, "shots": 1, "queries": 1}
    with pytest.raises(ValueError, match=line):
        ShotSpaces(**sizes | changes)


def test_sizes_of_numpy_and_lists_become_plain_numbers() -> None:
    shape: Any = [np.int64(2)]
    spaces = ShotSpaces(shape, y_size=1, classification=False, shots=np.int64(4), queries=5)  # type: ignore[arg-type]
    assert spaces == ShotSpaces((2,), y_size=1, classification=False, shots=4, queries=5)
    assert type(spaces.shots) is type(spaces.x_shape[0]) is int


def test_as_many_shots_as_in_training_can_be_drawn() -> None:
    family = FewShotFamily(
        name="lines",
        summary="lines",
        distribution=ContinuousTasks("lines", (uniform("slope", -1.0, 1.0, meaning="slope"),)),
        spaces=REAL,
        draw=lambda tasks, shots, queries, rng: (_shots(shots), _shots(queries)),
        most_shots=1,
    )
    assert family.most_shots == SHOTS
