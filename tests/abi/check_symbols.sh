#!/usr/bin/env bash
# check_symbols.sh [--update] LIBRARY: does the library export what abi/libbelay.symbols says, and nothing else?
# --update adds to the list what is new, with the version of the headers, and leaves out what is gone.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
list=$root/abi/libbelay.symbols
update=
if [ "${1:-}" = --update ]; then
    update=1
    shift
fi
if [ $# -ne 1 ]; then
    sed -n '2,3s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# Names without their version; the version itself is a symbol too.
nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u >"$work/exported"
[ -s "$work/exported" ] || { echo "$1 exports nothing" >&2; exit 1; }

if [ -n "$update" ]; then
    version=$(sed -n 's/^#define BELAY_VERSION  *"\(.*\)"$/\1/p' "$root/include/belay/export.h")
    mkdir -p "$root/abi"
    [ -e "$list" ] || echo "# Exported name, and the version that it came with. tests/abi/check_symbols.sh keeps it." >"$list"
    grep '^#' "$list" >"$work/new"
    while read -r name; do
        awk -v n="$name" -v v="$version" '$1 == n { print; found = 1 } END { if (!found) print n, v }' "$list"
    done <"$work/exported" >>"$work/new"
    cp "$work/new" "$list"
    echo "$(grep -vc '^#' "$list") names in ${list#"$root"/}"
    exit 0
fi

grep -v '^#' "$list" | awk '{ print $1 }' | LC_ALL=C sort -u >"$work/listed"
if diff "$work/listed" "$work/exported" >"$work/difference"; then
    exit 0
fi
sed -n 's/^< \(.*\)/gone: \1/p; s/^> \(.*\)/new, and not in the list: \1/p' "$work/difference"
echo "abi/libbelay.symbols and the library differ; where that is meant: tests/abi/check_symbols.sh --update LIBRARY" >&2
exit 1
