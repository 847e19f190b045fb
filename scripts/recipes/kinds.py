"""The parts of a recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Quantity = Literal["return", "share", "success"]
"""Last return, share of the gap between multitask and oracle, success rate at the last step of the last episode."""

Score = Literal["return", "error", "accuracy"]


@dataclass(frozen=True)
class Bound:
    """A promise of a row.

    Args:
        quantity: The number, after adaptation.
        at_least: Its smallest value, over all seeds and tasks.
    """

    quantity: Quantity
    at_least: float


@dataclass(frozen=True)
class Row:
    """An agent of a table.

    Args:
        label: Name in the table, unique in it. Those of the references are `multitask` and `oracle`.
        agent: Name of the agent.
        minutes: Minutes of a training on one core of an AMD EPYC, to say the cost beforehand: those of `docs/seeds.md`
            on point-robot, of `docs/robots.md` for robots, and of `docs/results/meta-world.md` for references of
            reach-v3; otherwise estimated by env steps and times of an iteration.
        options: Options of `metarl train` that differ from the preset.
        bounds: Promises.
        minus: Label of the row that is subtracted from this one, task by task; that of the recipe by default.
    """

    label: str
    agent: str
    minutes: float
    options: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] = ()
    minus: str = ""

    @property
    def slug(self) -> str:
        """The label as part of a file name."""
        return re.sub(r"[^A-Za-z0-9._]+", "-", self.label).strip("-")


@dataclass(frozen=True)
class Published:
    """A published figure that a reader may compare with.

    Args:
        agent: Name of the method.
        figure: The figure, in words.
        budget: Environment steps.
        protocol: Tasks, episodes and statistic.
        source: Paper or code.
    """

    agent: str
    figure: str
    budget: str
    protocol: str
    source: str


@dataclass(frozen=True)
class Evaluation:
    """Options of `metarl compare` for a table.

    Args:
        tasks: Number of held-out tasks.
        episodes: Episodes per task and collect.
        actions: Samples of the policy, or its mode.
    """

    tasks: int = 40
    episodes: int = 20
    actions: Literal["sample", "mode"] = "sample"


@dataclass(frozen=True)
class Recipe:
    """A table of `docs/results`.

    Args:
        name: Name on the command line, and of the page.
        title: Heading of the page.
        family: Family of all rows.
        references: Rows of `multitask` and `oracle`, between which the share of the gap is measured; of a few-shot
            family the rows of `pooled`, which does not adapt.
        rows: The other rows.
        seeds: Number of trainings of each row, with seeds from 0 on.
        evaluation: How the trained agents are evaluated.
        published: Published figures on this family, or on the nearest one.
        about: Sentences for the page: what differs between rows or from the published protocol.
        score: The measured number: `return` of a family of environments, `error` or `accuracy` of a few-shot family.
        minus: Label of the row that is subtracted from each other one, task by task; empty for none.
    """

    name: str
    title: str
    family: str
    references: tuple[Row, ...]
    rows: tuple[Row, ...]
    seeds: int = 3
    evaluation: Evaluation = Evaluation()
    published: tuple[Published, ...] = ()
    about: str = ""
    score: Score = "return"
    minus: str = ""

    def __post_init__(self) -> None:
        if self.few_shot and any(row.bounds for row in self.every):
            raise ValueError(f"recipe {self.name}: got bounds, expected none: few-shot tables have no promises")

    @property
    def few_shot(self) -> bool:
        """Whether the family is one of examples."""
        return self.score != "return"

    def subtracted(self, row: Row) -> str:
        """Label of the row that is subtracted from a row; empty for none."""
        label = row.minus or self.minus
        return "" if label == row.label or row in self.references else label

    @property
    def every(self) -> tuple[Row, ...]:
        """References and rows, in the order of the table."""
        return (*self.references, *self.rows)


def references(multitask: float, oracle: float, *options: str) -> tuple[Row, Row]:
    """The two references with the same options; their minutes as given."""
    return Row("multitask", "multitask", multitask, options), Row("oracle", "oracle", oracle, options)
