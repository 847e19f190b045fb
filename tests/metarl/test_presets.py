"""Presets: registered tables, and the agents' own sizes."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pytest

from metarl.presets import GROUP, Preset, any_family, default_settings, preset, split_settings
from metarl.registry import AGENTS, agent_class, names

PPO = {"rl2", "varibad", "rma", "multitask", "oracle"}
PLANNING = {"mb-mpc", "grbal", "rebal"}


class Point:
    """An entry point of another package."""

    name, value = "other", "other_package:TABLES"

    def __init__(self, tables: Any) -> None:
        self._tables = tables

    def load(self) -> Any:
        return self._tables


class Announced:
    """All entry points, with other tables."""

    def __init__(self, points: list[Any]) -> None:
        self._points, self._all = points, entry_points()

    def select(self, group: str) -> Any:
        return self._points if group == GROUP else self._all.select(group=group)


def announce(monkeypatch: pytest.MonkeyPatch, *points: Any) -> None:
    """Lets these tables be registered."""
    monkeypatch.setattr("metarl.presets.entry_points", lambda: Announced(list(points)))


OURS = EntryPoint("metarl", "metarl.scripts.presets:TABLES", GROUP)


def test_a_table_that_names_an_agent_nobody_announces_ends_every_training(
    run_metarl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(monkeypatch, OURS, Point({"default": {("rl3", "point-robot"): Preset()}}))
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--help")
    assert code == 2
    assert "presets: got the agents rl3 in other_package:TABLES, expected registered ones: " in err
    assert "maml-trpo" in err.partition("registered ones: ")[2]


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (3, "presets of other_package:TABLES: expected a mapping from 'default' to presets by"),
        ({"default": 3}, "presets of other_package:TABLES: expected a mapping"),
        ({"default": {("rl2", "point-robot"): 3}}, "presets of other_package:TABLES: expected a mapping"),
        ({"default": {"rl2": Preset()}}, "presets of other_package:TABLES: got a preset for 'rl2', expected one for"),
        (
            {"default": {("maml-trpo", "point-robot"): Preset(training={"tassks": 3})}},
            "presets: got the setting 'tassks' for maml-trpo on point-robot, which TrainConfig does not have. Did you "
            "mean 'tasks'?",
        ),
        (
            {"default": {("maml-trpo", "point-robot"): Preset(agent={"units": 3})}},
            "presets: got the setting 'units' for maml-trpo on point-robot, which MamlTrpoConfig does not have.",
        ),
    ],
)
def test_a_wrong_table_of_another_package_is_one_line_that_names_it(
    run_metarl: Any, monkeypatch: pytest.MonkeyPatch, tables: Any, expected: str
) -> None:
    announce(monkeypatch, OURS, Point(tables))
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--help")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert expected in err


def test_a_table_that_cannot_be_imported_names_its_package(run_metarl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch, OURS, EntryPoint("other", "no_such_package:TABLES", GROUP))
    code, _, err = run_metarl("train", "maml-trpo", "point-robot", "--help")
    assert code == 2
    said = "metarl: error: presets of no_such_package:TABLES raised ModuleNotFoundError when they were imported"
    assert err.splitlines()[-1].startswith(said)


def test_another_package_may_announce_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {("reptile", "my-family"): Preset(training={"tasks": 7}, agent={"outer_lr": 0.3}, source="theirs")}
    announce(monkeypatch, OURS, Point({"default": table}))
    training, config = default_settings("reptile", "my-family:size=3")
    assert (training.tasks, config.outer_lr) == (7, 0.3)
    assert preset("maml-trpo", "half-cheetah-vel").training["iterations"] == 90


def test_without_any_table_the_installation_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(monkeypatch)
    with pytest.raises(ValueError, match="expected metarl's own; reinstall metarl"):
        preset("reptile", "point-robot")


@pytest.mark.parametrize("name", names(AGENTS))
def test_every_agent_has_sizes_of_its_own_for_any_family(name: str) -> None:
    training, config = default_settings(name, "a-family-without-presets")
    expected = {"pearl": (10, 2, 100), "recurrent-sac": (10, 2, 0)}.get(name, (20, 4 if name in PPO else 10, 0))
    expected = (10, 1, 0) if name in PLANNING else expected
    assert (training.tasks, training.episodes, training.train_tasks) == expected
    assert getattr(config, "normalise_observations", False) is (name in PPO | {"recurrent-sac"})
    assert "two cores" in preset(name, "a-family-without-presets").source


def test_an_agent_without_such_sizes_starts_from_the_defaults() -> None:
    class Bare:
        Config = agent_class("reptile").Config

    assert any_family(Bare) == Preset()  # type: ignore[arg-type]
    Bare.default_settings = {"tsks": 3}  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="'tsks', which neither a run nor Bare has"):
        any_family(Bare)  # type: ignore[arg-type]


def test_a_name_that_a_run_and_an_agent_share_is_refused() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Config:
        seed: int = 0

    kind: Any = type("Seeded", (), {"Config": Config})
    with pytest.raises(ValueError, match="'seed', a setting of a run and of Seeded"):
        split_settings(kind, {"seed": 3})
