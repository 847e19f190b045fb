from __future__ import annotations

import numpy as np
import pytest

from metarl.gymnasium_envs.vary import distribution_of, parse_variation, parse_variations
from metarl.tasks import ContinuousTasks, DiscreteTasks


def values(text: str, u: list[float]) -> list[list[float]]:
    parameter = parse_variation(text).parameter()
    return parameter.transform(np.array(u).reshape(-1, parameter.variates)).tolist()


def test_uniform_and_choice_map_uniform_variates_to_values() -> None:
    assert values("g = uniform(5, 15)", [0.0, 0.5]) == [[5.0], [10.0]]
    assert values("goal=uniform(-1,1,size=2)", [0.0, 0.75]) == [[-1.0, 0.5]]
    assert values("d=choice(-1,1,4)", [0.0, 0.4, 0.99]) == [[-1.0], [1.0], [4.0]]
    assert parse_variation(" g = uniform( 5 , 1.5e1 ) ").text == "g=uniform(5,1.5e1)"


def test_components_may_have_ranges_of_their_own_and_a_choice_may_be_of_vectors() -> None:
    assert values("goal=uniform([-1, 0.2],[1, 0.8])", [0.0, 0.5]) == [[-1.0, 0.5]]
    assert values("goal=uniform([0,1],2)", [0.5, 0.5]) == [[1.0, 1.5]]
    assert values("goal=uniform([0],[1])", [0.5]) == [[0.5]]
    assert values("goal=choice([0,1],[1,0])", [0.0, 0.9]) == [[0.0, 1.0], [1.0, 0.0]]
    assert not parse_variation("goal=choice([0,1],[1,0])").as_int
    assert parse_variation("goal=uniform([-1,0.2],[1,0.8])").parameter().meaning.endswith("[-1, 1) x [0.2, 0.8)")
    two = distribution_of("f", parse_variations(["goal=choice([0,1],[1,0])"]))
    assert [task["goal"] for task in two.held_out()] == [(0.0, 1.0), (1.0, 0.0)]


def test_a_parameter_is_hidden_unless_it_says_otherwise() -> None:
    for text, hidden in (
        ("g=uniform(0,1)", True),
        ("g=uniform(0,1,size=2,hidden=False)", False),
        ("g=uniform(0,1,hidden=false,size=2)", False),
        ("g=choice(1,2,hidden=false)", False),
        ("g=choice(1,2,hidden=true)", True),
    ):
        assert parse_variation(text).parameter().hidden == hidden
        assert distribution_of("f", parse_variations([text])).parameters[0].hidden == hidden


def test_only_choices_of_whole_numbers_are_handed_over_as_int() -> None:
    assert [parse_variation(t).as_int for t in ("n=choice(1,2)", "n=choice(1,2.0)", "n=uniform(1,2)")] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g", "NAME=uniform"),
        ("g=normal(0,1)", "NAME=uniform"),
        ("__import__('os')=uniform(0,1)", "NAME=uniform"),
        ("g=uniform(0,(1))", "NAME=uniform"),
        ("g=uniform(0,x)", "expected numbers"),
        ("g=uniform(0,inf)", "finite"),
        ("g=uniform(1)", "LOW below HIGH"),
        ("g=uniform(2,1)", "LOW below HIGH"),
        ("g=uniform(0,1,size=0)", "expected numbers"),
        ("g=choice(1)", "two different"),
        ("g=choice(1,1)", "two different"),
        ("g=uniform(0,1,size=20000)", "N from 1 to 10000"),
        ("g=uniform(0,1,size=99999999999999999999)", "N from 1 to 10000"),
        ("g=uniform(0,1,size=2,size=3)", "expected numbers"),
        ("g=uniform(0,1,hidden=no)", "hidden=false"),
        ("g=uniform([0,1],[1,0.5])", r"LOW below HIGH .*component 1"),
        ("g=uniform([0,1],[1,2],size=3)", "size=3"),
        ("g=uniform([0,1],[1])", "LOW below HIGH"),
        ("g=uniform([0,1][2,3])", "expected numbers"),
        ("g=uniform([0,1],[2,3)", "expected numbers"),
        ("g=uniform([],[])", "expected numbers"),
        ("g=uniform(1,,2)", "expected numbers"),
        ("g=uniform(-1e308,1e308)", "LOW below HIGH"),
        ("g=choice([0,1],[1])", "as many numbers each"),
        ("g=choice([0,1],[0,1])", "two different"),
    ],
)
def test_anything_else_is_refused(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        parse_variation(text)
    with pytest.raises(ValueError, match="got 'g' 2 times"):
        parse_variations(["g=uniform(0,1)", "g=choice(1,2)"])


def test_ranges_give_endless_tasks_and_choices_are_counted_out() -> None:
    mixed = distribution_of("f", parse_variations(["g=uniform(0,1)", "d=choice(-1,1)"]))
    assert isinstance(mixed, ContinuousTasks)
    two = distribution_of("f", parse_variations(["d=choice(-1,1)"]))
    assert not two.splits
    eight = distribution_of("f", parse_variations(["d=choice(-1,1)", "n=choice(1,2,3,4)"]))
    assert isinstance(eight, DiscreteTasks)
    assert (len(eight.train), len(eight.held_out())) == (6, 2)
    assert len({*eight.train, *eight.held_out()}) == 8
    again = distribution_of("f", parse_variations(["d=choice(-1,1)", "n=choice(1,2,3,4)"]))
    assert again.held_out() == eight.held_out()
    many = [f"{name}=choice({','.join(map(str, range(30)))})" for name in "abc"]
    with pytest.raises(ValueError, match="27000 combinations"):
        distribution_of("f", parse_variations(many))
