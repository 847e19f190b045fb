"""Trains MAML on a family of tasks and prints how the policy adapts to tasks that it never met."""

import os

import metarl

FAMILY = os.environ.get("FAMILY", "half-cheetah-vel")
ITERATIONS = int(os.environ.get("ITERATIONS", "60"))
SIZES = {name: int(os.environ[name.upper()]) for name in ("tasks", "episodes", "horizon") if name.upper() in os.environ}

if __name__ == "__main__":
    trained = metarl.train("maml-trpo", FAMILY, iterations=ITERATIONS, inner_lr=0.1, **SIZES)
    family = metarl.make_family(FAMILY)
    result = metarl.evaluate(
        trained.agent, family, family.distribution.held_out(10), metarl.Streams(0), horizon=trained.agent.spaces.horizon
    )
    print(f"run: {trained.out}, {trained.progress.env_steps:,} environment steps")
    for episodes, mean in zip(result.episodes, result.returns.mean(axis=(0, 2)), strict=True):
        print(f"return after {episodes:2d} episodes of adaptation: {mean:8.2f}")
