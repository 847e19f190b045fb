#!/bin/sh
# A servo's damping is compiled from the mass once: `dampratio` does not follow a mass that changes in an MjModel.
#
# Guess before the run: mj_setConst, which recomputes what follows from masses, recomputes the damping of
# <position dampratio="1"> too, so a model changed in place equals one compiled from XML with the new mass.
# Seen: it does not. With four times the mass the servo stays as damped as before and overshoots its target, while the
# recompiled one reaches it without. The SO-ARM100 and other arms have such servos.
# Ends with 1 as soon as MuJoCo behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mujoco==3.3.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import mujoco
import numpy as np

XML = """
<mujoco>
  <option gravity="0 0 0" timestep="0.001"/>
  <worldbody>
    <body>
      <inertial mass="{mass}" pos="0 0 0" diaginertia="1 1 1"/>
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom size="0.1"/>
    </body>
  </worldbody>
  <actuator><position joint="slide" kp="100" dampratio="1"/></actuator>
</mujoco>
"""


def highest(model):
    """The furthest position on the way to the target 1."""
    data = mujoco.MjData(model)
    data.ctrl[:] = 1.0
    positions = []
    for _ in range(5000):
        mujoco.mj_step(model, data)
        positions.append(data.qpos[0])
    return max(positions)


changed = mujoco.MjModel.from_xml_string(XML.format(mass=1))
before = changed.actuator_biasprm[0, 2]
changed.body_mass[1] = 4.0
mujoco.mj_setConst(changed, mujoco.MjData(changed))
compiled = mujoco.MjModel.from_xml_string(XML.format(mass=4))
print("damping: compiled with mass 1", -before, "changed to 4", -changed.actuator_biasprm[0, 2],
      "compiled with 4", -compiled.actuator_biasprm[0, 2])
print("furthest on the way to 1: changed", highest(changed), "compiled", highest(compiled))
assert changed.actuator_biasprm[0, 2] == before == -20.0
assert np.isclose(compiled.actuator_biasprm[0, 2], -40.0)
assert highest(changed) > 1.1, "it overshoots"
assert highest(compiled) < 1.001, "critically damped"
PYTHON
