#!/bin/sh
# A resumed Optuna study with a seeded sampler evaluates the points of its first start once more.
#
# A natural guess: a study in SQLite that is loaded by a new process, with the same `TPESampler(seed=0)`, goes on from
# where it was: the sampler sees the earlier trials, so its next points are other ones.
# Seen with Optuna 5.0.0: random numbers of a sampler are not stored. Until `n_startup_trials` trials are complete the
# new process draws exactly the points that the first one drew, without a warning: three of three trials are copies.
# Ends with 1 as soon as Optuna behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0
cd "$folder"
cat >start.py <<'PYTHON'
import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(
    storage="sqlite:///study.db", study_name="one", load_if_exists=True, sampler=optuna.samplers.TPESampler(seed=0)
)
study.optimize(lambda trial: trial.suggest_float("rate", 1e-4, 1e-2, log=True), n_trials=3)
print(*(f"{trial.params['rate']:.6f}" for trial in study.trials))
PYTHON
venv/bin/python start.py
venv/bin/python start.py | tee seen
test "$(cut -d' ' -f1-3 seen)" = "$(cut -d' ' -f4-6 seen)"
