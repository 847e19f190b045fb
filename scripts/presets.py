"""Presets of metarl's agents on metarl's families, with the source of each number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarl.presets import Preset as Preset
from metarl.presets import PresetName as PresetName
from metarl.presets import PresetTable
from metarl.presets import default_settings as default_settings
from metarl.presets import preset as preset
from metarl.scripts.few_shot_presets import GRADIENT_PRESETS
from metarl.scripts.planning_presets import PLANNING_PRESETS
from metarl.scripts.rma_presets import RMA_PRESETS
from metarl.scripts.robot_presets import ROBOT_PRESETS
from metarl.scripts.support_presets import SUPPORT_PRESETS

MAML_SOURCE = "sizes and settings of pytorch-maml-rl (configs/maml) and ProMP (run_scripts/maml_run_mujoco.py)"

AS_MAML = "settings of maml-trpo's preset; no long runs of our own"
OWN_RUNS = "own runs with seed 0"
PROMP_SOURCE = "ProMP (run_scripts): Adam 1e-3, 5 steps, clip 0.3, penalty 5e-4; sizes of maml-trpo"
RL2_SOURCE = "ProMP (full_code): 2 episodes per trial, learning rate 1e-3, 5 epochs, gamma 0.99"
VARIBAD_SOURCE = (
    "Zintgraf et al. 2020 and varibad (config/): GRU 128, latent 5, policy 128 x 128, learning rates 7e-4 and 1e-3, "
    "gamma 0.97, lambda 0.9, KL weight 0.1 (1 in the first config files), clip 0.1, entropy 0.01, 2 episodes"
)
REFERENCE_SOURCE = "the PPO settings of rl2 on this family, so that the two can be compared"
PEARL_SOURCE = "Rakelly et al. 2019 and oyster (configs/), with networks, batches and updates scaled down for two cores"
SAC_SOURCE = (
    "Ni et al. 2022 and pomdp-baselines (configs/meta/cheetah_vel): embeddings 32, 16, 16, GRU 128, policy and critics "
    "3 x 128, Adam 3e-4, 32 trials, tau 0.005, gamma 0.99; networks and batches scaled down for two cores"
)
SAC_POINT = {
    "units": 64,
    "hidden": (64, 64),
    "reward_input_scale": 5.0,
    "gradient_steps": 200,
    "batch_trials": 10,
    "buffer_trials": 400,
    "learning_rate": 1e-3,
    "gamma": 0.9,
    "tau": 0.02,
    "reward_scale": 5.0,
    "temperature": 0.2,
    "normalise_observations": True,
}
PEARL_POINT = {
    "hidden": (128, 128),
    "encoder_hidden": (64, 64),
    "gradient_steps": 400,
    "meta_batch": 10,
    "batch": 64,
    "warmup_iterations": 4,
    "learning_rate": 1e-3,
    "gamma": 0.9,
    "reward_scale": 20.0,
    "kl_weight": 0.03,
    "replay_size": 10_000,
}
PEARL_CHEETAH = {
    "hidden": (128, 128, 128),
    "encoder_hidden": (100, 100, 100),
    "gradient_steps": 600,
    "meta_batch": 8,
    "batch": 64,
    "learning_rate": 1e-3,
    "tune_temperature": True,
    "replay_size": 10_000,
}
PEARL_CHEETAH_RUN = {
    "iterations": 100,
    "tasks": 5,
    "episodes": 2,
    "horizon": 200,
    "train_tasks": 100,
    "checkpoint_every": 25,
}

REFERENCE_CHEETAH_RUN = {"iterations": 200, "tasks": 40, "episodes": 2, "horizon": 200, "eval_every": 20}
REFERENCE_CHEETAH = {
    "learning_rate": 7e-4,
    "anneal": True,
    "minibatches": 16,
    "gamma": 0.97,
    "normalise_observations": True,
    "init_std": 0.6,
    "min_std": 0.1,
}

META_WORLD_SOURCE = (
    "Meta-World+ (metaworld-algorithms, examples/meta_learning): sizes, rates and the budget of 2M, 20M, 50M, 90M steps"
)
META_WORLD_CLASSES = {"ml1": 1, "ml10": 10, "ml25": 25, "ml45": 45, "ml": 10}
META_WORLD_TASKS = {"ml1": 10, "ml10": 20, "ml25": 50, "ml45": 45, "ml": 10}
META_WORLD_STEPS = {"ml1": 2_000_000, "ml10": 20_000_000, "ml25": 50_000_000, "ml45": 90_000_000, "ml": 2_000_000}
META_WORLD_EPISODE = 500
RL2_META_WORLD = {
    "encoder": (256, 256),
    "units": 256,
    "episodes_per_trial": 10,
    "reward_input_scale": 0.1,
    "learning_rate": 5e-4,
    "minibatches": 20,
    "entropy_weight": 5e-3 / 25,
    "segment_steps": 250,
    "normalise_observations": True,
}
REFERENCE_META_WORLD = {
    "hidden": (128, 128),
    "learning_rate": 5e-4,
    "minibatches": 20,
    "entropy_weight": RL2_META_WORLD["entropy_weight"],
    "normalise_observations": True,
}
PEARL_META_WORLD = {
    "hidden": (128, 128, 128),
    "encoder_hidden": (100, 100, 100),
    "adaptation_steps": 1,
    "gradient_steps": 400,
    "meta_batch": 8,
    "batch": 64,
    "warmup_iterations": 5,
    "learning_rate": 1e-3,
    "tune_temperature": True,
    "reward_scale": 1.0,
}


def _meta_world_run(iterations: int, tasks: int, episodes: int) -> dict[str, Any]:
    """Sizes of a run. It has ten evaluations only, since an episode has 500 steps."""
    every = max(1, iterations // 10)
    return {"iterations": iterations, "tasks": tasks, "episodes": episodes, "eval_every": every, "eval_tasks": 10}


def _meta_world(agent: str, benchmark: str) -> Preset:
    """The preset of an agent on a benchmark of Meta-World; the iterations add up to its budget of steps."""
    tasks, budget = META_WORLD_TASKS[benchmark], META_WORLD_STEPS[benchmark]
    if agent == "maml-trpo":
        steps = tasks * 2 * 10 * META_WORLD_EPISODE  # 10 episodes before and 10 after adaptation
        return Preset(
            training=_meta_world_run(budget // steps, tasks, 10),
            agent={"hidden": (512, 512), "min_std": 0.5},
            source=f"{META_WORLD_SOURCE}; lower bound of the deviation as in Yu et al. 2019",
        )
    if agent == "rl2":
        steps = tasks * 10 * META_WORLD_EPISODE  # a trial of 10 episodes in each task
        return Preset(
            training=_meta_world_run(budget // steps, tasks, 1),
            agent=RL2_META_WORLD,
            source=f"{META_WORLD_SOURCE}; entropy weight 5e-3 / 25 = 2e-4: 5e-3 is for raw advantages, of deviation "
            "25 (untrained policy, ml10), these have deviation 1; 5 epochs of 20 minibatches instead of 10 epochs, "
            "segments and normalised observations: own choice",
        )
    if agent in ("multitask", "oracle"):
        return Preset(
            training=_meta_world_run(budget // (tasks * 10 * META_WORLD_EPISODE), tasks, 10),
            agent=REFERENCE_META_WORLD,
            source=f"{META_WORLD_SOURCE}; PPO's settings of rl2 here, so that the two can be compared",
        )
    replay_tasks = 50 * META_WORLD_CLASSES[benchmark]  # all training goals
    collected = 5 if benchmark in ("ml1", "ml") else 10
    steps = collected * 2 * META_WORLD_EPISODE  # two collects of an episode in each task
    return Preset(
        training=_meta_world_run(budget // steps, collected, 1),
        agent={**PEARL_META_WORLD, "replay_tasks": replay_tasks, "replay_size": 500_000 // replay_tasks},
        source="budget of Meta-World+, sizes for two cores, no long runs: no reproducible recipe is published",
    )


PRESETS: dict[tuple[str, str], Preset] = {
    **PLANNING_PRESETS,
    **RMA_PRESETS,
    **GRADIENT_PRESETS,
    **SUPPORT_PRESETS,
    **ROBOT_PRESETS,
    **{
        (a, b): _meta_world(a, b)
        for a in ("maml-trpo", "rl2", "pearl", "multitask", "oracle")
        for b in META_WORLD_TASKS
    },
    ("maml-trpo", "point-robot"): Preset(
        training={"iterations": 50},
        source=f"{MAML_SOURCE}: 20 tasks x 20 episodes x 100 steps; iterations: our own runs are flat from 20 on",
    ),
    ("maml-trpo", "sparse-point-robot"): Preset(
        training={"iterations": 100, "horizon": 100},
        source="as point-robot; horizon of varibad: a random walk finds the goal only in long episodes",
    ),
    ("maml-trpo", "half-cheetah-vel"): Preset(
        training={"iterations": 90},
        agent={"action_scale": 10.0},
        source=f"{MAML_SOURCE}; 20 tasks instead of 40, action scale 10 as there",
    ),
    ("maml-trpo", "half-cheetah-vel-3"): Preset(
        training={"iterations": 90}, agent={"action_scale": 10.0}, source="as half-cheetah-vel"
    ),
    ("maml-trpo", "half-cheetah-dir"): Preset(
        training={"iterations": 60}, agent={"action_scale": 10.0}, source="as half-cheetah-vel"
    ),
    ("fomaml", "point-robot"): Preset(
        training={"iterations": 50}, source=f"as maml-trpo; {OWN_RUNS}: still improving slowly at 25"
    ),
    ("fomaml", "half-cheetah-vel"): Preset(training={"iterations": 90}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("fomaml", "half-cheetah-dir"): Preset(training={"iterations": 60}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("meta-sgd", "point-robot"): Preset(
        training={"iterations": 50}, source=f"as maml-trpo; {OWN_RUNS}: nearly flat from 20 on"
    ),
    ("meta-sgd", "half-cheetah-vel"): Preset(training={"iterations": 90}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("meta-sgd", "half-cheetah-dir"): Preset(training={"iterations": 60}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("meta-lstm", "point-robot"): Preset(
        training={"iterations": 50}, source=f"sizes of maml-trpo; {OWN_RUNS}: nearly flat from 30 on"
    ),
    ("meta-lstm", "half-cheetah-vel"): Preset(
        training={"iterations": 90}, agent={"action_scale": 10.0}, source=AS_MAML
    ),
    ("meta-lstm", "half-cheetah-dir"): Preset(
        training={"iterations": 60}, agent={"action_scale": 10.0}, source=AS_MAML
    ),
    ("gbml", "point-robot"): Preset(
        training={"iterations": 50}, source=f"sizes of maml-trpo; {OWN_RUNS}: nearly flat from 25 on"
    ),
    ("gbml", "half-cheetah-vel"): Preset(training={"iterations": 90}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("gbml", "half-cheetah-dir"): Preset(training={"iterations": 60}, agent={"action_scale": 10.0}, source=AS_MAML),
    ("meta-networks", "point-robot"): Preset(
        training={"iterations": 50, "episodes": 10},
        source=f"as maml-trpo, with 10 episodes, since the time grows with their square; {OWN_RUNS}",
    ),
    ("reptile", "point-robot"): Preset(
        training={"iterations": 100},
        source=f"sizes of maml-trpo; {OWN_RUNS}: still improving at 100",
    ),
    ("promp", "point-robot"): Preset(
        training={"iterations": 60}, source=f"{PROMP_SOURCE}; {OWN_RUNS}: flat from 50 on"
    ),
    ("promp", "half-cheetah-vel"): Preset(
        training={"iterations": 200}, agent={"action_scale": 10.0}, source=f"{PROMP_SOURCE}; no long runs of our own"
    ),
    ("promp", "half-cheetah-dir"): Preset(
        training={"iterations": 200}, agent={"action_scale": 10.0}, source=f"{PROMP_SOURCE}; no long runs of our own"
    ),
    ("rl2", "point-robot"): Preset(
        training={"iterations": 100, "tasks": 40, "episodes": 2},
        agent={"learning_rate": 1e-3},
        source=f"{RL2_SOURCE}; 80 trials of 40 tasks instead of 100, GRU 128 as in varibad",
    ),
    ("rl2", "half-cheetah-vel"): Preset(
        training={"iterations": 200, "tasks": 40, "episodes": 2},
        agent={"learning_rate": 1e-3, "normalise_observations": True},
        source=f"{RL2_SOURCE}; 80 trials of 40 tasks instead of 100, horizon 100, not 200, GRU 128 as in varibad",
    ),
    ("rl2", "half-cheetah-vel-3"): Preset(
        training={"iterations": 600, "tasks": 40, "episodes": 1, "horizon": 200, "eval_every": 20},
        agent={
            "learning_rate": 1e-3,
            "anneal": True,
            "minibatches": 8,
            "gamma": 0.97,
            "normalise_observations": True,
            "init_std": 0.6,
            "min_std": 0.1,
            "units": 24,
            "encoder": (),
            "hidden": (128, 128),
        },
        source="horizon, discount, 2 episodes: varibad's RL2; a small memory, and a policy that also gets the "
        f"observation: {OWN_RUNS}",
    ),
    ("rl2", "bandit"): Preset(
        training={"iterations": 100, "tasks": 500, "episodes": 4},
        agent={
            "episodes_per_trial": 1,
            "finite_trials": True,
            "learning_rate": 3e-3,
            "minibatches": 8,
            "gamma": 1.0,
        },
        source=f"{OWN_RUNS}: flat from 60 on; a trial is one episode of all pulls",
    ),
    ("rl2", "tabular-mdp"): Preset(
        training={"iterations": 150, "tasks": 500, "episodes": 1},
        agent={
            "episodes_per_trial": 10,
            "finite_trials": True,
            "learning_rate": 3e-3,
            "minibatches": 8,
        },
        source="10 episodes of 10 steps as in Duan et al. 2016; the rest as on bandit",
    ),
    ("rl2", "delayed-recall"): Preset(
        training={"iterations": 100, "tasks": 40, "episodes": 4, "eval_every": 25},
        agent={
            "episodes_per_trial": 1,
            "finite_trials": True,
            "learning_rate": 3e-3,
            "minibatches": 8,
            "gamma": 1.0,
            "units": 32,
            "encoder": (32,),
        },
        source="as on bandit, with a small network; own runs with seeds 0 to 2: above 0.95 at iterations 46 to 61",
    ),
    ("varibad", "point-robot"): Preset(
        training={"iterations": 80, "tasks": 40, "episodes": 2},
        agent={"normalise_observations": True, "learning_rate": 1e-3, "vae_learning_rate": 3e-3, "entropy_weight": 0.0},
        source=f"{VARIBAD_SOURCE}; sizes, PPO's learning rate and entropy of rl2 here; VAE 3e-3: {OWN_RUNS}",
    ),
    ("varibad", "half-cheetah-vel-3"): Preset(
        training={"iterations": 400, "tasks": 40, "episodes": 1, "horizon": 200, "eval_every": 20},
        agent={
            "normalise_observations": True,
            "anneal": True,
            "minibatches": 16,
            "init_std": 0.6,
            "min_std": 0.1,
            "entropy_weight": 0.0,
            "vae_learning_rate": 2e-3,
            "vae_updates": 12,
            "buffer_trials": 500,
        },
        source=f"{VARIBAD_SOURCE}, horizon 200; entropy, step sizes and numbers of steps: {OWN_RUNS}",
    ),
    ("multitask", "point-robot"): Preset(
        training={"iterations": 150, "tasks": 40, "episodes": 4},
        agent={"learning_rate": 1e-3},
        source=REFERENCE_SOURCE,
    ),
    ("multitask", "half-cheetah-vel-3"): Preset(
        training=REFERENCE_CHEETAH_RUN,
        agent=REFERENCE_CHEETAH,
        source=REFERENCE_SOURCE,
    ),
    ("oracle", "point-robot"): Preset(
        training={"iterations": 150, "tasks": 40, "episodes": 4},
        agent={"learning_rate": 1e-3},
        source=REFERENCE_SOURCE,
    ),
    ("oracle", "half-cheetah-vel-3"): Preset(
        training=REFERENCE_CHEETAH_RUN,
        agent=REFERENCE_CHEETAH,
        source=REFERENCE_SOURCE,
    ),
    ("pearl", "point-robot"): Preset(
        training={"iterations": 40, "tasks": 20, "episodes": 2, "train_tasks": 80},
        agent=PEARL_POINT,
        source=f"{PEARL_SOURCE}; 80 training tasks; learning rate 1e-3, reward scale 20 and bottleneck 0.03 instead "
        f"of 3e-4, 100 and 0.1, discount 0.9: {OWN_RUNS}, judged on tasks 41 to 100 of the held-out sequence",
    ),
    ("pearl", "sparse-point-robot"): Preset(
        training={"iterations": 100, "tasks": 20, "episodes": 2, "train_tasks": 80},
        agent={**PEARL_POINT, "kl_weight": 1.0},
        source=f"{PEARL_SOURCE}; 80 training tasks, discount and bottleneck as published; "
        "learning rate 1e-3 and reward scale 20 instead of 3e-4 and 100",
    ),
    ("pearl", "half-cheetah-vel"): Preset(
        training=PEARL_CHEETAH_RUN, agent=PEARL_CHEETAH, source="as half-cheetah-vel-3"
    ),
    ("pearl", "half-cheetah-vel-3"): Preset(
        training=PEARL_CHEETAH_RUN,
        agent=PEARL_CHEETAH,
        source=f"{PEARL_SOURCE}; 100 training tasks, 5 collected per iteration, horizon 200, as published",
    ),
    ("recurrent-sac", "point-robot"): Preset(
        training={"iterations": 70, "tasks": 20, "episodes": 1},
        agent=SAC_POINT,
        source=f"{SAC_SOURCE}; a small buffer, a large input scale of the reward, step size, discount and tau for few "
        "env steps: own runs with seeds 0, 1 and 2",
    ),
    ("recurrent-sac", "half-cheetah-vel-3"): Preset(
        training={"iterations": 100, "tasks": 25, "episodes": 1, "horizon": 200, "eval_every": 20},
        agent={
            "hidden": (128, 128),
            "batch_trials": 16,
            "gradient_steps": 100,
            "learning_rate": 1e-3,
            "normalise_observations": True,
        },
        source=f"{SAC_SOURCE}; 25 trials of 2 episodes per iteration, horizon 200; no long runs",
    ),
    ("pearl", "half-cheetah-dir"): Preset(
        training={**PEARL_CHEETAH_RUN, "tasks": 2, "episodes": 5, "train_tasks": 0},
        agent={**PEARL_CHEETAH, "warmup_iterations": 2, "replay_size": 100_000, "replay_tasks": 2},
        source=f"{PEARL_SOURCE}; both tasks collected in every iteration",
    ),
}

PUBLISHED: dict[tuple[str, str], Preset] = {
    ("pearl", "half-cheetah-vel-3"): Preset(
        training={**PEARL_CHEETAH_RUN, "iterations": 500},
        agent={"replay_size": 100_000},
        source="Rakelly et al. 2019 and oyster (configs/cheetah-vel): networks, batches, updates, rates, tasks, "
        "3M steps; replay per task: own choice, a run stores 30,000 transitions of each",
    ),
}
"""Presets with networks, batches and budgets as published, if the default is smaller."""

TABLES: Mapping[PresetName, PresetTable] = {"default": PRESETS, "published": PUBLISHED}
"""The tables of this package, as registered under the entry-point group `metarl.presets`."""
