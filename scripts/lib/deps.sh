# What has to be there before anything is built: packages, the TensorFlow runtime, and for tests a Python.
# Sourced after common.sh. Every function does nothing, fast, where its work is done already.
# shellcheck shell=bash
# shellcheck disable=SC2034  # used by the scripts that source this

# Names that Debian 12 and Ubuntu 22.04 and later share.
BUILD_PACKAGES=(
    cmake ninja-build gcc g++ pkg-config
    libprotobuf-c-dev protobuf-c-compiler protobuf-compiler
    libisal-dev libjansson-dev libcmocka-dev
)
TEST_PACKAGES=(clang-format-14)

TENSORFLOW_PIN=$ROOT/scripts/tensorflow.txt
TENSORFLOW_DIR=$DEPS/tensorflow
PYTHON_PINS=$ROOT/scripts/python.txt
VENV=$DEPS/venv

# --- packages of the system ----------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

is_installed() {
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# need_packages NAME…: apt-get installs those that are missing.
need_packages() {
    local name missing=()
    command -v dpkg-query >/dev/null ||
        die "this machine has no dpkg: belay builds on Debian 12 and Ubuntu 22.04 or later"
    for name in "$@"; do
        is_installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
        die "packages are missing and there is no sudo; as root: apt-get install ${missing[*]}"
    say "installing packages: ${missing[*]}"
    apt_get_install "${missing[@]}" ||
        die "packages could not be installed (see above); when it is mended: apt-get install ${missing[*]}"
}

# The lists are fetched anew first: on a fresh machine there are none. Another apt-get is waited for. What it has to
# complain about is on standard error, and stays.
apt_get_install() {
    local options=(-qq -o DPkg::Lock::Timeout=300)
    as_root apt-get "${options[@]}" update >/dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get "${options[@]}" -y --no-install-recommends install "$@" >/dev/null
}

# --- the TensorFlow runtime ----------------------------------------------------------------------

# need_tensorflow: libraries and C headers in .deps/tensorflow, from the wheel that tensorflow.txt pins.
need_tensorflow() {
    tensorflow_is_there && return 0
    mkdir -p "$DEPS" || die "cannot write to $DEPS: make the folder writable"
    (
        # Two scripts started at once: the second waits here, then finds the work done.
        flock 9
        tensorflow_is_there && exit 0
        trap 'rm -rf "$DEPS/tensorflow.partial"' EXIT
        fetch_tensorflow
    ) 9>"$DEPS/lock"
}

tensorflow_digest() {
    sed -n 's/.*--hash=sha256:\([0-9a-f]*\).*/\1/p' "$TENSORFLOW_PIN"
}

# The digest is written last, in a folder that is renamed whole: where it is right, all is there.
tensorflow_is_there() {
    [ -s "$TENSORFLOW_DIR/libtensorflow_cc.so.2" ] &&
        [ -s "$TENSORFLOW_DIR/libtensorflow_framework.so.2" ] &&
        [ "$(cat "$TENSORFLOW_DIR/wheel.sha256" 2>/dev/null)" = "$(tensorflow_digest)" ]
}

fetch_tensorflow() {
    local work=$DEPS/tensorflow.partial
    check_machine
    need_pip
    rm -rf "$work"
    check_disk 1600 "TensorFlow's runtime"
    mkdir "$work"
    say "fetching the TensorFlow runtime (270 MB; 0.9 GB unpacked)"
    download_wheel "$work/wheel"
    mkdir "$work/tensorflow"
    python3 "$ROOT/scripts/lib/unpack_wheel.py" "$work"/wheel/*.whl "$work/tensorflow" ||
        die "the TensorFlow runtime was not unpacked (see above); run this again when it is mended"
    tensorflow_digest >"$work/tensorflow/wheel.sha256"
    rm -rf "$TENSORFLOW_DIR"
    mv "$work/tensorflow" "$TENSORFLOW_DIR"
}

# What the wheel's libraries ask of a machine, said before 270 MB are fetched.
check_machine() {
    local glibc
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] ||
        die "the TensorFlow runtime is built for Linux on x86_64, this is $(uname -s) on $(uname -m): use an x86_64 machine"
    grep -qw avx /proc/cpuinfo ||
        die "the TensorFlow runtime needs a processor with AVX, this one has none: use another machine, or turn AVX on in the virtual machine"
    glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
    [ "$(printf '2.27\n%s\n' "${glibc:-0}" | sort -V | head -n 1)" = 2.27 ] ||
        die "the TensorFlow runtime needs glibc 2.27 or later, this is ${glibc:-not glibc}: use Debian 12 or Ubuntu 22.04 or later"
}

# check_disk MEGABYTES WHAT
check_disk() {
    local free
    free=$(df -Pm "$DEPS" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$1" ] || die "$2 needs $1 MB of disk, $free MB are free in $DEPS: make room and run this again"
}

need_pip() {
    command -v python3 >/dev/null || need_packages python3 python3-pip
    python3 -m pip --version >/dev/null 2>&1 ||
        die "python3 has no pip, which fetches TensorFlow: apt-get install python3-pip"
}

# The platform is named, so that it is the same wheel whatever Python this is; pip checks the digest.
download_wheel() {
    local log
    log=$(pip_log)
    mkdir "$1" "$1.tmp"
    TMPDIR=$1.tmp python3 -m pip download --disable-pip-version-check --retries 2 --progress-bar off \
        --no-deps --only-binary=:all: --platform manylinux_2_27_x86_64 \
        --python-version 3.11 --implementation cp --abi cp311 \
        --require-hashes -r "$TENSORFLOW_PIN" --dest "$1" >"$log" 2>&1 ||
        die "TensorFlow was not fetched: $(why_pip_failed "$log")"
    rm -rf "$1.tmp" "$log"
}

# Not in .deps: where that disk is full, pip's words would be lost, and with them the reason.
pip_log() {
    mktemp "${TMPDIR:-/tmp}/belay-pip.XXXXXX"
}

# why_pip_failed LOG: what to do, told from what pip says.
why_pip_failed() {
    if grep -q 'DO NOT MATCH THE HASHES' "$1"; then
        echo "what the package index gave is not the wheel that scripts/tensorflow.txt pins (its digest differs): do not use it; check your package index or proxy"
    elif grep -qi 'no space left' "$1"; then
        echo "the disk is full: make room for $DEPS, and run this again"
    elif grep -q 'CERTIFICATE_VERIFY_FAILED' "$1"; then
        echo "the package index's certificate is not trusted here: check the clock, or set PIP_CERT to the certificates of your proxy"
    elif grep -qE 'Max retries exceeded|timed out|Connection (refused|reset|broken)|(Connection|Proxy|SSL)Error' "$1"; then
        echo "the package index cannot be reached: check network and proxy (pip's words: $1) and run this again"
    else
        echo "$(grep -i error "$1" | tail -n 1) (all of pip's words: $1)"
    fi
}

# --- Python, for tests and benchmarks only -------------------------------------------------------

# need_python: a virtual environment in .deps/venv with what python.txt names.
need_python() {
    python_is_there && return 0
    mkdir -p "$DEPS" || die "cannot write to $DEPS: make the folder writable"
    (
        flock 9
        python_is_there || make_venv
    ) 9>"$DEPS/lock"
}

# The list is copied into the environment last: an installation that was interrupted has none, and is redone.
python_is_there() {
    cmp -s "$PYTHON_PINS" "$VENV/installed.txt" && "$VENV/bin/python" -c '' 2>/dev/null
}

make_venv() {
    local python log
    check_machine
    command -v python3 >/dev/null || need_packages python3 python3-venv
    python=$(python_for_tensorflow) ||
        die "TensorFlow's Python package, which the tests compare with, needs Python 3.10 to 3.13: install one of them"
    "$python" -c 'import ensurepip' 2>/dev/null || need_packages python3-venv
    log=$(pip_log)
    rm -rf "$VENV"
    check_disk 3000 "Python's TensorFlow"
    say "installing Python's TensorFlow for tests and benchmarks (300 MB to fetch, 1.8 GB unpacked)"
    {
        "$python" -m venv "$VENV" &&
            "$VENV/bin/python" -m pip install --disable-pip-version-check --retries 2 --progress-bar off \
                --only-binary=:all: -r "$PYTHON_PINS"
    } >"$log" 2>&1 || die "Python's TensorFlow was not installed: $(why_pip_failed "$log")"
    cp "$PYTHON_PINS" "$VENV/installed.txt"
    rm -f "$log"
}

python_for_tensorflow() {
    local name
    for name in python3 python3.13 python3.12 python3.11 python3.10; do
        "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || continue
        echo "$name"
        return 0
    done
    return 1
}

# --- the build -----------------------------------------------------------------------------------

# build FOLDER PRESET TARGET…: configures and builds. The settings are the same for every script, so that none
# makes the next one build anew; a warning is an error only in CI, since compilers differ in what they warn of.
build() {
    local folder=$1 preset=$2 werror=OFF
    shift 2
    [ -z "${CI:-}" ] || werror=ON
    (
        cd "$ROOT"
        # What cmake has to complain about is on standard error, and stays.
        cmake --preset "$preset" -DBELAY_BENCH=ON -DBELAY_WERROR=$werror >/dev/null &&
            cmake --build "$folder" --target "$@" >&2
    ) || die "the build of preset $preset failed (see above)"
}
