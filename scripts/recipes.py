"""Recipes of the tables of `docs/results`, as data: `metarl reproduce NAME` makes each by one command.

A recipe is added by an entry of `RECIPES`; `docs/reproduce.md` says how its numbers are chosen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Quantity = Literal["return", "share", "success"]
"""Last return, share of the gap between multitask and oracle, success rate at the last step of the last episode."""


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
    """

    label: str
    agent: str
    minutes: float
    options: tuple[str, ...] = ()
    bounds: tuple[Bound, ...] = ()

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
        references: Rows of `multitask` and `oracle`, between which the share of the gap is measured.
        rows: The other rows.
        seeds: Number of trainings of each row, with seeds from 0 on.
        evaluation: How the trained agents are evaluated.
        published: Published figures on this family, or on the nearest one.
        about: Sentences for the page: what differs between rows or from the published protocol.
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

    @property
    def every(self) -> tuple[Row, ...]:
        """References and rows, in the order of the table."""
        return (*self.references, *self.rows)


def _references(multitask: float, oracle: float, *options: str) -> tuple[Row, Row]:
    """The two references with the same options; their minutes as given."""
    return Row("multitask", "multitask", multitask, options), Row("oracle", "oracle", oracle, options)


PPO_CHEETAH: tuple[str, ...] = ("--iterations", "200", "--tasks", "40", "--episodes", "2", "--eval-every", "20")
PPO_CHEETAH += ("--agent.learning-rate", "7e-4", "--agent.minibatches", "16", "--agent.gamma", "0.99")
PPO_CHEETAH += ("--agent.normalise-observations", "--agent.init-std", "0.6", "--agent.min-std", "0.1")
"""Run and PPO's settings of `rma` on families of dynamics, for agents without a preset there."""
RL2_DYNAMICS: tuple[str, ...] = ("--iterations", "400", "--tasks", "40", "--episodes", "1", "--eval-every", "20")
RL2_DYNAMICS += ("--agent.learning-rate", "1e-3", "--agent.anneal", "--agent.minibatches", "8", "--agent.gamma", "0.99")
RL2_DYNAMICS += ("--agent.normalise-observations", "--agent.init-std", "0.6", "--agent.min-std", "0.1")
RL2_DYNAMICS += ("--agent.units", "24", "--agent.encoder", "--agent.hidden", "128", "128")
"""Settings of `rl2` on half-cheetah-vel-3, with the discount of `rma` on families of dynamics."""
DYNAMICS_ABOUT = (
    "multitask, oracle and rl2 have no preset on this family: here they have the PPO settings of rma, and rl2 has the "
    "network of its preset on half-cheetah-vel-3. Nothing was chosen by results on this family."
)
GO1 = "menagerie:unitree_go1?payload=uniform(0,5)&floor_friction=uniform(0.3,1.2)&motor_strength=uniform(0.7,1.1)"
GO1 += "&timestep=0.004&cone=pyramidal"
SO_ARM100 = "menagerie:trs_so_arm100?payload=uniform(0,0.3)&site=fixed_jaw_pad_1&timestep=0.004&cone=pyramidal"

POINT_ROBOT = Recipe(
    name="point-robot",
    title="Point robot: goals that the observation does not contain",
    family="point-robot",
    references=_references(0.4, 0.2),
    rows=(
        Row("maml-trpo", "maml-trpo", 1.1),
        Row("promp", "promp", 0.6),
        Row("pearl", "pearl", 2.2, bounds=(Bound("return", -6.0),)),
        Row("rl2", "rl2", 1.0),
        Row("varibad", "varibad", 1.9),
        Row("recurrent-sac", "recurrent-sac", 6.1),
        Row("rma", "rma", 1.7),
    ),
    about="Every agent has its preset. rma is told the goal in training, and estimates it from its history when it is "
    "evaluated.",
)

HALF_CHEETAH_VEL_3 = Recipe(
    name="half-cheetah-vel-3",
    title="Half-cheetah: velocities from 0 to 3 m/s, episodes of 200 steps",
    family="half-cheetah-vel-3",
    references=_references(4.0, 4.0),
    rows=(
        Row("maml-trpo", "maml-trpo", 8.0, ("--horizon", "200")),
        Row("promp", "promp", 14.0, ("--iterations", "200", "--horizon", "200", "--agent.action-scale", "10")),
        Row("pearl", "pearl", 18.0),
        Row("rl2 gru", "rl2", 12.0),
        Row("rl2 attention", "rl2", 100.0, ("--agent.cell", "attention")),
        Row("rl2 mingru", "rl2", 12.0, ("--agent.cell", "mingru")),
        Row("varibad", "varibad", 15.0),
        Row("recurrent-sac", "recurrent-sac", 25.0),
    ),
    about="Every agent has its preset, with episodes of 200 steps in all rows; promp has that of half-cheetah-vel.",
)

DYNAMICS = {
    "hopper-rand-params": Recipe(
        name="hopper-rand-params",
        title="Hopper: unknown masses, moments, friction and damping",
        family="hopper-rand-params",
        references=_references(8.0, 8.0, *PPO_CHEETAH),
        rows=(
            Row("rma", "rma", 12.0, (*PPO_CHEETAH, "--agent.no-history-rewards", "--agent.buffer-trials", "1000")),
            Row("rl2", "rl2", 12.0, RL2_DYNAMICS),
        ),
        about=DYNAMICS_ABOUT,
    ),
    "half-cheetah-crippled": Recipe(
        name="half-cheetah-crippled",
        title="Half-cheetah: one of its motors is dead",
        family="half-cheetah-crippled",
        references=_references(4.0, 4.0, *PPO_CHEETAH),
        rows=(
            Row("rma", "rma", 8.0),
            Row("rl2", "rl2", 8.0, RL2_DYNAMICS),
            Row("grbal", "grbal", 30.0),
        ),
        about=DYNAMICS_ABOUT,
    ),
}

ROBOTS = {
    "go1": Recipe(
        name="go1",
        title="Unitree Go1: unknown payload, floor friction and motor strength",
        family=GO1,
        references=_references(21.0, 19.0),
        rows=(Row("rma", "rma", 47.0), Row("rl2", "rl2", 48.0)),
        about="Every agent has its preset for robots that walk.",
    ),
    "so-arm100": Recipe(
        name="so-arm100",
        title="SO-ARM100: an unknown payload, and a place to reach",
        family=SO_ARM100,
        references=_references(5.0, 4.0),
        rows=(Row("rma", "rma", 25.0), Row("rl2", "rl2", 41.0)),
        about="Every agent has its preset for robots that reach.",
    ),
}

REACH = Recipe(
    name="reach-v3",
    title="Meta-World, ML1 reach-v3: targets that the observation does not contain",
    family="ml1:reach-v3",
    references=_references(6.5, 6.5),
    rows=(Row("rl2", "rl2", 25.0, bounds=(Bound("success", 0.6), Bound("share", 0.7))),),
    about="Every agent has its preset of 2M environment steps. A rate of success at any step is no sign of skill here: "
    "a hand that shakes around the middle of the targets passes through many of them.",
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (POINT_ROBOT, HALF_CHEETAH_VEL_3, *DYNAMICS.values(), *ROBOTS.values(), REACH)
}
"""The recipes by name."""
