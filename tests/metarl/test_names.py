from __future__ import annotations

import pytest

from metarl.names import did_you_mean, nearest

KNOWN = ("maml-trpo", "rl2", "half-cheetah-vel", "Pendulum-v1", "Swimmer-v5", "oracle", "reach")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("maml_trpo", "maml-trpo"),
        ("maml", "maml-trpo"),
        ("rl3", "rl2"),
        ("halfcheetah-vel", "half-cheetah-vel"),
        ("pendulum", "Pendulum-v1"),
        ("reech", "reach"),
        ("Poimt", None),
        ("nosuch", None),
        ("FetchReach-v4", None),
        ("", None),
        ("x" * 10_000, None),
    ],
)
def test_only_a_name_that_is_near_is_offered(name: str, expected: str | None) -> None:
    assert nearest(name, KNOWN) == expected
    assert did_you_mean(name, KNOWN) == (f" Did you mean {expected!r}?" if expected else "")
    assert nearest(name, ()) is None
