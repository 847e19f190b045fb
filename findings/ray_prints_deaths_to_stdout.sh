#!/bin/sh
# With `log_to_driver=False` Ray still prints to the program's stdout when an actor's process dies.
#
# Guess before the run: `ray.init(log_to_driver=False, logging_level=logging.ERROR)` keeps stdout for the program's own
# results, and a lost actor is only an exception.
# Seen with Ray 2.60.0: the exception comes, and a thread of Ray also prints "A worker died or was killed ..." to stdout,
# so that a program that ends with one line of JSON has a broken output. Only the logs of workers obey the option.
# Ends with 1 as soon as Ray behaves otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cd "$folder"
mkdir home
HOME="$folder/home" RAY_USAGE_STATS_ENABLED=0 venv/bin/python - >out 2>err <<'PYTHON'
import json
import logging
import os
import time

import ray

ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


@ray.remote
class Actor:
    def die(self):
        os._exit(1)


try:
    ray.get(Actor.remote().die.remote())
except ray.exceptions.RayActorError as error:
    print(json.dumps({"lost": type(error).__name__}))
time.sleep(3)
PYTHON
cut -c1-90 out
grep -q '^{"lost": "ActorDiedError"}' out
grep -q "(raylet).*A worker died or was killed" out
