#!/usr/bin/env bash
# scripts/format.sh [--check]: formats all C as .clang-format says. --check changes nothing, and fails where it would.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/lib/common.sh"

# Another version breaks lines elsewhere, so it has to be this one.
clang_format() {
    local name
    for name in clang-format-14 clang-format; do
        if "$name" --version 2>/dev/null | grep -q 'version 14\.'; then
            echo "$name"
            return 0
        fi
    done
    die "clang-format 14 is missing: apt-get install clang-format-14"
}

sources() {
    find "$ROOT"/{bench,cli,examples,include,src,tests} -name '*.[ch]' -print0
}

tool=$(clang_format)
case ${1:-} in
    "") sources | xargs -0 "$tool" -i ;;
    --check)
        sources | xargs -0 "$tool" --dry-run -Werror ||
            die "some files are not formatted (see above): scripts/format.sh does it"
        ;;
    *)
        echo "usage: scripts/format.sh [--check]" >&2
        exit 2
        ;;
esac
