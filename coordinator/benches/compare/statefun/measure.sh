#!/bin/sh
# Measures the greeter on StateFun 3.3, as a command of `--other` (see ../../README.md).
#
# GREETER is the binary of the example `greeter`, which serves StateFun's protocol. JAVA_OPTIONS pass
# to the job.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case "$WORK" in
    http-*) ;;
    *) echo "StateFun is measured with streams over HTTP only, not with $WORK" >&2; exit 1 ;;
esac
data=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
RUST_LOG=warn "$GREETER" --http "127.0.0.1:$port" >"$data/functions.log" 2>&1 &
functions=$!
trap 'kill $functions 2>/dev/null; wait; rm -rf "$data"' EXIT
sleep 0.5
# shellcheck disable=SC2086
java -Xms2g -Xmx2g \
    --add-opens java.base/java.lang=ALL-UNNAMED --add-opens java.base/java.util=ALL-UNNAMED \
    ${JAVA_OPTIONS:-} -Djava.io.tmpdir="$data" \
    -cp "$here/target/classes:$here/target/lib/*" satchel.compare.Greetings \
    "http://127.0.0.1:$port/" "$KEYS" "$RECORDS" "$functions" "$data" 2>"$data/job.log" ||
    { tail -n 40 "$data/job.log" >&2; exit 1; }
