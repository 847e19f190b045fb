"""Which family a finished run is evaluated on."""

from __future__ import annotations

from metarl.custom.family import with_stepping
from metarl.registry import is_own_code, make_family
from metarl.runs import RunConfig
from metarl.tasks import Family


def family_of_run(run: RunConfig, named: str | None) -> Family:
    """The run's family, or the one that the command line names.

    Raises:
        ValueError: The run's family is code of the user's own, and the command line does not name it again.
    """
    if named is None and is_own_code(run.family):
        raise ValueError(
            f"--family: got none, but the run's family {run.family!r} is code of your own; name it again with --family"
        )
    family = make_family(named or run.family).with_finite_train_set(run.training.train_tasks)
    return with_stepping(family, run.stepping)
