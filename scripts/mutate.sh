#!/usr/bin/env bash
# scripts/mutate.sh [NAME …]: breaks one row's behaviour at a time, in a copy of the tree, and fails where the test
# that names the row still passes. NAME is a patch in tests/mutants without its .patch; without names, all of them.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib/common.sh"
. "$here/lib/deps.sh"

MUTANTS=$ROOT/tests/mutants
WORK=$ROOT/build/mutants
TREE=$WORK/tree
BUILD=$WORK/build

names=()
applied= # The patch that is in the copy now.
passed=0
failed=0
declare -A row test_of baseline

usage() {
    echo "usage: scripts/mutate.sh [NAME …]     NAME: a patch in tests/mutants, without .patch; none: all"
}

read_arguments() {
    local argument file
    for argument in "$@"; do
        case $argument in
            -h | --help) usage && exit 0 ;;
            -*) usage >&2 && exit 2 ;;
        esac
        argument=${argument##*/}
        names+=("${argument%.patch}")
    done
    if [ ${#names[@]} -eq 0 ]; then
        for file in "$MUTANTS"/*.patch; do
            argument=${file##*/}
            names+=("${argument%.patch}")
        done
    fi
}

# --- a patch and what it says of itself ----------------------------------------------------------

# header NAME FIELD
header() {
    sed -n "/^diff \|^--- /q; s/^$2: *//p" "$MUTANTS/$1.patch" | head -n 1
}

# source_of TEST: its program, in the copy; nothing where there is none.
source_of() {
    local kind
    for kind in unit integration; do
        [ ! -f "$TREE/tests/$kind/$1.c" ] || echo "$TREE/tests/$kind/$1.c"
    done
}

# tests_naming ROW SOURCE: the test functions that name the row, in their name, in the comment above or inside.
# Where something else of the program names it (a table, a helper), that is '*': any of its tests may be the one.
tests_naming() {
    awk -v row="(^|[^A-Z0-9])${1//-/[-_]}([^0-9]|\$)" '
        /^[A-Za-z].*\(/ && match($0, /[A-Za-z0-9_]+\(/) {
            name = substr($0, RSTART, RLENGTH - 1)
            if (above) print name ~ /^test_/ ? name : "*"
            above = 0
        }
        /^[^A-Za-z]?$/ && !inside { if (above) print "*"; above = 0 }
        name == "main" { next } # lists the tests
        $0 ~ row { if (inside || name != "") print name ~ /^test_/ ? name : "*"; else above = 1 }
        /^}/ { name = "" }
        { inside = name != "" }
        END { if (above) print "*" }
    ' "$2" | sort -u
}

# learn NAME: reads its header into row and test_of, or says what is wrong with it.
learn() {
    local source
    [ -f "$MUTANTS/$1.patch" ] || { echo "there is no such patch in tests/mutants" && return 1; }
    row[$1]=$(header "$1" Row)
    test_of[$1]=$(header "$1" Test)
    if [ -z "${row[$1]}" ] || [ -z "${test_of[$1]}" ] || [ -z "$(header "$1" Breaks)" ]; then
        echo "its header lacks one of Row:, Test:, Breaks:"
        return 1
    fi
    source=$(source_of "${test_of[$1]}")
    [ -n "$source" ] || { echo "there is no unit or integration test ${test_of[$1]}" && return 1; }
    [ -n "$(tests_naming "${row[$1]}" "$source")" ] ||
        { echo "${test_of[$1]} does not name ${row[$1]}" && return 1; }
}

# --- the copy ------------------------------------------------------------------------------------

# What git knows or could know, and only what differs, so that little is built anew. A mutation that an interrupted run
# left behind differs too.
copy_tree() {
    local file
    mkdir -p "$TREE"
    ln -sfn "$DEPS" "$TREE/.deps"
    git -C "$ROOT" ls-files -co --exclude-standard | while IFS= read -r file; do
        [ -f "$ROOT/$file" ] || continue
        echo "$file"
        cmp -s "$ROOT/$file" "$TREE/$file" && continue
        mkdir -p "$TREE/$(dirname "$file")"
        cp "$ROOT/$file" "$TREE/$file"
    done | sort >"$WORK/files"
    (cd "$TREE" && find . -type f -printf '%P\n') | sort | comm -13 "$WORK/files" - |
        while IFS= read -r file; do rm "$TREE/$file"; done
}

# in_copy GIT-ARGUMENT…: git as if the copy were in no repository, so that it takes the patch's paths from there.
in_copy() {
    (cd "$TREE" && GIT_CEILING_DIRECTORIES=$WORK git "$@")
}

restore() {
    [ -z "$applied" ] || in_copy apply -R -C1 "$MUTANTS/$applied.patch" 2>"$WORK/apply.log" ||
        die "$applied was not taken back out of the copy: $WORK/apply.log"
    applied=
}

configure() {
    cmake -S "$TREE" -B "$BUILD" -G Ninja -DCMAKE_BUILD_TYPE=Debug >/dev/null ||
        die "the copy in $TREE was not configured (see above)"
}

build_tests() {
    cmake --build "$BUILD" -j2 --target "$@" >"$WORK/build.log" 2>&1
}

need_graphs() {
    local stamp=$BUILD/graphs/made_by.py
    cmp -s "$TREE/tests/graphs/make_graphs.py" "$stamp" && return 0
    PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3 \
        "$VENV/bin/python" "$TREE/tests/graphs/make_graphs.py" "$BUILD/graphs" >"$WORK/graphs.log" 2>&1 ||
        die "the tests' graphs were not made: $WORK/graphs.log"
    cp "$TREE/tests/graphs/make_graphs.py" "$stamp"
}

# --- a run ---------------------------------------------------------------------------------------

# run_test TEST SECONDS: the graphs are made already, so ctest does not make them again.
run_test() {
    timeout -k 5 "$2" ctest --test-dir "$BUILD" -V -R "^$1\$" -FA graphs --no-tests=error \
        >"$WORK/test.log" 2>&1
}

# The tests that began and did not pass: failed, crashed, or never came back.
fallen_tests() {
    sed -n 's/.*\[ RUN      \] \(test_[A-Za-z0-9_]*\).*/\1/p' "$WORK/test.log" | sort -u |
        comm -23 - <(sed -nE 's/.*\[ +(OK|SKIPPED) +\] (test_[A-Za-z0-9_]*).*/\2/p' "$WORK/test.log" | sort -u)
}

# All programs that the patches name, unmutated.
build_all() {
    local name
    local -A tests=()
    for name in "${names[@]}"; do
        ! learn "$name" >/dev/null || tests[${test_of[$name]}]=1 # What is wrong with it is said in its turn.
    done
    [ ${#tests[@]} -eq 0 ] || build_tests "${!tests[@]}" || die "the tests do not build as they are: $WORK/build.log"
}

# Once per program: unmutated, it passes.
measure() {
    local start
    [ -z "${baseline[$1]:-}" ] || return 0
    build_tests "$1" || { echo "$1 does not build even without the mutation: $WORK/build.log" && return 1; }
    start=$SECONDS
    run_test "$1" 300 || { echo "$1 fails even without the mutation: $WORK/test.log" && return 1; }
    baseline[$1]=$((SECONDS - start))
}

# try NAME: 0 where the test that names the row falls. A hang counts as a fall, with room for a slow machine.
try() {
    local test=${test_of[$1]} naming fallen right
    in_copy apply -C1 "$MUTANTS/$1.patch" 2>"$WORK/apply.log" ||
        { echo "the patch does not apply: $(head -n 1 "$WORK/apply.log")" && return 1; }
    applied=$1
    build_tests "$test" || { echo "the mutated source does not build: $WORK/build.log" && return 1; }
    ! run_test "$test" $((20 + 4 * baseline[$test])) || { echo "SURVIVED $test passes" && return 1; }
    naming=$(tests_naming "${row[$1]}" "$(source_of "$test")")
    fallen=$(fallen_tests)
    case $'\n'$naming in
        *$'\n*'*) right=$fallen ;;
        *) right=$(comm -12 <(echo "$naming") <(echo "$fallen")) ;;
    esac
    [ -n "$right" ] ||
        { echo "SURVIVED of $test only ${fallen//$'\n'/, } fails, which does not name it" && return 1; }
    echo "$test: ${right%%$'\n'*}"
}

# judge NAME: one line.
judge() {
    local start=$SECONDS word text
    # Not in a subshell, which would forget what they learn.
    if learn "$1" >"$WORK/said" && measure "${test_of[$1]}" >"$WORK/said" && try "$1" >"$WORK/said"; then
        word=caught passed=$((passed + 1))
    else
        word=FAILED failed=$((failed + 1))
    fi
    restore
    text=$(cat "$WORK/said")
    [ "${text%% *}" != SURVIVED ] || word=SURVIVED text="${text#SURVIVED }, although $(header "$1" Breaks)"
    printf '%-9s %-12s %s (%s; %d s)\n' "$word" "${row[$1]:-?}" "$1" "$text" $((SECONDS - start))
}

read_arguments "$@"
phase "packages of the system" need_packages "${BUILD_PACKAGES[@]}"
phase "the TensorFlow runtime" need_tensorflow
phase "Python's TensorFlow, which makes the tests' graphs" need_python
mkdir -p "$WORK"
exec 9>"$WORK/lock"
flock -n 9 || die "another run is at work in $WORK: wait for it"
trap restore EXIT
phase "a copy of the tree" copy_tree
phase "its configuration" configure
phase "its graphs" need_graphs
phase "its tests" build_all
say "== mutants"
for name in "${names[@]}"; do
    judge "$name"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
