#!/usr/bin/env bash
# Runs the tests of a build under valgrind: valgrind.sh BUILD_FOLDER [OPTIONS OF CTEST, such as -R NAME]. A bad access, a
# leak or a value that was never set fails the test. All of them take some minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
build=$1
shift
command -v valgrind > /dev/null || { echo "valgrind is not installed" >&2; exit 2; }
cd "$build"
exec ctest -T memcheck --output-on-failure --no-tests=error --overwrite MemoryCheckCommand="$(command -v valgrind)" \
    --overwrite MemoryCheckType=Valgrind --overwrite MemoryCheckSuppressionFile="$here/tests/valgrind.supp" \
    --overwrite MemoryCheckCommandOptions="--leak-check=full --error-exitcode=9 -q" "$@"
