#!/usr/bin/env bash
# Prints deploy/kubernetes.yaml: what the chart renders by default.
#
#   scripts/manifest.sh >deploy/kubernetes.yaml     # `make manifest`
set -euo pipefail
cd "$(dirname "$0")/.."
helm=${HELM:-build/operations/bin/helm}

cat <<'HEADER'
# Rendered from deploy/helm/cxr-serve by `make manifest`: change the chart, not this file. For clusters without
# Helm, and as a base for kustomize. It serves the phantom model to the pods of its namespace, in plaintext; for
# another model change both of its names below, the argument of `prepare` and CXR_MODEL.
HEADER
# Helm ends each document with a blank line.
"$helm" template cxr-serve deploy/helm/cxr-serve | sed '/^$/d'
