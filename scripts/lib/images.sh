# shellcheck shell=bash
# The folders of the local host, and the demo image in them. Sourced after common.sh and packages.sh.

# $1 folder: makes it, owned by who runs this script; others may pass through and read what they can name
ensure_folder() {
    if [ ! -d "$1" ]; then
        say "making $1"
        mkdir -p "$1" 2>/dev/null || as_root install -d -m 0711 -o "$(id -u)" -g "$(id -g)" "$1"
        chmod 0711 "$1"
    fi
    [ -w "$1" ] || die "$1 is not writable for $(id -un): sudo chown $(id -un) $1"
}

ensure_folders() {
    ensure_folder "$IMAGES_PATH"
    ensure_folder "$DISKS_PATH"
}

# Builds the demo image when there is none. One that is there stays as it is: disks may stand on it.
ensure_demo_image() {
    [ ! -s "$IMAGES_PATH/openidcs-demo.qcow2" ] || [ ! -s "$IMAGES_PATH/openidcs-demo.json" ] || return 0
    say "building the demo image (once, about half a minute)"
    install_packages "${PACKAGES_DEMO_IMAGE[@]}"
    if ! "$ROOT/scripts/build_demo_image.sh" "$IMAGES_PATH" "$CACHE/demo-image"; then
        say "trying again with fresh package lists"
        apt_update_once
        "$ROOT/scripts/build_demo_image.sh" "$IMAGES_PATH" "$CACHE/demo-image"
    fi
}
