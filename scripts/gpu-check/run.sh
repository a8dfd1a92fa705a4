#!/bin/bash
# Proves and measures the CUDA half of cxr-serve on one NVIDIA GPU: see README.md.
#   OUT=FOLDER              where results go (default: gpu-check-out)
#   GPU_CHECK_SECONDS=1000  time for all steps
#   GPU_CHECK_STEPS="..."   which steps, by name
#   GPU_CHECK_CPU=1         try the check's own logic without a GPU: small loads, a fake torch.cuda
#   PYTHON=python3          the interpreter
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
began=$(date +%s)
total=${GPU_CHECK_SECONDS:-1000}
steps=${GPU_CHECK_STEPS:-machine assets tests parity served rates faults compiled bench}
python=$(command -v "${PYTHON:-python3}") || { echo "run.sh: no ${PYTHON:-python3}"; exit 2; }
case $python in /*) ;; *) python=$PWD/$python ;; esac
OUT=${OUT:-$PWD/gpu-check-out}
export OUT PYTHONUNBUFFERED=1
mkdir -p "$OUT"
rm -f "$OUT/results.json"
exec > >(tee "$OUT/log.txt") 2>&1

if [ -n "$(ls "$here"/carry/*.whl 2>/dev/null)" ]; then
  # Without a network: the wheels of prepare.py, then the packages that the interpreter has.
  venv=$(mktemp -d)/venv
  "$python" -m venv --without-pip "$venv" || exit 2
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  "$python" -c 'import sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")' \
    > "$site/machine.pth"
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check \
    --target "$site" "$here"/carry/*.whl || { echo "run.sh: the wheels cannot be installed"; exit 2; }
  python=$venv/bin/python
fi
export PYTHONPATH=$here:$root:$root/server:$root/client:$root/phantom:$root/tests
cd "$root" || exit 2
if [ "${GPU_CHECK_CPU:-}" != 1 ] && ! "$python" -c 'import torch; assert torch.cuda.is_available()'; then
  echo "run.sh: torch finds no CUDA device (GPU_CHECK_CPU=1 tries the check without one)"
  exit 2
fi

failed=""
step() { # NAME SECONDS COMMAND...
  local name=$1 limit=$2; shift 2
  case " $steps " in *" $name "*) ;; *) return ;; esac
  [ "${GPU_CHECK_CPU:-}" = 1 ] && limit=$(( 2 * limit )) # a machine of two cores may be busy
  local left=$(( total - ($(date +%s) - began) - 5 ))
  [ "$limit" -gt "$left" ] && limit=$left
  if [ "$limit" -lt 8 ]; then echo "### $name: no time left"; failed="$failed $name"; return; fi
  echo "### $name (at most $limit s)"
  local start; start=$(date +%s)
  GPU_CHECK_UNTIL=$(( start + limit - 4 )) timeout -k 5 "$limit" "$@"
  local status=$?
  echo "### $name: exit status $status after $(( $(date +%s) - start )) s"
  [ $status -eq 0 ] || failed="$failed $name"
}
python_step() { step "$1" "$2" "$python" -m "gpu_check.$1"; }

served=tests/server/test_on_a_gpu.py
selection=(-m gpu tests/inference/test_engines.py "$served") # others need more packages
[ "${GPU_CHECK_CPU:-}" = 1 ] && selection=(-m "torch and not gpu" "$served")
python_step machine 40
python_step assets 90
step tests 220 "$python" -m pytest -p no:cacheprovider -o timeout=100 "${selection[@]}"
python_step parity 130
python_step served 180
python_step rates 110
python_step faults 70
python_step compiled 110
size=()
[ "${GPU_CHECK_CPU:-}" = 1 ] && size=(--device cpu --smoke --seconds 0.1)
step bench 200 "$python" -m benchmarks.on_gpu --json "$OUT/bench.json" "${size[@]}"
"$python" -m gpu_check.summary
echo "### gpu-check: $(( $(date +%s) - began )) s; failed:${failed:- none}"
sleep 0.3 # let tee write the last lines
[ -z "$failed" ]
