"""Tables of the point robot, and of robots that run."""

from __future__ import annotations

from metarl.scripts.recipes.kinds import Bound, Evaluation, Recipe, Row, references

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
    Row("rl2 (60,000 steps)", "rl2", 0.3, ("--iterations", "15", "--tasks", "10", "--episodes", "1")),
    Row("mb-mpc", "mb-mpc", 11.0, ("--eval-every", "0")),
    Row("grbal", "grbal", 12.0, ("--eval-every", "0")),
)
"""Agents that plan, and a policy with the same env steps."""
PLANNERS_ABOUT = "Agents that plan have their presets of 60,000 env steps; a row of rl2 has as many."

POINT_ROBOT = Recipe(
    name="point-robot",
    title="Point robot: goals that the observation does not contain",
    family="point-robot",
    references=references(0.4, 0.2),
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
    references=references(4.0, 4.0),
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

DYNAMICS = (
    Recipe(
        name="hopper-rand-params",
        title="Hopper: unknown masses, moments, friction and damping",
        family="hopper-rand-params",
        references=references(8.0, 8.0, *PPO_CHEETAH),
        rows=(
            Row("rma", "rma", 12.0, (*PPO_CHEETAH, "--agent.no-history-rewards", "--agent.buffer-trials", "1000")),
            Row("rl2", "rl2", 12.0, RL2_DYNAMICS),
        ),
        about=DYNAMICS_ABOUT,
    ),
    Recipe(
        name="half-cheetah-crippled",
        title="Half-cheetah: one of its motors is dead",
        family="half-cheetah-crippled",
        references=references(1.5, 1.5, *PPO_CHEETAH),
        rows=(Row("rma", "rma", 8.0), Row("rl2", "rl2", 5.0, RL2_DYNAMICS), *PLANNERS),
        evaluation=Evaluation(tasks=2),
        about=f"{DYNAMICS_ABOUT} {PLANNERS_ABOUT} Two limbs are held out.",
        minus="mb-mpc",
    ),
    Recipe(
        name="half-cheetah-breaking",
        title="Half-cheetah: one of its motors dies within the episode",
        family="half-cheetah-breaking",
        references=references(1.5, 1.5, *PPO_CHEETAH),
        rows=(
            Row("rl2", "rl2", 5.0, RL2_DYNAMICS),
            *PLANNERS,
            Row("rebal", "rebal", 14.0, ("--eval-every", "0")),
        ),
        evaluation=Evaluation(episodes=4),
        about=f"{DYNAMICS_ABOUT} {PLANNERS_ABOUT}",
        minus="mb-mpc",
    ),
)
