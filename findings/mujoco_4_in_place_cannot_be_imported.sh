#!/bin/sh
# pip's change from mujoco 3.3.0 to 4.0.0 in place reports success, and mujoco cannot be imported; nor after going back.
#
# Guess before the run: both changes work, since pip removes the old version's files and puts the new ones in place.
# Seen: 4.0.0 is split into mujoco and mujoco-core, which write into one folder. After the upgrade `import mujoco`
# raises ImportError ("core bindings are missing"), and after `pip install mujoco==3.3.0` it raises OSError
# (libmujoco.so.4.0.0). `pip check` finds nothing either time. Removing all three and installing again mends it.
# Ends with 1 as soon as pip and mujoco behave otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cd "$folder"
install() { venv/bin/pip install --quiet --disable-pip-version-check "$@"; }
imports() { venv/bin/python -c "import mujoco; print('import mujoco', mujoco.__version__)" 2>&1 | tail -n 2; }
install mujoco==3.3.0 numpy==2.4.6
imports | grep -q "import mujoco 3.3.0"
install mujoco==4.0.0
venv/bin/pip check
imports | tee upgraded
grep -q "pip install --force-reinstall" upgraded
install mujoco==3.3.0
venv/bin/pip check
imports | tee back
grep -q "libmujoco.so.4.0.0" back
venv/bin/pip uninstall --quiet -y mujoco mujoco-core mujoco-studio
install mujoco==3.3.0
imports | grep "import mujoco 3.3.0"
