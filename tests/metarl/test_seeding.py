from __future__ import annotations

import json

import pytest

from metarl.seeding import NAMES, Streams


def draws(streams: Streams) -> list[float]:
    return [getattr(streams, name).random() for name in NAMES]


def test_streams_repeat_under_a_seed_and_differ_from_one_another() -> None:
    assert draws(Streams(1)) == draws(Streams(1))
    assert len({*draws(Streams(1)), *draws(Streams(2))}) == 8


def test_evaluation_has_streams_of_its_own_for_each_iteration() -> None:
    assert draws(Streams.for_evaluation(1, 5)) == draws(Streams.for_evaluation(1, 5))
    every = [*draws(Streams(1)), *draws(Streams.for_evaluation(1, 5)), *draws(Streams.for_evaluation(1, 6))]
    assert len(set(every)) == 12


def test_a_state_survives_json_and_goes_on_where_it_was() -> None:
    streams = Streams(1)
    draws(streams)
    state = json.loads(json.dumps(streams.state()))
    expected, again = draws(streams), Streams(99)
    again.restore(state)
    assert draws(again) == expected


@pytest.mark.parametrize("damage", [lambda s: s.pop("policy"), lambda s: s.update(policy={"bit_generator": "MT19937"})])
def test_a_damaged_state_is_refused(damage) -> None:
    state = Streams(1).state()
    damage(state)
    with pytest.raises(ValueError, match="random stream 'policy'"):
        Streams(1).restore(state)


def test_children_depend_on_the_seed_and_their_path_alone() -> None:
    used = Streams(1)
    draws(used)
    used.next()
    assert draws(used.child(3).child(2)) == draws(Streams(1).child(3).child(2))
    every = [Streams(1), Streams(2).child(0), *(Streams(1).child(i) for i in range(3)), Streams(1).child(0).child(0)]
    every += [Streams.for_evaluation(1).child(0), Streams.for_evaluation(1, 0xC41D)]
    assert len({number for streams in every for number in draws(streams)}) == len(NAMES) * len(every)


def test_the_next_child_is_one_further_each_time_also_when_it_is_saved_in_between() -> None:
    streams, again = Streams(1), Streams(9)
    assert draws(streams.next()) == draws(Streams(1).child(0))
    again.restore(json.loads(json.dumps(streams.state())))
    assert draws(again.next()) == draws(streams.next()) == draws(Streams(1).child(1))


def test_a_state_without_a_seed_is_that_of_an_earlier_version() -> None:
    streams, again = Streams(1), Streams(1)
    state = {name: value for name, value in streams.state().items() if name in NAMES}
    again.restore(state)
    assert draws(again) == draws(streams)


@pytest.mark.parametrize(
    "seed", [None, {"entropy": 1}, {"entropy": 1, "spawn_key": 3}, {"entropy": -1, "spawn_key": []}]
)
def test_a_damaged_seed_is_refused(seed: object) -> None:
    with pytest.raises(ValueError, match="random streams: got the seed"):
        Streams(1).restore({**Streams(1).state(), "seed": seed})
