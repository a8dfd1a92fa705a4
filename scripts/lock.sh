#!/usr/bin/env bash
# Pins every dependency with its hashes, for every platform. Keeps the pins that still fit;
# `scripts/lock.sh --upgrade` moves all of them to the newest versions.
#
# The files name no package index: whatever pip and uv are set up to use serves them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}

compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-package cxr-client --no-annotate --custom-compile-command "make lock" "$@" \
        client/pyproject.toml server/pyproject.toml
}

# What serving needs: no torch.
compile "${@}" --group pyproject.toml:build --output-file locks/serve.txt
# Everything: the torch engine, `prepare`, tests and linters. Agrees with the first.
compile "${@}" --group pyproject.toml:build --group pyproject.toml:dev --extra torch \
    --constraint locks/serve.txt --output-file locks/dev.txt
