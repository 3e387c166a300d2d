#!/bin/sh
# Pid 1 of a guest: file systems, modules in the order of their needs, then the root file system of a guest with an
# engine, if there is one. The rest is guest-commands.sh.
#
#   kernel arguments   vdvs.name=NAME   host name
#                      vdvs.root=/dev/vda   the engine guest's root

export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/lab/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mkdir -p /run/docker/plugins

for module in $(cat /lab/modules); do
    insmod "/lab/ko/$module" || echo "lab: cannot load $module" >/dev/console
done

name=guest
root=
for word in $(cat /proc/cmdline); do
    case $word in
        vdvs.name=*) name=${word#vdvs.name=} ;;
        vdvs.root=*) root=${word#vdvs.root=} ;;
    esac
done
hostname "$name"

if [ -n "$root" ]; then
    mkdir -p /newroot
    mount -t ext4 "$root" /newroot || echo "lab: cannot mount $root" >/dev/console
    mkdir -p /newroot/lab /newroot/mnt/vdvs
    cp /lab/commands.sh /newroot/lab/
    cp /usr/bin/vdvs-plugin /usr/bin/volume /newroot/usr/bin/
    for place in dev proc sys run; do
        mount -o move "/$place" "/newroot/$place"
    done
    exec switch_root /newroot /bin/sh /lab/commands.sh engine
fi
exec sh /lab/commands.sh
