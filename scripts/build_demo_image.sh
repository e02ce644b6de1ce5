#!/usr/bin/env bash
# Builds "OpenIDCS Demo Linux", a small guest to try the panel with, from the packages of this machine's own
# distribution (through apt, unpacked, not installed). Neither root nor loop devices are needed.
#
#   scripts/build_demo_image.sh OUTDIR [WORKDIR]
#
# Makes OUTDIR/openidcs-demo.qcow2 (boots by BIOS; disk and seed on virtio, virtio-scsi or IDE) and OUTDIR/openidcs-demo.json, which describes it.
# WORKDIR keeps downloaded packages for the next time; without it they are thrown away. An image that is already
# there and was built from the same files is kept; OPENIDCS_REBUILD=1 builds it anew.
# Login: root / openidcs (OPENIDCS_DEMO_PASSWORD changes it). The guest's own files are in scripts/demo_image/.
set -euo pipefail
umask 022
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here
readonly name=openidcs-demo
readonly root_label=openidcs-root # named by initramfs/init, etc/rcS and grub.cfg too
readonly disk_mib=160             # as built; the guest grows to its disk at the first start
readonly guest_packages=(busybox-static qemu-guest-agent dropbear-bin openssh-sftp-server e2fsprogs)
readonly guest_programs=(usr/sbin/qemu-ga usr/sbin/dropbear usr/bin/dropbearkey usr/lib/openssh/sftp-server
    sbin/resize2fs sbin/e2fsck)
# Drivers, of which each kernel has its choice: Debian's cloud kernel has no SATA (ahci) and no e1000.
readonly disk_modules=(virtio_pci virtio_blk virtio_scsi sd_mod ata_piix ahci vmw_pvscsi mptspi hv_storvsc)
readonly more_modules=(virtio_net virtio_console virtio_balloon virtio_rng vmxnet3 hv_netvsc e1000 sr_mod isofs vfat
    nls_ascii nls_cp437 nls_iso8859-1 button evdev)

say() { printf 'demo image: %s\n' "$*"; }
die() {
    printf 'demo image: %s\n' "$*" >&2
    exit 1
}

# "tool:package" for each tool of this machine that is used below
check_tools() {
    local pair missing=()
    for pair in apt-get:apt dpkg-deb:dpkg cpio:cpio gzip:gzip depmod:kmod modprobe:kmod mke2fs:e2fsprogs \
        debugfs:e2fsprogs sfdisk:fdisk grub-mkimage:grub-common qemu-img:qemu-utils sha256sum:coreutils; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ -f /usr/lib/grub/i386-pc/boot.img ] || missing+=(grub-pc-bin)
    [ ${#missing[@]} -eq 0 ] || die "missing here: apt-get install --no-install-recommends $(printf '%s\n' "${missing[@]}" | sort -u | tr '\n' ' ')"
    [ "$(dpkg --print-architecture)" = amd64 ] || die "only amd64 machines can build this image"
}

# what the image depends on, in one line
fingerprint() {
    (cd "$here" && find build_demo_image.sh demo_image -type f -print0 | sort -z | xargs -0 sha256sum &&
        printf '%s' "${OPENIDCS_DEMO_PASSWORD:-openidcs}") | sha256sum | cut -d' ' -f1
}

kernel_package() {
    local meta=linux-image-cloud-amd64
    if grep -q '^ID=ubuntu' /etc/os-release; then meta=linux-image-virtual; fi
    apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }'
}

# apt's arguments to act as if nothing were installed here; $1 its folder of packages
apt_as_if_empty() {
    local debs=$1
    shift
    : >"$work/no-status"
    apt-get -qq -y --no-install-recommends -o Dir::State::status="$work/no-status" -o Dir::Cache::archives="$debs" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User=root "$@"
}

# Downloads the guest's packages with all they depend on and unpacks them.
fetch_packages() {
    local debs=$cache/debs kernel kernel_deb deb
    mkdir -p "$debs/partial" "$work/none/partial" "$work/extract" "$work/kernel"
    kernel=$(kernel_package)
    [ -n "$kernel" ] || die "apt knows no kernel for the guest: run 'apt-get update' first"
    # asked for an empty folder, apt names all files; the folder may also hold older versions from last time
    apt_as_if_empty "$work/none" --print-uris install "${guest_packages[@]}" | awk '{ print $2 }' >"$work/wanted"
    apt_as_if_empty "$debs" --download-only install "${guest_packages[@]}" ||
        die "cannot download the packages: run 'apt-get update' and try again"
    while read -r deb; do
        dpkg-deb -x "$debs/$deb" "$work/extract"
    done < <(grep -vE 'perl|^(adduser|debconf|dpkg)_' "$work/wanted")
    kernel_deb=$(apt-get -qq --print-uris download "$kernel" | awk '{ print $2 }')
    [ -s "$debs/$kernel_deb" ] || (cd "$debs" && apt-get -qq -o APT::Sandbox::User=root download "$kernel") ||
        die "cannot download $kernel: run 'apt-get update' and try again"
    dpkg-deb -x "$debs/$kernel_deb" "$work/kernel"
    kernel_version=$(ls "$work/kernel/lib/modules")
    depmod -b "$work/kernel" "$kernel_version"
}

# $1 program under extract/: copies it with the shared libraries it names
install_program() {
    local libraries library lib=$work/extract/lib usr_lib=$work/extract/usr/lib
    install -D -m755 "$work/extract/$1" "$root/$1"
    libraries=$(LD_LIBRARY_PATH=$usr_lib/x86_64-linux-gnu:$lib/x86_64-linux-gnu ldd "$work/extract/$1")
    if grep -q 'not found' <<<"$libraries"; then die "$1 lacks a library: $libraries"; fi
    install -D -m755 "$work/extract/lib64/ld-linux-x86-64.so.2" "$root/lib64/ld-linux-x86-64.so.2"
    awk '/=> \// { print $3 }' <<<"$libraries" | while read -r library; do
        install -D -m644 "$library" "$root/lib/x86_64-linux-gnu/${library##*/}"
    done
}

# $1 target tree, then modules: copies them with their dependencies; one that is built in or unknown to this
# kernel costs nothing
install_modules() {
    local target=$1 file
    shift
    for module in "$@"; do
        modprobe -d "$work/kernel" -S "$kernel_version" --show-depends "$module" 2>/dev/null || true
    done | awk '/^insmod/ { print $2 }' | sort -u | while read -r file; do
        install -D -m644 "$file" "$target/${file#"$work"/kernel/}"
    done
    cp "$work/kernel/lib/modules/$kernel_version"/modules.{order,builtin,builtin.modinfo} \
        "$target/lib/modules/$kernel_version/"
    depmod -b "$target" "$kernel_version"
}

# $1 target tree: busybox and a link for each of its applets
install_busybox() {
    local applet
    install -D -m755 "$work/extract/bin/busybox" "$1/bin/busybox"
    mkdir -p "$1/sbin"
    for applet in $("$1/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$1/bin/$applet"
    done
    for applet in init getty login halt poweroff reboot modprobe insmod; do
        ln -sf ../bin/busybox "$1/sbin/$applet"
    done
}

make_root() {
    local program hash
    mkdir -p "$root"/{boot/grub,dev,proc,sys,run,tmp,mnt,root,etc/dropbear,var/{log,www,lib/openidcs},usr/{bin,sbin}}
    install_busybox "$root"
    cp -R "$here/demo_image/rootfs/." "$root/"
    for program in "${guest_programs[@]}"; do install_program "$program"; done
    install_modules "$root" "${disk_modules[@]}" "${more_modules[@]}"
    rm -f "$root/bin/chpasswd" "$root/bin/shutdown" # ours are in /usr/sbin
    for program in chpasswd shutdown; do ln -sf "../usr/sbin/$program" "$root/sbin/$program"; done
    hash=$(printf '%s\n' "${OPENIDCS_DEMO_PASSWORD:-openidcs}" | "$root/bin/busybox" mkpasswd -m sha512 -P 0)
    printf 'root:%s:19000:0:99999:7:::\n' "$hash" >"$root/etc/shadow"
    chmod 600 "$root/etc/shadow"
    chmod 700 "$root/root"
    ln -sf /run/resolv.conf "$root/etc/resolv.conf"
    ln -sf /proc/mounts "$root/etc/mtab"
}

make_boot() {
    local tree=$work/initramfs
    mkdir -p "$tree"/{proc,sys,dev,newroot}
    install_busybox "$tree"
    install_modules "$tree" "${disk_modules[@]}"
    install -m755 "$here/demo_image/initramfs/init" "$tree/init"
    (cd "$tree" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) | gzip -9n >"$root/boot/initrd.img"
    cp "$work/kernel/boot/vmlinuz-$kernel_version" "$root/boot/vmlinuz"
    # no_timer_check: software emulation is too slow for the kernel's test of the timer
    cat >"$root/boot/grub/grub.cfg" <<'GRUB'
set timeout=0
linux /boot/vmlinuz root=LABEL=openidcs-root console=ttyS0 console=tty0 quiet panic=5 net.ifnames=0 nokaslr no_timer_check mitigations=off audit=0 nowatchdog 8250.nr_uarts=2
initrd /boot/initrd.img
boot
GRUB
}

# MBR, GRUB in the gap before the first partition, and one ext4 that may grow to 2 TiB
make_disk() {
    local disk=$work/disk.raw part=$work/part.ext4 part_mib=$((disk_mib - 1))
    truncate -s "${disk_mib}M" "$disk"
    printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$disk"
    # the two features that GRUB cannot read are off; uninit_bg lets the file system grow without writing zeros
    mke2fs -q -t ext4 -b 4096 -i 16384 -O '^metadata_csum,^64bit,uninit_bg,resize_inode' \
        -E "resize=$((2 * 1024 * 1024 * 256)),root_owner=0:0,lazy_itable_init=1" -m 0 -L "$root_label" \
        -d "$root" "$part" "${part_mib}M" >"$work/mke2fs.log"
    own_by_root "$part"
    dd if="$part" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
    grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$work/core.img" biosdisk part_msdos ext2 linux normal boot
    dd if=/usr/lib/grub/i386-pc/boot.img of="$disk" bs=440 count=1 conv=notrunc status=none
    dd if="$work/core.img" of="$disk" bs=512 seek=1 conv=notrunc status=none
}

# $1 ext4 image: whoever built it, its files belong to root
own_by_root() {
    (cd "$root" && find . -mindepth 1 -printf '/%P\n') | while IFS= read -r path; do
        printf 'set_inode_field "%s" uid 0\nset_inode_field "%s" gid 0\n' "$path" "$path"
    done >"$work/owners"
    debugfs -w -f "$work/owners" "$1" >"$work/owners.log" 2>&1 || die "debugfs failed: $(tail -1 "$work/owners.log")"
}

# the image last: whoever sees it finds its description beside it
publish() {
    local kernel=${kernel_version%-cloud-amd64}
    cat >"$out/.$name.json.new" <<JSON
{
  "os_name": "OpenIDCS Demo Linux",
  "title": "OpenIDCS Demo Linux (BusyBox, Linux $kernel)",
  "min_disk_gib": 1,
  "default_user": "root",
  "built_from": "$1"
}
JSON
    qemu-img convert -c -O qcow2 "$work/disk.raw" "$out/.$name.qcow2.new"
    chmod 644 "$out/.$name.qcow2.new" "$out/.$name.json.new"
    mv -f "$out/.$name.json.new" "$out/$name.json"
    mv -f "$out/.$name.qcow2.new" "$out/$name.qcow2"
}

main() {
    local source_hash
    if [ $# -lt 1 ] || [ $# -gt 2 ]; then die "usage: $0 OUTDIR [WORKDIR]"; fi
    mkdir -p "$1"
    out=$(cd "$1" && pwd)
    source_hash=$(fingerprint)
    if [ -z "${OPENIDCS_REBUILD:-}" ] && [ -s "$out/$name.qcow2" ] &&
        grep -qF "\"built_from\": \"$source_hash\"" "$out/$name.json" 2>/dev/null; then
        say "$out/$name.qcow2 is up to date"
        return
    fi
    check_tools
    work=$(mktemp -d -t openidcs-demo.XXXXXXXX)
    trap 'rm -rf "$work" "$out/.$name.qcow2.new" "$out/.$name.json.new"' EXIT
    root=$work/root
    cache=$work
    if [ $# -eq 2 ]; then
        mkdir -p "$2"
        cache=$(cd "$2" && pwd)
    fi
    say "fetching packages (about 60 MB)"
    fetch_packages
    say "putting the guest together (Linux $kernel_version)"
    make_root
    make_boot
    make_disk
    publish "$source_hash"
    say "made $out/$name.qcow2 ($(du -h "$out/$name.qcow2" | cut -f1))"
}

main "$@"
