# shellcheck shell=bash
# Starts libvirt and lets the user of this script at it. Sourced after common.sh.

libvirt_answers() { timeout 20 virsh -c qemu:///system version >/dev/null 2>&1; }
libvirt_answers_root() { as_root timeout 20 virsh -c qemu:///system version >/dev/null 2>&1; }

# Starts the daemons by hand where there is no systemd. The descriptor of our lock must not live on in them.
start_libvirt_by_hand() {
    local config
    config=$(mktemp)
    # without polkit at hand, the socket's group decides who may
    cat >"$config" <<'TEXT'
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"
TEXT
    as_root install -D -m644 "$config" /run/openidcs/libvirtd.conf
    rm -f "$config"
    # shellcheck disable=SC2016 # the inner shell reads the file, as root
    if ! as_root sh -c 'kill -0 "$(cat /run/virtlogd.pid)"' 2>/dev/null; then
        as_root virtlogd -d </dev/null 9>&-
    fi
    as_root libvirtd -d -f /run/openidcs/libvirtd.conf </dev/null 9>&-
}

# Gives /dev/kvm to the group kvm, as udev does. Where nothing did, libvirt throws its knowledge of QEMU away at every
# call and a define takes minutes.
ensure_kvm_group() {
    if [ -c /dev/kvm ] && getent group kvm >/dev/null && [ "$(stat -c %G:%a /dev/kvm)" = root:600 ]; then
        say "giving /dev/kvm to the group kvm"
        as_root chgrp kvm /dev/kvm
        as_root chmod 660 /dev/kvm
    fi
}

# Starts libvirt unless it answers already.
ensure_libvirt() {
    local tries
    ensure_kvm_group
    if libvirt_answers || libvirt_answers_root; then
        :
    elif [ -d /run/systemd/system ]; then
        say "starting libvirt (systemd)"
        as_root systemctl enable --now virtlogd.socket libvirtd
    else
        say "starting libvirt (virtlogd, libvirtd)"
        start_libvirt_by_hand
    fi
    for tries in {1..60}; do
        if libvirt_answers || libvirt_answers_root; then break; fi
        [ "$tries" -lt 60 ] || die "libvirt does not answer: 'virsh -c qemu:///system version' tells why"
        sleep 0.5
    done
    [ "$(id -u)" = 0 ] || ensure_groups
}

# $1 group: the user of this script becomes a member
ensure_member() {
    local user
    user=$(id -un)
    id -nG "$user" | grep -qw "$1" || {
        say "adding $user to the group $1"
        as_root usermod -aG "$1" "$user"
    }
}

# A user who is not root needs the group "libvirt", and "kvm" where there is KVM.
ensure_groups() {
    if [ -e /dev/kvm ] && [ ! -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then
        ensure_member kvm
        say "note: VMs run in slow software emulation until your next login makes you a member of the group kvm"
    fi
    libvirt_answers || {
        ensure_member libvirt
        say "note: until your next login the panel is started through 'sg libvirt'"
    }
}

# Replaces this process by the command, in the group libvirt where this session does not have it yet.
exec_with_libvirt() {
    if [ "$(id -u)" != 0 ] && ! libvirt_answers && id -nG "$(id -un)" | grep -qw libvirt; then
        exec sg libvirt -c "exec $(printf '%q ' "$@")"
    fi
    exec "$@"
}
