#!/usr/bin/env bash
# test_install.sh BUILD WORK VERSION: installs BUILD below WORK, then moves that away, so that nothing may name the place
# that it was installed to, and builds a program on it by pkg-config and by find_package(belay).
set -euo pipefail
build=$1 work=$2 version=$3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

check() {
    local what=$1 said
    shift
    said=$("$@")
    [ "$said" = "$version" ] || {
        echo "$what: said '$said', expected '$version'" >&2
        exit 1
    }
    echo "$what: $said"
}

rm -rf "$work"
mkdir -p "$work"
cmake --install "$build" --prefix "$work/installed" >"$work/log"
prefix=$work/prefix
mv "$work/installed" "$prefix"
pc=$(find "$prefix" -name belay.pc)
libdir=$(dirname "$(dirname "$pc")")

export PKG_CONFIG_PATH=$libdir/pkgconfig
read -ra flags <<<"$(pkg-config --cflags --libs belay)"
"${CC:-cc}" -std=c11 -Wall -Werror "$here/consumer.c" "${flags[@]}" -o "$work/by_pkg_config"
check "pkg-config's version" pkg-config --modversion belay
check "a program built by pkg-config" env LD_LIBRARY_PATH="$libdir" "$work/by_pkg_config"

cmake -S "$here/find_package" -B "$work/by_cmake" -DCMAKE_PREFIX_PATH="$prefix" >>"$work/log"
cmake --build "$work/by_cmake" >>"$work/log"
check "a program built by find_package" "$work/by_cmake/consumer"

if [ -x "$prefix/bin/belay" ]; then
    said=$("$prefix/bin/belay" --version)
    check "the installed command" echo "${said#belay }"
fi
rm -rf "$work"
