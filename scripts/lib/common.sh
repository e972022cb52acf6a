# Sourced by every script here: where the tree is, and how a script speaks.
# shellcheck shell=bash

# shellcheck disable=SC2034  # used by the scripts that source this
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
DEPS=$ROOT/.deps

# say TEXT…: progress, on standard error, so that results can be piped.
say() { printf '%s\n' "$*" >&2; }

# die TEXT…: one line that says what to do, then exit 1.
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# phase TEXT COMMAND…: says what is done, and how long it took.
phase() {
    local text=$1 start=$SECONDS
    shift
    say "== $text"
    "$@"
    say "== $text: done in $((SECONDS - start)) s"
}
