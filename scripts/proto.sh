#!/usr/bin/env bash
# Generates what derives from the contract: the stubs in client/cxr/v1, and protos/baseline.binpb, the
# image that `buf breaking` compares with; and the stubs of the Open Inference Protocol beside their proto.
# With --check, compares them with the committed ones instead.
#
# A breaking change is refused before anything is written. protoc writes imports relative to protos/,
# so the stubs in client/cxr/v1 are imported as `cxr.v1` without patches.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-build/stubs/bin/python}
buf=${BUF:-.venv/bin/buf}
foreign=cxr_server/rpc/open_inference

generate() {
    "$python" -m grpc_tools.protoc -I protos \
        --python_out="$1" --pyi_out="$1" --grpc_python_out="$1" protos/cxr/v1/*.proto
    "$python" -m grpc_tools.protoc -I server \
        --python_out="$2" --pyi_out="$2" --grpc_python_out="$2" server/$foreign/*.proto
}

"$buf" breaking protos --against protos/baseline.binpb
if [ "${1:-}" = --check ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
    generate "$out" "$out"
    # The second comparison finds what the baseline lacks: fields that were added since.
    diff -r --exclude=__init__.py --exclude=__pycache__ "$out/cxr/v1" client/cxr/v1 &&
        for stub in "$out"/$foreign/*; do diff "$stub" "server/$foreign/${stub##*/}" || exit 1; done &&
        "$buf" breaking protos/baseline.binpb --against protos || {
        echo "The stubs or the baseline differ from the contract: run \`make proto\` and commit." >&2
        exit 1
    }
else
    rm -f client/cxr/v1/*_pb2* server/$foreign/*_pb2*
    generate client server
    "$buf" build protos --exclude-source-info -o protos/baseline.binpb
fi
