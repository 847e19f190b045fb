"""Way 3: a package that registers a family; see docs/custom-environments.md."""

from __future__ import annotations

import gymnasium

from metarl import Family, gymnasium_family, uniform


def make_cart() -> gymnasium.Env:
    """Gymnasium's cart with a pole: discrete actions, and termination when the pole falls."""
    return gymnasium.make("CartPole-v1", max_episode_steps=-1)


def cart() -> Family:
    """The family that `metarl list` shows as `my-cart`."""
    return gymnasium_family(
        make_cart,
        name="my-cart",
        summary="balance a pole under unknown gravity",
        parameters=[uniform("gravity", 2.0, 20.0, meaning="gravity, m/s^2")],
        horizon=100,
    )
