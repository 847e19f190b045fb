"""Tables of Meta-World."""

from __future__ import annotations

from metarl.scripts.recipes.kinds import Bound, Evaluation, Published, Recipe, Row, references

GOALS = Evaluation(tasks=50, episodes=3)
"""All held-out goals of a class, three trials of each.

Actions are sampled: a policy with a memory finds the target by the reward of its own noise. `PUBLISHED` with seed 0 has
in its second episode a return of 4381 [4124, 4581] on 40 held-out goals with samples, of 3744 [3415, 4029] by the mode
(`metarl evaluate RUN --tasks 40 --episodes 1 --adapt-steps 1 --actions sample`, and `mode` with `--adapt-steps 9`).
"""
ANY_STEP = (
    "A rate of success at any step is no sign of skill here: a hand that shakes around the middle of the targets "
    "passes through many of them."
)
META_WORLD_PLUS = (
    Published(
        agent="RL2, 10 classes instead of one",
        figure="86.9 % of training and 35.8 % of held-out classes",
        budget="up to 400M steps",
        protocol="ML10; success at any step; 10 seeds, the mean of the largest rate of each training",
        source="Yu et al. 2019, arXiv:1910.10897v2",
    ),
    Published(
        agent="RL2, 10 classes instead of one",
        figure="about 35 % of held-out classes, read off a figure",
        budget="20M steps",
        protocol="ML10; success at any step",
        source="McLean et al. 2025, arXiv:2505.11289",
    ),
)

PUBLISHED: tuple[str, ...] = ("--agent.epochs", "10", "--agent.minibatches", "24", "--agent.std", "state")
PUBLISHED += ("--agent.critic", "linear", "--agent.no-normalise-observations")
PUBLISHED += ("--agent.units", "128", "--agent.encoder", "128", "128")
"""The recipe of metaworld-algorithms where it differs from the preset, with half the units."""
BEFORE: dict[str, tuple[str, ...]] = {
    "25 times the entropy weight": ("--agent.entropy-weight", "5e-3"),
    "normalised without a floor": ("--agent.normalise-observations", "--agent.deviation-floor", "0"),
    "100 steps of Adam": ("--agent.epochs", "5", "--agent.minibatches", "20"),
    "free deviation": ("--agent.std", "shared"),
    "tanh mean and deviation from 0.5 to 1.5": (
        "--agent.mean",
        "tanh",
        "--agent.min-std",
        "0.5",
        "--agent.max-std",
        "1.5",
    ),
    "critic on the memory": ("--agent.critic", "network"),
}
"""One change of the published recipe at a time."""

META_WORLD = (
    Recipe(
        name="reach-v3",
        title="Meta-World, ML1 reach-v3: targets that the observation does not contain",
        family="ml1:reach-v3",
        references=references(6.5, 6.5),
        rows=(Row("rl2", "rl2", 25.0, bounds=(Bound("success", 0.6), Bound("share", 0.7))),),
        evaluation=GOALS,
        published=META_WORLD_PLUS,
        about=f"Every agent has its preset of 2M environment steps. {ANY_STEP}",
    ),
    Recipe(
        name="push-v3",
        title="Meta-World, ML1 push-v3: targets that the observation does not contain",
        family="ml1:push-v3",
        references=references(6.5, 6.5),
        rows=(Row("rl2", "rl2", 25.0),),
        evaluation=GOALS,
        published=META_WORLD_PLUS,
        about=f"Every agent has its preset of 2M environment steps. {ANY_STEP}",
    ),
    Recipe(
        name="reach-v3-ablations",
        title="RL2 on ML1 reach-v3: the published recipe, and one change of it at a time",
        family="ml1:reach-v3",
        references=references(6.5, 6.5),
        rows=(
            Row("published", "rl2", 15.0, PUBLISHED),
            *(Row(label, "rl2", 15.0, (*PUBLISHED, *options)) for label, options in BEFORE.items()),
        ),
        evaluation=GOALS,
        published=META_WORLD_PLUS,
        about="published: the recipe of metaworld-algorithms (examples/meta_learning) with 2M environment steps: 240 "
        "steps of Adam per iteration, a deviation that is an output of the network, a linear critic, observations as "
        "they are. Its entropy weight of 5e-3 for raw advantages is 2e-4 for normalised ones. All rows have half the "
        f"published units. {ANY_STEP}",
        minus="published",
    ),
)
