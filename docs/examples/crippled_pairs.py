"""Half-cheetahs with one or two dead actuators, at least one of which never died in training.

    metarl evaluate runs/grbal --family crippled_pairs:family --reference runs/mb-mpc

`half-cheetah-crippled` has two held-out tasks, too few for an interval over tasks. These are eleven.
"""

from dataclasses import replace
from itertools import combinations

import metarl

ACTUATORS = 6
HELD_OUT = {0, 5}  # back thigh, front foot


def family() -> metarl.Family:
    """The family, to be evaluated on; training tasks are those of `half-cheetah-crippled`."""
    cheetah, name = metarl.make_family("half-cheetah-crippled"), "half-cheetah-crippled-pairs"
    dead = [set(group) for size in (1, 2) for group in combinations(range(ACTUATORS), size) if HELD_OUT & set(group)]
    gears = [tuple(float(i not in group) for i in range(ACTUATORS)) for group in dead]
    tasks = metarl.DiscreteTasks(
        name,
        parameters=cheetah.distribution.parameters,
        train=tuple(
            metarl.Task.of(name, actuator_gear=task["actuator_gear"]) for task in cheetah.distribution.train_tasks(4)
        ),
        withheld=tuple(metarl.Task.of(name, actuator_gear=gear) for gear in gears),
    )
    return replace(cheetah, name=name, summary="run forward with one or two dead actuators", distribution=tasks)
