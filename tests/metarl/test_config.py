from __future__ import annotations

import dataclasses
import inspect
import json
import math
import typing

import pytest

from metarl.agents.maml_trpo import MamlTrpoConfig
from metarl.config import Range, check, from_json, to_json
from metarl.registry import AGENTS, agent_class, names
from metarl.runs import TrainConfig
from metarl.types import Spaces, TaskParameter

CONFIGS = [TrainConfig, *(agent_class(name).Config for name in names(AGENTS))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner_lr": -0.1}, r"inner_lr: got -0.1, expected a finite number >= 0"),
        ({"inner_lr": math.nan}, r"inner_lr: got nan"),
        ({"max_kl": 0.0}, r"max_kl: got 0.0, expected a finite number > 0"),
        ({"max_kl": math.inf}, r"max_kl: got inf"),
        ({"gamma": 1.5}, r"gamma: got 1.5, expected a finite number in \[0, 1\]"),
        ({"line_search_decay": 1.0}, r"in \(0, 1\)"),
        ({"inner_steps": 0}, r"inner_steps: got 0, expected a whole number >= 1"),
        ({"inner_steps": 1.5}, r"inner_steps: got 1.5"),
        ({"inner_steps": True}, r"inner_steps: got True"),
        ({"inner_steps": 10**400}, r"inner_steps: got 10+, expected a whole number >= 1, at most 1,000$"),
        ({"max_kl": 1e308}, r"max_kl: got 1e\+308, expected a finite number > 0, at most 1,000,000$"),
        ({"max_kl": 10**400}, r"max_kl: got 10+, expected a finite number > 0"),
        ({"hidden": (64, 65_537)}, r"hidden: got 65537, expected a whole number >= 1, at most 65,536$"),
        ({"hidden": (64, 0)}, r"hidden: got 0"),
        ({"hidden": 64}, r"hidden: got 64, expected a sequence"),
        ({"activation": "gelu"}, r"activation: got 'gelu', expected one of tanh, relu"),
        ({"normalise_rewards": 1}, r"normalise_rewards: got 1, expected a bool"),
    ],
)
def test_values_out_of_range_are_named(changes: dict[str, object], message: str) -> None:
    check(MamlTrpoConfig())
    with pytest.raises(ValueError, match=message):
        check(MamlTrpoConfig(**changes))


def test_nested_fields_are_checked_with_their_path() -> None:
    outer = dataclasses.make_dataclass("Outer", [("inner", MamlTrpoConfig)])
    with pytest.raises(ValueError, match=r"inner\.max_kl: got 0"):
        check(outer(MamlTrpoConfig(max_kl=0)))


@pytest.mark.parametrize("config", [MamlTrpoConfig(hidden=(3, 2)), TrainConfig(seed=7)])
def test_a_configuration_survives_json(config: object) -> None:
    assert from_json(type(config), json.loads(json.dumps(to_json(config)))) == config


def test_json_of_another_form_is_refused() -> None:
    value = to_json(TrainConfig())
    for damaged in ({**value, "extra": 1}, {k: v for k, v in value.items() if k != "seed"}, {**value, "seed": -1}, [1]):
        with pytest.raises(ValueError, match="expected"):
            from_json(TrainConfig, damaged)


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_field_has_a_string_under_it_and_configurations_are_frozen(kind: type) -> None:
    source = "".join(inspect.getsource(base) for base in kind.__mro__ if dataclasses.is_dataclass(base))
    for field in dataclasses.fields(kind):
        declaration = source.index(f"\n    {field.name}: ")
        following = source[declaration + 1 :].split("\n", 2)[1].strip()
        assert following.startswith('"""'), field.name
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind().seed = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", CONFIGS)
def test_help_shows_the_range_that_is_checked(kind: type) -> None:
    for hint in typing.get_type_hints(kind, include_extras=True).values():
        if typing.get_origin(hint) is typing.Annotated:
            limits = next(e for e in typing.get_args(hint) if isinstance(e, Range))
            metavar = next(e.metavar for e in typing.get_args(hint) if hasattr(e, "metavar"))
            assert metavar.endswith(str(limits))


def test_sequences_of_dataclasses_come_back_as_they_were() -> None:
    told = (TaskParameter("legs", 2, ((0.0, 1.0), (1.0, 0.0))), TaskParameter("goal", 3))
    spaces = Spaces(2, (-1.0,), (1.0,), 5, observation_units=("m", "rad"), task_parameters=told)
    back = from_json(Spaces, json.loads(json.dumps(to_json(spaces))))
    assert (back, back.observation_units, back.task_parameters) == (spaces, spaces.observation_units, told)
    broken = to_json(spaces) | {"task_parameters": [{"name": "goal"}]}
    with pytest.raises(ValueError, match=r"task_parameters.*expected the fields \['categories', 'name', 'size'\]"):
        from_json(Spaces, broken)
