#!/bin/sh
# A token in the home folder, left by any `ray.init()`, makes the next cluster refuse the commands that its head prints.
#
# Guess before the run: `ray.init("auto")` and `ray.init("127.0.0.1:PORT")` on the head's machine are the same thing, and
# `ray start --address=HOST:PORT`, which the head prints, adds a node.
# Seen with Ray 2.60.0: both work as long as nobody has called `ray.init()` in this home. That call writes
# ~/.ray/auth_token; from then on `ray start --head` asks for it, silently but for a warning. `auto` finds the token. An
# explicit address never reads it, so `ray.init("127.0.0.1:PORT")` and `ray start --address` fail after 20 s, on the same
# machine and in the same home. RAY_AUTH_MODE=token mends both.
# Ends with 1 as soon as Ray behaves otherwise.
set -eu
folder=$(mktemp -d)
head=
stop() {
    [ -z "$head" ] || { kill "$head" 2>/dev/null && wait "$head"; } || true
    head=
}
trap 'stop; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
cd "$folder"
mkdir home
export HOME="$folder/home" RAY_USAGE_STATS_ENABLED=0 RAY_TMPDIR="$folder"
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH RAY_ADDRESS
start() {
    venv/bin/ray start --head --port="$1" --num-cpus=1 --include-dashboard=false --block >"head$1" 2>&1 &
    head=$!
    for _ in $(seq 60); do
        grep -q "Ray runtime started" "head$1" && return
        sleep 1
    done
    cat "head$1"
    exit 1
}
join() {
    venv/bin/python - "$1" 2>/dev/null <<'PYTHON'
import sys
import ray
try:
    ray.init(sys.argv[1])
    print("joined by", sys.argv[1].partition(":")[0], len(ray.nodes()))
except Exception as error:
    print("refused by", sys.argv[1].partition(":")[0], type(error).__name__)
PYTHON
}
start 6471
test ! -e home/.ray/auth_token
join 127.0.0.1:6471 | tee before
grep -q "^joined by 127.0.0.1" before
stop
venv/bin/python -c "import ray; ray.init('local', num_cpus=1, include_dashboard=False)" 2>/dev/null
test -e home/.ray/auth_token
start 6472
join auto | tee after
join 127.0.0.1:6472 | tee -a after
(export RAY_AUTH_MODE=token; join 127.0.0.1:6472) | tee -a after
grep -q "^joined by auto" after
grep -q "^refused by 127.0.0.1 ConnectionError" after
grep -q "^joined by 127.0.0.1" after
if venv/bin/ray start --address=127.0.0.1:6472 --num-cpus=1 >node 2>&1; then
    echo "a node was added without RAY_AUTH_MODE"
    exit 1
fi
grep -o "AuthenticationError: RPC error: InvalidAuthToken" node | tail -n 1
