#!/bin/sh
# MuJoCo's compiler refuses a flat plate whose inertia is exactly A + B = C, if the sum is rounded down.
#
# Guess before the run: the triangle inequality is checked with a tolerance, as it is for quaternions and axes.
# Seen: there is none. "0.3e-6 1e-6 1.3e-6" is refused, "0.3 1 1.3" compiles, and a unit conversion of a model from CAD
# can decide. In an MjModel nothing is checked: moments far from any body's are simulated without a word.
# Ends with 1 as soon as MuJoCo behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check mujoco==3.3.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'PYTHON'
import mujoco

XML = """
<mujoco>
  <worldbody>
    <body>
      <inertial mass="1" pos="0 0 0" diaginertia="{}"/>
      <freejoint/>
      <geom size="0.1"/>
    </body>
  </worldbody>
</mujoco>
"""


def refused(inertia):
    try:
        mujoco.MjModel.from_xml_string(XML.format(inertia))
    except ValueError as error:
        print(inertia, "->", str(error).splitlines()[0])
        return True
    print(inertia, "-> compiles")
    return False


assert not refused("0.3 1 1.3")
assert refused("0.3e-6 1e-6 1.3e-6")
by_scale = [refused(f"{0.3 * s!r} {1.0 * s!r} {1.3 * s!r}") for s in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)]
assert 0 < sum(by_scale) < len(by_scale), "the unit decides"

model = mujoco.MjModel.from_xml_string(XML.format("1 1 1"))
model.body_inertia[1] = 0.1, 0.1, 9.0
data = mujoco.MjData(model)
mujoco.mj_setConst(model, data)
data.qvel[3:] = 1.0, 2.0, 3.0
mujoco.mj_step(model, data, 100)
assert not data.warning.number.any()
print("0.1 0.1 9.0 set in the model -> simulated")
PYTHON
