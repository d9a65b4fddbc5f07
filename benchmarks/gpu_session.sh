#!/usr/bin/env bash
# All that is shown on a GPU machine, from the repository root. The last lines say what passed; $OUT gets the rest.
#
#     OUT=FOLDER bash benchmarks/gpu_session.sh [STEP ...]
#     STEP: build doctor benchmark suite precision threshold examples tests conformance
#
# .gpu/setup.sh, where it exists, puts the libraries in place of a package index. Each step has a limit in seconds, and the
# next ones run whatever became of it; only a failed build ends all.
# A command on that machine may be limited to ten minutes: name steps, in two calls, where all take longer.
set -uo pipefail

cd "$(dirname "$0")/.."
out=${OUT:-/tmp/pynn-gpu-session}
install=${PYNN_GPU_INSTALL:-/tmp/pynn-install}
mkdir -p "$out"
: >"$out/session.log"
wanted=" $* "
table=()
failed=0
[ -f .gpu/setup.sh ] && . .gpu/setup.sh

# The installed pynn, not the source tree: no current folder on the path, and the tree after the installation.
export PYTHONPATH=$install:${PYTHONPATH:-}:$PWD PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONWARNINGS=default

# step NAME SECONDS FUNCTION
step() {
  local name=$1 limit=$2 log=/tmp/pynn-step-$1.log start=$SECONDS status=0
  if [ "$wanted" != "  " ] && [[ $wanted != *" $name "* ]]; then return; fi
  echo "=== $name"
  export -f "$3"
  timeout -k 10 "$limit" bash -c "$3" >"$log" 2>&1 </dev/null || status=$?
  tail -n "${4:-12}" "$log"
  { echo "=== $name ($status)"; cat "$log"; } >>"$out/session.log"
  case $status in
    0) table+=("$(printf '%-12s passed  %4d s' "$name" $((SECONDS - start)))") ;;
    124 | 137) table+=("$(printf '%-12s TIMEOUT %4d s' "$name" $((SECONDS - start)))") ;;
    *) table+=("$(printf '%-12s FAILED  %4d s (%d)' "$name" $((SECONDS - start)) $status)") ;;
  esac
  [ $status -eq 0 ] || failed=1
  return $status
}

build() {
  python3 -m pip install -q --no-build-isolation --no-deps --no-index --upgrade --target "$PYNN_GPU_TARGET" . &&
    python3 -c 'import pynn, pynn.native.find as f; print(pynn.__file__, f.shim_path())'
}

doctor() {
  python3 -c 'import sys; from pynn.cli import main; sys.exit(main())' doctor --json >"$PYNN_GPU_OUT/doctor.json"
  python3 -c 'import sys; from pynn.cli import main; sys.exit(main())' doctor
}

tests() { python3 -m pytest -q -p no:cacheprovider --require=gpu -m gpu --durations=10 tests; }

examples() {
  unset PYTHONSAFEPATH
  local status=0
  python3 examples/mobilenetv2.py --backend tensorrt --check || status=1
  python3 examples/mobilenetv2.py --backend tensorrt --check --dtype float16 || status=1
  python3 examples/minilm.py --backend tensorrt --seeded --check || status=1
  python3 examples/minilm.py --backend tensorrt --seeded --check --dtype float16 || status=1
  if python3 -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("magika") is None)'; then
    python3 examples/classify_files.py --backend tensorrt README.md CMakeLists.txt csrc/include/pynn_trt.h || status=1
  else
    echo "skipped: examples/classify_files.py: the package magika is not here"
  fi
  return $status
}

conformance() {
  python3 -m tests.conformance --backend tensorrt --gpu-jobs 12 --limit-seconds 220 \
    --json "$PYNN_GPU_OUT/conformance.json" --markdown "$PYNN_GPU_OUT/conformance.md"
}

benchmark() { python3 benchmarks/first_light/run.py --output "$PYNN_GPU_OUT"; }

suite() {
  local status=0
  python3 benchmarks/suite/run.py --limit-seconds 200 --output "$PYNN_GPU_OUT" || status=1
  python3 benchmarks/suite/table.py "$PYNN_GPU_OUT/suite.json" || status=1
  return $status
}

precision() {
  local status=0
  python3 benchmarks/precision/run.py --limit-seconds 200 --output "$PYNN_GPU_OUT" || status=1
  python3 benchmarks/suite/table.py "$PYNN_GPU_OUT/precision.json" || status=1
  return $status
}

threshold() { python3 benchmarks/mapped_threshold/run.py --output "$PYNN_GPU_OUT"; }

main() {
  export PYNN_GPU_TARGET=$install PYNN_GPU_OUT=$out
  step build 120 build || { printf '%s\n' "${table[@]}"; [ "$wanted" = "  " ] && exit 1; }
  step doctor 60 doctor 40
  step benchmark 150 benchmark 30
  step suite 220 suite 40
  step precision 220 precision 40
  step threshold 130 threshold 50
  step examples 120 examples 60
  step tests 180 tests 30
  step conformance 240 conformance 40
  echo "=== $SECONDS s"
  printf '%s\n' "${table[@]}"
  exit $failed
}

main; exit
