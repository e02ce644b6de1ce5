# shellcheck shell=bash
# What every script of the panel uses: messages, paths, root's rights. Sourced, never run.
set -euo pipefail
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=$ROOT/.cache
VENV=$ROOT/.venv
# where the local host's images and disks live: QEMU runs as a user of its own and cannot read home folders
IMAGES_PATH=${PANEL_IMAGES_PATH:-/var/lib/openidcs/images}
DISKS_PATH=${PANEL_DISKS_PATH:-/var/lib/openidcs/disks}
# shellcheck disable=SC2034 # used by those who source this
readonly ROOT CACHE VENV IMAGES_PATH DISKS_PATH

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'openidcs: %s\n' "$*" >&2
    exit 1
}

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: $*"
    fi
}
