#!/usr/bin/env bash
# Makes this machine ready: packages, Python environment, libvirt, folders, demo image. What is there is left alone.
#
#   scripts/bootstrap.sh run      for running the panel (scripts/run.sh calls it)
#   scripts/bootstrap.sh test     for all tests
#   scripts/bootstrap.sh bench    for the benchmarks
#   scripts/bootstrap.sh dev      for the checks and tests that need no hypervisor
#   scripts/bootstrap.sh doubles  for doubles of vendors' servers
#
# OPENIDCS_PYTHON names another Python (3.11 or later); PANEL_IMAGES_PATH and PANEL_DISKS_PATH other folders.
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
. "$ROOT/scripts/lib/packages.sh"
. "$ROOT/scripts/lib/python.sh"
. "$ROOT/scripts/lib/libvirt.sh"
. "$ROOT/scripts/lib/images.sh"

main() {
    check_system
    mkdir -p "$CACHE"
    exec 9>"$CACHE/bootstrap.lock" # two at once would be in each other's way
    flock 9
    case ${1:-} in
    run)
        install_packages "${PACKAGES_PYTHON[@]}" "${PACKAGES_LIBVIRT[@]}"
        case ${PANEL_PROXY:-} in 1 | true | yes | on) install_proxy ;; esac
        ensure_python run
        ;;
    test)
        install_packages "${PACKAGES_PYTHON[@]}" "${PACKAGES_LIBVIRT[@]}" "${PACKAGES_TESTS[@]}" "${PACKAGES_VCSIM[@]}"
        install_proxy
        install_containers
        ensure_python dev
        ;;
    bench)
        install_packages "${PACKAGES_PYTHON[@]}" "${PACKAGES_LIBVIRT[@]}" "${PACKAGES_TESTS[@]}"
        ensure_python dev
        ensure_peers
        return
        ;;
    dev)
        install_packages "${PACKAGES_PYTHON[@]}" shellcheck
        ensure_python dev
        return
        ;;
    doubles)
        install_packages "${PACKAGES_PYTHON[@]}" "${PACKAGES_VCSIM[@]}"
        ensure_python dev
        return
        ;;
    *) die "usage: scripts/bootstrap.sh run|test|bench|dev|doubles" ;;
    esac
    ensure_libvirt
    ensure_folders
    ensure_demo_image
}

main "$@"
