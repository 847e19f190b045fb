"""Declarations of single changes of a MuJoCo model between tasks: `Change`, and `Part` for fields that follow it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metarl.envs.draws import Dead, Power, Uniform
from metarl.types import Floats

OPERATIONS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "scale": lambda base, value: base * value,
    "add": lambda base, value: base + value,
    "set": lambda base, value: np.broadcast_arrays(base, value)[1],
}


@dataclass(frozen=True)
class Part:
    """Another field that the number of a change varies too, such as a servo's bias beside its gain.

    Args:
        field: As in `Change`.
        operation: As in `Change`.
        elements: As in `Change`.
        columns: As in `Change`.
    """

    field: str
    operation: Literal["scale", "add", "set"] = "scale"
    elements: Sequence[str | int] = ()
    columns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Change:
    """A variation of one field of the model.

    Scaling skips numbers that are 0. The world body is skipped unless it is named.

    Elements may also be named by a body or a keyframe: `body:trunk` selects all geoms, joints, degrees of freedom or
    actuators of a body, and `keyframe:home` the geoms that are on the ground in a keyframe, such as feet without names.

    Args:
        field: Name of the field, one of `metarl.envs.model_fields.FIELDS`.
        distribution: Distribution of the values.
        operation: Use of a value: `scale` the model's number by it, `add` it, or `set` it.
        elements: Names or indices of bodies, geoms, joints, actuators or axes; all by default. A joint's name selects
            its degrees of freedom. An unnamed actuator has the name of its joint.
        columns: Column indices in fields with several numbers per element (friction: sliding, torsional, rolling);
            all by default.
        shared: Draw one value for all numbers instead of one for each.
        with_inertia: For `body_mass` only. True scales the moments of inertia with the mass, as for a denser body.
            False keeps them, as if the additional mass were a point mass at the centre. The default also keeps them,
            and warns if the body can rotate and no other change sets its inertia.
        unphysical: For `body_inertia` only. Do not warn about moments that violate the triangle inequality, which
            published tasks have.
        also: Other fields that the same number changes. Requires `shared`.
    """

    field: str
    distribution: Uniform | Power | Dead
    operation: Literal["scale", "add", "set"] = "scale"
    elements: Sequence[str | int] = ()
    columns: tuple[int, ...] = ()
    shared: bool = False
    with_inertia: bool | None = None
    unphysical: bool = False
    also: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Change | Part, ...]:
        """The change itself and the parts that follow it."""
        return (self, *self.also)
