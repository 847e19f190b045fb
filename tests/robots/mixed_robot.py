"""A half-cheetah with a target velocity from a range, and one dead actuator from a list."""

from __future__ import annotations

from metarl import Family
from metarl.envs.half_cheetah import HalfCheetah
from metarl.envs.locomotion import locomotion_family, speed
from metarl.envs.variation import Change, Dead, Variation

CRIPPLED = Variation(Change("actuator_gear", Dead(train=(("bshin",), ("fshin",)), withheld=(("bfoot",),))))


def make_family() -> Family:
    return locomotion_family("crippled-vel", HalfCheetah, "run at a velocity", goal=speed(0.0, 3.0), variation=CRIPPLED)
