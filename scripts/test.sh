#!/usr/bin/env bash
# scripts/test.sh [--all]: installs what the tests need, builds, and runs them. --all adds the long ones.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib/common.sh"
. "$here/lib/deps.sh"

long_tests=(-LE long)
tsan_targets=(stress_scripted)
all=

read_arguments() {
    local argument
    for argument in "$@"; do
        case $argument in
            --all) long_tests=() tsan_targets=(unit_tests) all=1 ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && exit 2 ;;
        esac
    done
}

usage() {
    echo "usage: scripts/test.sh [--all]     --all: the long tests too"
}

run_tests() {
    ctest --test-dir "$ROOT/build" --output-on-failure --no-tests=error -j2 "${long_tests[@]}"
}

# run_unit_tests_of FOLDER: what was built there.
run_unit_tests_of() {
    ctest --test-dir "$ROOT/$1" --output-on-failure --no-tests=error -j2 -L unit
}

# run_stress FOLDER WORLD: thousands of sessions at once, on the scripted runtime or on TensorFlow.
run_stress() {
    ctest --test-dir "$ROOT/$1" --output-on-failure --no-tests=error -L stress -R "_$2" "${long_tests[@]}"
}

read_arguments "$@"
phase "packages of the system" need_packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
phase "the TensorFlow runtime" need_tensorflow
phase "Python's TensorFlow, to compare with" need_python
phase "build with address and undefined-behaviour sanitizers" build build/asan asan all
phase "unit tests with the sanitizers" run_unit_tests_of build/asan
phase "stress test with the address sanitizer" run_stress build/asan real
phase "build with the thread sanitizer" build build/tsan tsan "${tsan_targets[@]}"
phase "stress test with the thread sanitizer" run_stress build/tsan scripted
if [ "$all" ]; then
    phase "unit tests with the thread sanitizer" run_unit_tests_of build/tsan
    phase "packages for valgrind" need_packages valgrind
    phase "build for valgrind" build build/valgrind valgrind unit_tests
    phase "unit tests with valgrind" run_unit_tests_of build/valgrind
fi
phase "build" build build dev all bench
say "== tests"
run_tests # Its summary is the last thing said.
