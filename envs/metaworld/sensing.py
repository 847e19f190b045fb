"""Reading simulations out: what is sensed as few stretches of memory, and touch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarl.envs.metaworld.scene import Sensor
from metarl.types import Bools, Floats

GAP = 64
"""Numbers between two sensors that are copied along: a second copy would cost more."""
FINGERS = {"left_finger_geom": "leftpad_geom", "right_finger_geom": "rightpad_geom"}
"""By the name of their sensor, the geoms that press on an object."""
SLACK = 1e-6  # m


class Spans:
    """Stretches of an `MjData`'s arrays that hold what is sensed; copying costs by the stretch.

    Args:
        data: Any data of the model.
        sensors: By name.
    """

    def __init__(self, data: Any, sensors: Mapping[str, Sensor]) -> None:
        self._spans: list[tuple[str, int, int]] = []  # array, first number, end
        self._places: dict[str, tuple[int, slice]] = {}  # span, where in the array
        places = ((sensor.field, sensor.place(data), name) for name, sensor in sensors.items())
        for field, place, name in sorted(places, key=lambda found: (found[0], found[1].start)):
            if self._spans and self._spans[-1][0] == field and place.start <= self._spans[-1][2] + GAP:
                self._spans[-1] = (field, self._spans[-1][1], max(place.stop, self._spans[-1][2]))
            else:
                self._spans.append((field, place.start, place.stop))
            self._places[name] = (len(self._spans) - 1, place)
        ends = np.cumsum([0, *(end - first for _, first, end in self._spans)]).tolist()
        self.width: int = ends[-1]
        self.columns = {
            name: slice(ends[span] + place.start - self._spans[span][1], ends[span] + place.stop - self._spans[span][1])
            for name, (span, place) in self._places.items()
        }
        """By name, where each sensor's numbers are once the stretches are put end to end."""

    def views(self, data: Any) -> list[np.ndarray]:
        """The stretches of some data of the same model."""
        return [getattr(data, field).reshape(-1)[first:end] for field, first, end in self._spans]


class Touch:
    """Whether contacts press both fingers on an object.

    Args:
        model: The model of all rows.
        data: The data of each row.
        name: Of the object's geom.
    """

    def __init__(self, model: Any, data: Sequence[Any], name: str) -> None:
        self._data = data
        self._geoms = [model.geom(geom).id for geom in (name, *FINGERS.values())]
        bounds, margins = model.geom_rbound[self._geoms], model.geom_margin[self._geoms]
        # Geoms whose bounding spheres are further apart cannot touch: most rows need no look at their contacts.
        reach = bounds[0] + bounds[1:] + np.maximum(margins[0], margins[1:]) + SLACK
        self._reach_squared = (reach**2)[:, None]

    def __call__(self, rows: np.ndarray, place: Floats, fingers: Sequence[Floats]) -> Bools:
        """For rows, `[rows]`, from the places of the object's and the fingers' geoms, `[rows, 3]` each."""
        apart = np.stack(fingers) - place
        result: Bools = (np.vecdot(apart, apart) <= self._reach_squared).all(axis=0)
        for at in np.flatnonzero(result).tolist():
            result[at] = self._pressed(self._data[rows[at]])
        return result

    def _pressed(self, data: Any) -> bool:
        """Whether the constraint forces of the contacts with each finger add up to more than nothing."""
        pairs, addresses, forces = data.contact.geom, data.contact.efc_address, data.efc_force
        with_object = (pairs == self._geoms[0]).any(axis=1)
        return all(
            sum(forces[addresses[with_object & (pairs == finger).any(axis=1)]]) > 0.0 for finger in self._geoms[1:]
        )
