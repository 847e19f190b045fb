"""Tables of families of examples."""

from __future__ import annotations

from metarl.scripts.recipes.kinds import Recipe, Row

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
        Row("pooled (as versa)", "pooled", 1.0, LARGE_POOLED),
        Row("pooled (as amortised-maml)", "pooled", 1.0, SMALL_POOLED),
    ),
    rows=(
        Row("maml", "maml", 3.0),
        Row("fomaml", "fomaml", 2.0),
        Row("reptile", "reptile", 2.0),
        Row("meta-sgd", "meta-sgd", 3.0),
        Row("meta-lstm", "meta-lstm", 5.0),
        Row("gbml", "gbml", 4.0),
        Row("versa", "versa", 1.5, minus="pooled (as versa)"),
        Row("neural-process", "neural-process", 1.5, minus="pooled (as versa)"),
        Row("amortised-maml", "amortised-maml", 4.0, minus="pooled (as amortised-maml)"),
    ),
    about="Every learner has its preset. Four limbs are training robots; two others, 50 streams each, are the held-out "
    "tasks. There is a row of pooled for each size of network and number of iterations.",
    score="error",
    minus="pooled",
)
