#!/usr/bin/env bash
# Build the wheels of ldm-runtime, ldm-runtime-native and ldm-export from the last commit: scripts/build_wheels.sh [FOLDER, default dist].
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "${1:-dist}"
out=$(cd "${1:-dist}" && pwd)
rm -f "$out"/ldm_{runtime,runtime_native,export}-*.whl
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

git archive HEAD | tar -x -C "$tree"
python3 -m pip wheel -q --no-deps -w "$out" "$tree/runtime"
python3 -m pip wheel -q --no-deps -w "$out" "$tree/runtime/cpp"
rm "$tree/runtime/pyproject.toml"  # with no runtime beside it, ldm-export depends on the released one
python3 -m pip wheel -q --no-deps -w "$out" "$tree"
ls -l "$out"
