#!/usr/bin/env bash
# Builds a container image and asks it for a prediction, where there is no Docker engine:
# buildah with chroot isolation, on a base that debootstrap makes. For Debian, as root.
#
#   TARGET=cuda      the image with torch, instead of the one without: needs 30 GB of disk
#   BASE_IMAGE=...   build on this image instead (buildah must be able to pull it)
#   OUTPUT=FILE.tar  keep the image as an archive that `docker load` reads
set -euo pipefail
cd "$(dirname "$0")/.."
target=${TARGET:-cpu}
image=cxr-serve
[ "$target" = cpu ] || image=cxr-serve:$target

if ! command -v buildah debootstrap >/dev/null; then
    apt-get update -q
    apt-get install -y -q --no-install-recommends buildah debootstrap
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
b() { buildah --root "$work/storage" --runroot "$work/run" "$@"; }

base=${BASE_IMAGE:-}
if [ -z "$base" ]; then
    echo "== base: Debian bookworm, whose python3 is 3.11"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
        bookworm "$work/base" >"$work/debootstrap.log" || { tail "$work/debootstrap.log"; exit 1; }
    rm -rf "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/*
    # As in Debian's slim images: neither translations nor documentation, but licences.
    rm -rf "$work"/base/usr/share/{info,locale,man}/*
    find "$work/base/usr/share/doc" -type f ! -name copyright -delete
    # What this machine trusts (a proxy of its own, perhaps) pip trusts there too.
    certificates=/etc/ssl/certs/ca-certificates.crt
    cp "$certificates" "$work/base$certificates"
    container=$(b from scratch)
    b add --quiet "$container" "$work/base" / >/dev/null
    b config --env PIP_CERT="$certificates" --cmd /bin/sh "$container"
    base=localhost/cxr-base
    b commit --quiet --rm "$container" "$base" >/dev/null
    rm -rf "$work/base"
fi

echo "== build"
b build --quiet --format docker --target "$target" --build-arg BASE_IMAGE="$base" --tag "$image" . >/dev/null
b inspect --type image --format '{{.Docker.Config.User}} {{.Docker.Config.Entrypoint}} {{.Docker.Config.Cmd}}' "$image"
container=$(b from "$image")
root=$(b mount "$container")
echo "unpacked, MB, and its largest packages:"
du -sm "$root" | cut -f1
(cd "$root"/opt/cxr/lib/python3*/site-packages && du -sm -- *) | sort -rn | sed -n 1,16p
b umount "$container" >/dev/null

echo "== run: serve the phantom model, predict and explain; convert a checkpoint"
b copy --quiet "$container" tests/handmade_checkpoints.py tests/random_weights.py /tmp/tests/ >/dev/null
# The CUDA image serves with torch, here on the CPU; the other one has no torch.
engine=openvino
[ "$target" = cpu ] || engine=torch
b run --env ENGINE="$engine" "$container" -- sh -euc '
    [ "$(id -u)" = 10001 ]
    if command -v pip; then exit 1; fi
    found=$(python3 -c "import torch" 2>/dev/null && echo torch || echo openvino)
    [ "$found" = "$ENGINE" ]
    cxr-server prepare --if-missing phantom
    [ -w "$CXR_BUNDLE_HOME" ]
    cxr-server serve --engine "$ENGINE" --device cpu --listen 127.0.0.1:0 --log-format console >/tmp/banner &
    server=$!
    for _ in $(seq 120); do [ -s /tmp/banner ] && break; kill -0 $server; sleep 0.5; done
    cat /tmp/banner
    export CXR_SERVER=$(sed "s/.* on \([^ ]*\) .*/\1/" /tmp/banner)
    cxr-server health
    cxr health
    cxr-server phantom-samples --output /tmp/phantoms >/dev/null
    cxr predict --top-k 1 /tmp/phantoms
    cxr explain --output /tmp/heatmaps /tmp/phantoms
    ls -l /tmp/heatmaps
    cxr view --port 0 /tmp/phantoms >/tmp/url &
    view=$!
    for _ in $(seq 120); do [ -s /tmp/url ] && break; kill -0 $view; sleep 0.5; done
    python3 -c "
import sys, urllib.request
urllib.request.urlopen(sys.argv[1])
state = urllib.request.urlopen(sys.argv[1] + \"api/state\").read()
assert b\"serving\" in state and b\"phantom-mass-4.png\" in state, state" "$(cat /tmp/url)"
    kill -TERM $view
    wait $view
    kill -TERM $server
    wait $server
    echo "stopped cleanly"
    cd /tmp/tests
    python3 -c "
import sys, handmade_checkpoints, random_weights
sys.stdout.buffer.write(handmade_checkpoints.state_dict_file(random_weights.random_weights()))" \
        >/tmp/mine.pt
    cxr-server prepare mine --from /tmp/mine.pt --labels A,B,C
    cxr-server doctor --model mine --listen 127.0.0.1:0 --health-listen ""
'

if [ -n "${OUTPUT:-}" ]; then
    mkdir -p "$(dirname "$OUTPUT")"
    rm -f "$OUTPUT"
    case $image in *:*) name=$image ;; *) name=$image:latest ;; esac
    b push --quiet "$image" "docker-archive:$OUTPUT:$name"
    ls -lh "$OUTPUT"
fi
