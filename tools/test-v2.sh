#!/bin/sh
# Tests of the sandbox on a machine with control groups of version 2: a small virtual one, whose kernel
# is Debian's and whose root file system is this machine's, read-only.
#
# usage: tools/test-v2.sh TEST-PROGRAM [FILTER…]
#
# TEST-PROGRAM is the tests of `sandbox` as cargo builds them; `./x test-v2` builds them first. Needs Debian
# on x86-64 with qemu-system-x86 and cpio. Kernel and busybox are fetched by apt-get and unpacked, not
# installed. The processor is emulated, which works wherever this runs, and takes some minutes.
set -eu

program=$(realpath "$1")
shift
filter=$*
nsjail=${SPELLBOOK_NSJAIL:?name nsjail}
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT INT TERM
cd "$home"

kernel=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p')
for package in "$kernel" busybox-static; do
    apt-get -qq download "$package" 2>/dev/null
    dpkg-deb -x "$package"_*.deb unpacked
done
version=${kernel#linux-image-}

# The modules in the order in which they need one another.
mkdir -p initramfs/bin initramfs/modules initramfs/host
for module in virtio/virtio_ring virtio/virtio virtio/virtio_pci_modern_dev virtio/virtio_pci_legacy_dev \
    virtio/virtio_pci fscache/fscache netfs/netfs 9p/9pnet 9p/9pnet_virtio 9p/9p; do
    name=$(basename "$module")
    find "unpacked/lib/modules/$version" -name "$name.ko" -exec cp {} initramfs/modules \;
done
cp unpacked/bin/busybox initramfs/bin/busybox
cp "$program" "$home/it"
cp "$nsjail" "$home/nsjail"
chmod 755 "$home" "$home/it" "$home/nsjail"

cat >initramfs/init <<'END'
#!/bin/busybox sh
/bin/busybox mkdir -p /proc
/bin/busybox mount -t proc proc /proc
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci netfs fscache \
    9pnet 9pnet_virtio 9p; do
    [ ! -e /modules/$module.ko ] || /bin/busybox insmod /modules/$module.ko
done
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose host /host
/bin/busybox umount /proc
exec /bin/busybox switch_root /host @HOME@/run
END
cat >run <<'END'
#!/bin/sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=1777 tmp /var/tmp
mkdir /var/tmp/home
mount -t tmpfs -o mode=755 home /root
ip link set lo up
export SPELLBOOK_NSJAIL=@HOME@/nsjail TMPDIR=/var/tmp HOME=/root PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
ulimit -n 4096
@HOME@/it --test-threads 2 @FILTER@ && echo "TESTS PASSED"
echo o >/proc/sysrq-trigger
sleep 10
END
sed -i "s|@HOME@|$home|; s|@FILTER@|$filter|" initramfs/init run
sed -i "s|@HOME@|$home|g" run
chmod 755 initramfs/init run
(cd initramfs && find . | cpio --quiet -o -H newc) >initramfs.cpio

qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 4096 -smp 2 -nographic -no-reboot -nodefaults -serial stdio \
    -kernel "unpacked/boot/vmlinuz-$version" -initrd initramfs.cpio \
    -append "console=ttyS0 quiet panic=-1" \
    -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap | tee output
grep -q "TESTS PASSED" output
