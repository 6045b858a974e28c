# Runs the programs of the initrd at $1, in namespaces of their own: generators, then the merge of extensions. $2 is the kernel's
# command line. One line for each on standard output: `generator NAME STATUS`, `merged JSON`.
root=$1
mount --rbind "$root" "$root"
cd "$root"
# What the merge mounts in a child of its own has to be seen here.
mount --make-rshared /
for directory in run tmp dev; do mount -t tmpfs -o mode=0755 tmpfs "$directory"; done
for node in null zero full random urandom; do
    : >"dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mount -t proc proc proc
inside() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_IN_INITRD=1 SYSTEMD_PROC_CMDLINE="$line" SYSTEMD_LOG_TARGET=console \
        timeout 20 chroot . "$@"
}
line=$2
mkdir -p run/generated
for generator in usr/lib/systemd/system-generators/*; do
    [ -e "$generator" ] || [ -L "$generator" ] || continue
    status=0
    inside "/$generator" /run/generated /run/generated /run/generated >/dev/null || status=$?
    echo "generator ${generator##*/} $status"
done
for kind in sysext confext; do
    [ -d "staged-$kind" ] || continue
    directory=run/extensions
    [ "$kind" = sysext ] || directory=run/confexts
    mkdir "$directory"
    mount --bind "staged-$kind" "$directory"
    inside "systemd-$kind" merge --no-reload >&2 || true
    echo "merged $(inside "systemd-$kind" status --json=short)"
done
