#!/bin/sh
# Installs Restate's released server and SDK in RESTATE_DIR, from their npm packages.
set -eu
mkdir -p "$RESTATE_DIR"
npm install --no-audit --no-fund --prefix "$RESTATE_DIR" \
    @restatedev/restate-server@1.7.12 @restatedev/restate-sdk
