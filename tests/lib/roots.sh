# Debian roots that hold a real systemd to test against, made once and kept in the cache. Sourced by tests/run.
#
#   systemd_root SUITE PACKAGE...   prints the directory; 0 made or reused, 75 the mirror is out of step, 1 failed
#
# A root is named after its suite and a hash of its packages, so a changed list makes a new one. After
# $ROOT_DAYS it is made again, because a rolling suite moves; if that fails today, the old one serves on.

ROOT_DAYS=14

SYSTEMD_262=(
    # systemd and what its tools load at run time
    systemd udev systemd-boot-efi systemd-container systemd-cryptsetup systemd-repart systemd-tpm
    libtss2-esys-3.0.2-0t64 libtss2-mu-4.0.1-0t64 libtss2-rc0t64 libtss2-tcti-device0t64 libtss2-tcti-swtpm0t64
    # checkers of images
    cryptsetup-bin erofs-utils fdisk openssl squashfs-tools
    # the vendor's UKI of the boot tests
    cpio dracut linux-image-cloud-amd64 ovmf systemd-boot-tools systemd-ukify tpm2-tools zstd
)
SYSTEMD_257=(
    systemd systemd-repart
    # what repart makes file systems and hash trees with
    erofs-utils libcryptsetup12 squashfs-tools
    libtss2-esys-3.0.2-0t64 libtss2-mu-4.0.1-0t64 libtss2-rc0t64 libtss2-tcti-device0t64 libtss2-tcti-swtpm0t64
)
# What the recipes take, the servers their boots talk to, and the vendor's UKI of these boots: all from one day's packages.
FEATURES_262=(
    "${SYSTEMD_262[@]}"
    dracut-network
    btrfs-progs kpartx lvm2 mdadm multipath-tools nbd-client nfs-common nvme-cli open-iscsi openssh-server
    e2fsprogs iproute2 nano procps strace xfsprogs
    nbdkit tgt
)
# The same of the oldest systemd that merges and starts extensions; its dracut is 106.
FEATURES_257=(
    "${SYSTEMD_257[@]}"
    udev systemd-boot-efi systemd-cryptsetup
    cpio cryptsetup-bin dracut dracut-network fdisk linux-image-cloud-amd64 openssl ovmf systemd-boot-tools systemd-ukify
    tpm2-tools zstd
    btrfs-progs kpartx lvm2 mdadm multipath-tools nbd-client nfs-common nvme-cli open-iscsi openssh-server
    e2fsprogs iproute2 nano procps strace xfsprogs
    nbdkit tgt
)
# What further modules of dracut take.
MODULES_262=(
    "${FEATURES_262[@]}"
    bluez cifs-utils clevis clevis-dracut clevis-luks clevis-systemd clevis-tpm2 curl dbus fcoe-utils isomd5sum jq keyutils libfido2-1
    lldpad ndctl network-manager opensc openssh-client openssh-sftp-server parted pcscd plymouth plymouth-themes rpcbind rsync
    systemd-resolved
)
# A system without any of ours, on which the package is installed.
CLEAN=(systemd man-db bash-completion)

systemd_root() {
    local suite=$1; shift
    local key; key=$(printf '%s\n' "$@" | sha256sum | cut -c1-12)
    local root=$CACHE/roots/$suite-$key
    [ "$(id -u)" = 0 ] || { echo "a systemd root takes root to make and to use" >&2; return 1; }
    mkdir -p "$CACHE/roots"
    (
        flock 9
        if [ -n "$(find "$root/.made" -mtime "-$ROOT_DAYS" 2>/dev/null)" ]; then exit 0; fi
        make_root "$suite" "$root" "$@"
    ) 9>"$root.lock" >&2 || return
    echo "$root"
}

make_root() {
    local suite=$1 root=$2 status=0; shift 2
    local packages; packages=$(IFS=,; echo "$*")
    rm -rf --one-file-system "$root.new"
    # The kernel package would build an initrd of its own: nobody boots it. A mirror may lag behind the few
    # days for which a testing suite's index is valid; its signature is still checked.
    INITRD=No mmdebstrap --mode=root --variant=apt --format=directory \
        --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
        --include="$packages" \
        "$suite" "$root.new" >"$root.log" 2>&1 || status=$?
    if [ $status = 0 ]; then
        : >"$root.new/etc/machine-id"
        mkdir -p "$root.new/io" "$root.new/var/lib/systemd"
        touch "$root.new/.made"
        rm -rf --one-file-system "$root"
        mv "$root.new" "$root"
        # What lies beside it for long belongs to package lists nobody has any more.
        find "$CACHE/roots" -mindepth 1 -maxdepth 1 -name "$suite-*" -mtime +30 -exec rm -rf --one-file-system {} +
    else
        cat "$root.log"
        rm -rf --one-file-system "$root.new"
        [ ! -e "$root/.made" ] || { echo "warning: could not refresh $root, using the old one"; return 0; }
        ! out_of_step "$root.log" || return 75
        return 1
    fi
}

# What apt says while a mirror is being updated or a suite is in transition: nothing this project can mend.
out_of_step() {
    grep -qE 'unmet dependencies|Unable to locate package|Failed to fetch|404 +Not Found|Hash Sum mismatch|File has unexpected size' "$1"
}
