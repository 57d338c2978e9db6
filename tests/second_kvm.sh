#!/bin/bash
set -euo pipefail

usage() {
    cat <<'END'
usage: tests/second_kvm.sh COMMAND

Runs COMMAND (one argument, for bash) on a second KVM and exits with its status: Debian's kernel with kvm_amd, on the
SVM that QEMU emulates. It needs no KVM and no privileges here, and its local APIC is faithful where a host's is not.

COMMAND sees this machine's root, read-only, but for an empty /tmp and /dev/shm (a checkout below /tmp is not there).
It runs as root in /, without network and standard input; its output comes out on standard output.
Everything is emulated: expect a boot of some seconds and code that runs 10 to 50 times slower. For semantics only.

variables:  T       seconds after which COMMAND is given up, with status 124   (600)
            MEMORY  the machine's memory in MiB                                (3072)
            CPUS    its processors; QEMU loses what two of them tell each other
                    when the host is busy, and both then wait for ever         (1)

The first run downloads the kernel into ${XDG_CACHE_HOME:-~/.cache}/kvmbind/second-kvm; remove that to have a newer one.
Status 125: the machine did not come up; what its kernel said is on standard error.
END
}

TIME_S=${T:-600}
MEMORY_MIB=${MEMORY:-3072}
CPUS=${CPUS:-1}
CACHE=${XDG_CACHE_HOME:-~/.cache}/kvmbind/second-kvm
# Named after this script, which writes the machine: a changed script makes a new one.
MACHINE=$CACHE/$(cksum <"${BASH_SOURCE[0]}" | cut -d ' ' -f 1)

# KVM itself, and the way to the root: 9p over virtio over PCI.
MODULES=(
    irqbypass ccp kvm kvm-amd
    virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci
    netfs fscache 9pnet 9pnet_virtio 9p
)

fail() {
    echo "second_kvm.sh: $*" >&2
    exit 125
}

need() { # PROGRAM PACKAGE
    command -v "$1" >/dev/null || fail "there is no $1: apt-get install $2 (as root)"
}

download() { # PACKAGE...: unpacks Debian packages into unpacked/
    apt-get download -qq "$@" >apt.log 2>&1 || {
        cat apt.log >&2
        fail "cannot download $*: apt-get update (as root), then try again"
    }
    local archive
    for archive in *.deb; do dpkg-deb -x "$archive" unpacked; done
}

# The first process: loads the modules, mounts the root, runs the command there, and turns the machine off.
# The console is the kernel's (ttyS0); the command has a line of its own (ttyS1), and /run/exchange for its status.
write_init() {
    cat <<'END'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ip link set lo up

# insmod knows no dependencies: each round loads what the one before has made loadable.
for round in 1 2 3 4; do
    for module in /modules/*.ko; do insmod "$module" 2>/dev/null; done
done

OPTIONS=trans=virtio,version=9p2000.L,msize=524288
mount -t 9p -o "$OPTIONS,ro,cache=loose" root /root || poweroff -f
mount -t 9p -o "$OPTIONS" exchange /exchange || poweroff -f
[ -e /dev/kvm ] || { echo 'second_kvm: no /dev/kvm'; poweroff -f; }

for tree in proc sys dev; do mount --bind "/$tree" "/root/$tree"; done
mkdir -p /dev/shm /dev/pts
mount -t devpts pts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t tmpfs tmp /root/tmp
chmod 1777 /root/tmp /root/dev/shm
cp /exchange/command /root/tmp/.command

stty -opost </dev/ttyS1
ulimit -n 8192
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TERM=dumb \
    chroot /root /bin/bash /tmp/.command </dev/null >/dev/ttyS1 2>&1
echo $? >/exchange/status
stty -F /dev/ttyS1 raw 2>/dev/null # waits until the line has drained
poweroff -f
END
}

# Packs the current directory as an initramfs (cpio, format newc), unpacking modules on the way.
pack() {
    python3 -c '
import gzip, lzma, os, stat, sys

out = gzip.GzipFile(fileobj=sys.stdout.buffer, mode="wb", compresslevel=1)
number = 0

def entry(name, mode, data=b"", device=(0, 0)):
    global number
    number += 1
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
    header = ("070701" + "".join(f"{field:08x}" for field in fields) + name + "\0").encode()
    for part in (header, data):
        out.write(part + b"\0" * (-len(part) % 4))

for top, folders, files in os.walk("."):
    for folder in folders:
        entry(os.path.relpath(os.path.join(top, folder)), stat.S_IFDIR | 0o755)
    for file in files:
        path = os.path.relpath(os.path.join(top, file))
        data = open(path, "rb").read()
        if path.endswith(".xz"):
            path, data = path.removesuffix(".xz"), lzma.decompress(data)
        entry(path, stat.S_IFREG | 0o755, data)
entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
entry("TRAILER!!!", 0)
out.close()'
}

# Makes $MACHINE, in one step: who finds it finds all of it.
prepare() {
    need apt-get apt
    need dpkg-deb dpkg
    mkdir -p "$CACHE"
    local work kernel module
    work=$(mktemp -d "$CACHE/prepare.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    cd "$work"

    kernel=$(LC_ALL=C apt-cache depends linux-image-amd64 2>/dev/null | awk '$1 == "Depends:" && !n++ { print $2 }')
    [[ $kernel ]] || fail "apt knows no linux-image-amd64: apt-get update (as root), on Debian for x86-64"
    echo "second_kvm.sh: preparing $kernel, once" >&2
    download "$kernel" busybox-static

    mkdir -p machine initramfs/{bin,dev,exchange,modules,proc,root,sys}
    find unpacked -path '*/bin/busybox' -exec cp {} initramfs/bin/busybox \;
    for module in "${MODULES[@]}"; do
        find unpacked \( -name "$module.ko" -o -name "$module.ko.xz" \) -exec cp {} initramfs/modules/ \;
    done
    write_init >initramfs/init
    (cd initramfs && pack) >machine/initramfs
    cp unpacked/boot/vmlinuz-* machine/kernel

    mv -T machine "$MACHINE" 2>/dev/null || [[ -e $MACHINE/kernel ]] # another run was faster
    cd /
    rm -rf "$work"
    trap - EXIT
}

run() { # COMMAND
    local exchange status=0
    exchange=$(mktemp -d "$CACHE/run.XXXXXX")
    trap 'rm -rf "$exchange"' EXIT
    printf '%s\n' "$1" >"$exchange/command"

    # The second serial line is standard output; whatever else QEMU and the firmware say stays off it.
    timeout --foreground "$TIME_S" qemu-system-x86_64 \
        -accel tcg,thread=multi -cpu max,+svm -smp "$CPUS" -m "$MEMORY_MIB" \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$MACHINE/kernel" -initrd "$MACHINE/initramfs" \
        -append 'console=ttyS0 quiet panic=-1 tsc=reliable rcupdate.rcu_expedited=1 mitigations=off' \
        -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap \
        -virtfs "local,path=$exchange,mount_tag=exchange,security_model=none" \
        -serial "file:$exchange/console" -serial stdio </dev/null || status=$?

    if ((status == 124)); then
        echo "second_kvm.sh: given up after $TIME_S s (T=... gives it longer)" >&2
        exit 124
    fi
    if [[ ! -s $exchange/status ]]; then
        tail -n 20 "$exchange/console" >&2 || true
        fail "the machine ended without a status"
    fi
    exit "$(<"$exchange/status")"
}

case ${1-} in
    '' | -h | --help)
        usage
        [[ ${1-} ]] || exit 2
        exit 0
        ;;
esac
if (($# != 1)); then
    usage >&2
    exit 2
fi
need qemu-system-x86_64 qemu-system-x86
need python3 python3
[[ -e $MACHINE/kernel ]] || prepare
run "$1"
