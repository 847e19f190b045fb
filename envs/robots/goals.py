"""Hidden goals of a robot that reaches: places that its site can get to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from metarl.envs.elements import SCALAR_JOINTS, driven_joints
from metarl.types import Floats

ABOVE = 0.03
"""Lowest goal over z = 0, m, for a robot that has a floor."""
SHARES = np.linspace(1.0, 0.0, 11)
"""Shares of the way from home to a pose that are tried until the site is above the floor."""


@dataclass(frozen=True)
class ReachableGoals:
    """Maps uniform variates to places of the site in poses around home.

    Args:
        model: The `MjModel`.
        home: Joint positions of the home pose, `[nq]`.
        joints: Indices of the joints that move the site.
        low: Lowest positions of these joints, `[J]`, rad or m.
        high: Highest positions, `[J]`.
        site: The part that reaches, as in `metarl.envs.robots.state.find_site`.
        floor: Whether goals have to be above z = 0.
    """

    model: Any
    home: Floats
    joints: tuple[int, ...]
    low: Floats
    high: Floats
    site: tuple[str, int]
    floor: bool

    def __call__(self, u: Floats) -> Floats:
        """Places `[n, 3]` in m at uniform variates `[n, J]`.

        They are the forward kinematics of `low + u (high - low)`. A pose whose site would be in the floor is moved
        towards home until it is above.
        """
        data, places = mujoco.MjData(self.model), np.zeros((len(u), 3))
        address = self.model.jnt_qposadr[list(self.joints)]
        field, index = self.site
        data.qpos[:] = self.home
        for i, pose in enumerate(self.low + u * (self.high - self.low)):
            for share in SHARES:
                data.qpos[address] = self.home[address] + share * (pose - self.home[address])
                mujoco.mj_kinematics(self.model, data)
                places[i] = getattr(data, field)[index]
                if not self.floor or places[i, 2] >= ABOVE:
                    break
        return places


def reachable_goals(model: Any, home: Floats, site: tuple[str, int], within: float, floor: bool) -> ReachableGoals:
    """The goals of poses whose joints are within `within` rad of home, and within their ranges.

    Raises:
        ValueError: No actuated joint moves the site.
    """
    joints = _moving(model, site)
    if not joints:
        raise ValueError(
            "got a site that no actuated hinge or slide moves, expected one that moves; choose another site"
        )
    index = list(joints)
    at, limited = home[model.jnt_qposadr[index]], model.jnt_limited[index].astype(np.bool_)
    low, high = model.jnt_range[index].T
    low = np.maximum(at - within, np.where(limited, low, -np.inf))
    high = np.minimum(at + within, np.where(limited, high, np.inf))
    return ReachableGoals(model, home, joints, low, high, site, floor)


def _moving(model: Any, site: tuple[str, int]) -> tuple[int, ...]:
    """Indices of the actuated hinges and slides between a site and the world, from the world on."""
    field, index = site
    owners = {"site_xpos": model.site_bodyid, "geom_xpos": model.geom_bodyid, "xpos": np.arange(model.nbody)}
    body, found = int(owners[field][index]), list[int]()
    driven = driven_joints(model)
    while body:
        first = int(model.body_jntadr[body])
        found += [
            j for j in range(first, first + int(model.body_jntnum[body])) if int(model.jnt_type[j]) in SCALAR_JOINTS
        ]
        body = int(model.body_parentid[body])
    return tuple(sorted(j for j in found if j in driven))
