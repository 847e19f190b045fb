#!/bin/sh
# Moving a body's centre of mass in a compiled MuJoCo model moves where MuJoCo looks for its contacts, or its geom.
#
# Guess before the run: body_ipos says where the mass is, and nothing else. Geoms have places of their own, relative to
# the body's frame, and mj_setConst derives the rest.
# Seen: (1) The bounding boxes of a body's geoms (bvh_aabb) are in its inertial frame, so they move with body_ipos. Three
# spheres that rest on a table have three contacts; with the centre of mass 5 cm higher they have none, and fall through.
# A model compiled from XML with that centre of mass keeps all three. (2) A geom whose frame is the inertial frame has
# geom_sameframe 2 and is placed there: with body_ipos 10 cm higher the geom itself is 10 cm higher. mj_setConst mends
# neither; nothing is logged. Randomising a payload or a centre of mass this way takes a robot's feet off the floor.
# Ends with 1 as soon as MuJoCo behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mujoco==3.3.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import mujoco

THREE = """<mujoco><worldbody>
  <body name="table"><geom type="box" size=".5 .5 .05" pos="0 0 .05"/></body>
  <body name="tripod" pos="0 0 .19"><freejoint/>{inertial}
    <geom type="sphere" size=".1" pos=".2 0 0" mass="1"/><geom type="sphere" size=".1" pos="-.2 0 0" mass="1"/>
    <geom type="sphere" size=".1" pos="0 .2 0" mass="1"/>
  </body>
</worldbody></mujoco>"""
ONE = """<mujoco><worldbody><body name="brick" pos="0 0 .5"><freejoint/>
  <geom name="brick" type="box" size=".1 .2 .3" pos=".2 0 0" euler="20 30 40" mass="1"/>
</body></worldbody></mujoco>"""


def forward(model):
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return data


model = mujoco.MjModel.from_xml_string(THREE.format(inertial=""))
before = forward(model).ncon
body = model.body("tripod")
body.ipos[2] += 0.05
after = forward(model).ncon
place = " ".join(map(str, body.ipos))
inertia = " ".join(map(str, body.inertia))
turned = " ".join(map(str, body.iquat))
inertial = f'<inertial pos="{place}" quat="{turned}" mass="3" diaginertia="{inertia}"/>'
compiled = forward(mujoco.MjModel.from_xml_string(THREE.format(inertial=inertial))).ncon
print("contacts:", before, "then with a higher centre of mass:", after, "compiled with it:", compiled)
assert (before, after, compiled) == (3, 0, 3)

model = mujoco.MjModel.from_xml_string(ONE)
low = forward(model).geom("brick").xpos.copy()
assert model.geom("brick").sameframe == 2, model.geom("brick").sameframe
model.body("brick").ipos[2] += 0.1
high = forward(model).geom("brick").xpos.copy()
print("geom at", low, "then", high)
assert abs(high[2] - low[2] - 0.1) < 1e-12
PYTHON
