#!/bin/sh
# Meta-World's scripted policies of door-open-v3 and door-close-v3 change the observation that they are given.
#
# Guess before the run: a policy reads its observation.
# Seen: `get_action(observation)` shifts the door's position in the caller's own array, by 0.05 m or more. A recorder that
# stores the observation after it has asked for the action keeps positions that the environment never reported; of the
# 50 policies, these two do so. Hand over a copy.
# Ends with 1 as soon as Meta-World behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check metaworld==3.1.1 mujoco==3.3.0 gymnasium==1.2.2 numpy==2.4.6 packaging==25.0
cd "$folder"
venv/bin/python - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from metaworld.policies import ENV_POLICY_MAP

changed = {}
for name, kind in ENV_POLICY_MAP.items():
    given = np.ones(39)
    kind().get_action(given)
    if not np.array_equal(given, np.ones(39)):
        changed[name] = {int(i): float(given[i]) for i in np.flatnonzero(given != 1.0)}
print("metaworld", version("metaworld"), "of", len(ENV_POLICY_MAP), "policies change their observation:", changed)
assert sorted(changed) == ["door-close-v3", "door-open-v3"]
PYTHON
