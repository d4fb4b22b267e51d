#!/usr/bin/env bash
# Makes `.venv` in this checkout: a link to an environment in the cache that all clones with the same env/ files share.
#
#   env/setup.sh           set up (at once where it was done before)
#   PYTHON=python3.11 env/setup.sh     with a Python of your choice, 3.10 to 3.12
#
# With a ROS 2 installation sourced its rclpy and messages are used; otherwise ROS 2 comes as wheels from PyPI and
# vision_msgs is compiled from env/messages. Missing Debian packages are installed when root, otherwise named.
set -euo pipefail

env_dir="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(dirname "$env_dir")"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/clipoint3d_ros"

say() { echo "set-up: $*"; }
fail() { echo "set-up: $*" >&2; exit 1; }

# Installs Debian packages, or prints the line that would.
need_packages() {
    local line="apt-get install -y --no-install-recommends $*"
    command -v apt-get > /dev/null || fail "this machine lacks $* (Debian's names) and has no apt-get; install them"
    [ "$(id -u)" = 0 ] || fail "system libraries are missing; run:  sudo $line   and then this again"
    say "installing Debian packages: $*"
    local log
    log="$(mktemp)"
    if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive $line -q; } > "$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "'$line' failed; its last lines are above"
    fi
    rm -f "$log"
}

# Prints which Python it is, if it is one that fits.
identity() {
    "$1" -S -c 'import sys; (3, 10) <= sys.version_info[:2] <= (3, 12) or sys.exit(1); print(sys.version, sys.base_prefix)' \
        2> /dev/null
}

python=
for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
    if version="$(identity "$candidate")"; then python="$candidate" && break; fi
done
[ -n "$python" ] || fail "no Python 3.10, 3.11 or 3.12 among ${PYTHON:-python3, python3.12, python3.11, python3.10};" \
    "install one or name it with PYTHON=…"

# Where ROS comes from: a sourced installation, wheels, or (no wheels for this processor) nowhere.
ros=wheels
rclpy=
if [ -n "${ROS_DISTRO:-}" ] && [ -n "${AMENT_PREFIX_PATH:-}" ]; then
    if rclpy="$("$python" -c 'import rclpy; print(rclpy.__file__)' 2> /dev/null)"; then
        ros="$ROS_DISTRO"
    else
        say "ROS $ROS_DISTRO is sourced, but $python cannot import rclpy; taking ROS 2 from wheels instead"
    fi
fi
[ "$ros" != wheels ] || [ "$(uname -sm)" = "Linux x86_64" ] || ros=none

missing_libraries() {
    local known
    known="$(/sbin/ldconfig -p 2> /dev/null || true)"
    [[ "$known" == *libusb-1.0.so.0* ]] || echo libusb-1.0-0
    [[ "$known" == *libGL.so.1* ]] || echo libgl1
    [[ "$known" == *libgomp.so.1* ]] || echo libgomp1
}
missing="$(missing_libraries | xargs)"
[ -z "$missing" ] || need_packages $missing

# The environment's name: a hash of everything that decides what is in it.
key="$(
    cd "$env_dir"
    { sha256sum setup.sh build_messages.py requirements*.txt messages/*/*.* messages/*/msg/*.msg
      echo "$(uname -m) $version $ros $rclpy"; } | sha256sum | cut -c1-12
)"
venv="$cache/venv-$key"

link() {
    [ ! -e "$root/.venv" ] || [ -L "$root/.venv" ] || fail "$root/.venv is a folder of its own; move it away first"
    [ "$(readlink "$root/.venv" || true)" = "$venv" ] && return
    ln -s "$venv" "$root/.venv.$$"
    mv -T "$root/.venv.$$" "$root/.venv"
}

if [ -e "$venv/.complete" ]; then
    link
    exit 0
fi

mkdir -p "$cache"
exec 9> "$cache/venv-$key.lock"
if ! flock -n 9; then
    say "another set-up is making the same environment; waiting for it"
    flock 9
fi
if [ -e "$venv/.complete" ]; then
    link
    exit 0
fi

# A virtual environment cannot be moved (its scripts hold its path), so it is made where it will stay; only
# `.complete`, written last, makes it count, and whatever an interrupted set-up left is removed here.
rm -rf "$venv"
began=$SECONDS
say "Python $("$python" -c 'import platform; print(platform.python_version())'), ROS: $ros, into $venv"

"$python" -c 'import ensurepip, venv' > /dev/null 2>&1 ||
    need_packages "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
if [ "$ros" = wheels ]; then
    compiler=()
    command -v g++ > /dev/null || compiler+=(g++)
    "$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2> /dev/null ||
        compiler+=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-dev")
    [ ${#compiler[@]} = 0 ] || need_packages "${compiler[@]}"
fi

options=()
requirements=(-r "$env_dir/requirements.txt" -r "$env_dir/requirements-test.txt")
case "$ros" in
    wheels) requirements+=(-r "$env_dir/requirements-ros.txt") ;;
    none) say "no ROS 2 wheels exist for $(uname -sm): the library works, the nodes need a sourced ROS installation" ;;
    *)
        options+=(--system-site-packages)
        # A distribution's message packages are compiled against its own NumPy; those built for 1.x refuse 2.x.
        if "$python" -c 'import numpy, sys; sys.exit(numpy.__version__.split(".")[0] != "1")' > /dev/null 2>&1; then
            requirements+=("numpy<2")
        fi
        ;;
esac
"$python" -m venv ${options[@]+"${options[@]}"} "$venv"

log="$venv/pip.log"
pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check install --no-input --progress-bar off "$@" >> "$log" 2>&1 &
    local process=$! waited=0
    while kill -0 "$process" 2> /dev/null; do
        sleep 1
        waited=$((waited + 1))
        if [ $((waited % 20)) = 0 ]; then
            say "  ${waited} s, $(du -sh "$venv" 2> /dev/null | cut -f1): $(step)"
        fi
    done
    if ! wait "$process"; then
        grep -v 'is ignored' "$log" | tail -n 25 >&2
        mv "$log" "$cache/pip-failed.log"
        fail "pip failed; its last lines are above, all of them in $cache/pip-failed.log"
    fi
}
step() { awk '/^ *(Collecting|Downloading)/ { last = $1 " " $2 } /^Installing/ { last = "unpacking" } END { print last }' "$log"; }

say "installing Python packages (torch is large: some minutes on a slow line)"
pip --upgrade pip
pip "${requirements[@]}"

case "$ros" in
    wheels)
        say "compiling vision_msgs"
        "$venv/bin/python" "$env_dir/build_messages.py" "$env_dir/messages/vision_msgs"
        ;;
    none) ;;
    *)
        absent=()
        for package in vision_msgs visualization_msgs diagnostic_msgs sensor_msgs_py tf2_ros lifecycle_msgs; do
            "$venv/bin/python" -c "import $package" > /dev/null 2>&1 || absent+=("ros-$ros-${package//_/-}")
        done
        [ ${#absent[@]} = 0 ] || need_packages "${absent[@]}"
        ;;
esac

"$venv/bin/python" - << 'END'
import numpy, open3d, open_clip, ot, scipy, torch  # noqa: F401  a broken wheel shows here, not in the first run
END
touch "$venv/.complete"
link
say "done in $((SECONDS - began)) s"
