"""Sensor readings of simulations, copied as few contiguous spans of memory, and touch detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metarl.envs.metaworld.scene import Sensor
from metarl.types import Bools, Floats

GAP = 64
"""Largest gap, in numbers, between two sensors in one span: copying the gap is cheaper than a second span."""
FINGERS = {"left_finger_geom": "leftpad_geom", "right_finger_geom": "rightpad_geom"}
"""Geoms of the fingers by the name of their sensor."""
SLACK = 1e-6  # m


class Spans:
    """Contiguous spans of an `MjData`'s arrays that contain all sensors. Each span costs one copy.

    Args:
        data: An `MjData` of the model.
        sensors: The sensors by name.

    Attributes:
        width: Total number of numbers in all spans.
        columns: Slice of each sensor in the concatenated spans, by name.
    """

    def __init__(self, data: Any, sensors: Mapping[str, Sensor]) -> None:
        self._spans: list[tuple[str, int, int]] = []  # array name, start, end
        self._places: dict[str, tuple[int, slice]] = {}  # span index, slice in the array
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

    def views(self, data: Any) -> list[np.ndarray]:
        """Views of the spans in an `MjData` of the same model."""
        return [getattr(data, field).reshape(-1)[first:end] for field, first, end in self._spans]


class Touch:
    """Detects contacts that press both fingers on an object.

    Args:
        model: The `MjModel` of all rows.
        data: The `MjData` of each row.
        name: Name of the object's geom.
    """

    def __init__(self, model: Any, data: Sequence[Any], name: str) -> None:
        self._data = data
        self._geoms = [model.geom(geom).id for geom in (name, *FINGERS.values())]
        bounds, margins = model.geom_rbound[self._geoms], model.geom_margin[self._geoms]
        # Geoms whose bounding spheres do not meet cannot touch, so contacts need not be read in most rows.
        reach = bounds[0] + bounds[1:] + np.maximum(margins[0], margins[1:]) + SLACK
        self._reach_squared = (reach**2)[:, None]

    def __call__(self, rows: np.ndarray, place: Floats, fingers: Sequence[Floats]) -> Bools:
        """True for rows in which both fingers press on the object, `[rows]`.

        Args:
            rows: Indices of the rows.
            place: Position of the object's geom, `[rows, 3]` in m.
            fingers: Positions of the fingers' geoms, `[rows, 3]` each in m.
        """
        apart = np.stack(fingers) - place
        result: Bools = (np.vecdot(apart, apart) <= self._reach_squared).all(axis=0)
        for at in np.flatnonzero(result).tolist():
            result[at] = self._pressed(self._data[rows[at]])
        return result

    def _pressed(self, data: Any) -> bool:
        """Whether the constraint forces of the object's contacts with each finger have a positive sum."""
        pairs, addresses, forces = data.contact.geom, data.contact.efc_address, data.efc_force
        with_object = (pairs == self._geoms[0]).any(axis=1)
        return all(
            sum(forces[addresses[with_object & (pairs == finger).any(axis=1)]]) > 0.0 for finger in self._geoms[1:]
        )
