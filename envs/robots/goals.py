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
GRID = 11
"""Goals per axis of a box that are compared with the reach."""
SLIDE = int(mujoco.mjtJoint.mjJNT_SLIDE)
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


def beyond_reach(model: Any, home: Floats, site: tuple[str, int], low: Floats, high: Floats) -> tuple[float, str]:
    """The share of a box of goals that the site cannot get to for sure, and a sentence on it; empty if it is 0.

    The site is at most as far from the anchor of the first joint as the distances from each joint's anchor to the next,
    and to the site, add up to: hinges and balls change none of them, a slide one by its travel at most. It may
    get less far, so goals within this distance may be out of reach too.

    Args:
        model: The `MjModel` of a robot that is fixed to the world.
        home: Joint positions of the home pose, `[nq]`.
        site: The part that reaches, as in `metarl.envs.robots.state.find_site`.
        low: Lower corner of the box, `[3]`, m.
        high: Upper corner, `[3]`, m.
    """
    chain, data = _chain(model, site), mujoco.MjData(model)
    slides = [j for j in chain if int(model.jnt_type[j]) == SLIDE]
    if not chain or not model.jnt_limited[slides].all():
        return 0.0, ""
    data.qpos[:] = home
    mujoco.mj_kinematics(model, data)
    points = np.vstack([data.xanchor[list(chain)], getattr(data, site[0])[site[1]]])
    travel = np.abs(model.jnt_range[slides] - home[model.jnt_qposadr[slides]][:, None]).max(axis=1, initial=0.0).sum()
    reach = float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum() + travel)
    axes = [np.linspace(a, b, GRID) for a, b in zip(low, high, strict=True)]
    away = np.linalg.norm(np.stack(np.meshgrid(*axes), axis=-1) - points[0], axis=-1)
    share = float((away > reach).mean())
    if not share:
        return 0.0, ""
    joint = model.joint(chain[0]).name or f"joint {chain[0]}"
    return share, (
        f"goals are up to {away.max():.3g} m from the joint {joint} at ({', '.join(f'{x:.3g}' for x in points[0])}), "
        f"the site at most {reach:.3g} m: about {max(1, round(100 * share))} % of the goals are out of reach"
    )


def _chain(model: Any, site: tuple[str, int]) -> tuple[int, ...]:
    """Indices of the joints between a site and the world, from the world on."""
    field, index = site
    owners = {"site_xpos": model.site_bodyid, "geom_xpos": model.geom_bodyid, "xpos": np.arange(model.nbody)}
    body, found = int(owners[field][index]), list[int]()
    while body:
        first = int(model.body_jntadr[body])
        found += range(first, first + int(model.body_jntnum[body]))
        body = int(model.body_parentid[body])
    return tuple(sorted(found))


def _moving(model: Any, site: tuple[str, int]) -> tuple[int, ...]:
    """Indices of the actuated hinges and slides between a site and the world, from the world on."""
    driven = driven_joints(model)
    return tuple(j for j in _chain(model, site) if int(model.jnt_type[j]) in SCALAR_JOINTS and j in driven)
