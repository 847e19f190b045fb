"""Recipes of the tables of `docs/results`, as data: `metarl reproduce NAME` makes each by one command.

A recipe is added by an entry of `RECIPES`; `docs/reproduce.md` says how its numbers are chosen.
"""

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
PLANNERS = (
    Row("rl2, 60,000 steps", "rl2", 0.3, ("--iterations", "15", "--tasks", "10", "--episodes", "1")),
    Row("mb-mpc", "mb-mpc", 11.0, ("--eval-every", "0")),
    Row("grbal", "grbal", 12.0, ("--eval-every", "0")),
)
"""Agents that plan, and a policy with the same env steps."""
PLANNERS_ABOUT = "mb-mpc and grbal have their presets of 60,000 env steps; a row of rl2 has as many."
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
        Row("fomaml", "fomaml", 0.6),
        Row("reptile", "reptile", 0.7),
        Row("meta-sgd", "meta-sgd", 1.2),
        Row("promp", "promp", 0.6),
        Row("gbml", "gbml", 1.3),
        Row("meta-lstm", "meta-lstm", 1.9),
        Row("meta-networks", "meta-networks", 2.0),
        Row("pearl", "pearl", 2.2, bounds=(Bound("return", -6.0),)),
        Row("rl2 gru", "rl2", 1.0),
        Row("rl2 attention", "rl2", 7.1, ("--agent.cell", "attention", "--agent.anneal")),
        Row("rl2 snail", "rl2", 4.7, ("--agent.cell", "snail")),
        Row("varibad", "varibad", 1.9),
        Row("recurrent-sac", "recurrent-sac", 6.1),
        Row("rma", "rma", 1.7),
    ),
    about="Every agent has its preset, rl2 with three memories. rma is told the goal in training, and estimates it "
    "from its history when it is evaluated.",
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
        references=_references(1.5, 1.5, *PPO_CHEETAH),
        rows=(Row("rma", "rma", 8.0), Row("rl2", "rl2", 5.0, RL2_DYNAMICS), *PLANNERS),
        about=f"{DYNAMICS_ABOUT} {PLANNERS_ABOUT} Two limbs are held out.",
        minus="mb-mpc",
    ),
    "half-cheetah-breaking": Recipe(
        name="half-cheetah-breaking",
        title="Half-cheetah: one of its motors dies within the episode",
        family="half-cheetah-breaking",
        references=_references(1.5, 1.5, *PPO_CHEETAH),
        rows=(Row("rl2", "rl2", 5.0, RL2_DYNAMICS), *PLANNERS),
        evaluation=Evaluation(episodes=4),
        about=f"{DYNAMICS_ABOUT} {PLANNERS_ABOUT}",
        minus="mb-mpc",
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

SINUSOID = Recipe(
    name="sinusoid",
    title="Sinusoid waves from 10 examples",
    family="sinusoid",
    references=(Row("pooled", "pooled", 0.2),),
    rows=(
        Row("maml", "maml", 0.3),
        Row("fomaml", "fomaml", 0.2),
        Row("reptile", "reptile", 0.3),
        Row("meta-sgd", "meta-sgd", 0.3),
        Row("meta-lstm", "meta-lstm", 0.7),
        Row("gbml", "gbml", 0.5),
        Row("versa", "versa", 0.7),
        Row("amortised-maml", "amortised-maml", 2.0),
        Row("neural-process", "neural-process", 0.7),
    ),
    about="Every learner has its preset: the network 1-40-40-1 of Finn et al. 2017 (section 5.1) for those with an "
    "update rule. pooled has the same network, and adapts by gradient steps when it is evaluated.",
    score="error",
    minus="pooled",
)

SKILLS = Recipe(
    name="skills",
    title="Meta-World skills from 5 examples of each of 5 classes",
    family="skills:ways=5,shots=5",
    references=(Row("pooled", "pooled", 0.1),),
    rows=(
        Row("matching", "matching", 0.2),
        Row("prototypical", "prototypical", 0.2),
        Row("versa", "versa", 0.8),
        Row("amortised-maml", "amortised-maml", 0.6),
        Row("neural-process", "neural-process", 0.5),
    ),
    about="Every learner has its preset; settings were chosen by the tuning tasks, which consist of the same 14 "
    "withheld classes as the held-out ones. Chance is 0.2; a nearest-mean classifier on the normalised inputs, without "
    "training, has 0.81 ([families](../few-shot-families.md#skills)).",
    score="accuracy",
    minus="pooled",
)

LARGE_POOLED: tuple[str, ...] = ("--iterations", "1500", "--tasks", "20", "--agent.hidden", "128", "128")
LARGE_POOLED += ("--agent.learning-rate", "0.002", "--agent.anneal")
SMALL_POOLED: tuple[str, ...] = ("--iterations", "1000", "--tasks", "20", "--agent.hidden", "64", "64")
SMALL_POOLED += ("--agent.learning-rate", "0.002", "--agent.anneal")

ROBOT_DYNAMICS = Recipe(
    name="robot-dynamics",
    title="The next transitions of a half-cheetah with a dead motor, from 32 earlier ones",
    family="robot-dynamics:half-cheetah-crippled",
    references=(
        Row("pooled", "pooled", 1.0),
        Row("pooled, as versa", "pooled", 1.0, LARGE_POOLED),
        Row("pooled, as amortised-maml", "pooled", 1.0, SMALL_POOLED),
    ),
    rows=(
        Row("maml", "maml", 3.0),
        Row("fomaml", "fomaml", 2.0),
        Row("reptile", "reptile", 2.0),
        Row("meta-sgd", "meta-sgd", 3.0),
        Row("meta-lstm", "meta-lstm", 5.0),
        Row("gbml", "gbml", 4.0),
        Row("versa", "versa", 1.5, minus="pooled, as versa"),
        Row("neural-process", "neural-process", 1.5, minus="pooled, as versa"),
        Row("amortised-maml", "amortised-maml", 4.0, minus="pooled, as amortised-maml"),
    ),
    about="Every learner has its preset. Four limbs are training robots; two others, 50 streams each, are the held-out "
    "tasks. There is a row of pooled for each size of network and number of iterations.",
    score="error",
    minus="pooled",
)

TABLES = (POINT_ROBOT, HALF_CHEETAH_VEL_3, *DYNAMICS.values(), *ROBOTS.values(), REACH)
TABLES += (SINUSOID, SKILLS, ROBOT_DYNAMICS)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in TABLES}
"""The recipes by name."""
