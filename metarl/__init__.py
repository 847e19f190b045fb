"""metarl: meta-reinforcement learning for robot agents.

Names are imported when first used, so that `import metarl` is fast and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metarl.agent import MetaAgent as MetaAgent
    from metarl.doors import make_agent as make_agent
    from metarl.doors import train as train
    from metarl.evaluation import evaluate as evaluate
    from metarl.few_shot.evaluation import evaluate_shots as evaluate_shots
    from metarl.few_shot.family import FewShotFamily as FewShotFamily
    from metarl.few_shot.learner import FewShotLearner as FewShotLearner
    from metarl.few_shot.shots import Shots as Shots
    from metarl.few_shot.shots import ShotSpaces as ShotSpaces
    from metarl.gymnasium_envs.family import gymnasium_family as gymnasium_family
    from metarl.registry import find_family as find_family
    from metarl.registry import make_family as make_family
    from metarl.results import EvalResult as EvalResult
    from metarl.rollout import TrajectoryBuilder as TrajectoryBuilder
    from metarl.rollout import collect as collect
    from metarl.runs import load as load
    from metarl.sampling import LocalSampler as LocalSampler
    from metarl.seeding import Streams as Streams
    from metarl.tasks import ContinuousTasks as ContinuousTasks
    from metarl.tasks import DiscreteTasks as DiscreteTasks
    from metarl.tasks import Family as Family
    from metarl.tasks import Parameter as Parameter
    from metarl.tasks import uniform as uniform
    from metarl.training import meta_train as meta_train
    from metarl.types import Action as Action
    from metarl.types import MetaBatch as MetaBatch
    from metarl.types import Spaces as Spaces
    from metarl.types import Step as Step
    from metarl.types import Task as Task
    from metarl.types import Trajectories as Trajectories
    from metarl.vector import TaskVecEnv as TaskVecEnv
    from metarl.wrapped import wrap as wrap

__version__ = "0.1.0"

_HOME = {
    "metarl.agent": ("MetaAgent",),
    "metarl.doors": ("make_agent", "train"),
    "metarl.gymnasium_envs.family": ("gymnasium_family",),
    "metarl.evaluation": ("evaluate",),
    "metarl.few_shot.evaluation": ("evaluate_shots",),
    "metarl.few_shot.family": ("FewShotFamily",),
    "metarl.few_shot.learner": ("FewShotLearner",),
    "metarl.few_shot.shots": ("ShotSpaces", "Shots"),
    "metarl.registry": ("find_family", "make_family"),
    "metarl.results": ("EvalResult",),
    "metarl.rollout": ("TrajectoryBuilder", "collect"),
    "metarl.runs": ("load",),
    "metarl.sampling": ("LocalSampler",),
    "metarl.seeding": ("Streams",),
    "metarl.tasks": ("ContinuousTasks", "DiscreteTasks", "Family", "Parameter", "uniform"),
    "metarl.training": ("meta_train",),
    "metarl.types": ("Action", "MetaBatch", "Spaces", "Step", "Task", "Trajectories"),
    "metarl.vector": ("TaskVecEnv",),
    "metarl.wrapped": ("wrap",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}
__all__ = ["__version__", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'metarl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
