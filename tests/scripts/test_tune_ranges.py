"""Ranges of `metarl tune`: their words, their checks, and the default ones."""

from __future__ import annotations

import dataclasses
import shlex

import pytest

from metarl.presets import default_settings
from metarl.registry import AGENTS, names
from metarl.run_setup import RunSettings
from metarl.scripts.train import main as train
from metarl.scripts.tuning.ranges import read_ranges, with_values
from metarl.scripts.tuning.spaces import MOST, default_space
from metarl.scripts.tuning.words import differing_words, text_of, value_of


def settings(agent: str = "rl2", family: str = "point-robot") -> RunSettings:
    training, config = default_settings(agent, family)
    return RunSettings(training=training, agent=config)


def test_each_form_gives_values_of_the_type_of_its_setting() -> None:
    texts = ["learning_rate=log(1e-4,1e-2)", "agent.gae-lambda=uniform(0.9,1)", "units=int(32,128)", "tasks=int(5,10)"]
    texts += [
        "gamma=choice(0.95,0.98)",
        "hidden=choice(none,64x32)",
        "cell=choice(gru, lstm)",
        "anneal=choice(true,false)",
    ]
    rate, trace, units, tasks, gamma, hidden, cell, anneal = read_ranges(texts, settings())
    assert rate.text == "learning_rate=log(0.0001,0.01)"
    assert (rate.ends, rate.value(0.00123456)) == ([1e-4, 1e-2], 0.001235)
    assert rate.value(0.00999999999) == 0.01
    assert (trace.name, trace.of_agent, trace.ends) == ("gae_lambda", True, [0.9, 1.0])
    assert (units.value(64), type(units.value(64))) == (64, int)
    assert (tasks.of_agent, tasks.ends) == (False, [5, 10])
    assert gamma.ends == [0.95, 0.98]
    assert hidden.ends == [(), (64, 32)]
    assert cell.ends == ["gru", "lstm"]
    assert anneal.ends == [True, False]
    assert read_ranges([one.text for one in (rate, trace, units, tasks, gamma, hidden, cell, anneal)], settings()) == (
        rate, trace, units, tasks, gamma, hidden, cell, anneal,
    )  # fmt: skip


def test_values_reach_the_agent_or_the_run() -> None:
    varied = read_ranges(["learning_rate=log(1e-4,1e-2)", "tasks=int(5,10)"], settings())
    changed = with_values(settings(), varied, {"learning_rate": 0.005, "tasks": 7})
    assert (changed.agent.learning_rate, changed.training.tasks) == (0.005, 7)
    assert dataclasses.replace(changed.agent, learning_rate=settings().agent.learning_rate) == settings().agent


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate", "got 'learning_rate', expected NAME=log(LOW,HIGH)"),
        ("learning_rate=exp(1,2)", "got 'exp' in 'learning_rate=exp(1,2)', expected NAME=log(LOW,HIGH)"),
        ("learning_rat=log(1e-4,1e-2)", "got 'learning_rat', which is no setting. Did you mean 'learning_rate'?"),
        ("learning_rate=log(0,1)", "expected numbers above 0 in log(LOW,HIGH)"),
        ("learning_rate=log(1,1e-4)", "expected finite numbers, the lower one first"),
        ("learning_rate=uniform(0,inf)", "expected finite numbers, the lower one first"),
        ("learning_rate=log(1e-4)", "got 1 numbers in 'learning_rate=log(1e-4)'"),
        ("learning_rate=log(a,b)", "expected numbers in log(LOW,HIGH)"),
        ("learning_rate=log(1e-4,1e9)", "which holds an impossible value; agent.learning_rate: got 1000000000.0"),
        ("gamma=uniform(0.5,1.5)", "impossible value; agent.gamma: got 1.5, expected a finite number in [0, 1]"),
        ("learning_rate=int(1,2)", "got 'int' in 'learning_rate=int(1,2)', expected log, uniform or choice"),
        ("units=log(1,2)", "expected int or choice for this setting"),
        ("units=int(1.5,2)", "expected whole numbers in int(LOW,HIGH)"),
        ("units=int(0,20)", "impossible value; agent.units: got 0"),
        ("anneal=int(0,1)", "expected choice for this setting"),
        ("gamma=choice(0.9)", "expected at least two different values"),
        ("gamma=choice(0.9,0.90)", "expected at least two different values"),
        ("gamma=choice(0.9,high)", "got 'high', expected a number in 'gamma=choice(0.9,high)'"),
        ("cell=choice(gru,elman)", "impossible value; agent.cell: got 'elman', expected one of gru"),
        ("anneal=choice(yes,no)", "got 'yes', expected true or false"),
        ("seed=int(1,5)", "got 'seed', a setting that all trials share"),
        ("eval_tasks=int(1,5)", "of the run may vary: tasks, episodes, train_tasks"),
        ("agent.tasks=int(1,5)", "got 'agent.tasks', which is no setting"),
    ],
)  # fmt: skip
def test_a_wrong_range_is_refused_with_what_is_possible(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="--vary: ") as error:
        read_ranges([text], settings())
    assert said in str(error.value)


def test_one_setting_has_one_range() -> None:
    with pytest.raises(ValueError, match="got 'gamma' twice"):
        read_ranges(["gamma=choice(0.9,0.95)", "agent.gamma=uniform(0.9,1)"], settings())


@pytest.mark.parametrize("agent", names(AGENTS))
def test_the_default_space_of_every_agent_holds_its_preset(agent: str) -> None:
    start = settings(agent, "half-cheetah-vel-3")
    texts = default_space(start)
    varied = read_ranges(texts, start)
    assert 1 <= len(varied) <= MOST
    for one in varied:
        drawn = one.drawn(one.of(start))
        assert drawn is not None, one.text
        assert one.form != "choice" or one.value(drawn) == one.of(start)


def test_an_agent_without_common_settings_has_to_be_told() -> None:
    @dataclasses.dataclass(frozen=True)
    class Config:
        noise: float = 0.1

    with pytest.raises(ValueError, match=r"add --vary .*there are: noise"):
        default_space(dataclasses.replace(settings(), agent=Config()))


@pytest.mark.parametrize("value", [True, False, None, 3, 0.0003, (), (64,), (64, 32), "gru"])
def test_words_and_values_are_inverse(value: object) -> None:
    kinds = {bool: bool, int: int, float: float, tuple: tuple[int, ...], str: str, type(None): int | None}
    assert value_of(text_of(value), kinds[type(value)]) == value


def test_the_words_of_settings_are_understood_by_train(monkeypatch: pytest.MonkeyPatch) -> None:
    start = settings()
    agent = dataclasses.replace(start.agent, normalise_observations=False, anneal=True, hidden=(8, 4), encoder=())
    wanted = RunSettings(
        training=dataclasses.replace(start.training, tasks=3, eval_every=0),
        agent=dataclasses.replace(agent, learning_rate=0.00123, cell="lstm"),
    )
    seen = []
    monkeypatch.setattr("metarl.scripts.train.train_all", lambda door, runs, family: seen.extend(runs) or 0)
    words = differing_words(wanted, start)
    assert train(["rl2", "point-robot", *shlex.split(shlex.join(words))]) == 0
    ((_, run),) = seen
    assert run.agent_config == wanted.agent
    assert (run.training.tasks, run.training.eval_every) == (3, 0)
    assert dataclasses.replace(run.training, tasks=start.training.tasks, eval_every=10, blocks=0, device="auto") == (
        dataclasses.replace(start.training, eval_every=10)
    )
