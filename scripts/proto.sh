#!/usr/bin/env bash
# Makes the stubs of the contract; with --check, compares them with the committed ones instead.
#
# protoc writes imports from the path below protos/, so the stubs land in client/cxr/v1 and are
# imported as `cxr.v1` as they are. grpcio-tools is pinned to the lowest supported version:
# generated code refuses to load on a runtime older than its generator.
set -euo pipefail
cd "$(dirname "$0")/.."

out=client
if [ "${1:-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
else
    rm -f client/cxr/v1/*_pb2*
fi

"${PYTHON:-.venv/bin/python}" -m grpc_tools.protoc -I protos \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" protos/cxr/v1/*.proto

if [ "$out" != client ]; then
    diff -r --exclude=__init__.py --exclude=__pycache__ "$out/cxr/v1" client/cxr/v1 || {
        echo "The stubs differ from the contract: run \`make proto\` and commit client/cxr/v1." >&2
        exit 1
    }
fi
