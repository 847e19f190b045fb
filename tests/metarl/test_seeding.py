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
