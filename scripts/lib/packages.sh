# shellcheck shell=bash
# The distribution's packages: which, and how they are installed when they are missing. Sourced after common.sh.

# shellcheck disable=SC2034 # used by those who source this

# Python, and what compiles libvirt-python
readonly PACKAGES_PYTHON=(ca-certificates python3 python3-venv python3-dev gcc libc6-dev pkg-config libvirt-dev)
# the hypervisor of this machine
readonly PACKAGES_LIBVIRT=(qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients
    dnsmasq-base iptables nftables iproute2 conntrack)
# what scripts/build_demo_image.sh needs
readonly PACKAGES_DEMO_IMAGE=(cpio gzip kmod e2fsprogs fdisk grub-common grub-pc-bin)
# what serves VMs under domains, when PANEL_PROXY switches it on; install_proxy installs it
readonly PACKAGES_PROXY=(caddy)
# what the tests need besides
readonly PACKAGES_TESTS=(busybox chromium fonts-noto-cjk haproxy lxd openssh-client openssh-server openssl sshpass shellcheck procps)
# VMware's simulator of vSphere is compiled of these (tests/doubles/vcsim.py)
readonly PACKAGES_VCSIM=(golang-go golang-github-vmware-govmomi-dev)
# container daemons, which the tests start on sockets and storage of their own; install_containers installs them
readonly PACKAGES_CONTAINERS=(docker.io docker-registry podman netavark aardvark-dns runc)

# Stops on a system for which we do not know the packages' names.
check_system() {
    local id='' version=''
    if [ -r /etc/os-release ]; then
        id=$(. /etc/os-release && printf '%s' "${ID:-}")
        version=$(. /etc/os-release && printf '%s' "${VERSION_ID:-}")
    fi
    case $id-$version in
    debian-12) ;;
    debian-13 | ubuntu-24.04) say "note: not tried on $id $version, only on Debian 12" ;;
    *) unknown_system "${id:-unknown} $version" ;;
    esac
    command -v apt-get >/dev/null || unknown_system "$id $version without apt-get"
}

unknown_system() {
    cat >&2 <<TEXT
openidcs: this script knows Debian 12 (and may work on Debian 13 and Ubuntu 24.04), not: $1
Install these yourself (Debian's names), then start the panel as below:
  ${PACKAGES_PYTHON[*]}
  ${PACKAGES_LIBVIRT[*]}
  1. make sure that 'virsh -c qemu:///system version' answers
  2. python3 -m venv .venv && .venv/bin/pip install --require-hashes -r requirements/run.txt
  3. .venv/bin/pip install --no-deps -e . && PANEL_LOCAL_HOST=1 .venv/bin/openidcs serve
TEXT
    exit 1
}

# Refreshes apt's lists, once in a run of the script.
apt_update_once() {
    [ -z "${apt_updated:-}" ] || return 0
    say "refreshing the package lists"
    as_root apt-get -qq update
    apt_updated=1
}

# Prints those of the named packages that are not installed.
missing_packages() {
    local installed
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
    comm -23 <(printf '%s\n' "$@" | sort -u) <(sed -n 's/^installed //p' <<<"$installed" | sort -u)
}

# Installs those of the named packages that are missing.
install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    apt_update_once
    say "installing ${#missing[@]} packages: ${missing[*]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "${missing[@]}" </dev/null >"$CACHE/apt.log" 2>&1 || {
        tail -n 30 "$CACHE/apt.log" >&2
        die "apt-get failed; all of what it said is in .cache/apt.log"
    }
}

# Installs what serves VMs under domains. With the package Debian starts a caddy.service on port 80, which the panel's own Caddy
# needs: switched off where the package came just now. One that was there before is somebody's, and stays as it is.
install_proxy() {
    local missing
    missing=$(missing_packages "${PACKAGES_PROXY[@]}")
    [ -n "$missing" ] || return 0
    install_packages "${PACKAGES_PROXY[@]}"
    if [ -d /run/systemd/system ]; then
        say "switching off Debian's caddy.service, which came with the package: the panel's Caddy needs its port 80"
        as_root systemctl disable --now --quiet caddy.service
    fi
}

# Installs the container daemons for tests. Debian starts services with them: those that came just now are switched off, and what
# was there before stays as it is.
install_containers() {
    local missing unit
    missing=$(missing_packages "${PACKAGES_CONTAINERS[@]}")
    [ -n "$missing" ] || return 0
    install_packages "${PACKAGES_CONTAINERS[@]}"
    [ -d /run/systemd/system ] || return 0
    for unit in docker.io:docker.service docker.io:docker.socket docker-registry:docker-registry.service podman:podman.socket; do
        if grep -qx "${unit%%:*}" <<<"$missing"; then as_root systemctl disable --now --quiet "${unit#*:}" || true; fi
    done
}
