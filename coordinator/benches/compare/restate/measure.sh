#!/bin/sh
# Measures calls of the greeter on Restate, as a command of `--other` (see ../../README.md).
#
# Needs the directory that `prepare.sh` made, in RESTATE_DIR. Restate keeps its state in a new
# temporary directory. Settings of Restate (RESTATE_…) pass to it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case "$WORK" in
    call-*) ;;
    *) echo "Restate is measured with calls only, not with $WORK" >&2; exit 1 ;;
esac
data=$(mktemp -d)
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
ingress=$(port) admin=$(port) node=$(port) handler=$(port)
<<<<<<< HEAD
"$here/target/release/greeter-on-restate" "127.0.0.1:$handler" >"$data/handler.log" 2>&1 &
=======
node "$here/greeter.mjs" "$handler" >"$data/handler.log" 2>&1 &
>>>>>>> refs/heads/cpu
functions=$!
RESTATE_BASE_DIR=$data/state \
RESTATE_INGRESS__BIND_ADDRESS=127.0.0.1:$ingress \
RESTATE_ADMIN__BIND_ADDRESS=127.0.0.1:$admin \
RESTATE_BIND_ADDRESS=127.0.0.1:$node \
RESTATE_ADVERTISED_ADDRESS=http://127.0.0.1:$node \
RESTATE_LOG_FILTER=warn \
DO_NOT_TRACK=1 \
    "$RESTATE_DIR/node_modules/.bin/restate-server" >"$data/restate.log" 2>&1 &
system=$!
trap 'kill $system $functions 2>/dev/null; wait; rm -rf "$data"' EXIT
deployment="{\"uri\": \"http://127.0.0.1:$handler\"}"
tries=0
until curl -sf -X POST "http://127.0.0.1:$admin/deployments" \
    -H 'content-type: application/json' -d "$deployment" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { tail -n 20 "$data"/*.log >&2; exit 1; }
    sleep 0.2
done
until curl -sf -X POST "http://127.0.0.1:$ingress/Greeter/first/greet" \
    -H 'content-type: application/json' -d '{"name": "Alice"}' >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { tail -n 20 "$data"/*.log >&2; exit 1; }
    sleep 0.2
done
# The launcher of the npm package starts the server as its child.
<<<<<<< HEAD
server=$(pgrep -P $system restate-server || echo $system)
=======
server=$(pgrep -P $system || echo $system)
>>>>>>> refs/heads/cpu
"$LOAD" load "http://127.0.0.1:$ingress/Greeter/{}/greet" "$CLIENTS" "$ONE_KEY" "$SECONDS" \
    "$server" "$functions" 'content-type: application/json'
