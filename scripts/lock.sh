#!/usr/bin/env bash
# Pins every dependency with its hashes, for every platform. Keeps pins that are still valid;
# `scripts/lock.sh --upgrade` updates all of them.
#
# The files name no package index; pip and uv use the configured one.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}

compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-package cxr-client --no-emit-package cxr-server --no-annotate \
        --custom-compile-command "make lock" --extra otel --extra viewer "$@" client/pyproject.toml server/pyproject.toml
}

# The generator of the stubs, in an environment of its own (ADR 1).
"$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command "make lock" "$@" --group pyproject.toml:stubs \
    --output-file locks/stubs.txt
# Serving, conversion, tracing and the viewer: no torch.
compile "${@}" --group pyproject.toml:build --output-file locks/serve.txt
# Linters and the tests that need no torch; those of int8 need NNCF.
compile "${@}" --group pyproject.toml:build --group pyproject.toml:test --extra int8 \
    --constraint locks/serve.txt --output-file locks/test.txt phantom/pyproject.toml
# Everything: the torch engine, the phantom's training, the benchmarks and the browser tests.
compile "${@}" --group pyproject.toml:build --group pyproject.toml:dev --extra torch --extra int8 \
    --constraint locks/test.txt --output-file locks/dev.txt phantom/pyproject.toml
# The programs of `make test-operations`, and what the client needs, for locust.
"$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-package cxr-client --custom-compile-command "make lock" "$@" --group pyproject.toml:build \
    --group pyproject.toml:operations --constraint locks/serve.txt --output-file locks/operations.txt \
    client/pyproject.toml
# Triton's and KServe's clients, in an environment of their own.
"$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command "make lock" "$@" --group pyproject.toml:inference-clients \
    --output-file locks/inference-clients.txt
# The server on Ray Serve, in an environment of its own.
"$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-package cxr-client --no-emit-package cxr-server --custom-compile-command "make lock" \
    --extra ray --extra otel "$@" --group pyproject.toml:build --constraint locks/serve.txt --output-file locks/ray.txt \
    client/pyproject.toml server/pyproject.toml
# The server with the torch engine, for the CUDA image.
compile "${@}" --group pyproject.toml:build --extra torch --constraint locks/dev.txt \
    --output-file locks/cuda.txt
# What writes an image's bill of materials, in an environment of its own.
"$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --custom-compile-command "make lock" "$@" --group pyproject.toml:sbom \
    --output-file locks/sbom.txt
