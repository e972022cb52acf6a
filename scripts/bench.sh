#!/usr/bin/env bash
# scripts/bench.sh [--quick] [NAME …]: belay, its peer and the limit, side by side; all that are built without a NAME.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib/common.sh"
. "$here/lib/deps.sh"

bench() {
    "$1" "$ROOT/bench/bench.py" --build "$ROOT/build" --python "$VENV/bin/python" "${@:2}"
}

# A command line that is wrong is refused before anything is installed.
bench python3 --check "$@"
[[ " $* " != *" -h "* && " $* " != *" --help "* ]] || exit 0
phase "packages of the system" need_packages "${BUILD_PACKAGES[@]}"
phase "the TensorFlow runtime" need_tensorflow
phase "Python's TensorFlow, the peer" need_python
phase "build" build build dev belay_command bench
bench "$VENV/bin/python" "$@"
