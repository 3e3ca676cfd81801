#!/bin/sh
<<<<<<< HEAD
# Installs Restate's released server in RESTATE_DIR, from its npm package, and builds the greeter.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$RESTATE_DIR"
npm install --no-audit --no-fund --prefix "$RESTATE_DIR" @restatedev/restate-server@1.7.12
cargo build --release --manifest-path "$here/Cargo.toml"
=======
# Installs Restate's released server and SDK in RESTATE_DIR, from their npm packages.
set -eu
mkdir -p "$RESTATE_DIR"
npm install --no-audit --no-fund --prefix "$RESTATE_DIR" \
    @restatedev/restate-server@1.7.12 @restatedev/restate-sdk
>>>>>>> refs/heads/cpu
